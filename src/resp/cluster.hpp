// What a client of Redis Cluster has to know: which of 16384 slots a key has, who serves a slot, and
// what a node says that doesn't (the Redis Cluster specification).
//
// Everything a node says is checked: a list of slots that makes no sense is refused as a whole.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>

#include "resp/reply_parser.hpp"

namespace gyre::resp {

inline constexpr unsigned cluster_slots = 16384;

// CRC-16/XMODEM: polynomial 0x1021, from zero, bits in their order; of "123456789": 0x31c3.
uint16_t crc16_xmodem(std::string_view bytes);
// Of what is between the first '{' and the next '}', if that isn't empty, else of the whole key.
uint16_t slot_of_key(std::string_view key);

struct NodeAddress {
  std::string host;  // a name, or numeric
  uint16_t port = 0;
  // With [] around an address of IPv6.
  std::string to_string() const;
  friend auto operator<=>(const NodeAddress&, const NodeAddress&) = default;
};

// HOST:PORT, where HOST may be nothing, or hold colons, with or without [] around it.
std::optional<NodeAddress> parse_node_address(std::string_view text);

// An error reply that says who has the slot.
struct Redirect {
  bool ask = false;  // for this command alone, after ASKING; else it was moved for good
  uint16_t slot = 0;
  NodeAddress node;  // an empty host: that of the node that says it
};
// Of an error's text, without '-'. Nothing if it is another one, or makes no sense.
std::optional<Redirect> parse_redirect(std::string_view error);

struct SlotRange {
  uint16_t first = 0;
  uint16_t last = 0;
  NodeAddress master;
  friend bool operator==(const SlotRange&, const SlotRange&) = default;
};

// The reply of CLUSTER SLOTS: no slot twice, hosts filled in. `asked`: the host that said it, for
// nodes that have no host of their own there.
Result<std::vector<SlotRange>> parse_cluster_slots(const Reply& reply, std::string_view asked);

// The reply of CLUSTER NODES, as far as it goes.
struct ClusterNodes {
  std::vector<NodeAddress> addresses;  // by address and by name, of masters and replicas
  uint64_t epoch = 0;                  // the largest of their configurations'
};
ClusterNodes parse_cluster_nodes(std::string_view text, std::string_view asked);

}  // namespace gyre::resp
