// How the handoff names peers.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace gyre::cluster {

// A node for as long as it is part of the cluster: 16 bytes made from its URL, which is known
// before the node was ever reached, while its position in the table changes with the topology.
using PeerId = std::array<uint8_t, 16>;
PeerId peer_id(std::string_view url) noexcept;

// A peer's place in one MissedLog, the same until the log is closed.
using PeerNumber = uint16_t;
inline constexpr PeerNumber no_peer = 0xffff;

// The replicas of a write other than the one that holds the set.
struct PeerSet {
  std::array<PeerNumber, limits::cluster_replicas_max - 1> peers{};
  uint8_t count = 0;

  void add(PeerNumber peer) {
    GYRE_ASSERT(count < peers.size());
    peers[count++] = peer;
  }
  const PeerNumber* begin() const { return peers.data(); }
  const PeerNumber* end() const { return peers.data() + count; }
};

}  // namespace gyre::cluster
