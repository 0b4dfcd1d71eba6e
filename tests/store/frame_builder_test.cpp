#include "store/frame_builder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "base/hash.hpp"
#include "log_image.hpp"

using namespace gyre;
using namespace gyre::testing;

namespace {

WriteRecord record(std::string_view key, std::string_view value) {
  WriteRecord result;
  result.version = {77, 5};
  result.key = key;
  result.value = value;
  return result;
}

}  // namespace

// If this fails the format has changed: raise log_format_version and keep reading the old one.
TEST_CASE("the bytes of a frame are fixed") {
  std::string buffer(8192, '\xee');
  FrameBuilder builder(42);
  builder.begin(buffer.data(), buffer.size(), 1000);
  WriteRecord first = record("key", "value");
  first.expire_at_ms = 1'700'000'000'000;
  builder.add_whole(1000, first);
  WriteRecord second = record("gone", "");
  second.kind = Kind::tombstone;
  builder.add_whole(1001, second);
  const std::string long_value(6000, 'x');
  const WriteRecord third = record("long", long_value);
  FragmentCursor cursor(9, third);
  CHECK_FALSE(builder.add_fragment(cursor, 1002, third));
  CHECK(builder.add_fragment(cursor, 1002, third));
  const size_t bytes = builder.seal({3, 12, 40960, 36864, false});
  CHECK(bytes == 8192);
  CHECK(hash64({buffer.data(), bytes}) == 0x33f0dfbace65d87b);
}

TEST_CASE("a frame takes what fits and pads with zeros") {
  std::string buffer(8192, '\xee');
  FrameBuilder builder(42);
  builder.begin(buffer.data(), buffer.size(), 1);
  const size_t room = builder.room();
  CHECK(room == 8192 - log_header_bytes);
  const std::string value(5000, 'v');
  REQUIRE(builder.fits(record("k", value)));
  builder.add_whole(1, record("k", value));
  CHECK(builder.room() < room - 5000);
  CHECK_FALSE(builder.fits(record("k", value)));
  CHECK(builder.entries() == 1);
  const size_t payload = builder.payload_bytes();
  const size_t bytes = builder.seal({1, 1, 0, 0, true});
  CHECK(bytes == padded_frame_bytes(payload));
  CHECK(std::all_of(buffer.begin() + static_cast<long>(log_header_bytes + payload),
                    buffer.begin() + static_cast<long>(bytes),
                    [](char byte) { return byte == 0; }));
}

TEST_CASE("a small frame in a large buffer is padded to 4 KiB only") {
  std::string buffer(1u << 20, '\xee');
  FrameBuilder builder(42);
  builder.begin(buffer.data(), buffer.size(), 1);
  CHECK(builder.empty());
  CHECK(builder.seal({1, 1, 0, 0, false}) == 4096);
  CHECK(buffer[4096] == '\xee');
}

TEST_CASE("a record of any size goes through frames of any size, from a view or a chain") {
  for (const size_t key_bytes : {1u, 3000u, 70'000u}) {
    for (const size_t value_bytes : {600u, 5000u, 1'200'000u}) {
      for (const size_t capacity : {4096u, 65536u, 1u << 20}) {
        for (const bool chained : {false, true}) {
          LogImage log;
          log.add_segment(1u << 20);
          const std::string key(key_bytes, 'k');
          std::string value(value_bytes, '\0');
          for (size_t i = 0; i < value.size(); ++i) value[i] = static_cast<char>(i * 7 + i / 256);
          const ValueBuffer chain(value);
          WriteRecord written = record(key, value);
          if (chained) {
            written.value = {};
            written.value_buffer = &chain;
          }
          FragmentCursor cursor(1, written);
          for (bool done = false; !done;) {
            log.begin(capacity);
            while (!done && log.fits_fragment()) done = log.fragment(cursor, written);
            log.end();
          }
          const ReadBack back = read_back(log.segments);
          REQUIRE(back.end);
          CHECK(back.records == log.written);
          CHECK(back.records.size() == 1);
        }
      }
    }
  }
}

TEST_CASE("what fits no frame is told from what fits an empty one") {
  const std::string fits(log_payload_bytes_max - log_entry_overhead_bytes_max - 1, 'x');
  CHECK(FrameBuilder::fits_any_frame(record("k", fits)));
  CHECK_FALSE(FrameBuilder::fits_any_frame(record("kk", fits)));
  std::string buffer(limits::log_frame_bytes_max, '\0');
  FrameBuilder builder(42);
  builder.begin(buffer.data(), buffer.size(), 1);
  REQUIRE(builder.fits(record("k", fits)));
  builder.add_whole(1, record("k", fits));
  CHECK(builder.seal({1, 1, 0, 0, false}) == limits::log_frame_bytes_max);
}
