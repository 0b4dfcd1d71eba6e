#include "store/log_reader.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/coding.hpp"
#include "log_image.hpp"

using namespace gyre;
using namespace gyre::testing;

namespace {

constexpr size_t page = limits::io_alignment_bytes;

WriteRecord record(std::string_view key, std::string_view value, uint64_t hlc = 5) {
  WriteRecord result;
  result.version = {hlc, 1};
  result.key = key;
  result.value = value;
  return result;
}

const std::string two_pages(2 * page, 'p');

// Frames of one, three and two pages with several records, a fragmented one among them.
LogImage small_log(size_t segment_bytes = 10 * page) {
  LogImage log;
  log.add_segment(segment_bytes);
  log.frame({record("a", "1"), record("b", "2")});
  log.frame({record("c", two_pages), record("d", "4")});
  const std::string long_value(6000, 'f');
  const WriteRecord in_parts = record("e", long_value);
  FragmentCursor cursor(1, in_parts);
  log.begin(page);
  log.fragment(cursor, in_parts);
  log.end();
  log.begin(page);
  log.fragment(cursor, in_parts);
  log.whole(record("f", "6"));
  log.end();
  return log;
}

// How many records lie wholly before `position`, if nothing is damaged.
size_t records_before(const LogImage& log, uint64_t position) {
  size_t count = 0;
  for (size_t i = 0; i < log.frames.size(); ++i) {
    const FrameImage& frame = log.frames[i];
    if (frame.position + frame.bytes > position) break;
    count = i + 1 < log.frames.size() ? log.frames[i + 1].records_before : log.written.size();
  }
  return count;
}

void flip(LogImage& log, size_t frame, size_t byte = 10) {
  char& target = log.segments[log.frames[frame].segment].bytes[log.frames[frame].offset + byte];
  target = static_cast<char>(target ^ 1);
}

}  // namespace

TEST_CASE("no log at all is an empty log") {
  const ReadBack back = read_back({});
  REQUIRE(back.end);
  CHECK(back.records.empty());
  CHECK(back.end->position == 0);
  CHECK(back.end->segment_id_next == 1);
  CHECK(back.end->frame_seq_next == 1);
  CHECK(back.end->seq_next == 1);
}

TEST_CASE("a fresh segment is an empty log that goes on in the next one") {
  LogImage log;
  log.add_segment(4 * page);
  const ReadBack back = read_back(log.segments);
  REQUIRE(back.end);
  CHECK(back.records.empty());
  CHECK(back.end->position == 0);
  CHECK(back.end->segment_id_next == 2);
}

TEST_CASE("records come back in order, whatever the size of the reads") {
  const LogImage log = small_log();
  for (const size_t window : {page, 2 * page, 16 * page}) {
    LogReaderOptions options;
    options.window_bytes = window;
    const ReadBack back = read_back(log.segments, options);
    REQUIRE(back.end);
    CHECK(back.records == log.written);
    CHECK(back.end->position == log.position);
    CHECK(back.end->frame_seq_next == log.frame_seq);
    CHECK(back.end->seq_next == log.seq);
    CHECK(back.end->frames == 4);
    CHECK(back.end->records == log.written.size());
    CHECK_FALSE(back.end->torn);
  }
}

TEST_CASE("the greatest version is reported, of unfinished records too") {
  LogImage log;
  log.add_segment(8 * page);
  log.frame({record("a", "1", 70), record("b", "2", 90), record("c", "3", 80)});
  REQUIRE(read_back(log.segments).end->version_max == Version{90, 1});
  const std::string value(9000, 'x');
  const WriteRecord in_parts = record("d", value, 95);
  FragmentCursor cursor(1, in_parts);
  log.begin(page);
  log.fragment(cursor, in_parts);
  log.end();
  const ReadBack back = read_back(log.segments);
  CHECK(back.end->version_max == Version{95, 1});
  CHECK(back.end->unfinished == 1);
  CHECK(back.records.size() == 3);
}

