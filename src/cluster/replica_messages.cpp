#include "cluster/replica_messages.hpp"

#include <cstring>

#include "base/coding.hpp"
#include "base/limits.hpp"

namespace gyre::cluster {

namespace {

constexpr unsigned repair_bit = 128;

void put_version(char* out, const Version& version) {
  put_fixed(out, version.hlc);
  put_fixed(out + 8, version.origin);
}

Version take_version(Decoder& in) {
  Version version;
  version.hlc = in.fixed<uint64_t>();
  version.origin = in.fixed<uint64_t>();
  if (version.hlc > hlc_max) return {};
  return version;
}

bool take_zeros(Decoder& in, size_t count) {
  for (const char byte : in.bytes(count)) {
    if (byte != 0) return false;
  }
  return in.ok();
}

bool is_key(std::string_view key) {
  return !key.empty() && key.size() <= limits::stored_key_bytes_max;
}

}  // namespace

void PutRequest::encode_head(char (&out)[head_bytes]) const {
  std::memset(out, 0, sizeof out);
  out[0] = static_cast<char>((tombstone ? 2 : 1) | (repair ? repair_bit : 0));
  out[1] = static_cast<char>(from);
  put_fixed(out + 2, coordinator);
  put_fixed(out + 4, static_cast<uint32_t>(key.size()));
  put_version(out + 8, version);
  put_fixed(out + 24, expire_at_ms);
  put_fixed(out + 32, as_of);
}

bool PutRequest::decode(std::string_view payload, PutRequest& out) {
  Decoder in(payload);
  const auto tag = in.fixed<uint8_t>();
  const unsigned kind = tag & ~repair_bit;
  out.repair = (tag & repair_bit) != 0;
  out.from = in.fixed<uint8_t>();
  out.coordinator = in.fixed<uint16_t>();
  if ((kind != 1 && kind != 2) || out.from < 1 || out.from > limits::cluster_replicas_max)
    return false;
  out.tombstone = kind == 2;
  const auto key_bytes = in.fixed<uint32_t>();
  out.version = take_version(in);
  out.expire_at_ms = in.fixed<uint64_t>();
  out.as_of = in.fixed<uint64_t>();
  if (!out.repair && out.as_of != 0) return false;
  out.key = in.bytes(key_bytes);
  if (!in.ok() || !is_key(out.key) || !out.version) return false;
  out.value = in.bytes(in.remaining());
  return !out.tombstone || (out.value.empty() && out.expire_at_ms == 0);
}

void PutReply::encode(char (&out)[bytes]) const {
  std::memset(out, 0, sizeof out);
  out[0] = static_cast<char>(outcome);
  put_version(out + 8, newest);
}

bool PutReply::decode(std::string_view payload, PutReply& out) {
  Decoder in(payload);
  const auto outcome = in.fixed<uint8_t>();
  if (!take_zeros(in, 7) || outcome < 1 || outcome > 6) return false;
  out.outcome = static_cast<WriteOutcome>(outcome);
  out.newest = take_version(in);
  return in.ok() && in.remaining() == 0 &&
         (out.outcome != WriteOutcome::superseded || static_cast<bool>(out.newest));
}

void GetRequest::encode_head(char (&out)[head_bytes]) const {
  std::memset(out, 0, sizeof out);
  put_fixed(out + 4, value_bytes_max);
}

bool GetRequest::decode(std::string_view payload, GetRequest& out) {
  Decoder in(payload);
  if (!take_zeros(in, 4)) return false;
  out.value_bytes_max = in.fixed<uint32_t>();
  if (!in.ok()) return false;
  out.key = in.bytes(in.remaining());
  return is_key(out.key);
}

void GetReply::encode_head(char (&out)[head_bytes]) const {
  std::memset(out, 0, sizeof out);
  out[0] = static_cast<char>(state);
  put_version(out + 8, version);
  put_fixed(out + 24, expire_at_ms);
  put_fixed(out + 32, value_bytes);
}

bool GetReply::decode(std::string_view payload, GetReply& out) {
  Decoder in(payload);
  const auto state = in.fixed<uint8_t>();
  if (!take_zeros(in, 7) || state < 1 || state > 4) return false;
  out.state = static_cast<ReadState>(state);
  out.version = take_version(in);
  out.expire_at_ms = in.fixed<uint64_t>();
  out.value_bytes = in.fixed<uint64_t>();
  if (!in.ok()) return false;
  out.value = in.bytes(in.remaining());
  if (out.state != ReadState::live && (out.value_bytes != 0 || !out.value.empty())) return false;
  if (!out.value.empty() && out.value.size() != out.value_bytes) return false;
  const bool known = out.state == ReadState::live || out.state == ReadState::dead;
  return known == static_cast<bool>(out.version);
}

}  // namespace gyre::cluster
