// What replicas tell each other so that none lacks a write for good (cluster/handoff): payloads of the
// peer RPC, under the rules of replica_messages.hpp.
//
//   notices   confirmed u32 · missed u32 ·
//             confirmed times: shard_hash u64 · hlc u64 · origin u64 ·
//             missed times: hlc u64 · origin u64 · node count u8 · that many nodes u16 (their places in
//             the table) · key_bytes u32 · key
//   notices' reply   nothing; Status::ok: who missed what is recorded durably
//   offer     count u32 · that many times: hlc u64 · origin u64 · key_bytes u32 · key
//   join      state u8 (JoinState) · 7 zeros · known uuid, 16 bytes (by which the asker knows the
//             receiver; zeros: it has never met it)
//   join's reply     verdict u8 (JoinVerdict) · owes u8 (1: the asker lacks something) · 6 zeros
//   offer's reply    a byte per entry: 1: the peer lacks it, holds neither that version nor a newer one
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/version.hpp>

#include "base/limits.hpp"
#include "cluster/handoff/replay.hpp"
#include "cluster/slot_table.hpp"

namespace gyre::cluster {

// Of a write that all its replicas have, or of which it is recorded who lacks it.
struct ConfirmedWrite {
  static constexpr size_t bytes = 24;
  uint64_t shard_hash = 0;  // of the key: what a node finds its shard by
  Version version;
};

// A write that its receiver has and `nodes` don't.
struct MissedBy {
  std::string key;
  Version version;
  std::array<NodeIndex, limits::cluster_replicas_max - 1> nodes{};
  uint8_t count = 0;

  // On the wire.
  size_t bytes() const { return 21 + size_t{2} * count + key.size(); }
};

struct Notices {
  std::vector<ConfirmedWrite> confirmed;
  std::vector<MissedBy> missed;

  bool empty() const { return confirmed.empty() && missed.empty(); }
  std::string encode() const;
  static bool decode(std::string_view payload, Notices& out);
};

// Of a node's data directory (node/replication/peer_registry.hpp).
enum class JoinState : uint8_t { fresh = 1, rebuilding = 2, complete = 3 };
enum class JoinVerdict : uint8_t { first = 1, same = 2, other = 3 };  // than the uuid known before

struct JoinRequest {
  JoinState state = JoinState::fresh;
  std::array<uint8_t, 16> known{};

  std::string encode() const;
  static bool decode(std::string_view payload, JoinRequest& out);
};

struct JoinReply {
  JoinVerdict verdict = JoinVerdict::first;
  bool owes = false;

  std::string encode() const;
  static bool decode(std::string_view payload, JoinReply& out);
};

std::string encode_offer(const std::vector<KeyVersion>& entries);
bool decode_offer(std::string_view payload, std::vector<KeyVersion>& out);
inline constexpr size_t offer_entries_max = 4096;
std::string encode_offer_reply(const std::vector<bool>& lacks);
bool decode_offer_reply(std::string_view payload, std::vector<bool>& out);

}  // namespace gyre::cluster
