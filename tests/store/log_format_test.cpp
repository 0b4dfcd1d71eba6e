#include "store/log_format.hpp"

#include <doctest/doctest.h>

#include <string>

#include "base/hash.hpp"

using namespace gyre;

namespace {

constexpr uint64_t salt = 0x5a17;

FrameHeader sample() {
  FrameHeader header;
  header.flags = log_flag_reopened;
  header.segment_id = 3;
  header.frame_seq = 41;
  header.position = 0x123456000;
  header.synced_position = 0x123455000;
  header.first_seq = 1007;
  header.entries = 12;
  header.payload_bytes = 3456;
  header.payload_hash = 0xfeedface12345678;
  return header;
}

std::string encoded(const FrameHeader& header) {
  std::string bytes(log_header_bytes, '\0');
  encode_frame_header(bytes.data(), header, salt);
  return bytes;
}

}  // namespace

TEST_CASE("a frame header comes back as it was written") {
  FrameHeader header;
  REQUIRE(decode_frame_header(encoded(sample()), salt, header));
  CHECK(header.format_version == log_format_version);
  CHECK(header.reopened());
  CHECK(header.segment_id == 3);
  CHECK(header.frame_seq == 41);
  CHECK(header.position == 0x123456000);
  CHECK(header.synced_position == 0x123455000);
  CHECK(header.first_seq == 1007);
  CHECK(header.entries == 12);
  CHECK(header.payload_bytes == 3456);
  CHECK(header.payload_hash == 0xfeedface12345678);
}

// If this fails the format has changed: raise log_format_version and keep reading the old one.
TEST_CASE("the bytes of a header are fixed") {
  CHECK(hash64(encoded(sample())) == 0xfdf1bb1e2d240b68);
}

TEST_CASE("no header with a flipped bit, of another log or cut short is taken") {
  const std::string good = encoded(sample());
  FrameHeader header;
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    CHECK_FALSE(decode_frame_header(bad, salt, header));
  }
  for (size_t size = 0; size < good.size(); ++size) {
    CHECK_FALSE(decode_frame_header(good.substr(0, size), salt, header));
  }
  CHECK_FALSE(decode_frame_header(good, salt + 1, header));
  CHECK_FALSE(decode_frame_header(std::string(log_header_bytes, '\0'), 0, header));
}

TEST_CASE("a header whose fields contradict each other is not taken, though its hash holds") {
  FrameHeader header;
  FrameHeader bad = sample();
  bad.synced_position = bad.position + 1;
  CHECK_FALSE(decode_frame_header(encoded(bad), salt, header));
  bad = sample();
  bad.payload_bytes = static_cast<uint32_t>(log_payload_bytes_max) + 1;
  CHECK_FALSE(decode_frame_header(encoded(bad), salt, header));
}

TEST_CASE("a header of a later version says so") {
  FrameHeader later = sample();
  later.format_version = 2;
  later.synced_position = later.position + 1;  // may mean anything by then
  FrameHeader header;
  REQUIRE(decode_frame_header(encoded(later), salt, header));
  CHECK(header.format_version == 2);
  CHECK(header.segment_id == 3);
}

TEST_CASE("frames are padded to 4 KiB and never longer than the limit") {
  CHECK(padded_frame_bytes(0) == 4096);
  CHECK(padded_frame_bytes(4096 - log_header_bytes) == 4096);
  CHECK(padded_frame_bytes(4097 - log_header_bytes) == 8192);
  CHECK(padded_frame_bytes(log_payload_bytes_max) == limits::log_frame_bytes_max);
}
