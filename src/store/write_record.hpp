// A write as the log holds it: one entry, or several where it doesn't fit the rest of a frame.
//
//   whole   tag · seq - first seq · meta · body
//   first   tag · record id       · meta · part bytes · part of the body
//   middle  tag · record id              · part bytes · part
//   last    tag · record id · seq - first seq · part bytes · part
//
//   tag     u8: entry type (1 whole, 2 first, 3 middle, 4 last) | kind << 4 (0 in middle and last)
//   meta    version (hlc u64, origin u64) · expiry in ms, 0 if none · key bytes · value bytes
//   body    key, then value
//
// Numbers without a width are varints. The parts of a record lie in order, between other records'
// entries. A record takes its seq where it ends: it exists from its last entry on, so seqs ascend
// in log order and a snapshot never sees a record appear behind it. Record ids tell unfinished
// records apart; they are unique between two openings of the log. A part is never empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <gyre/version.hpp>

#include "base/coding.hpp"
#include "store/entry.hpp"
#include "store/value_buffer.hpp"

namespace gyre {

// What goes into the log. Views: key and value live until the last byte is in a frame.
struct WriteRecord {
  Kind kind = Kind::value;  // value or tombstone
  bool deferred = false;    // LogClient::prepare says what is written
  Version version;
  uint64_t expire_at_ms = 0;
  std::string_view key;
  std::string_view value;  // used unless value_buffer is set
  const ValueBuffer* value_buffer = nullptr;

  size_t value_bytes() const {
    return value_buffer != nullptr ? value_buffer->size() : value.size();
  }
  size_t body_bytes() const { return key.size() + value_bytes(); }
};

enum class LogEntryType : uint8_t { whole = 1, first = 2, middle = 3, last = 4 };

// A writer has at most so many records begun and not ended; a reader refuses more.
inline constexpr size_t log_unfinished_records_max = 256;

// The most an entry takes beside its body.
inline constexpr size_t log_entry_overhead_bytes_max = 1 + 16 + 5 * varint_bytes_max;

// Decoded, not yet judged: views into the frame.
struct LogEntry {
  LogEntryType type = LogEntryType::whole;
  uint64_t record_id = 0;   // not of whole
  uint64_t seq = 0;         // of whole and last
  Kind kind = Kind::value;  // with the next four: of whole and first
  Version version;
  uint64_t expire_at_ms = 0;
  uint64_t key_bytes = 0;
  uint64_t value_bytes = 0;
  std::string_view part;  // of the body
};

// Writes everything of an entry but its part, whose size is `part_bytes`; returns the end.
char* encode_entry_head(char* out, const LogEntry& entry, uint64_t first_seq, size_t part_bytes);

// Takes one entry off the front. False if it is malformed or breaks a limit.
bool decode_entry(Decoder& in, uint64_t first_seq, LogEntry& entry);

}  // namespace gyre
