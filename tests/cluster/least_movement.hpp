// The least movement with which a table can become fair, for one prefix by itself: by cancelling
// negative cycles (Klein 1967), which has nothing in common with how tables are made.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "cluster/fair_share.hpp"
#include "cluster/slot_table.hpp"

namespace gyre::cluster::test {

// Starts with a fair table and takes away entries (slot_table.hpp) as long as that goes: by cycles of
// exchanges of one node of a slot's prefix for another, after which every node holds its share,
// rounded down or up, and no zone too many copies.
class LeastMovement {
 public:
  LeastMovement(const Members& members, const SlotTable& before, const SlotTable& fair,
                unsigned prefix)
      : members_(members),
        before_(before),
        prefix_(prefix),
        copies_max_(zone_copies_max(members, prefix)),
        shares_(fair_shares(members, prefix)),
        lists_(slot_count),
        loads_(fair.loads(prefix, members.size())),
        rows_(members.size(), std::vector<Edge>(members.size())),
        last_width_(fair.width()),
        last_(fair_shares(members, fair.width())),
        full_in_zone_(members.zones_or_one()) {
    for (size_t node = 0; node < members.size(); ++node) {
      full_at_last_.push_back(last_.nodes[node].floor() == slot_count);
      if (full_at_last_[node]) ++full_in_zone_[members.nodes[node].zone];
    }
    for (uint32_t slot = 0; slot < slot_count; ++slot) {
      const auto list = fair.replicas(slot, prefix);
      lists_[slot].assign(list.begin(), list.end());
    }
    for (size_t node = 0; node < members.size(); ++node) look_for_edges(node);
  }

  uint64_t entries() {
    while (cancel()) {
    }
    uint64_t count = 0;
    for (uint32_t slot = 0; slot < slot_count; ++slot) {
      for (const NodeIndex node : lists_[slot]) count += enters(slot, node) ? 1 : 0;
    }
    return count;
  }

 private:
  static constexpr int none = 1000;
  // The cheapest exchange of one node for another.
  struct Edge {
    int cost = none;
    uint32_t slot = 0;
  };

  bool enters(uint32_t slot, NodeIndex node) const {
    const auto old = before_.replicas(slot, prefix_);
    return std::ranges::find(old, node) == old.end();
  }
  bool contains(uint32_t slot, NodeIndex node) const {
    return std::ranges::find(lists_[slot], node) != lists_[slot].end();
  }
  bool allowed(uint32_t slot, NodeIndex out, NodeIndex in) const {
    if (!contains(slot, out) || contains(slot, in)) return false;
    if (!leaves_places(slot, out, in)) return false;
    if (members_.zone_count == 0) return true;
    unsigned copies = 1;
    for (const NodeIndex node : lists_[slot]) {
      copies += node != out && members_.nodes[node].zone == members_.nodes[in].zone ? 1 : 0;
    }
    return copies <= copies_max_;
  }

  // Nodes that hold every slot in the longest prefix, and zones whose share of it is a whole number of
  // copies or more, need places in the whole list, which is to be fair too.
  bool leaves_places(uint32_t slot, NodeIndex out, NodeIndex in) const {
    std::map<unsigned, unsigned> others;
    for (const NodeIndex node : lists_[slot]) {
      if (node != out && !full_at_last_[node]) ++others[members_.nodes[node].zone];
    }
    if (!full_at_last_[in]) ++others[members_.nodes[in].zone];
    unsigned places = 0;
    for (unsigned zone = 0; zone < members_.zones_or_one(); ++zone) {
      const auto found = others.find(zone);
      const unsigned with_full = full_in_zone_[zone] + (found == others.end() ? 0u : found->second);
      places += std::max(with_full, last_.zones[zone].floor() / slot_count);
    }
    return places <= last_width_;
  }

