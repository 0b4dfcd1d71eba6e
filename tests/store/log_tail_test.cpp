// What a power cut leaves of frames that were in flight together, sector by sector, read back and
// gone on from.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "log_image.hpp"

using namespace gyre;
using namespace gyre::testing;

namespace {

constexpr size_t page = limits::io_alignment_bytes;
constexpr size_t sector = 512;
constexpr unsigned all_sectors = 0xff;

WriteRecord record(std::string_view key, std::string_view value) {
  WriteRecord result;
  result.version = {5, 1};
  result.key = key;
  result.value = value;
  return result;
}

void flip(LogImage& log, size_t frame, size_t byte = 10) {
  char& target = log.segments[log.frames[frame].segment].bytes[log.frames[frame].offset + byte];
  target = static_cast<char>(target ^ 1);
}

std::string scrambled(uint64_t seed, size_t size_bytes) {
  std::string bytes(size_bytes, '\0');
  for (char& byte : bytes) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(seed >> 56);
  }
  return bytes;
}

// A frame of one page, then two in flight together that take every sector of a page each.
LogImage two_in_flight(const std::string& old = {}) {
  LogImage log;
  log.add_segment(4 * page, old);
  log.segments[0].id = 7;
  log.frame({record("a", "1")});
  log.begin();
  log.whole(record("b", scrambled(1, 3900)));
  log.end();
  log.begin();
  log.whole(record("c", scrambled(2, 3900)));
  log.end(false);
  return log;
}

// Of the page at `offset` arrived what `sectors` has a bit for.
void keep_sectors(std::string& bytes, size_t offset, const std::string& before, unsigned sectors) {
  for (unsigned i = 0; i < page / sector; ++i) {
    if ((sectors >> i & 1) != 0) continue;
    bytes.replace(offset + i * sector, sector, before, offset + i * sector, sector);
  }
}

void expect_two_in_flight(const std::string& before, const LogImage& whole, unsigned first,
                          unsigned second) {
  std::vector<SegmentImage> segments = whole.segments;
  keep_sectors(segments[0].bytes, page, before, first);
  keep_sectors(segments[0].bytes, 2 * page, before, second);
  const size_t records = first != all_sectors ? 1 : second != all_sectors ? 2 : 3;
  const ReadBack back = read_back(segments);
  REQUIRE(back.end);
  REQUIRE(back.end->position == records * page);
  REQUIRE(back.records.size() == records);
  REQUIRE(is_prefix(back.records, whole.written));
  if (first % 16 != 15 || second % 16 != 15) return;

  // What takes the place of the lost ones is shorter, as long or longer, and is all that is seen.
  for (const size_t size : {size_t{10}, size_t{3900}, 3 * page}) {
    LogImage next = whole;
    next.segments = segments;
    next.written.resize(records);
    next.reopen(*back.end, 8 * page);
    const std::string value = scrambled(3, size);
    next.frame({record("next", value)});
    REQUIRE(read_back(next.segments).records == next.written);
    next.empty_frame();
    REQUIRE(read_back(next.segments).records == next.written);
    // Though the lost ones come after all: the kernel writes what a killed process left.
    next.segments[0].bytes = whole.segments[0].bytes;
    REQUIRE(read_back(next.segments).records == next.written);
    flip(next, 3);
    REQUIRE(read_back(next.segments).end.error().code == Errc::corrupt);
  }
}

}  // namespace

TEST_CASE("of two frames in flight the second counts only if the first is whole") {
  const std::string zeros(4 * page, '\0');
  const LogImage whole = two_in_flight();
  for (unsigned first = 0; first <= all_sectors; ++first) {
    for (unsigned second = 0; second <= all_sectors; ++second) {
      expect_two_in_flight(zeros, whole, first, second);
    }
  }
}

TEST_CASE("of two frames in flight, in a file that held such frames before") {
  LogImage old;
  old.add_segment(4 * page);
  for (uint64_t i = 0; i < 4; ++i) old.frame({record("old", scrambled(10 + i, 3900))});
  const std::string before = old.segments[0].bytes;
  const LogImage whole = two_in_flight(before);
  for (unsigned first = 0; first <= all_sectors; ++first) {
    for (const unsigned second : {0u, 1u, 2u, 0x7fu, 0x80u, 0xfeu, all_sectors}) {
      expect_two_in_flight(before, whole, first, second);
      expect_two_in_flight(before, whole, second, first);
    }
  }
}

TEST_CASE("a torn frame is corruption as soon as any later one promises it") {
  LogImage log = two_in_flight();
  log.begin();
  log.whole(record("d", "4"));
  log.end(false);  // sent when none of the two had landed
  flip(log, 1);
  const ReadBack cut = read_back(log.segments);
  REQUIRE(cut.end);
  CHECK(cut.records.size() == 1);
  log.segments[0].bytes.resize(8 * page, '\0');
  log.synced_position = 2 * page;  // the first has landed
  log.begin();
  log.whole(record("e", "5"));
  log.end(false);
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
  flip(log, 4, log_header_bytes + 1);  // a header is enough
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
  flip(log, 4);  // without it nobody knows
  CHECK(read_back(log.segments).records.size() == 1);
}

TEST_CASE("a segment whose first frame is lost and whose second is not is given up") {
  LogImage log = two_in_flight();
  flip(log, 1);
  const ReadBack first = read_back(log.segments);
  REQUIRE(first.end);
  log.written.resize(1);
  log.reopen(*first.end, 4 * page);
  log.frame({record("lost", "2")});
  log.begin();
  log.whole(record("stale", "3"));
  log.synced_position = page;
  log.end(false);
  for (const bool header : {true, false}) {
    LogImage next = log;
    flip(next, 3, header ? 10 : log_header_bytes + 1);
    const ReadBack second = read_back(next.segments);
    REQUIRE(second.end);
    CHECK(second.records.size() == 1);
    CHECK(second.end->position == page);
    CHECK(second.end->segment_id_next == 9);
    next.written.resize(1);
    next.reopen(*second.end, 4 * page);
    next.frame({record("d", "4")});
    next.empty_frame();
    const ReadBack third = read_back(next.segments);
    REQUIRE(third.end);
    CHECK(third.records == next.written);
    CHECK(third.in_chain == std::vector<bool>{true, false, true});
  }
}

TEST_CASE("of a record in parts that were in flight together a lost part leaves nothing") {
  const std::string value(7000, 'x');
  const WriteRecord in_parts = record("k", value);
  for (const size_t lost : {0u, 1u}) {
    LogImage log;
    log.add_segment(4 * page);
    FragmentCursor cursor(1, in_parts);
    log.begin(page);
    CHECK_FALSE(log.fragment(cursor, in_parts));
    log.end();
    log.begin(page);
    CHECK(log.fragment(cursor, in_parts));
    log.end(false);
    CHECK(read_back(log.segments).records == log.written);
    flip(log, lost);
    const ReadBack back = read_back(log.segments);
    REQUIRE(back.end);
    CHECK(back.records.empty());
    CHECK(back.end->unfinished == lost);
  }
}
