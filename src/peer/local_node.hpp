// What links and inbound connections of one core need to know of their own node.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace gyre::peer {

using Uuid = std::array<uint8_t, 16>;

// Who a node says it is. Of a peer, it is true only in so far as it holds the cluster's secret.
struct Identity {
  Uuid uuid{};               // of the data directory: a wiped node has a new one
  uint64_t incarnation = 0;  // drawn at each start: another one is another life of the node
  std::string url;           // as the topology names it
  uint64_t epoch = 0;
  uint64_t table_hash = 0;
  uint16_t cores = 1;
  bool operator==(const Identity&) const = default;
};

class LocalNode {
 public:
  virtual ~LocalNode() = default;

  // Of now: asked for each handshake.
  virtual Identity identity() const = 0;
  // Known to all nodes of the cluster and to nobody else: at least secret_bytes_min long, or empty
  // where the network itself keeps strangers out.
  virtual const std::string& secret() const = 0;
  // Why this node won't talk to a peer that holds the secret; empty: it will.
  virtual std::string objection(const Identity& peer) const {
    static_cast<void>(peer);
    return {};
  }
  // For each frame that leaves.
  virtual uint64_t epoch() const = 0;
  virtual uint64_t hlc() = 0;
  // For each frame that comes, before its payload. False: too far ahead, not merged; a request is
  // then refused with Status::clock_ahead.
  virtual bool observe(uint64_t hlc) = 0;
  // A handshake succeeded, in either direction: the peer is alive, and this is who it is. The owner
  // tells its links (Link::peer_seen), those of other cores too.
  virtual void peer_seen(const Identity& peer) noexcept = 0;
};

inline constexpr size_t secret_bytes_min = 16;

}  // namespace gyre::peer