  void look_for_edges(size_t from) {
    std::vector<Edge>& row = rows_[from];
    std::ranges::fill(row, Edge{});
    const auto out = static_cast<NodeIndex>(from);
    for (uint32_t slot = 0; slot < slot_count; ++slot) {
      if (!contains(slot, out)) continue;
      const int saved = enters(slot, out) ? 1 : 0;
      for (size_t to = 0; to < members_.size(); ++to) {
        const auto in = static_cast<NodeIndex>(to);
        if (row[to].cost == -1 || row[to].cost <= -saved) continue;
        const int cost = (enters(slot, in) ? 1 : 0) - saved;
        if (cost < row[to].cost && allowed(slot, out, in)) row[to] = {cost, slot};
      }
    }
  }

  // Edge costs with one vertex more, which stands for rounding: it takes from who may hold one slot
  // less, and gives to who may hold one more.
  int cost(size_t from, size_t to) const {
    const size_t rounding = members_.size();
    if (from == rounding) return loads_[to] > shares_.nodes[to].floor() ? 0 : none;
    if (to == rounding) return loads_[from] < shares_.nodes[from].ceil() ? 0 : none;
    return rows_[from][to].cost;
  }

  // Bellman-Ford from everywhere at once.
  bool cancel() {
    const size_t count = members_.size() + 1;
    std::vector<int> distance(count, 0);
    std::vector<size_t> from(count, count);
    for (size_t round = 0; round < count; ++round) {
      bool any = false;
      for (size_t a = 0; a < count; ++a) {
        for (size_t b = 0; b < count; ++b) {
          if (a == b) continue;
          const int edge = cost(a, b);
          if (edge == none || distance[a] + edge >= distance[b]) continue;
          distance[b] = distance[a] + edge;
          from[b] = a;
          any = true;
        }
      }
      if (!any) return false;
      if (cancel_cycle(from)) return true;
    }
    return false;
  }

  // A cycle of the predecessors is a negative one.
  bool cancel_cycle(const std::vector<size_t>& from) {
    const size_t count = from.size();
    std::vector<size_t> seen(count, count);
    for (size_t start = 0; start < count; ++start) {
      size_t node = start;
      while (node != count && seen[node] == count) {
        seen[node] = start;
        node = from[node];
      }
      if (node == count || seen[node] != start) continue;
      std::vector<size_t> cycle;
      for (size_t at = node;;) {
        cycle.push_back(at);
        at = from[at];
        if (at == node) break;
      }
      apply(cycle, from);
      return true;
    }
    return false;
  }

  void apply(const std::vector<size_t>& cycle, const std::vector<size_t>& from) {
    for (const size_t to : cycle) {
      const size_t out = from[to];
      if (out == members_.size() || to == members_.size()) continue;
      const uint32_t slot = rows_[out][to].slot;
      auto place = std::ranges::find(lists_[slot], static_cast<NodeIndex>(out));
      if (place == lists_[slot].end()) continue;
      *place = static_cast<NodeIndex>(to);
      --loads_[out];
      ++loads_[to];
    }
    for (const size_t node : cycle) {
      if (node == members_.size()) continue;
      // Others' slots may have changed with it.
      look_for_edges(node);
    }
    refresh(cycle, from);
  }
  // Rows whose cheapest exchange was in a slot that is another one now.
  void refresh(const std::vector<size_t>& cycle, const std::vector<size_t>&) {
    for (size_t from = 0; from < members_.size(); ++from) {
      if (std::ranges::find(cycle, from) != cycle.end()) continue;
      for (size_t to = 0; to < members_.size(); ++to) {
        const Edge& edge = rows_[from][to];
        if (edge.cost != none &&
            !allowed(edge.slot, static_cast<NodeIndex>(from), static_cast<NodeIndex>(to))) {
          look_for_edges(from);
          break;
        }
      }
    }
  }

 public:
  unsigned crossed = 0;

 private:
  const Members& members_;
  const SlotTable& before_;
  const unsigned prefix_;
  const unsigned copies_max_;
  const FairShares shares_;
  std::vector<std::vector<NodeIndex>> lists_;
  std::vector<uint32_t> loads_;
  std::vector<std::vector<Edge>> rows_;
  const unsigned last_width_;
  const FairShares last_;
  std::vector<bool> full_at_last_;
  std::vector<unsigned> full_in_zone_;
};

}  // namespace gyre::cluster::test