TEST_CASE("an empty frame keeps the count of writes") {
  LogImage log;
  log.add_segment(4 * page);
  log.seq = 500;
  log.empty_frame();
  CHECK(read_back(log.segments).end->seq_next == 500);
}

// --- torn and cut tails ------------------------------------------------------------------------

TEST_CASE("a log cut at any byte gives the records of its whole frames") {
  const LogImage log = small_log();
  for (size_t size = 0; size <= log.position; ++size) {
    std::vector<SegmentImage> cut = log.segments;
    cut[0].bytes.resize(size);
    const ReadBack back = read_back(cut);
    REQUIRE(back.end);
    REQUIRE(is_prefix(back.records, log.written));
    REQUIRE(back.records.size() >= records_before(log, size));
  }
}

TEST_CASE("a last frame that is written up to any byte gives the records before it") {
  const LogImage log = small_log();
  const std::string noise(10 * page, '\x5c');
  for (size_t i = 0; i < log.frames.size(); ++i) {
    const FrameImage& frame = log.frames[i];
    for (size_t size = 0; size < log_header_bytes + frame.payload_bytes; ++size) {
      for (const std::string_view behind : {std::string_view(noise), std::string_view()}) {
        std::vector<SegmentImage> torn = log.segments;
        const size_t from = frame.offset + size;
        std::string& bytes = torn[0].bytes;
        bytes.resize(from);
        bytes.append(behind.substr(0, 10 * page - std::min(from, behind.size())));
        bytes.resize(10 * page, '\0');
        if (bytes[from] == log.segments[0].bytes[from])
          continue;  // this byte was so before the write
        const ReadBack back = read_back(torn);
        REQUIRE(back.end);
        REQUIRE(back.records == std::vector<std::string>(
                                    log.written.begin(),
                                    log.written.begin() + static_cast<long>(frame.records_before)));
        REQUIRE(back.end->position == frame.position);
        REQUIRE(back.end->torn == (size >= log_header_bytes));
      }
    }
  }
}

TEST_CASE("frames of an earlier life of the file are the end of the log") {
  LogImage old;
  old.add_segment(10 * page);
  for (int i = 0; i < 10; ++i) old.frame({record("old", "data")});

  LogImage log;
  log.add_segment(page);
  log.segments[0].id = 7;  // so that the next one is not the old log's first
  log.add_segment(10 * page, old.segments[0].bytes);
  log.frame({record("new", "1")});
  log.frame({record("new", "2")});
  log.segments.erase(log.segments.begin());
  const ReadBack back = read_back(log.segments);
  REQUIRE(back.end);
  CHECK(back.records == log.written);
  CHECK_FALSE(back.end->torn);
}

TEST_CASE("a value that looks like a frame is taken for one only if it knows the log's salt") {
  for (const uint64_t salt : {image_salt, image_salt + 1, uint64_t{0}}) {
    LogImage log;
    log.add_segment(32 * page);
    std::string value(8 * page, '\0');
    log.frame({record("a", "1")});
    log.frame({record("evil", value)});
    // A header that promises everything, at the place of the value that lies 4 KiB-aligned.
    FrameHeader header;
    header.segment_id = 1;
    header.position = header.synced_position = 20 * page;
    encode_frame_header(log.segments[0].bytes.data() + 4 * page, header, salt);
    const ReadBack back = read_back(log.segments);
    if (salt == image_salt) {
      CHECK_FALSE(back.end);
    } else {
      REQUIRE(back.end);
      CHECK(back.records.size() == 1);
    }
  }
}

// --- damage to what was acknowledged -----------------------------------------------------------

TEST_CASE("a damaged frame that a later one promises is corruption, named by place") {
  for (size_t damaged = 0; damaged < 3; ++damaged) {
    LogImage log = small_log();
    flip(log, damaged);
    const ReadBack back = read_back(log.segments);
    REQUIRE_FALSE(back.end);
    CHECK(back.end.error().code == Errc::corrupt);
    CHECK(back.end.error().detail.find("log-1") != std::string::npos);
    CHECK(back.end.error().detail.find("offset " + std::to_string(log.frames[damaged].offset) +
                                       " ") != std::string::npos);
  }
}

