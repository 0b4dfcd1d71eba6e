#include "peer/frame.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace gyre::peer;

namespace {

struct Seen {
  std::vector<std::string> payloads;
  std::vector<bool> intact;
  std::string error;
};

Seen read(std::string_view bytes, size_t piece_bytes) {
  FrameReader reader(1u << 20);
  Seen seen;
  while (!bytes.empty() && seen.error.empty()) {
    std::string_view piece = bytes.substr(0, piece_bytes);
    bytes.remove_prefix(piece.size());
    for (bool more = true; more;) {
      const FrameReader::Step step = reader.feed(piece);
      piece.remove_prefix(step.consumed);
      if (step.event == FrameReader::Event::frame) {
        seen.payloads.emplace_back(reader.payload());
        seen.intact.push_back(reader.payload_intact());
      }
      if (step.event == FrameReader::Event::error) seen.error = reader.error();
      more = step.event == FrameReader::Event::header || step.event == FrameReader::Event::frame;
    }
  }
  return seen;
}

std::string stream(const std::vector<std::string>& payloads) {
  std::string bytes;
  uint64_t id = 1;
  for (const std::string& payload : payloads) {
    bytes += make_frame({.type = FrameType::request, .verb = 7, .request_id = id++}, payload);
  }
  return bytes;
}

}  // namespace

TEST_CASE("the bytes of a frame") {
  const std::string frame = make_frame({.type = FrameType::reply,
                                        .flags = 1,
                                        .verb = 2,
                                        .request_id = 0x0102030405060708,
                                        .time_left_us = 0x11121314,
                                        .epoch = 0x2122232425262728,
                                        .hlc = 0x3132333435363738},
                                       "abc");
  std::string hex;
  for (char c : frame) {
    constexpr std::string_view digits = "0123456789abcdef";
    hex += digits[static_cast<unsigned char>(c) >> 4];
    hex += digits[static_cast<unsigned char>(c) & 15];
  }
  CHECK(hex.substr(0, 40) ==
        "00030102030000000807060504030201"
        "14131211");
  CHECK(hex.substr(48, 32) ==
        "2827262524232221"
        "3837363534333231");
  CHECK(hex.substr(40, 8) == "89d99329");
  CHECK(hex.substr(80) ==
        "fccf55429aa7721b"
        "616263");
}

TEST_CASE("frames are read however their stream was split") {
  const std::vector<std::string> payloads = {"", "one", std::string(1000, 'x'), "", "last"};
  const std::string bytes = stream(payloads);
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    const Seen seen = read(bytes, piece);
    CHECK(seen.payloads == payloads);
    CHECK(seen.error.empty());
  }
}

TEST_CASE("any wrong bit of a header is noticed, and nothing behind it is believed") {
  const std::string bytes = stream({"first", "second"});
  for (size_t bit = 0; bit < frame_header_bytes * 8; ++bit) {
    std::string wrong = bytes;
    wrong[bit / 8] = static_cast<char>(wrong[bit / 8] ^ (1 << bit % 8));
    for (size_t piece : {size_t{1}, size_t{20}, wrong.size()}) {
      const Seen seen = read(wrong, piece);
      CHECK_FALSE(seen.error.empty());
      CHECK(seen.payloads.empty());
    }
  }
}

TEST_CASE("a wrong payload is noticed, and the next frame is read") {
  for (size_t piece : {size_t{1}, size_t{30}, size_t{1000}}) {
    std::string bytes = stream({"first", "second"});
    bytes[frame_header_bytes + 2] = 'X';
    const Seen seen = read(bytes, piece);
    CHECK(seen.error.empty());
    CHECK(seen.intact == std::vector<bool>{false, true});
    CHECK(seen.payloads.back() == "second");
  }
}

TEST_CASE("a payload that is promised and does not come takes no memory") {
  FrameReader reader(UINT32_MAX);
  const std::string frame = make_frame({.type = FrameType::request}, std::string(10u << 20, 'x'));
  std::string_view bytes = std::string_view(frame).substr(0, frame_header_bytes + 100);
  bytes.remove_prefix(reader.feed(bytes).consumed);
  CHECK(reader.feed(bytes).event == FrameReader::Event::need_more);
  CHECK(reader.held_bytes() <= 64u << 10);
}

TEST_CASE("a frame that is too large, and one of an unknown type, end the stream") {
  FrameReader small(10);
  CHECK(small.feed(make_frame({}, "eleven byte")).event == FrameReader::Event::error);
  FrameReader reader(10);
  CHECK(reader.feed(make_frame({.type = static_cast<FrameType>(99)}, "")).event ==
        FrameReader::Event::error);
  CHECK(reader.feed(make_frame({}, "")).event == FrameReader::Event::error);
  FrameReader http(10);
  CHECK(http.feed("G").event == FrameReader::Event::error);
}

TEST_CASE("a skipped payload is passed over") {
  const std::string bytes = stream({std::string(500, 'x'), "second"});
  FrameReader reader(1000);
  std::string_view rest = bytes;
  rest.remove_prefix(reader.feed(rest).consumed);
  reader.skip_payload();
  FrameReader::Step step = reader.feed(rest.substr(0, 100));
  CHECK(step.event == FrameReader::Event::need_more);
  rest.remove_prefix(step.consumed);
  step = reader.feed(rest);
  CHECK(step.event == FrameReader::Event::frame);
  CHECK(reader.payload().empty());
  CHECK(reader.held_bytes() < 100);
  rest.remove_prefix(step.consumed);
  rest.remove_prefix(reader.feed(rest).consumed);
  CHECK(reader.feed(rest).event == FrameReader::Event::frame);
  CHECK(reader.payload() == "second");
}
