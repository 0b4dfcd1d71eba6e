// The log reader against any bytes, in three ways that the first byte chooses:
//   0  the bytes are a segment as they are
//   1  the bytes are the payload of a frame whose checksums hold: the entry decoder
//   2  the bytes are a program that writes a log and then damages it. The answer must be a prefix
//      of what was written with everything that an intact header promises, or corruption if and
//      only if such a promise can't be kept. The log then goes on, and must read well for ever after.
#include <algorithm>

#include "../store/log_image.hpp"
#include "fuzz.hpp"

using namespace gyre;
using namespace gyre::testing;

namespace {

constexpr size_t page = limits::io_alignment_bytes;
constexpr size_t segments_max = 6;
constexpr size_t frames_max = 24;
constexpr size_t damages_max = 8;

class Program {
 public:
  Program(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool done() const { return at_ == end_; }
  size_t byte() { return done() ? 0 : *at_++; }
  size_t number() {
    const size_t high = byte();
    return high << 8 | byte();
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

void raw_segment(std::string bytes, size_t window_pages) {
  LogReaderOptions options;
  options.window_bytes = (1 + window_pages % 4) * page;
  (void)read_back({{1, std::move(bytes), 0}}, options);
}

void payload(std::string_view bytes, uint32_t entries) {
  std::string frame(padded_frame_bytes(bytes.size()), '\0');
  FrameHeader header;
  header.segment_id = header.frame_seq = 1;
  header.first_seq = 10;
  header.entries = entries;
  header.payload_bytes = static_cast<uint32_t>(bytes.size());
  header.payload_hash = frame_payload_hash(bytes, image_salt);
  encode_frame_header(frame.data(), header, image_salt);
  if (!bytes.empty()) frame.replace(log_header_bytes, bytes.size(), bytes);
  const ReadBack back = read_back({{1, std::move(frame), 0}});
  FUZZ_CHECK(back.records.size() <= entries);
  FUZZ_CHECK(back.end || back.end.error().code == Errc::corrupt);
}

// A record that is being written in parts.
struct Unfinished {
  std::string value;
  WriteRecord record;
  FragmentCursor cursor;
  bool active = false;
};

void write_frame(LogImage& log, Program& program, Unfinished& unfinished) {
  log.begin((1 + program.byte() % 4) * page);
  for (size_t records = program.byte() % 4; records > 0; --records) {
    const size_t size = program.number() % 5000;
    const std::string key = "k" + std::to_string(size % 7);
    const std::string value(size, static_cast<char>('a' + size % 26));
    WriteRecord record;
    record.kind = size == 0 ? Kind::tombstone : Kind::value;
    record.version = {size, log.seq};
    record.key = key;
    record.value = value;
    if (log.fits(record)) log.whole(record);
  }
  if (!unfinished.active && program.byte() % 3 == 0) {
    unfinished.value.assign(600 + program.number() % 20000, 'z');
    unfinished.record = {};
    unfinished.record.key = "parts";
    unfinished.record.value = unfinished.value;
    unfinished.cursor = FragmentCursor(log.record_id++, unfinished.record);
    unfinished.active = true;
  }
  if (unfinished.active && log.fits_fragment()) {
    unfinished.active = !log.fragment(unfinished.cursor, unfinished.record);
  }
  log.end(program.byte() % 4 != 0);
}

LogImage write_log(Program& program) {
  LogImage log;
  Unfinished unfinished;
  log.add_segment((1 + program.byte() % 8) * page);
  for (size_t frames = program.byte() % frames_max; frames > 0; --frames) {
    write_frame(log, program, unfinished);
    if (program.byte() % 6 == 0 && log.segments.size() < segments_max) {
      // Recycled: an older segment's bytes under a new id.
      std::string old = program.byte() % 2 == 0 ? log.segments.front().bytes : std::string();
      const size_t size = std::max(old.size(), (1 + program.byte() % 8) * page);
      log.add_segment(size, std::move(old));
    }
  }
  return log;
}

bool intact(const LogImage& good, const LogImage& bad, const FrameImage& frame, size_t bytes) {
  const std::string& now = bad.segments[frame.segment].bytes;
  return now.size() >= frame.offset + bytes &&
         good.segments[frame.segment].bytes.compare(frame.offset, bytes, now, frame.offset,
                                                    bytes) == 0;
}

size_t records_before(const LogImage& log, uint64_t position) {
  for (const FrameImage& frame : log.frames) {
    if (frame.position >= position) return frame.records_before;
  }
  return log.written.size();
}

void damaged_log(Program& program) {
  const LogImage good = write_log(program);
  LogImage bad = good;
  bool misdirected = false;
  for (size_t damages = program.byte() % damages_max; damages > 0; --damages) {
    std::string& bytes = bad.segments[program.byte() % bad.segments.size()].bytes;
    if (bytes.empty()) continue;
    const size_t at = (program.byte() * page + program.number() % page) % bytes.size();
    switch (program.byte() % 4) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << program.byte() % 8));
        break;
      case 1:
        std::fill(bytes.begin() + static_cast<long>(at),
                  bytes.begin() + static_cast<long>(std::min(at + page, bytes.size())), '\0');
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3: {  // a misdirected write
        misdirected = true;
        const size_t from = program.byte() * page % bytes.size();
        bytes.replace(at / page * page, page, bytes.substr(from, page));
        break;
      }
    }
  }