TEST_CASE("an empty frame promises the last one") {
  LogImage log = small_log();
  flip(log, 3);
  CHECK(read_back(log.segments).end);
  log = small_log();
  log.empty_frame();
  CHECK(read_back(log.segments).end->frames == 5);
  flip(log, 3);
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
}

TEST_CASE("a promise counts though the frame that makes it is torn") {
  LogImage log = small_log();
  flip(log, 2);
  flip(log, 3, log_header_bytes + 5);
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
}

TEST_CASE("a later frame that promises nothing doesn't make a torn one corrupt") {
  LogImage log;
  log.add_segment(10 * page);
  for (int i = 0; i < 3; ++i) {
    log.begin();
    log.whole(record("k", "v"));
    log.end(false);
  }
  flip(log, 1);
  const ReadBack back = read_back(log.segments);
  REQUIRE(back.end);
  CHECK(back.records.size() == 1);
  CHECK(back.end->position == page);
}

TEST_CASE("any flipped bit gives a prefix with everything promised, or corruption") {
  LogImage log;
  log.add_segment(4 * page);
  log.frame({record("a", "1"), record("b", "2")});
  log.begin();
  log.whole(record("c", "3"));
  log.end();
  log.empty_frame();
  size_t corrupt = 0;
  for (size_t byte = 0; byte < log.position; ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<SegmentImage> bad = log.segments;
      bad[0].bytes[byte] = static_cast<char>(bad[0].bytes[byte] ^ (1 << bit));
      const ReadBack back = read_back(bad);
      if (!back.end) {
        REQUIRE(back.end.error().code == Errc::corrupt);
        ++corrupt;
      } else {
        // The third frame promises the two before; without it, the second only the first.
        REQUIRE(is_prefix(back.records, log.written));
        REQUIRE(back.records.size() == log.written.size());
      }
    }
  }
  const size_t covered =
      2 * log_header_bytes + log.frames[0].payload_bytes + log.frames[1].payload_bytes;
  CHECK(corrupt == covered * 8);
}

TEST_CASE("a gap within the log is corruption if a later frame promises it") {
  LogImage log = small_log();
  std::string& bytes = log.segments[0].bytes;
  const FrameImage& lost = log.frames[1];
  bytes.replace(lost.offset, lost.bytes, std::string(lost.bytes, '\0'));
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
}

TEST_CASE("a promise up to the very place of a torn frame doesn't make it corrupt") {
  LogImage log;
  log.add_segment(10 * page);
  log.frame({record("a", "1")});
  log.frame({record("torn", "2")});
  log.begin();
  log.whole(record("later", "3"));
  log.end(false);
  REQUIRE(log.frames[2].synced_position == log.frames[1].position);
  flip(log, 1);
  const ReadBack back = read_back(log.segments);
  REQUIRE(back.end);
  CHECK(back.records.size() == 1);
}

TEST_CASE("a frame whose position or sequence doesn't follow the one before is not good") {
  LogImage log;
  log.add_segment(10 * page);
  log.frame({record("a", "1")});
  const LogImage start = log;
  log.frame_seq += 1;
  log.begin();
  log.whole(record("b", "2"));
  log.end(false);
  CHECK(read_back(log.segments).records.size() == 1);
  log = start;
  log.position += page;
  log.begin();
  log.whole(record("b", "2"));
  log.end(false);
  CHECK(read_back(log.segments).records.size() == 1);
}

TEST_CASE("a frame that runs into the next segment's positions is not good") {
  LogImage log;
  log.add_segment(10 * page);
  log.frame({record("a", "1")});
  log.frame({record("long", two_pages)});
  log.add_segment(10 * page);
  log.position = 2 * page;
  log.synced_position = 0;
  log.begin();
  log.whole(record("b", "2"));
  log.end(false);
  CHECK(read_back(log.segments).records.size() == 1);
}

