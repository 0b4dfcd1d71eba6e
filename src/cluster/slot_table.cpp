#include "cluster/slot_table.hpp"

#include <algorithm>

#include "base/hash.hpp"

namespace gyre::cluster {

uint32_t slot_of(std::string_view key) noexcept {
  constexpr uint64_t slot_seed = 0x736c6f745f6f665f;
  return static_cast<uint32_t>(hash64(key, slot_seed) >> (64 - slot_bits));
}

std::vector<uint32_t> SlotTable::loads(unsigned prefix, size_t node_count) const {
  std::vector<uint32_t> loads(node_count);
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    for (const NodeIndex node : replicas(slot, prefix)) {
      if (node != no_node) ++loads[node];
    }
  }
  return loads;
}

uint64_t entries(const SlotTable& before, const SlotTable& after, unsigned prefix) {
  uint64_t count = 0;
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    const auto old = before.replicas(slot, prefix);
    for (const NodeIndex node : after.replicas(slot, prefix)) {
      if (std::ranges::find(old, node) == old.end()) ++count;
    }
  }
  return count;
}

}  // namespace gyre::cluster
