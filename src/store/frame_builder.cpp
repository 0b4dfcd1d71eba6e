#include "store/frame_builder.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"

namespace gyre {

namespace {

LogEntry describe(LogEntryType type, uint64_t seq, const WriteRecord& record) {
  GYRE_ASSERT(record.kind == Kind::value || record.kind == Kind::tombstone);
  LogEntry entry;
  entry.type = type;
  entry.seq = seq;
  entry.kind = record.kind;
  entry.version = record.version;
  entry.expire_at_ms = record.expire_at_ms;
  entry.key_bytes = record.key.size();
  entry.value_bytes = record.value_bytes();
  return entry;
}

char* copy(char* out, std::string_view bytes) {
  if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
  return out + bytes.size();
}

}  // namespace

void FrameBuilder::begin(char* buffer, size_t capacity_bytes, uint64_t first_seq) {
  GYRE_ASSERT(capacity_bytes % limits::io_alignment_bytes == 0);
  GYRE_ASSERT(capacity_bytes > 0 && capacity_bytes <= limits::log_frame_bytes_max);
  buffer_ = buffer;
  out_ = buffer + log_header_bytes;
  end_ = buffer + capacity_bytes;
  first_seq_ = next_seq_ = first_seq;
  entries_ = 0;
}

void FrameBuilder::take_seq(uint64_t seq) {
  GYRE_ASSERT(seq >= next_seq_);
  next_seq_ = seq + 1;
}

void FrameBuilder::add_whole(uint64_t seq, const WriteRecord& record) {
  GYRE_ASSERT(fits(record));
  take_seq(seq);
  const LogEntry entry = describe(LogEntryType::whole, seq, record);
  out_ = encode_entry_head(out_, entry, first_seq_, record.body_bytes());
  out_ = copy(out_, record.key);
  if (record.value_buffer == nullptr) {
    out_ = copy(out_, record.value);
  } else {
    record.value_buffer->for_each_piece(
        [this](std::string_view piece) { out_ = copy(out_, piece); });
  }
  ++entries_;
}

bool FrameBuilder::add_fragment(FragmentCursor& cursor, uint64_t seq, const WriteRecord& record) {
  GYRE_ASSERT(fits_fragment());
  const size_t left = record.body_bytes() - cursor.body_offset;
  const size_t part_bytes_max = room() - log_entry_overhead_bytes_max;
  const bool begins = cursor.body_offset == 0;
  // A record that would fit as one first entry is left a byte, for the last entry to end it.
  const bool ends = !begins && left <= part_bytes_max;
  const size_t part_bytes = ends ? left : std::min(part_bytes_max, left - 1);
  GYRE_ASSERT(part_bytes > 0);
  if (ends) take_seq(seq);

  const LogEntryType type = begins ? LogEntryType::first
                            : ends ? LogEntryType::last
                                   : LogEntryType::middle;
  LogEntry entry = describe(type, seq, record);
  entry.record_id = cursor.record_id;
  out_ = encode_entry_head(out_, entry, first_seq_, part_bytes);

  size_t from_key = 0;
  if (cursor.body_offset < record.key.size()) {
    from_key = std::min(part_bytes, record.key.size() - cursor.body_offset);
    out_ = copy(out_, record.key.substr(cursor.body_offset, from_key));
  }
  const size_t from_value = part_bytes - from_key;
  if (record.value_buffer != nullptr) {
    cursor.value.read(out_, from_value);
    out_ += from_value;
  } else if (from_value > 0) {
    out_ = copy(out_,
                record.value.substr(cursor.body_offset + from_key - record.key.size(), from_value));
  }
  cursor.body_offset += part_bytes;
  ++entries_;
  return ends;
}

size_t FrameBuilder::seal(const FrameSeal& seal) {
  GYRE_ASSERT(buffer_ != nullptr && seal.synced_position <= seal.position);
  const size_t payload = payload_bytes();
  const size_t padded = padded_frame_bytes(payload);
  std::memset(out_, 0, padded - log_header_bytes - payload);

  FrameHeader header;
  header.flags = seal.reopened ? log_flag_reopened : uint16_t{0};
  header.segment_id = seal.segment_id;
  header.frame_seq = seal.frame_seq;
  header.position = seal.position;
  header.synced_position = seal.synced_position;
  header.first_seq = first_seq_;
  header.entries = entries_;
  header.payload_bytes = static_cast<uint32_t>(payload);
  header.payload_hash = frame_payload_hash({buffer_ + log_header_bytes, payload}, salt_);
  encode_frame_header(buffer_, header, salt_);
  buffer_ = out_ = end_ = nullptr;
  return padded;
}

}  // namespace gyre