TEST_CASE("a frame out of its place is not good") {
  LogImage log;
  log.add_segment(8 * page);
  for (int i = 0; i < 4; ++i) log.frame({record("k", std::to_string(i))});
  std::string& bytes = log.segments[0].bytes;
  bytes.replace(page, page, bytes.substr(3 * page, page));
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
}

// --- several segments --------------------------------------------------------------------------

namespace {
LogImage three_segments() {
  LogImage log;
  for (int segment = 0; segment < 3; ++segment) {
    log.add_segment(6 * page);
    for (int frame = 0; frame < 3; ++frame)
      log.frame({record("k" + std::to_string(segment * 3 + frame), "v")});
  }
  return log;
}
}  // namespace

TEST_CASE("segments follow each other, full or not") {
  LogImage log = three_segments();
  const ReadBack back = read_back(log.segments);
  REQUIRE(back.end);
  CHECK(back.records == log.written);
  CHECK(back.end->position == 9 * page);
  CHECK(back.end->segment_id_next == 4);
  for (SegmentImage& segment : log.segments) segment.bytes.resize(3 * page);
  CHECK(read_back(log.segments).records == log.written);
}

TEST_CASE("any flipped bit in several segments gives everything promised, or corruption") {
  const LogImage log = three_segments();
  for (size_t i = 0; i < log.frames.size(); ++i) {
    const FrameImage& frame = log.frames[i];
    for (size_t byte = 0; byte < log_header_bytes + frame.payload_bytes; ++byte) {
      LogImage bad = log;
      flip(bad, i, byte);
      const ReadBack back = read_back(bad.segments);
      if (i + 1 < log.frames.size()) {
        REQUIRE_FALSE(back.end);
        REQUIRE(back.end.error().code == Errc::corrupt);
      } else {
        REQUIRE(back.end);
        REQUIRE(back.records ==
                std::vector<std::string>(log.written.begin(), log.written.end() - 1));
      }
    }
  }
}

TEST_CASE("a missing segment is corruption") {
  LogImage log = three_segments();
  log.segments.erase(log.segments.begin() + 1);
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
  log = three_segments();
  log.segments.erase(log.segments.begin());
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
}

TEST_CASE("a tail lost in one segment and unpromised by the next cuts both") {
  LogImage log;
  log.add_segment(4 * page);
  log.frame({record("a", "1")});
  log.begin();
  log.whole(record("b", "2"));
  log.end(false);
  log.add_segment(4 * page);
  log.begin();
  log.whole(record("c", "3"));
  log.end(false);
  flip(log, 1);
  const ReadBack back = read_back(log.segments);
  REQUIRE(back.end);
  CHECK(back.records.size() == 1);
  CHECK(back.end->position == page);
  CHECK(back.end->segment_id_next == 3);
}

TEST_CASE("segment ids must ascend") {
  LogImage log = three_segments();
  log.segments[1].id = 1;
  CHECK(read_back(log.segments).end.error().code == Errc::invalid);
}

// --- going on after a recovery -----------------------------------------------------------------

TEST_CASE("after a torn tail the log goes on, and whole frames behind the tear stay dead") {
  LogImage log;
  log.add_segment(8 * page);
  log.frame({record("a", "1")});
  for (int i = 0; i < 3; ++i) {
    log.begin();
    log.whole(record("dead", "x"));
    log.end(false);
  }
  const std::string whole = log.segments[0].bytes;
  flip(log, 1);  // written without sync, and only the later ones reached the disk
  const ReadBack first = read_back(log.segments);
  REQUIRE(first.end);
  CHECK(first.records.size() == 1);

  log.written.resize(1);
  log.reopen(*first.end, 4 * page);
  log.frame({record("b", "2")});
  log.empty_frame();
  const ReadBack second = read_back(log.segments);
  REQUIRE(second.end);
  CHECK(second.records == log.written);
  CHECK(second.end->position == 3 * page);

  // Even a torn frame that reads well later is dead by then.
  log.segments[0].bytes = whole;
  CHECK(read_back(log.segments).records == log.written);

  // And it can't take the place of what was acknowledged after it.
  flip(log, 4);
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
}

