#include "node/resp/scan_cursor.hpp"

#include <doctest/doctest.h>

namespace gyre {
namespace {

TEST_CASE("a cursor names shard and number, and is exact as a floating-point number") {
  for (const uint32_t shard : {0u, 1u, 1023u, 4095u}) {
    for (const uint64_t number : {uint64_t{0}, uint64_t{1}, ScanCursor::numbers - 1}) {
      const uint64_t cursor = ScanCursor{shard, number}.encode();
      CHECK(cursor != 0);
      CHECK(cursor < uint64_t{1} << 53);
      const auto decoded = ScanCursor::decode(cursor);
      REQUIRE(decoded);
      CHECK(decoded->shard == shard);
      CHECK(decoded->number == number);
    }
  }
  CHECK(!ScanCursor::decode(0));
  CHECK(!ScanCursor::decode(17));
  CHECK(!ScanCursor::decode(uint64_t{1} << 53));
  CHECK(!ScanCursor::decode(UINT64_MAX));
}

TEST_CASE("cursors are unsigned numbers of 64 bits") {
  CHECK(parse_cursor("0") == 0);
  CHECK(parse_cursor("18446744073709551615") == UINT64_MAX);
  for (const char* text : {"", "-1", "1x", " 1", "18446744073709551616", "blah"}) {
    CAPTURE(text);
    CHECK(!parse_cursor(text));
  }
}

TEST_CASE("the latest positions are remembered, within bounds of count and bytes") {
  ScanPositions positions(ScanCursor::numbers - 3);  // numbers wrap, and are never 0
  const uint64_t first = positions.remember("first");
  CHECK(*positions.find(first) == "first");
  for (unsigned i = 0; i < 10; ++i) {
    const uint64_t number = positions.remember("key" + std::to_string(i));
    CHECK(number != 0);
    CHECK(number < ScanCursor::numbers);
    CHECK(*positions.find(number) == "key" + std::to_string(i));
  }
  CHECK(*positions.find(first) == "first");
  CHECK(positions.find(first + 100) == nullptr);
  for (size_t i = 0; i < ScanPositions::count_max; ++i) positions.remember("");
  CHECK(positions.find(first) == nullptr);
  const uint64_t long_key = positions.remember(std::string(60'000, 'k'));
  for (unsigned i = 0; i < 100; ++i) positions.remember(std::string(60'000, 'k'));
  CHECK(positions.find(long_key) == nullptr);
  CHECK(positions.bytes() <= ScanPositions::bytes_max);
  CHECK(positions.size() <= ScanPositions::bytes_max / 60'000);
}

}  // namespace
}  // namespace gyre
