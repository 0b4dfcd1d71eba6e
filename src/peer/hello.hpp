// The handshake of a connection between nodes, and how both prove that they know the cluster's secret.
//
//   asks     hello    who I am, versions I speak, a nonce
//   serves   welcome  who I am, the version, a nonce, HMAC(secret, "serves" · both hellos)
//   asks     proof    HMAC(secret, "asks" · both hellos); requests may follow at once
//   serves   refusal  instead of anything: why, as text
//
// HMAC-SHA256 over both messages and both nonces (the usual mutual challenge and response): who only
// listens learns nothing to answer another nonce with, and neither side proves anything to one that
// merely echoes. Without a secret the key is empty, which keeps strangers out by mistake only.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/result.hpp>

namespace gyre::peer {

inline constexpr uint16_t protocol_version = 1;

struct Identity {
  std::array<uint8_t, 16> uuid{};  // of the data directory
  uint64_t incarnation = 0;        // drawn at each start
  uint64_t epoch = 0;
  uint64_t table_hash = 0;
  uint32_t cores = 1;
  uint32_t shards = 1;
  std::string url;  // of the node, at most 512 bytes
};

// hello and welcome: magic 8 · version_min u16 · version_max u16 · target_core u16 · 2 zeros · uuid 16
// · incarnation u64 · epoch u64 · table_hash u64 · cores u32 · shards u32 · nonce 32 · url (to the end; a welcome has its
// proof before it, 32 bytes).
struct Hello {
  Identity identity;
  uint16_t version_min = protocol_version;
  uint16_t version_max = protocol_version;
  uint16_t target_core = 0;  // who had better serve the connection
  std::array<uint8_t, 32> nonce{};

  std::string encode() const;
  static bool decode(std::string_view payload, Hello& out);
};

// Draws one that was not there before.
void fill_nonce(std::array<uint8_t, 32>& nonce);

using Proof = std::array<uint8_t, 32>;
enum class Side : uint8_t { asks, serves };
// Of `side`, for a connection with these two hellos as they were sent.
Proof prove(std::string_view secret, Side side, std::string_view asks, std::string_view serves);
// In constant time.
bool is_proof(std::string_view claimed, const Proof& expected);

// Why this node doesn't talk to one with that hello; empty: it does.
std::string mismatch(const Identity& own, const Hello& theirs);

}  // namespace gyre::peer