TEST_CASE("what a recovery gave up stays given up, also whole segments") {
  LogImage log;
  log.add_segment(4 * page);
  log.frame({record("a", "1")});
  log.begin();
  log.whole(record("dead", "2"));
  log.end(false);
  log.add_segment(4 * page);
  log.begin();
  log.whole(record("dead", "3"));
  log.end(false);
  flip(log, 1);
  const ReadBack first = read_back(log.segments);
  REQUIRE(first.end);
  log.written.resize(1);
  log.reopen(*first.end, 4 * page);
  CHECK(read_back(log.segments).records == log.written);  // crashed again before its first frame
  log.frame({record("b", "2")});
  log.empty_frame();
  const ReadBack second = read_back(log.segments);
  REQUIRE(second.end);
  CHECK(second.records == log.written);
  CHECK(second.in_chain == std::vector<bool>{true, false, true});

  flip(log, 3);  // "b", which the empty frame promises
  CHECK(read_back(log.segments).end.error().code == Errc::corrupt);
}

TEST_CASE("a torn first frame of a new segment ends the log before it") {
  LogImage log;
  log.add_segment(4 * page);
  log.frame({record("a", "1")});
  log.add_segment(4 * page);
  log.frame({record("b", "2")});
  for (const size_t byte : {size_t{10}, log_header_bytes + 3}) {
    LogImage torn = log;
    flip(torn, 1, byte);
    ReadBack back = read_back(torn.segments);
    REQUIRE(back.end);
    CHECK(back.records.size() == 1);
    CHECK(back.end->position == page);
    torn.written.resize(1);
    torn.reopen(*back.end, 4 * page);
    torn.frame({record("c", "3")});
    torn.empty_frame();
    back = read_back(torn.segments);
    REQUIRE(back.end);
    CHECK(back.records == torn.written);
  }
}

TEST_CASE("records that were unfinished at a crash don't mix with later ones of the same id") {
  LogImage log;
  log.add_segment(8 * page);
  const std::string old_value(9000, 'o');
  const std::string new_value(9000, 'n');
  const WriteRecord old_record = record("k", old_value);
  const WriteRecord new_record = record("k", new_value);
  FragmentCursor old_cursor(1, old_record);
  log.begin(page);
  log.fragment(old_cursor, old_record);
  log.end();
  const ReadBack first = read_back(log.segments);
  REQUIRE(first.end);
  CHECK(first.end->unfinished == 1);
  log.reopen(*first.end, 8 * page);
  FragmentCursor new_cursor(1, new_record);
  for (bool done = false; !done;) {
    log.begin(page);
    done = log.fragment(new_cursor, new_record);
    log.end();
  }
  const ReadBack second = read_back(log.segments);
  REQUIRE(second.end);
  CHECK(second.records == log.written);
  CHECK(second.end->unfinished == 1);
}

// --- what the manifest knows -------------------------------------------------------------------

TEST_CASE("flushed segments may be gone, flushed records are skipped") {
  LogImage log = three_segments();
  LogReaderOptions options;
  options.start_position = 5 * page;
  options.skip_through_seq = 5;
  ReadBack back = read_back(log.segments, options);
  REQUIRE(back.end);
  CHECK(back.records == std::vector<std::string>(log.written.begin() + 5, log.written.end()));
  CHECK(back.in_chain == std::vector<bool>{false, true, true});

  log.segments.erase(log.segments.begin());
  back = read_back(log.segments, options);
  REQUIRE(back.end);
  CHECK(back.records.size() == 4);
}

TEST_CASE("damage to flushed segments doesn't matter") {
  LogImage log = three_segments();
  flip(log, 0);
  flip(log, 1);
  LogReaderOptions options;
  options.start_position = 3 * page;
  options.skip_through_seq = 3;
  const ReadBack back = read_back(log.segments, options);
  REQUIRE(back.end);
  CHECK(back.records.size() == 6);
}

