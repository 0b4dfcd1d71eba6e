// Which nodes hold a key: the keyspace is cut by a hash into 16384 slots of equal size, and each
// slot has an ordered list of distinct nodes. A request with `from=F` uses the first F of them, so
// that the nodes for a smaller `from` are among those for a larger one. A request with F of 3 is
// about "the prefix of 3" of its slot's list.
//
// This is consistent hashing with equal partitions and an explicit table, as Dynamo ended up with
// (DeCandia et al., 2007, strategy 3), in place of random points on a ring.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/assert.hpp"

namespace gyre::cluster {

inline constexpr uint32_t slot_bits = 14;
inline constexpr uint32_t slot_count = 1u << slot_bits;

// The slot of a key: the first 14 bits of XXH3-64 with a seed of its own, so that the keys of a slot
// spread over all storage shards of a node (shard_of in base/hash.hpp has another seed). Part of
// what nodes agree on: it never changes.
uint32_t slot_of(std::string_view key) noexcept;

// A node's position in the list of nodes that the table belongs to.
using NodeIndex = uint16_t;
inline constexpr NodeIndex no_node = 0xffff;

// 16384 lists of `width` nodes. A copyable value.
class SlotTable {
 public:
  SlotTable() = default;
  explicit SlotTable(unsigned width) : width_(width), lists_(size_t{slot_count} * width, no_node) {}

  unsigned width() const { return width_; }
  NodeIndex at(uint32_t slot, unsigned rank) const { return lists_[index(slot, rank)]; }
  void set(uint32_t slot, unsigned rank, NodeIndex node) { lists_[index(slot, rank)] = node; }

  // The first `from` nodes of a slot, at most `width`.
  std::span<const NodeIndex> replicas(uint32_t slot, unsigned from) const {
    GYRE_ASSERT(slot < slot_count);
    return {lists_.data() + size_t{slot} * width_, from < width_ ? from : width_};
  }

  // For each of `node_count` nodes, in how many slots it is among the first `prefix`.
  std::vector<uint32_t> loads(unsigned prefix, size_t node_count) const;

  friend bool operator==(const SlotTable&, const SlotTable&) = default;

 private:
  size_t index(uint32_t slot, unsigned rank) const {
    GYRE_ASSERT(slot < slot_count && rank < width_);
    return size_t{slot} * width_ + rank;
  }

  unsigned width_ = 0;
  std::vector<NodeIndex> lists_;
};

// Nodes among the first `prefix` of a slot in `after` that were not in `before`, over all slots:
// how many copies of slots are to be sent. `before` has its nodes renumbered as in `after`.
uint64_t entries(const SlotTable& before, const SlotTable& after, unsigned prefix);

}  // namespace gyre::cluster
