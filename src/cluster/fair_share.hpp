// How many slots each node should hold, in integers, so that every node of every machine computes
// the same table.
//
// Fair means in proportion to weight, as far as a node can hold a slot once only and zones hold
// copies of a slot as evenly as possible; what these limits leave goes to the others, again by
// weight. This is weighted max-min fairness, found by filling (Bertsekas and Gallager, Data
// Networks, 6.5.2).
//
// The shares of a longer prefix are at least those of a shorter one, for nodes and for zones.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/slot_table.hpp"

namespace gyre::cluster {

// What placement knows of a node.
struct Member {
  uint32_t weight = 1;  // 1 to limits::node_weight_max
  uint16_t zone = 0;    // below Members::zone_count; 0 without zones
};

struct Members {
  std::vector<Member> nodes;
  unsigned zone_count = 0;  // 0: there are no zones; every zone has a node

  size_t size() const { return nodes.size(); }
  unsigned zones_or_one() const { return zone_count == 0 ? 1 : zone_count; }
};

// How many of the first `prefix` copies of a slot one zone may hold: the least that is possible. One
// where there are as many zones as copies; with 2 zones of enough nodes and 3 copies, two. Each zone
// that has so many nodes holds that or one less. `prefix` itself without zones.
unsigned zone_copies_max(const Members& members, unsigned prefix);

// A rational number of slots.
struct Share {
  uint64_t numerator = 0;
  uint64_t denominator = 1;

  uint32_t floor() const { return static_cast<uint32_t>(numerator / denominator); }
  uint32_t ceil() const {
    return static_cast<uint32_t>((numerator + denominator - 1) / denominator);
  }
  // Whether its part behind the point is greater.
  bool has_more_left_than(const Share& other) const {
    return numerator % denominator * other.denominator >
           other.numerator % other.denominator * denominator;
  }
  double value() const { return static_cast<double>(numerator) / static_cast<double>(denominator); }
};

// The sums of both are `prefix` × 16384.
struct FairShares {
  std::vector<Share> nodes;
  std::vector<Share> zones;  // one entry without zones
};

// `prefix`: 1 to min(5, nodes).
FairShares fair_shares(const Members& members, unsigned prefix);

// The least number of entries (cluster/slot_table.hpp) with which a table can become fair to within
// one slot per node, from the loads it has; `gone`: copies on nodes that are no more.
uint64_t entries_min(const FairShares& shares, const std::vector<uint32_t>& loads, uint64_t gone);

}  // namespace gyre::cluster
