#include "store/write_record.hpp"

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace gyre {

namespace {
bool has_meta(LogEntryType type) {
  return type == LogEntryType::whole || type == LogEntryType::first;
}
bool has_seq(LogEntryType type) {
  return type == LogEntryType::whole || type == LogEntryType::last;
}
}  // namespace

char* encode_entry_head(char* out, const LogEntry& entry, uint64_t first_seq, size_t part_bytes) {
  const auto kind = has_meta(entry.type) ? static_cast<uint8_t>(entry.kind) : uint8_t{0};
  *out++ = static_cast<char>(static_cast<uint8_t>(entry.type) | (kind << 4));
  if (entry.type != LogEntryType::whole) out = put_varint(out, entry.record_id);
  if (has_seq(entry.type)) {
    GYRE_ASSERT(entry.seq >= first_seq);
    out = put_varint(out, entry.seq - first_seq);
  }
  if (has_meta(entry.type)) {
    put_fixed(out, entry.version.hlc);
    put_fixed(out + 8, entry.version.origin);
    out = put_varint(out + 16, entry.expire_at_ms);
    out = put_varint(out, entry.key_bytes);
    out = put_varint(out, entry.value_bytes);
  }
  if (entry.type != LogEntryType::whole) out = put_varint(out, part_bytes);
  return out;
}

bool decode_entry(Decoder& in, uint64_t first_seq, LogEntry& entry) {
  const auto tag = in.fixed<uint8_t>();
  if (!in.ok() || (tag & 15) < 1 || (tag & 15) > 4) return false;
  entry.type = static_cast<LogEntryType>(tag & 15);
  const uint8_t kind = tag >> 4;
  if (has_meta(entry.type) ? kind != 1 && kind != 2 : kind != 0) return false;

  entry.record_id = entry.type == LogEntryType::whole ? 0 : in.varint();
  entry.seq = 0;
  if (has_seq(entry.type)) {
    const uint64_t ahead = in.varint();
    entry.seq = first_seq + ahead;
    if (entry.seq < first_seq) return false;
  }
  uint64_t part_bytes = 0;
  if (has_meta(entry.type)) {
    entry.kind = static_cast<Kind>(kind);
    entry.version.hlc = in.fixed<uint64_t>();
    entry.version.origin = in.fixed<uint64_t>();
    entry.expire_at_ms = in.varint();
    entry.key_bytes = in.varint();
    entry.value_bytes = in.varint();
    if (entry.key_bytes > limits::key_bytes_max) return false;
    if (entry.value_bytes > limits::value_bytes_max_hard) return false;
    part_bytes = entry.key_bytes + entry.value_bytes;
  }
  if (entry.type != LogEntryType::whole) {
    const uint64_t body_bytes = part_bytes;
    part_bytes = in.varint();
    if (part_bytes == 0) return false;
    // A first entry is never the whole body: a last one follows.
    if (entry.type == LogEntryType::first && part_bytes >= body_bytes) return false;
  }
  entry.part = in.bytes(part_bytes);
  return in.ok();
}

}  // namespace gyre
