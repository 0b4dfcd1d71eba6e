// A log in memory, for tests and fuzzing: written by the frame builder as the I/O layer would, read
// back by the log reader with reads of any size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <gyre/result.hpp>

#include "store/frame_builder.hpp"
#include "store/log_reader.hpp"

namespace gyre::testing {

inline constexpr uint64_t image_salt = 0xfeed5a17;

struct SegmentImage {
  uint64_t id = 0;
  std::string bytes;
  size_t used_bytes = 0;
};

struct FrameImage {
  size_t segment = 0;
  size_t offset = 0;
  size_t bytes = 0;
  size_t payload_bytes = 0;
  uint64_t position = 0;
  uint64_t synced_position = 0;
  size_t records_before = 0;  // finished ones in all frames before
};

class LogImage {
 public:
  std::vector<SegmentImage> segments;
  std::vector<FrameImage> frames;
  std::vector<std::string> written;  // describe() of every finished record

  uint64_t position = 0;
  uint64_t synced_position = 0;
  uint64_t frame_seq = 1;
  uint64_t seq = 1;
  uint64_t record_id = 1;
  bool reopened = true;

  static std::string describe(uint64_t seq, Kind kind, Version version, uint64_t expire_at_ms,
                              std::string_view key, std::string_view value) {
    return std::to_string(seq) + (kind == Kind::tombstone ? "-" : "+") +
           std::to_string(version.hlc) + "." + std::to_string(version.origin) + "@" +
           std::to_string(expire_at_ms) + " " + std::string(key) + "=" + std::string(value);
  }

  // `old` is what an earlier life of the file left in it; zeros behind its end.
  void add_segment(size_t size_bytes, std::string old = {}) {
    old.resize(size_bytes, '\0');
    segments.push_back({segments.empty() ? 1 : segments.back().id + 1, std::move(old), 0});
  }

  // --- one frame: begin, then records, then end ---
  void begin(size_t capacity_bytes = limits::log_frame_bytes_max) {
    buffer_.assign(capacity_bytes, '\xee');
    records_before_ = written.size();
    builder_.begin(buffer_.data(), buffer_.size(), seq);
  }
  bool fits(const WriteRecord& record) const { return builder_.fits(record); }
  bool fits_fragment() const { return builder_.fits_fragment(); }
  void whole(const WriteRecord& record) {
    builder_.add_whole(seq, record);
    finished(record);
  }
  bool fragment(FragmentCursor& cursor, const WriteRecord& record) {
    if (!builder_.add_fragment(cursor, seq, record)) return false;
    finished(record);
    return true;
  }
  // Every frame before this one is promised, unless the caller has set `synced_position` less.
  void end(bool promise = true) {
    if (promise) synced_position = position;
    const size_t payload = builder_.payload_bytes();
    SegmentImage& segment = segments.back();
    const size_t bytes =
        builder_.seal({segment.id, frame_seq++, position, synced_position, reopened});
    reopened = false;
    frames.push_back({segments.size() - 1, segment.used_bytes, bytes, payload, position,
                      synced_position, records_before_});
    if (segment.bytes.size() < segment.used_bytes + bytes)
      segment.bytes.resize(segment.used_bytes + bytes);
    segment.bytes.replace(segment.used_bytes, bytes, buffer_, 0, bytes);
    segment.used_bytes += bytes;
    position += bytes;
  }
  void frame(const std::vector<WriteRecord>& records) {
    begin();
    for (const WriteRecord& record : records) whole(record);
    end();
  }
  void empty_frame() { frame({}); }
  // What recovery does: the log goes on at `end` in a new segment.
  void reopen(const LogEnd& end, size_t size_bytes) {
    add_segment(size_bytes);
    segments.back().id = end.segment_id_next;
    position = synced_position = end.position;
    frame_seq = end.frame_seq_next;
    seq = end.seq_next;
    reopened = true;
  }

 private:
  void finished(const WriteRecord& record) {
    const std::string value = record.value_buffer != nullptr ? record.value_buffer->to_string()
                                                             : std::string(record.value);
    written.push_back(
        describe(seq, record.kind, record.version, record.expire_at_ms, record.key, value));
    ++seq;
  }

  FrameBuilder builder_{image_salt};
  std::string buffer_;
  size_t records_before_ = 0;
};

struct ReadBack {
  std::vector<std::string> records;
  Result<LogEnd> end = fail(Errc::invalid);
  std::vector<bool> in_chain;
};

inline ReadBack read_back(const std::vector<SegmentImage>& segments,
                          LogReaderOptions options = {}) {
  if (options.salt == 0) options.salt = image_salt;
  LogReader reader(options);
  ReadBack result;
  for (const SegmentImage& segment : segments) {
    const std::string_view head =
        std::string_view(segment.bytes).substr(0, limits::io_alignment_bytes);
    auto added = reader.add_segment(segment.id, segment.bytes.size(), head,
                                    "log-" + std::to_string(segment.id));
    if (!added) {
      result.end = fail(std::move(added.error()));
      return result;
    }
  }
  std::string window;
  for (;;) {
    auto event = reader.next();
    if (!event) {
      result.end = fail(std::move(event.error()));
      return result;
    }
    if (*event == LogReader::Event::end) break;
    if (*event == LogReader::Event::want) {
      // A fresh, exact allocation: a sanitizer then sees every byte read beside it.
      const auto& want = reader.want();
      window = segments[want.segment].bytes.substr(want.offset_bytes, want.size_bytes);
      window.shrink_to_fit();
      reader.supply(window);
      continue;
    }
    const LogRecord& record = reader.record();
    result.records.push_back(LogImage::describe(
        record.seq, record.kind, record.version, record.expire_at_ms, record.key,
        record.assembled ? record.value_buffer.to_string() : std::string(record.value)));
  }
  result.end = reader.end();
  for (size_t i = 0; i < segments.size(); ++i) result.in_chain.push_back(reader.in_chain(i));
  return result;
}

inline bool is_prefix(const std::vector<std::string>& part, const std::vector<std::string>& all) {
  return part.size() <= all.size() && std::equal(part.begin(), part.end(), all.begin());
}

}  // namespace gyre::testing
