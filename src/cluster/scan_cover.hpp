// Which nodes a range over the whole cluster is read from: for every slot `ack` of the first `from`
// nodes of its list, so that what a read of one key would have seen is seen.
//
// Few nodes rather than even shares: a range goes on at the pace of the slowest stream, and each costs
// a walk over its node's shards. The choice is the greedy one for set cover (Chvátal, "A Greedy
// Heuristic for the Set-Covering Problem", 1979): again and again the node that covers most of what is
// left, among those that are preferred equally.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cluster/slot_set.hpp"
#include "cluster/slot_table.hpp"

namespace gyre::cluster {

// How gladly a node is asked: the lower the sooner. Per node, for cover() and replace().
using Reluctance = uint8_t;
inline constexpr Reluctance never_asked = 255;

struct ScanPart {
  NodeIndex node = no_node;
  SlotSet slots;
};

// A copyable value of 16 KiB.
class ScanCover {
 public:
  // `self` breaks ties: different nodes that ask alike choose different ones. The table must outlive
  // this.
  ScanCover(const SlotTable& table, unsigned ack, unsigned from, NodeIndex self);

  // `ack` nodes for every slot. Nothing: some slot has too few that may be asked. Once.
  std::optional<std::vector<ScanPart>> cover(std::span<const Reluctance> reluctance);
  // `part.node` covers `part.slots` no more: one other node for each of them (or that one again).
  // Nothing: some slot has none that may be asked and doesn't cover it already; then nothing has
  // changed.
  std::optional<std::vector<ScanPart>> replace(const ScanPart& part,
                                               std::span<const Reluctance> reluctance);

 private:
  std::optional<std::vector<ScanPart>> take(const SlotSet& slots, unsigned copies,
                                            std::span<const Reluctance> reluctance);
  void flip(const ScanPart& part);

  const SlotTable* table_;
  unsigned ack_;
  unsigned from_;
  NodeIndex self_;
  std::vector<uint8_t> covering_;  // by slot: a bit for each rank of its list
};

// Where ranges begin: a cover, and its parts. It costs passes over all slots, and is the same until
// nodes are preferred otherwise, so it is worth keeping.
class ScanPlan {
 public:
  ScanPlan(const SlotTable& table, unsigned ack, unsigned from, NodeIndex self,
           std::vector<Reluctance> reluctance);

  bool is_for(unsigned ack, unsigned from, const std::vector<Reluctance>& reluctance) const {
    return ack == ack_ && from == from_ && reluctance == reluctance_;
  }
  const ScanCover& cover() const { return cover_; }
  // Nothing: some slot has too few nodes.
  const std::optional<std::vector<ScanPart>>& parts() const { return parts_; }
  NodeIndex self() const { return self_; }
  const std::vector<Reluctance>& reluctance() const { return reluctance_; }

 private:
  unsigned ack_;
  unsigned from_;
  NodeIndex self_;
  std::vector<Reluctance> reluctance_;
  ScanCover cover_;
  std::optional<std::vector<ScanPart>> parts_;
};

}  // namespace gyre::cluster
