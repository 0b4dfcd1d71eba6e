// Reads a log back after any kind of end. Pure: whoever owns the files hands in the bytes it asks
// for.
//
// A frame at an offset of a segment is *good* if its header hash holds, it names this segment, its
// position is the segment's base plus the offset, its sequence follows the frame before, it ends at
// or before the next segment's base, and its payload hash holds.
//
// 1. The base of a segment is the position in the header at its offset 0, if that header is whole.
//    A segment whose base is not below the base of a later one was given up by an earlier recovery:
//    it is not read. Neither is one that ends at or before start_position. The rest is the chain.
// 2. Frames are read along the chain while they are good. Where a segment's frames reach the next
//    one's base the reader goes on there, whatever lies behind (an earlier recovery cut it off).
// 3. At the first frame that is not good reading stops: the *end*. Zeros and frames of an earlier
//    life of the file are such an end, and so is a torn frame. Whether something is missing is
//    decided by the promises of those who wrote later: all headers at 4 KiB steps behind the end,
//    in this segment and all later ones, whose hash and segment id hold. (A header alone is enough,
//    its payload may be torn: the promise was made before it was written.)
//    - One promises a position that was not read: acknowledged bytes are damaged. Errc::corrupt,
//      with the place of the bad frame. Not read is everything from the end on, and in a later
//      segment also everything from its own base on. (A segment without a base is placed by the
//      header in question; if that one stands in the wrong place, a second fault, a log that is
//      whole may be refused.)
//    - None does: nothing behind the end was acknowledged, or it was in the frames that were in
//      flight last, and nobody vouches for them (the window that an empty frame at idleness
//      closes). The log is cut there. Several frames may be in flight at once, so whole ones may lie
//      behind the end; they were not acknowledged either, and what they promise ends at or before
//      the first that was in flight with them.
// 4. The manifest may promise too (promised_position): a log that ends before that is corrupt.
//    A chain that begins behind start_position can't be read at all; rule 3 then says whether that
//    is corruption or a log whose beginning was never promised.
// 5. A good frame whose entries don't parse is corrupt wherever it lies, one of a later format
//    version is unsupported: neither is ever taken for a torn tail.
// 6. Records in parts are put together; those that are unfinished at the end or when the log was
//    reopened (flag) never were acknowledged and are dropped. Their memory is bounded.
//
// After a recovery the log goes on in a new segment with a new id, whose first frame has the
// reopened flag, end().position and end().frame_seq_next; never behind the end in the old one,
// where whole frames may lie that would become good again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>

#include "store/log_format.hpp"
#include "store/write_record.hpp"

namespace gyre {

struct LogReaderOptions {
  uint64_t salt = 0;
  // From the manifest: no record whose seq is above skip_through_seq has a byte before
  // start_position, and everything before promised_position was durable.
  uint64_t start_position = 0;
  uint64_t skip_through_seq = 0;
  uint64_t promised_position = 0;
  // How much is asked for at least, a multiple of 4 KiB. A longer frame is asked for whole, so the
  // buffer must hold the larger of this and limits::log_frame_bytes_max.
  size_t window_bytes = 1u << 20;
  // Reading ends where the frames reach this position, and nothing behind it is looked at: for a log
  // that is being written to, where everything before it is durable.
  uint64_t stop_position = std::numeric_limits<uint64_t>::max();
  // Records in parts are checked, but their bytes are not kept: they come without key and value.
  bool check_only = false;
  // Bounds the parts of unfinished records: what the writer's budget bounded.
  size_t assembly_bytes_max = 256u << 20;
};

// A record read back. Views live until the next call of next(); those of one that is not assembled
// until the next supply().
struct LogRecord {
  uint64_t seq = 0;
  Kind kind = Kind::value;
  Version version;
  uint64_t expire_at_ms = 0;
  std::string_view key;
  bool assembled = false;
  std::string_view value;    // unless assembled
  ValueBuffer value_buffer;  // if assembled; may be moved out
  uint64_t position = 0;     // of the frame that finished it
};

struct LogEnd {
  uint64_t position = 0;  // where the log goes on
  uint64_t segment_id_next = 1;
  uint64_t frame_seq_next = 1;
  uint64_t seq_next = 1;  // above every seq that was ever taken
  Version version_max;    // the clock must be moved past it
  // A frame of this segment begins at the end, but is not whole: a crash in mid-write. (That it is
  // false proves nothing: the write may have failed with its header.)
  bool torn = false;
  uint64_t frames = 0;
  uint64_t records = 0;     // finished ones, the skipped included
  uint64_t unfinished = 0;  // dropped
};

class LogReader {
 public:
  enum class Event : uint8_t { want, record, end };
  struct Want {
    size_t segment = 0;  // in the order of add_segment
    uint64_t offset_bytes = 0;
    size_t size_bytes = 0;
  };

