#include "cluster/handoff_messages.hpp"

#include <algorithm>

#include "base/coding.hpp"
#include "cluster/replica_messages.hpp"

namespace gyre::cluster {

namespace {

void append_version(std::string& out, const Version& version) {
  append_fixed(out, version.hlc);
  append_fixed(out, version.origin);
}

void append_key(std::string& out, std::string_view key) {
  append_fixed(out, static_cast<uint32_t>(key.size()));
  out += key;
}

Version take_version(Decoder& in) {
  Version version;
  version.hlc = in.fixed<uint64_t>();
  version.origin = in.fixed<uint64_t>();
  if (version.hlc > hlc_max) return {};
  return version;
}

bool take_key(Decoder& in, std::string& out) {
  const std::string_view key = in.bytes(in.fixed<uint32_t>());
  if (!in.ok() || key.empty() || key.size() > limits::stored_key_bytes_max) return false;
  out.assign(key);
  return true;
}

// So that no count makes room for more than has come.
bool fits(const Decoder& in, uint64_t count, size_t bytes_each) {
  return count <= in.remaining() / bytes_each;
}

}  // namespace

std::string Notices::encode() const {
  std::string out;
  out.reserve(8 + confirmed.size() * ConfirmedWrite::bytes + missed.size() * 64);
  append_fixed(out, static_cast<uint32_t>(confirmed.size()));
  append_fixed(out, static_cast<uint32_t>(missed.size()));
  for (const ConfirmedWrite& write : confirmed) {
    append_fixed(out, write.shard_hash);
    append_version(out, write.version);
  }
  for (const MissedBy& write : missed) {
    append_version(out, write.version);
    out += static_cast<char>(write.count);
    for (unsigned i = 0; i < write.count; ++i) append_fixed(out, write.nodes[i]);
    append_key(out, write.key);
  }
  return out;
}

bool Notices::decode(std::string_view payload, Notices& out) {
  out = {};
  Decoder in(payload);
  const auto confirmed = in.fixed<uint32_t>();
  const auto missed = in.fixed<uint32_t>();
  if (!in.ok() || !fits(in, confirmed, ConfirmedWrite::bytes)) return false;
  out.confirmed.resize(confirmed);
  for (ConfirmedWrite& write : out.confirmed) {
    write.shard_hash = in.fixed<uint64_t>();
    write.version = take_version(in);
    if (!write.version) return false;
  }
  if (!in.ok() || !fits(in, missed, MissedBy{}.bytes())) return false;
  out.missed.resize(missed);
  for (MissedBy& write : out.missed) {
    write.version = take_version(in);
    write.count = in.fixed<uint8_t>();
    if (!in.ok() || write.count > write.nodes.size() || !write.version) return false;
    for (unsigned i = 0; i < write.count; ++i) write.nodes[i] = in.fixed<NodeIndex>();
    if (!take_key(in, write.key)) return false;
  }
  return in.ok() && in.remaining() == 0;
}

std::string JoinRequest::encode() const {
  std::string out(8, '\0');
  out[0] = static_cast<char>(state);
  out.append(known.begin(), known.end());
  return out;
}

bool JoinRequest::decode(std::string_view payload, JoinRequest& out) {
  if (payload.size() != 8 + out.known.size() || payload[0] < 1 || payload[0] > 3) return false;
  if (payload.substr(1, 7) != std::string_view("\0\0\0\0\0\0\0", 7)) return false;
  out.state = static_cast<JoinState>(payload[0]);
  std::ranges::copy(payload.substr(8), out.known.begin());
  return true;
}

std::string JoinReply::encode() const {
  std::string out(8, '\0');
  out[0] = static_cast<char>(verdict);
  out[1] = owes ? 1 : 0;
  return out;
}

bool JoinReply::decode(std::string_view payload, JoinReply& out) {
  if (payload.size() != 8 || payload[0] < 1 || payload[0] > 3 || payload[1] < 0 || payload[1] > 1 ||
      payload.substr(2) != std::string_view("\0\0\0\0\0\0", 6)) {
    return false;
  }
  out.verdict = static_cast<JoinVerdict>(payload[0]);
  out.owes = payload[1] == 1;
  return true;
}

std::string encode_offer(const std::vector<KeyVersion>& entries) {
  std::string out;
  append_fixed(out, static_cast<uint32_t>(entries.size()));
  for (const KeyVersion& entry : entries) {
    append_version(out, entry.version);
    append_key(out, entry.key);
  }
  return out;
}

bool decode_offer(std::string_view payload, std::vector<KeyVersion>& out) {
  out.clear();
  Decoder in(payload);
  const auto count = in.fixed<uint32_t>();
  if (!in.ok() || count > offer_entries_max || !fits(in, count, 21)) return false;
  out.resize(count);
  for (KeyVersion& entry : out) {
    entry.version = take_version(in);
    if (!take_key(in, entry.key) || !entry.version) return false;
  }
  return in.remaining() == 0;
}

std::string encode_offer_reply(const std::vector<bool>& lacks) {
  std::string out;
  out.reserve(lacks.size());
  for (const bool lack : lacks) out += lack ? '\1' : '\0';
  return out;
}

bool decode_offer_reply(std::string_view payload, std::vector<bool>& out) {
  out.clear();
  out.reserve(payload.size());
  for (const char lacks : payload) {
    if (lacks != 0 && lacks != 1) return false;
    out.push_back(lacks == 1);
  }
  return true;
}

}  // namespace gyre::cluster
