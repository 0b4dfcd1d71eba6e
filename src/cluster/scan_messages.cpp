#include "cluster/scan_messages.hpp"

#include "base/assert.hpp"
#include "base/coding.hpp"

namespace gyre::cluster {

namespace {
constexpr uint32_t keys_only_bit = uint32_t{1} << 31;
}  // namespace

void ScanRequest::encode_head(char (&out)[head_bytes]) const {
  put_fixed(out, static_cast<uint32_t>(start.size()));
  put_fixed(out + 4, static_cast<uint32_t>(end.size()) | (keys_only ? keys_only_bit : 0));
  put_fixed(out + 8, now_ms);
  slots.encode(out + 16);
}

bool ScanRequest::decode(std::string_view payload, ScanRequest& out) {
  Decoder in(payload);
  const auto start_bytes = in.fixed<uint32_t>();
  const auto end_tag = in.fixed<uint32_t>();
  const uint32_t end_bytes = end_tag & ~keys_only_bit;
  out.keys_only = (end_tag & keys_only_bit) != 0;
  out.now_ms = in.fixed<uint64_t>();
  const std::string_view slots = in.bytes(SlotSet::bytes);
  out.start = in.bytes(start_bytes);
  out.end = in.bytes(end_bytes);
  if (!in.ok() || in.remaining() != 0) return false;
  if (out.start.empty() || out.start.size() > start_bytes_max) return false;
  if (out.end.size() > limits::stored_key_bytes_max) return false;
  out.slots = SlotSet::decode(slots.data());
  return true;
}

void ScanEntry::append_to(std::string& page) const {
  GYRE_ASSERT(!key.empty() && key.size() <= limits::stored_key_bytes_max);
  append_fixed(page, static_cast<uint32_t>(static_cast<uint32_t>(kind) |
                                           static_cast<uint32_t>(key.size()) << 8));
  append_fixed(page, static_cast<uint32_t>(value_bytes));
  append_fixed(page, version.hlc);
  append_fixed(page, version.origin);
  page.append(key);
  page.append(value);
}

bool ScanEntry::take(std::string_view& page, ScanEntry& out) {
  Decoder in(page);
  const auto tag = in.fixed<uint32_t>();
  const unsigned kind = tag & 0xff;
  const uint32_t key_bytes = tag >> 8;
  out.value_bytes = in.fixed<uint32_t>();
  out.version.hlc = in.fixed<uint64_t>();
  out.version.origin = in.fixed<uint64_t>();
  if (!in.ok() || kind < 1 || kind > 4) return false;
  if (key_bytes == 0 || key_bytes > limits::stored_key_bytes_max) return false;
  out.kind = static_cast<ScanKind>(kind);
  out.key = in.bytes(key_bytes);
  out.value = in.bytes(out.kind == ScanKind::value ? out.value_bytes : 0);
  if (!in.ok()) return false;
  const bool has_length = out.kind == ScanKind::value || out.kind == ScanKind::long_value;
  if (!has_length && out.value_bytes != 0) return false;
  if ((out.kind == ScanKind::passed) == static_cast<bool>(out.version)) return false;
  page.remove_prefix(out.size_bytes());
  return true;
}

}  // namespace gyre::cluster