  explicit LogReader(const LogReaderOptions& options);

  // Every segment there is, ids ascending, before the first next(). `head` is its first 4 KiB, or
  // all of it if it is shorter; `name` is what errors call it.
  Result<void> add_segment(uint64_t id, uint64_t size_bytes, std::string_view head,
                           std::string name);

  // want: read the bytes of want() and supply() them. record: see record(). end: see end().
  // After an error or the end there is nothing more.
  Result<Event> next();

  const Want& want() const { return want_; }
  // The bytes from where want() begins, all of them or more; they must stay until the next supply()
  // or the end.
  void supply(std::string_view bytes);
  LogRecord& record() { return record_; }
  const LogEnd& end() const { return end_; }

  // After the end: which segments the log consists of; the others may be recycled.
  bool in_chain(size_t segment) const { return segments_[segment].in_chain; }
  // After the end: where segment `segment` of the chain begins.
  uint64_t base(size_t segment) const { return segments_[segment].base; }

 private:
  enum class State : uint8_t { start, reading, in_frame, scanning, finished, failed };
  enum class Step : uint8_t { again, yield_want, yield_record, yield_end };
  struct Segment {
    uint64_t id;
    uint64_t size_bytes;
    std::string name;
    uint64_t base = 0;
    bool has_base = false;
    bool in_chain = false;
  };
  struct Assembly {
    uint64_t record_id;
    Kind kind;
    Version version;
    uint64_t expire_at_ms;
    uint64_t key_bytes;
    uint64_t value_bytes;
    std::string key;
    ValueBuffer value;
    uint64_t checked_bytes = 0;  // and not kept
    uint64_t bytes() const { return key.size() + value.size() + checked_bytes; }
    uint64_t body_bytes() const { return key_bytes + value_bytes; }
  };

  // The chain.
  void link();
  size_t next_in_chain(size_t segment) const;
  void enter(size_t segment);

  // Frames.
  Result<Step> read_frame();
  bool follows(const FrameHeader& header) const;
  Result<void> open_frame(const FrameHeader& header, std::string_view payload);
  std::string_view window_at(uint64_t offset) const;
  Step ask(uint64_t offset, size_t size_bytes);

  // Entries.
  Result<Step> read_entry();
  Result<Step> begin_assembly(const LogEntry& entry);
  Result<Step> extend_assembly(const LogEntry& entry);
  Step yield(const LogEntry& entry);
  void drop_assemblies();

  // Behind the end.
  void stop(bool torn);
  Result<Step> scan();
  Result<void> judge(const FrameHeader& header);
  Result<Step> finish();
  unexpected<Error> unsupported(const FrameHeader& header, size_t segment, uint64_t offset) const;
  unexpected<Error> corrupt(std::string_view what, uint64_t offset) const;

  LogReaderOptions options_;
  std::vector<Segment> segments_;
  State state_ = State::start;
  size_t current_ = 0;      // segment
  uint64_t limit_ = 0;      // the next segment's base: where reading goes on there
  uint64_t offset_ = 0;     // in it: of the frame, or of the header that is looked at next
  uint64_t frame_seq_ = 0;  // of the frame before, 0: none
  bool first_frame_ = true;

  Want want_;
  std::string_view window_;
  size_t window_segment_ = 0;
  uint64_t window_offset_ = 0;

  FrameHeader header_;
  Decoder payload_{std::string_view()};
  uint32_t entries_left_ = 0;
  uint64_t seq_min_ = 0;  // the smallest that the next record may have
  LogRecord record_;
  std::string record_key_;
  std::vector<Assembly> assemblies_;
  size_t assembly_bytes_ = 0;

  size_t end_segment_ = 0;
  uint64_t end_offset_ = 0;
  LogEnd end_;
};

}  // namespace gyre
