// A change of a cluster: which nodes come, go or weigh another weight, the topology that follows,
// and what it costs to get there.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <gyre/result.hpp>

#include "cluster/topology.hpp"

namespace gyre::cluster {

struct TopologyChanges {
  std::vector<NodeEntry> add;
  std::vector<std::string> remove;                         // URLs
  std::vector<std::pair<std::string, uint32_t>> reweight;  // URL, weight

  bool empty() const { return add.empty() && remove.empty() && reweight.empty(); }
};

// "URL=W"
Result<std::pair<std::string, uint32_t>> parse_reweight(std::string_view text);

// The topology after the changes, of the next epoch. Without changes: the nodes as they are, fair.
// A failure's detail is a sentence that names the URL.
Result<Topology> change_topology(const Topology& before, const TopologyChanges& changes);

// How far a table is from the shares of its nodes, for one prefix.
struct Balance {
  unsigned prefix = 0;
  double most = 1;    // the greatest of slots held / fair share, over nodes
  double least = 1;   // the smallest of it
  uint32_t over = 0;  // slots with more copies in a zone than zone_copies_max
};
Balance balance_of(const Topology& topology, unsigned prefix);

struct NodePlan {
  NodeEntry node;       // as it will be; as it was if it goes
  uint32_t before = 0;  // slots it holds copies of
  uint32_t after = 0;
  double fair = 0;  // 0 if it goes
  uint32_t in = 0;  // copies that have to be sent to it
  uint32_t out = 0;
};

struct PrefixPlan {
  Balance before;
  Balance after;
  uint64_t moved = 0;      // copies that have to be sent
  uint64_t moved_min = 0;  // the least with which a fair table can be had
};

struct TopologyPlan {
  std::vector<NodePlan> nodes;        // by URL; slots and copies are of the first `copies`
  std::vector<PrefixPlan> prefixes;   // 1, 3 and 5, and `copies`, as far as there are nodes
  std::vector<std::string> warnings;  // sentences
  unsigned copies = 3;
};

// What becomes of `before` (which may have no nodes: a new cluster) when `after` replaces it, and
// `copies` (1 to 5) of a key are kept.
TopologyPlan compare(const Topology& before, const Topology& after, unsigned copies = 3);

// For people: a table of the nodes, a line per prefix, the warnings.
std::string print_plan(const TopologyPlan& plan, const Topology& before, const Topology& after);

}  // namespace gyre::cluster
