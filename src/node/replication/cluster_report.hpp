// What this node knows of its cluster, as GET /v0/cluster tells it: JSON by default, with
// ?format=table the text that `gyre admin status` prints.
//
// Each core takes its part by itself, as plain values; who answers puts them together. All of it is
// this node's own view: another node may see a third one otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/slot_table.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/shard_handoff.hpp"
#include "peer/inbound.hpp"
#include "peer/link.hpp"

namespace gyre {

class Core;
class Node;

// How a peer does, as one core sees it.
enum class PeerHealth : uint8_t {
  unknown,  // never tried
  alive,
  slow,  // not counted on to answer soon
  dead,
};
std::string_view to_string(PeerHealth health);

// The one place that decides it, from the core's failure detector. On that core.
PeerHealth health_of(Coordinator& coordinator, cluster::NodeIndex node);
// Of a node, out of what each core says: what all agree on, and slow where they don't.
PeerHealth health_of(std::span<const PeerHealth> by_core);

struct LinkReport {
  cluster::NodeIndex peer = 0;
  uint16_t target_core = 0;
  peer::LinkState state = peer::LinkState::idle;
  PeerHealth health = PeerHealth::unknown;
  size_t calls_under_way = 0;
  size_t queue_bytes = 0;
  peer::LinkStats stats;
  ShardHandoff::Owed owed;         // what the node has missed, as far as this core's shards keep it
  bool counts_in_reads = true;     // false: it has lost its data and is getting it back
  uint64_t replayed = 0;           // entries that they have sent it since the start
  std::string trouble;             // why the last attempt or connection ended; "": connected
  std::optional<Nanos> heard_ago;  // nothing: never heard
  std::optional<peer::Identity> identity;  // of the present or last connection
};

// One core's part in the cluster.
struct ClusterReport {
  unsigned core = 0;
  CoordinatorStats coordinator;
  peer::InboundStats served;    // requests of other nodes, over all their connections
  size_t peers_connected = 0;   // connections of other nodes
  bool counts_in_reads = true;  // this node's own copies
  uint64_t unconfirmed = 0;     // writes that not all replicas are known to have, yet
  std::vector<LinkReport> links;
};

// On that core, which must have a coordinator.
ClusterReport cluster_report_of(Core& core);

// `reports`: of the cores that take part; none on a single node.
std::string cluster_json(Node& node, std::string_view state,
                         const std::vector<ClusterReport>& reports);
std::string cluster_table(Node& node, std::string_view state,
                          const std::vector<ClusterReport>& reports);

}  // namespace gyre