  // A header in the wrong place has no frame, but its promise is as true as before.
  uint64_t promised = 0;
  uint64_t promised_anywhere = 0;
  uint64_t damaged = good.position;
  // A segment that lost the header at its beginning is placed by those that it has left. If one of
  // those stands in the wrong place the log may be refused although it is whole.
  bool misplaced = false;
  for (const FrameImage& frame : good.frames) {
    misplaced |= misdirected && frame.offset == 0 && !intact(good, bad, frame, log_header_bytes);
    promised_anywhere = std::max(promised_anywhere, frame.synced_position);
    if (intact(good, bad, frame, log_header_bytes))
      promised = std::max(promised, frame.synced_position);
    if (!intact(good, bad, frame, log_header_bytes + frame.payload_bytes))
      damaged = std::min(damaged, frame.position);
  }
  LogReaderOptions options;
  options.window_bytes = (1 + program.byte() % 4) * page;
  const ReadBack back = read_back(bad.segments, options);
  if (!back.end) {
    FUZZ_CHECK(back.end.error().code == Errc::corrupt);
    FUZZ_CHECK(misplaced || (misdirected ? promised_anywhere : promised) > damaged);
    return;
  }
  FUZZ_CHECK(promised <= damaged);
  FUZZ_CHECK(back.end->position == damaged);
  FUZZ_CHECK(is_prefix(back.records, good.written));
  FUZZ_CHECK(back.records.size() == records_before(good, damaged));

  bad.written = back.records;
  bad.reopen(*back.end, 8 * page);
  for (size_t frames = 1 + program.byte() % 3; frames > 0; --frames) {
    Unfinished unfinished;
    write_frame(bad, program, unfinished);
  }
  bad.empty_frame();
  const ReadBack again = read_back(bad.segments, options);
  FUZZ_CHECK(again.end.has_value());
  FUZZ_CHECK(again.records == bad.written);
  FUZZ_CHECK(again.end->position == bad.position);
}

}  // namespace

std::vector<std::string> fuzz_seeds() {
  std::vector<std::string> seeds;
  LogImage log;
  log.add_segment(4 * page);
  WriteRecord record;
  record.key = "key";
  record.value = "value";
  log.frame({record, record});
  log.empty_frame();
  seeds.push_back(std::string(1, '\0') + log.segments[0].bytes);
  const std::string_view frame = log.segments[0].bytes;
  seeds.push_back("\x01\x02" +
                  std::string(frame.substr(log_header_bytes, log.frames[0].payload_bytes)));
  // Programs: pseudorandom bytes.
  uint64_t state = 1;
  for (size_t i = 0; i < 64; ++i) {
    std::string program(1, '\x02');
    for (size_t bytes = 0; bytes < 400; ++bytes) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      program.push_back(static_cast<char>(state >> 56));
    }
    seeds.push_back(std::move(program));
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 1u << 18) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  switch (data[0] % 3) {
    case 0:
      raw_segment(std::string(rest), data[1]);
      break;
    case 1:
      payload(rest, data[1]);
      break;
    case 2: {
      Program program(data + 1, size - 1);
      damaged_log(program);
      break;
    }
  }
  return 0;
}
