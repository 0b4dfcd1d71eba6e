#include "cluster/modify_messages.hpp"

#include <cstring>

#include "base/assert.hpp"
#include "base/coding.hpp"
#include "base/limits.hpp"

namespace gyre::cluster {

namespace {
constexpr size_t hops_offset = 3;
}  // namespace

std::string ModifyRequest::encode() const {
  GYRE_ASSERT(words.size() <= word_count_max);
  size_t bytes = head_bytes + 4 * words.size() + key.size();
  for (const std::string_view word : words) bytes += word.size();
  std::string out;
  out.reserve(bytes);
  out.resize(head_bytes + 4 * words.size());
  char* to = out.data();
  to[0] = static_cast<char>(version);
  to[1] = static_cast<char>(kind);
  to[2] = static_cast<char>(protocol);
  to[hops_offset] = static_cast<char>(hops);
  put_fixed(to + 4, flags);
  put_fixed(to + 8, static_cast<uint64_t>(number));
  put_fixed(to + 16, expire_at_ms);
  put_fixed(to + 24, value_bytes_max);
  put_fixed(to + 32, static_cast<uint32_t>(key.size()));
  put_fixed(to + 36, static_cast<uint32_t>(words.size()));
  for (size_t i = 0; i < words.size(); ++i) {
    put_fixed(to + head_bytes + 4 * i, static_cast<uint32_t>(words[i].size()));
  }
  out += key;
  for (const std::string_view word : words) out += word;
  return out;
}

bool ModifyRequest::decode(std::string_view payload, ModifyRequest& out) {
  Decoder in(payload);
  if (in.fixed<uint8_t>() != version) return false;
  out.kind = in.fixed<uint8_t>();
  out.protocol = in.fixed<uint8_t>();
  out.hops = in.fixed<uint8_t>();
  out.flags = in.fixed<uint32_t>();
  out.number = static_cast<int64_t>(in.fixed<uint64_t>());
  out.expire_at_ms = in.fixed<uint64_t>();
  out.value_bytes_max = in.fixed<uint64_t>();
  const auto key_bytes = in.fixed<uint32_t>();
  const auto word_count = in.fixed<uint32_t>();
  if (!in.ok() || (out.protocol != 2 && out.protocol != 3) || out.hops < 1 || out.hops > hops_max ||
      key_bytes < 1 || key_bytes > limits::stored_key_bytes_max || word_count > word_count_max) {
    return false;
  }
  uint32_t sizes[word_count_max];
  for (uint32_t i = 0; i < word_count; ++i) sizes[i] = in.fixed<uint32_t>();
  out.key = in.bytes(key_bytes);
  out.words.clear();
  for (uint32_t i = 0; in.ok() && i < word_count; ++i) out.words.push_back(in.bytes(sizes[i]));
  return in.ok() && in.remaining() == 0;
}

bool ModifyRequest::is_other_version(std::string_view payload) {
  return !payload.empty() && static_cast<uint8_t>(payload.front()) != version;
}

void ModifyRequest::set_hops(std::string& payload, uint8_t hops) {
  payload[hops_offset] = static_cast<char>(hops);
}

void ModifyReply::encode_head(char (&out)[head_bytes]) const {
  std::memset(out, 0, sizeof out);
  out[0] = static_cast<char>(outcome);
  out[1] = changed ? 1 : 0;
}

bool ModifyReply::decode(std::string_view payload, ModifyReply& out) {
  Decoder in(payload);
  const auto outcome = in.fixed<uint8_t>();
  const auto changed = in.fixed<uint8_t>();
  for (const char byte : in.bytes(6)) {
    if (byte != 0) return false;
  }
  if (!in.ok() || outcome < 1 || outcome > 3 || changed > 1) return false;
  out.outcome = static_cast<ModifyOutcome>(outcome);
  out.changed = changed != 0;
  out.answer = in.bytes(in.remaining());
  return !out.changed || out.outcome == ModifyOutcome::done;
}

}  // namespace gyre::cluster