TEST_CASE("a log that was flushed whole goes on where the manifest says") {
  LogReaderOptions options;
  options.start_position = 9 * page;
  options.skip_through_seq = 9;
  const ReadBack back = read_back({}, options);
  REQUIRE(back.end);
  CHECK(back.end->position == 9 * page);
  CHECK(back.end->seq_next == 10);
}

TEST_CASE("the manifest's promise counts like a frame's") {
  LogImage log = small_log();
  LogReaderOptions options;
  options.promised_position = log.position;
  CHECK(read_back(log.segments, options).end);
  flip(log, 3);
  CHECK(read_back(log.segments).end);
  const ReadBack back = read_back(log.segments, options);
  REQUIRE_FALSE(back.end);
  CHECK(back.end.error().code == Errc::corrupt);
  CHECK(read_back({}, options).end.error().code == Errc::corrupt);
}

TEST_CASE("parts of a flushed record whose beginning is gone are skipped") {
  LogImage log;
  const std::string value(9000, 'x');
  const WriteRecord in_parts = record("flushed", value);
  FragmentCursor cursor(1, in_parts);
  log.add_segment(page);
  log.begin(page);
  log.fragment(cursor, in_parts);
  log.end();
  log.add_segment(8 * page);
  for (bool done = false; !done;) {
    log.begin(page);
    done = log.fragment(cursor, in_parts);
    log.end();
  }
  log.frame({record("kept", "1")});
  log.segments.erase(log.segments.begin());
  LogReaderOptions options;
  options.start_position = page;
  options.skip_through_seq = 1;
  const ReadBack back = read_back(log.segments, options);
  REQUIRE(back.end);
  CHECK(back.records == std::vector<std::string>{log.written[1]});
  options.skip_through_seq = 0;
  CHECK(read_back(log.segments, options).end.error().code == Errc::corrupt);
}

// --- large records -----------------------------------------------------------------------------

