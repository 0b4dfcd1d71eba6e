#include "cluster/scan_cover.hpp"

#include <utility>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "cluster/test_faults.hpp"

namespace gyre::cluster {

ScanCover::ScanCover(const SlotTable& table, unsigned ack, unsigned from, NodeIndex self)
    : table_(&table), ack_(ack), from_(from), self_(self), covering_(slot_count, 0) {
  GYRE_ASSERT(ack >= 1 && ack <= from && from <= table.width());
  static_assert(limits::cluster_replicas_max <= 8);
}

void ScanCover::flip(const ScanPart& part) {
  part.slots.for_each([&](uint32_t slot) {
    for (unsigned rank = 0; rank < from_; ++rank) {
      if (table_->at(slot, rank) == part.node) covering_[slot] ^= static_cast<uint8_t>(1u << rank);
    }
  });
}

std::optional<std::vector<ScanPart>> ScanCover::cover(std::span<const Reluctance> reluctance) {
  const unsigned copies = ack_ > 1 && cluster_test_faults.scan_covers_one_short ? ack_ - 1 : ack_;
  return take(SlotSet::all(), copies, reluctance);
}

std::optional<std::vector<ScanPart>> ScanCover::replace(const ScanPart& part,
                                                        std::span<const Reluctance> reluctance) {
  flip(part);
  std::optional<std::vector<ScanPart>> parts = take(part.slots, 1, reluctance);
  if (!parts) flip(part);
  return parts;
}

std::optional<std::vector<ScanPart>> ScanCover::take(const SlotSet& slots, unsigned copies,
                                                     std::span<const Reluctance> reluctance) {
  const auto is_open = [&](uint32_t slot, unsigned rank) {
    return (covering_[slot] >> rank & 1) == 0 && reluctance[table_->at(slot, rank)] != never_asked;
  };
  std::vector<uint8_t> missing(slot_count, 0);
  std::vector<uint32_t> gain(reluctance.size(), 0);  // slots that a node could help with
  bool possible = true;
  slots.for_each([&](uint32_t slot) {
    unsigned candidates = 0;
    for (unsigned rank = 0; rank < from_; ++rank) {
      if (!is_open(slot, rank)) continue;
      ++candidates;
      ++gain[table_->at(slot, rank)];
    }
    possible = possible && candidates >= copies;
    missing[slot] = static_cast<uint8_t>(copies);
  });
  if (!possible) return std::nullopt;
  // Those slots, node by node, with the node's rank in their lists.
  struct Place {
    uint16_t slot;
    uint8_t rank;
  };
  std::vector<size_t> ends(gain.size());
  size_t count = 0;
  for (size_t node = 0; node < gain.size(); ++node) {
    ends[node] = count;
    count += gain[node];
  }
  std::vector<Place> places(count);
  slots.for_each([&](uint32_t slot) {
    for (unsigned rank = 0; rank < from_; ++rank) {
      if (!is_open(slot, rank)) continue;
      places[ends[table_->at(slot, rank)]++] = {static_cast<uint16_t>(slot),
                                                static_cast<uint8_t>(rank)};
    }
  });
  std::vector<ScanPart> parts;
  for (;;) {
    size_t best = gain.size();
    for (size_t i = 0; i < gain.size(); ++i) {
      const size_t node = (self_ + i) % gain.size();
      if (gain[node] == 0) continue;
      if (best == gain.size() || reluctance[node] < reluctance[best] ||
          (reluctance[node] == reluctance[best] && gain[node] > gain[best])) {
        best = node;
      }
    }
    if (best == gain.size()) return parts;
    ScanPart& part = parts.emplace_back(ScanPart{.node = static_cast<NodeIndex>(best)});
    for (size_t at = best == 0 ? 0 : ends[best - 1]; at < ends[best]; ++at) {
      const auto [slot, rank] = places[at];
      if (missing[slot] == 0) continue;
      part.slots.add(slot);
      covering_[slot] |= static_cast<uint8_t>(1u << rank);
      --gain[best];
      if (--missing[slot] != 0) continue;
      for (unsigned other = 0; other < from_; ++other) {
        if (is_open(slot, other)) --gain[table_->at(slot, other)];
      }
    }
    GYRE_ASSERT(gain[best] == 0);
  }
}

ScanPlan::ScanPlan(const SlotTable& table, unsigned ack, unsigned from, NodeIndex self,
                   std::vector<Reluctance> reluctance)
    : ack_(ack),
      from_(from),
      self_(self),
      reluctance_(std::move(reluctance)),
      cover_(table, ack, from, self),
      parts_(cover_.cover(reluctance_)) {}

}  // namespace gyre::cluster
