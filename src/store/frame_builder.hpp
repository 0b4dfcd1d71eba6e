// Fills a frame in memory that the caller owns. Allocates nothing.
//
//   begin -> add_whole / add_fragment ... -> seal -> write `padded size` bytes at the log's end
//
// The frame grows while the one before it is being written. A record that fits goes in whole; one
// that doesn't goes in by fragments, frame after frame, and what is left of each frame is for the
// records that came meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>

#include "store/log_format.hpp"
#include "store/write_record.hpp"

namespace gyre {

// How far a record has got that is written in parts.
struct FragmentCursor {
  FragmentCursor() = default;
  FragmentCursor(uint64_t id, const WriteRecord& record)
      : record_id(id),
        value(record.value_buffer != nullptr ? ValueBuffer::Reader(*record.value_buffer)
                                             : ValueBuffer::Reader()) {}
  uint64_t record_id = 0;
  size_t body_offset = 0;
  ValueBuffer::Reader value;
};

struct FrameSeal {
  uint64_t segment_id = 0;
  uint64_t frame_seq = 0;
  uint64_t position = 0;
  uint64_t synced_position = 0;
  bool reopened = false;
};

class FrameBuilder {
 public:
  // With less room than this a fragment isn't worth its head.
  static constexpr size_t fragment_room_bytes_min = 512;

  explicit FrameBuilder(uint64_t salt) : salt_(salt) {}

  // `buffer` is what is going to be written: a multiple of 4 KiB, at most a frame's limit.
  // `first_seq` is the seq that the next finished record takes.
  void begin(char* buffer, size_t capacity_bytes, uint64_t first_seq);

  size_t room() const { return static_cast<size_t>(end_ - out_); }
  bool fits(const WriteRecord& record) const {
    return record.body_bytes() + log_entry_overhead_bytes_max <= room();
  }
  // Whether an empty frame of the largest size takes it whole.
  static bool fits_any_frame(const WriteRecord& record) {
    return record.body_bytes() + log_entry_overhead_bytes_max <= log_payload_bytes_max;
  }
  bool fits_fragment() const { return room() >= fragment_room_bytes_min; }

  // Only if it fits. Seqs ascend from add to add.
  void add_whole(uint64_t seq, const WriteRecord& record);

  // Only if fits_fragment(). Puts in as much as there is room for; true if that was the end, and
  // only then the record has taken `seq`. The same record must be given until then.
  bool add_fragment(FragmentCursor& cursor, uint64_t seq, const WriteRecord& record);

  bool empty() const { return entries_ == 0; }
  uint32_t entries() const { return entries_; }
  size_t payload_bytes() const { return static_cast<size_t>(out_ - buffer_) - log_header_bytes; }
  size_t capacity_bytes() const { return static_cast<size_t>(end_ - buffer_); }

  // Writes header and padding; returns how many bytes to write. An empty frame is valid: it
  // promises what lies before it. The builder must begin() anew.
  size_t seal(const FrameSeal& seal);

 private:
  void take_seq(uint64_t seq);

  uint64_t salt_;
  char* buffer_ = nullptr;
  char* out_ = nullptr;
  char* end_ = nullptr;
  uint64_t first_seq_ = 0;
  uint64_t next_seq_ = 0;
  uint32_t entries_ = 0;
};

}  // namespace gyre
