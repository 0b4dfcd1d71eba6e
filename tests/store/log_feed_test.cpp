#include "store/log_feed.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "log_image.hpp"
#include "sim_rig.hpp"

namespace gyre {
using namespace test;

namespace {

constexpr size_t page = limits::io_alignment_bytes;

WriteRecord record(std::string_view key, std::string_view value) {
  WriteRecord result;
  result.version = {5, 1};
  result.key = key;
  result.value = value;
  return result;
}

// Three segments: frames of one page and of up to 30, so that they lie across any window's end.
testing::LogImage log_of_many_sizes() {
  testing::LogImage log;
  for (int segment = 0; segment < 3; ++segment) {
    log.add_segment(200 * page);
    for (size_t i = 0, used = 0; used + 31 < 199; ++i) {
      const size_t pages = i % 5 == 4 ? 30 : i % 3;
      log.frame({record("key" + std::to_string(segment * 1000 + i), std::string(pages * page, 'v')),
                 record("b" + std::to_string(i), "small")});
      used += pages + 1;
    }
  }
  return log;
}

Task<void> store_segments(const testing::LogImage& log) {
  for (const testing::SegmentImage& segment : log.segments) {
    const std::string name = std::to_string(segment.id) + ".log";
    const Result<void> made = co_await replace_file("/", name, segment.bytes);
    REQUIRE_OR_RETURN(made.has_value());
  }
}

Task<Result<void>> read_back_from_files(const testing::LogImage& log, LogFeed& feed,
                                        uint64_t claimed_bytes, std::vector<std::string>& records) {
  LogReader reader({.salt = testing::image_salt, .window_bytes = page});
  for (const testing::SegmentImage& segment : log.segments) {
    const uint64_t size = claimed_bytes != 0 ? claimed_bytes : segment.bytes.size();
    Result<void> added =
        co_await feed.add(reader, segment.id, size, "/" + std::to_string(segment.id) + ".log");
    if (!added) co_return added;
  }
  for (;;) {
    const Result<LogReader::Event> event = reader.next();
    if (!event) co_return fail(event.error());
    if (*event == LogReader::Event::end) co_return Result<void>{};
    if (*event == LogReader::Event::record) {
      const LogRecord& found = reader.record();
      records.push_back(testing::LogImage::describe(found.seq, found.kind, found.version,
                                                    found.expire_at_ms, found.key, found.value));
      continue;
    }
    if (Result<void> fed = co_await feed.supply(reader); !fed) co_return fed;
  }
}

Task<void> reads_all(const testing::LogImage& log, size_t window_bytes) {
  co_await store_segments(log);
  LogFeed feed(window_bytes);
  std::vector<std::string> records;
  const Result<void> done = co_await read_back_from_files(log, feed, 0, records);
  co_await feed.close();
  CHECK(done.has_value());
  CHECK(records == log.written);
  // Windows begin where the one before ended: nothing is read twice.
  CHECK(feed.bytes_read() <= log.segments.size() * log.segments[0].bytes.size());
}

Task<void> notices_that_it_shrank(const testing::LogImage& log) {
  co_await store_segments(log);
  LogFeed feed(4 * page);
  std::vector<std::string> records;
  const Result<void> done = co_await read_back_from_files(log, feed, 300 * page, records);
  co_await feed.close();
  CHECK(!done.has_value());
  CHECK(done.error().code == Errc::io);
  CHECK(done.error().message().find("shrank") != std::string::npos);
}

Task<void> notices_that_its_head_is_gone() {
  const Result<void> made = co_await replace_file("/", "1.log", std::string(100, 'x'));
  REQUIRE_OR_RETURN(made.has_value());
  LogFeed feed(page);
  LogReader reader({.salt = testing::image_salt, .window_bytes = page});
  const Result<void> added = co_await feed.add(reader, 1, 10 * page, "/1.log");
  co_await feed.close();
  CHECK(!added.has_value());
  CHECK(added.error().code == Errc::io);
}

}  // namespace

TEST_CASE("a log is read whole, whatever the window, and nothing of it twice") {
  const testing::LogImage log = log_of_many_sizes();
  for (const size_t pages : {1, 2, 3, 7, 31, 64, 500}) {
    SimRig rig;
    CHECK(rig.run(reads_all(log, pages * page)));
  }
}

TEST_CASE("a segment that shrinks while it is read is an error, not an end") {
  const testing::LogImage log = log_of_many_sizes();
  SimRig rig;
  CHECK(rig.run(notices_that_it_shrank(log)));
}

TEST_CASE("a segment of which not even the first page can be read is an error") {
  SimRig rig;
  CHECK(rig.run(notices_that_its_head_is_gone()));
}

}  // namespace gyre