TEST_CASE("large records interleave with each other and with small ones") {
  LogImage log;
  log.add_segment(64 * page);
  const std::string x(20'000, 'x');
  const std::string y(30'000, 'y');
  const WriteRecord first = record("x", x);
  const WriteRecord second = record("y", y);
  FragmentCursor first_cursor(1, first);
  FragmentCursor second_cursor(2, second);
  bool first_done = false;
  bool second_done = false;
  for (int i = 0; !first_done || !second_done; ++i) {
    log.begin(2 * page);
    log.whole(record("small" + std::to_string(i), "s"));
    if (i % 2 == 0 ? !first_done : second_done) {
      if (!first_done) first_done = log.fragment(first_cursor, first);
    } else if (!second_done) {
      second_done = log.fragment(second_cursor, second);
    }
    log.end();
  }
  for (const size_t window : {page, 256 * page}) {
    LogReaderOptions options;
    options.window_bytes = window;
    const ReadBack back = read_back(log.segments, options);
    REQUIRE(back.end);
    CHECK(back.records == log.written);
  }
}

TEST_CASE("a record in parts is there if and only if its last part is") {
  LogImage log;
  log.add_segment(16 * page);
  const std::string value(20'000, 'x');
  const WriteRecord in_parts = record("k", value);
  FragmentCursor cursor(1, in_parts);
  for (bool done = false; !done;) {
    log.begin(page);
    done = log.fragment(cursor, in_parts);
    log.end();
  }
  for (size_t frames = 0; frames <= log.frames.size(); ++frames) {
    std::vector<SegmentImage> cut = log.segments;
    cut[0].bytes.resize(frames * page);
    const ReadBack back = read_back(cut);
    REQUIRE(back.end);
    CHECK(back.records.size() == (frames == log.frames.size() ? 1 : 0));
  }
}

TEST_CASE("memory for unfinished records is bounded") {
  LogImage log;
  log.add_segment(page);
  const std::string value(100'000, 'x');
  const WriteRecord in_parts = record("k", value);
  FragmentCursor cursor(1, in_parts);
  log.begin(16 * page);
  log.fragment(cursor, in_parts);
  log.end();
  LogReaderOptions options;
  options.assembly_bytes_max = 50'000;
  const ReadBack back = read_back(log.segments, options);
  REQUIRE_FALSE(back.end);
  CHECK(back.end.error().code == Errc::overloaded);
}

// --- frames that are whole but make no sense ---------------------------------------------------

namespace {

// A frame with any payload and a right checksum.
std::vector<SegmentImage> framed(std::string_view payload, uint32_t entries,
                                 uint16_t version = log_format_version) {
  std::string bytes(padded_frame_bytes(payload.size()), '\0');
  FrameHeader header;
  header.format_version = version;
  header.segment_id = 1;
  header.frame_seq = 1;
  header.first_seq = 10;
  header.entries = entries;
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  header.payload_hash = frame_payload_hash(payload, image_salt);
  encode_frame_header(bytes.data(), header, image_salt);
  bytes.replace(log_header_bytes, payload.size(), payload);
  return {{1, bytes, bytes.size()}};
}

std::string entry_bytes(LogEntryType type, uint64_t id, uint64_t seq, uint64_t value_bytes,
                        std::string_view part) {
  LogEntry entry;
  entry.type = type;
  entry.record_id = id;
  entry.seq = seq;
  entry.value_bytes = value_bytes;
  std::string bytes(log_entry_overhead_bytes_max, '\0');
  bytes.resize(
      static_cast<size_t>(encode_entry_head(bytes.data(), entry, 10, part.size()) - bytes.data()));
  return bytes.append(part);
}

}  // namespace

TEST_CASE("a frame of a later format version is refused, not cut off") {
  const std::string good = entry_bytes(LogEntryType::whole, 0, 10, 1, "v");
  CHECK(read_back(framed(good, 1)).records.size() == 1);
  const ReadBack back = read_back(framed(good, 1, 2));
  REQUIRE_FALSE(back.end);
  CHECK(back.end.error().code == Errc::unsupported);

  LogImage log = small_log();
  FrameHeader header;
  REQUIRE(decode_frame_header(std::string_view(log.segments[0].bytes).substr(page), image_salt,
                              header));
  header.format_version = 2;
  encode_frame_header(log.segments[0].bytes.data() + page, header, image_salt);
  CHECK(read_back(log.segments).end.error().code == Errc::unsupported);
}

TEST_CASE("a whole frame whose entries make no sense is corrupt, never cut off") {
  const std::string whole = entry_bytes(LogEntryType::whole, 0, 10, 1, "v");
  const std::string begin = entry_bytes(LogEntryType::first, 1, 0, 4, "ab");
  const std::vector<std::pair<std::string, uint32_t>> cases = {
      {"garbage", 1},
      {whole, 2},                                                     // fewer than it says
      {whole + whole, 1},                                             // more than it says
      {whole + whole, 2},                                             // the same seq twice
      {begin + begin, 2},                                             // begun twice
      {begin + entry_bytes(LogEntryType::last, 1, 10, 0, "abc"), 2},  // longer than it said
      {begin + entry_bytes(LogEntryType::last, 1, 10, 0, "a"), 2},    // shorter
      {entry_bytes(LogEntryType::last, 1, 10, 0, "a"), 1},            // never begun
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(i);
    const ReadBack back = read_back(framed(cases[i].first, cases[i].second));
    REQUIRE_FALSE(back.end);
    CHECK(back.end.error().code == Errc::corrupt);
  }
  CHECK(read_back(framed(begin + entry_bytes(LogEntryType::last, 1, 10, 0, "cd"), 2))
            .records.size() == 1);

  std::string many;
  for (uint32_t id = 0; id <= log_unfinished_records_max; ++id)
    many += entry_bytes(LogEntryType::first, id, 0, 4, "ab");
  CHECK(read_back(framed(many, log_unfinished_records_max + 1)).end.error().code == Errc::corrupt);
}
