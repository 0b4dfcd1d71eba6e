// A table is made in steps: first each slot gets the set of its first three nodes, then it is chosen
// who of these is first and who second, then a fourth and fifth are added. The three come first
// since that is where copies usually are: they move the least. Each step is a transportation problem
// with the same parts:
//  - how many slots each node is to be in: its share of the prefix, rounded;
//  - how many nodes of each zone each slot is to have: the zone's average, rounded down or up. This
//    holds the rule about zones, and leaves every later step a fair solution;
//  - that as many as possible of the nodes stay which were in this prefix before.
//
// A step starts with who may stay, fills what is missing with those who are furthest from their
// share, lets those with too many slots give theirs away where they stood furthest back in the old
// list (which costs no shorter prefix anything), and at last, where no such direct exchange is
// allowed, looks for paths of exchanges through several slots (shortest first; Busacker and Gowen
// 1960). Without these, tables ended up to 30 % off the shares where there are zones and weights.
//
// Slots are visited in a scrambled order, so that a node shares its slots with all others alike.
#include "cluster/placement.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include "base/limits.hpp"

namespace gyre::cluster {

namespace {

// A number that looks random (the finalizer of SplitMix64; Steele, Lea and Flood 2014).
uint64_t scrambled(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

std::vector<uint16_t> scrambled_slots(unsigned salt) {
  std::vector<std::pair<uint64_t, uint16_t>> keyed(slot_count);
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    keyed[slot] = {scrambled(uint64_t{salt} << 32 | slot), static_cast<uint16_t>(slot)};
  }
  std::ranges::sort(keyed);
  std::vector<uint16_t> order(slot_count);
  std::ranges::transform(keyed, order.begin(), [](const auto& pair) { return pair.second; });
  return order;
}

// --- whole slots out of shares -------------------------------------------------------------------

struct Claim {
  Share share;
  uint32_t before = 0;  // had them in the table before: to be kept if rounding allows
};

// Whole numbers that add up to `total`, each the share rounded down or up: up for those who had more
// before, then for those who lose most by rounding down.
std::vector<uint32_t> apportion(const std::vector<Claim>& claims, uint64_t total) {
  std::vector<uint32_t> whole(claims.size());
  std::vector<size_t> order(claims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  for (const size_t i : order) total -= whole[i] = claims[i].share.floor();
  std::ranges::sort(order, [&](size_t a, size_t b) {
    const bool a_had = claims[a].before > whole[a];
    const bool b_had = claims[b].before > whole[b];
    if (a_had != b_had) return a_had;
    if (claims[a].share.has_more_left_than(claims[b].share)) return true;
    if (claims[b].share.has_more_left_than(claims[a].share)) return false;
    return a < b;
  });
  for (const size_t i : order) {
    if (total == 0) break;
    if (whole[i] == claims[i].share.ceil()) continue;
    ++whole[i];
    --total;
  }
  return whole;
}

// How many slots each node is to hold; zones first, as those that are at their limit have to come
// out even.
std::vector<uint32_t> targets(const Members& members, const FairShares& shares, unsigned prefix,
                              const std::vector<uint32_t>& before) {
  std::vector<Claim> zones(members.zones_or_one());
  for (size_t zone = 0; zone < zones.size(); ++zone) zones[zone].share = shares.zones[zone];
  for (size_t i = 0; i < members.size(); ++i) zones[members.nodes[i].zone].before += before[i];
  const std::vector<uint32_t> totals = apportion(zones, uint64_t{prefix} * slot_count);
  std::vector<uint32_t> whole(members.size());
  for (size_t zone = 0; zone < zones.size(); ++zone) {
    std::vector<Claim> claims;
    std::vector<size_t> whose;
    for (size_t i = 0; i < members.size(); ++i) {
      if (members.nodes[i].zone != zone) continue;
      claims.push_back({shares.nodes[i], before[i]});
      whose.push_back(i);
    }
    const std::vector<uint32_t> parts = apportion(claims, totals[zone]);
    for (size_t i = 0; i < whose.size(); ++i) whole[whose[i]] = parts[i];
  }
  return whole;
}

// --- one step ------------------------------------------------------------------------------------

// The first `fixed` nodes of every slot stay, those up to `prefix` are chosen: out of all nodes, or,
// if `outer` is not 0, out of the slot's list up to there, which is reordered.
struct Range {
  unsigned fixed;
  unsigned prefix;
  unsigned outer;
};

class Step {
 public:
  Step(const Members& members, const SlotTable& before, SlotTable& table, Range range)
      : members_(members),
        before_(before),
        table_(table),
        fixed_(range.fixed),
        prefix_(range.prefix),
        outer_(range.outer),
        shares_(fair_shares(members, prefix_)),
        target_(targets(members, shares_, prefix_, before.loads(prefix_, members.size()))),
        order_(scrambled_slots(prefix_)),
        load_(table.loads(fixed_, members.size())),
        slots_of_(members.size()),
        position_(size_t{slot_count} * prefix_),
        chosen_(slot_count, static_cast<uint8_t>(fixed_)),
        is_full_at_last_(members.size()),
        reached_(members.size()),
        closed_(members.size()) {
    for (const Share& zone : shares_.zones) {
      zone_min_.push_back(zone.floor() / slot_count);
      zone_max_.push_back((zone.ceil() + slot_count - 1) / slot_count);
    }
    look_ahead();
  }

  void run() {
    std::vector<uint16_t> undecided = order_;
    std::erase_if(undecided, [this](uint16_t slot) { return keep(slot, false); });
    for (const uint16_t slot : undecided) keep(slot, true);
    if (chooses_first()) find_first();
    for (const uint16_t slot : order_) fill(slot);
    if (chooses_first()) hand_over_first();
    const unsigned not_before = before_.width();
    exchange_directly(not_before);
    exchange_along_paths(0);
    for (unsigned rank = not_before; rank-- > 0;) exchange_directly(rank);
    exchange_along_paths(table_.width() * members_.size());
    if (chooses_first() && before_.width() > 0) recover();
  }

 private:
  bool from_all() const { return outer_ == 0; }
  uint16_t zone_of(NodeIndex node) const { return members_.nodes[node].zone; }

  // --- the nodes of a slot: the first chosen_[slot] of its list ----------------------------------

  std::span<const NodeIndex> chosen(uint32_t slot) const {
    return table_.replicas(slot, chosen_[slot]);
  }
  bool is_chosen(uint32_t slot, NodeIndex node) const {
    return std::ranges::find(chosen(slot), node) != chosen(slot).end();
  }
  // The width of the old lists if it was in none of their places.
  unsigned rank_before(uint32_t slot, NodeIndex node) const {
    const auto list = before_.replicas(slot, before_.width());
    unsigned rank = 0;
    while (rank < list.size() && list[rank] != node) ++rank;
    return rank;
  }
  // Whether the node newly enters this prefix of the slot.
  bool enters(uint32_t slot, NodeIndex node) const {
    const unsigned rank = rank_before(slot, node);
    return rank >= prefix_ || rank == before_.width();
  }

  unsigned zone_count(uint32_t slot, uint16_t zone) const {
    unsigned count = 0;
    for (const NodeIndex node : chosen(slot)) count += zone_of(node) == zone ? 1 : 0;
    return count;
  }
  // How many more nodes a slot needs for every zone to have its least.
  unsigned zones_missing(uint32_t slot) const {
    unsigned missing = 0;
    for (size_t zone = 0; zone < zone_min_.size(); ++zone) {
      if (zone_min_[zone] == 0) continue;
      const unsigned count = zone_count(slot, static_cast<uint16_t>(zone));
      missing += zone_min_[zone] - std::min(count, zone_min_[zone]);
    }
    return missing;
  }

  enum class Full : bool { wait, get_place };
  bool may_choose(uint32_t slot, NodeIndex node, Full full = Full::get_place) const {
    const bool only_missing = chosen_[slot] + zones_missing(slot) == prefix_;
    const uint16_t zone = zone_of(node);
    return zone_count(slot, zone) < (only_missing ? zone_min_[zone] : zone_max_[zone]) &&
           (full == Full::wait || leaves_places(slot, no_node, node));
  }
  // `in` is not chosen, `out` is.
  bool may_exchange(uint32_t slot, NodeIndex out, NodeIndex in) const {
    const uint16_t zone_out = zone_of(out);
    const uint16_t zone_in = zone_of(in);
    if (zone_out != zone_in && (zone_count(slot, zone_out) <= zone_min_[zone_out] ||
                                zone_count(slot, zone_in) >= zone_max_[zone_in])) {
      return false;
    }
    return leaves_places(slot, out, in);
  }

  void choose(uint32_t slot, NodeIndex node) {
    const unsigned at = chosen_[slot]++;
    if (!from_all()) {
      unsigned was = at;
      while (table_.at(slot, was) != node) ++was;
      table_.set(slot, was, table_.at(slot, at));
    }
    table_.set(slot, at, node);
    link(slot, at);
  }
  void exchange(uint32_t slot, NodeIndex out, NodeIndex in) {
    unsigned at = fixed_;
    while (table_.at(slot, at) != out) ++at;
    unlink(slot, at);
    if (!from_all()) {
      unsigned was = prefix_;
      while (table_.at(slot, was) != in) ++was;
      table_.set(slot, was, out);
    }
    table_.set(slot, at, in);
    link(slot, at);
  }
  void swap_places(uint32_t slot, unsigned a, unsigned b) {
    const NodeIndex node = table_.at(slot, a);
    table_.set(slot, a, table_.at(slot, b));
    table_.set(slot, b, node);
    std::swap(position_[slot * prefix_ + a], position_[slot * prefix_ + b]);
  }

  // --- what the whole lists will need ------------------------------------------------------------

  // Some nodes will be in every list at last, and each zone has its least number of nodes in every
  // list. A shorter prefix has to leave places for them.
  void look_ahead() {
    const FairShares last = fair_shares(members_, table_.width());
    for (const Share& zone : last.zones) last_min_.push_back(zone.floor() / slot_count);
    last_full_.assign(last_min_.size(), 0);
    for (size_t i = 0; i < members_.size(); ++i) {
      is_full_at_last_[i] = last.nodes[i].floor() == slot_count;
      if (is_full_at_last_[i]) ++last_full_[members_.nodes[i].zone];
    }
    for (size_t zone = 0; zone < last_min_.size(); ++zone) last_places_ += places_at_last(zone, 0);
  }
  // Of a zone of which `others` are in the list that will not be in every one.
  unsigned places_at_last(size_t zone, unsigned others) const {
    return std::max(last_min_[zone], last_full_[zone] + others);
  }
  bool leaves_places(uint32_t slot, NodeIndex out, NodeIndex in) const {
    if (is_full_at_last_[in]) return true;
    unsigned places = last_places_;
    std::array<uint16_t, limits::cluster_replicas_max> zones;  // of those not in every list
    unsigned count = 0;
    const auto add = [&](NodeIndex node) {
      if (node == out || is_full_at_last_[node]) return;
      const uint16_t zone = zone_of(node);
      const auto others =
          static_cast<unsigned>(std::count(zones.begin(), zones.begin() + count, zone));
      places += places_at_last(zone, others + 1) - places_at_last(zone, others);
      zones[count++] = zone;
    };
    for (const NodeIndex node : chosen(slot)) add(node);
    add(in);
    return places <= table_.width();
  }

  // Calls visit(node) for everyone who could be chosen for the slot, and perhaps who is.
  template <class Visit>
  void for_others(uint32_t slot, Visit visit) const {
    if (from_all()) {
      for (size_t node = 0; node < members_.size(); ++node) visit(static_cast<NodeIndex>(node));
    } else {
      for (unsigned at = chosen_[slot]; at < outer_; ++at) visit(table_.at(slot, at));
    }
  }

  // --- the slots of a node -----------------------------------------------------------------------

  void link(uint32_t slot, unsigned at) {
    const NodeIndex node = table_.at(slot, at);
    ++load_[node];
    position_[slot * prefix_ + at] = static_cast<uint32_t>(slots_of_[node].size());
    slots_of_[node].push_back(static_cast<uint16_t>(slot));
  }
  void unlink(uint32_t slot, unsigned at) {
    const NodeIndex node = table_.at(slot, at);
    --load_[node];
    std::vector<uint16_t>& slots = slots_of_[node];
    const uint32_t position = position_[slot * prefix_ + at];
    const uint16_t last = slots.back();
    slots[position] = last;
    slots.pop_back();
    unsigned last_at = fixed_;
    while (table_.at(last, last_at) != node) ++last_at;
    position_[last * prefix_ + last_at] = position;
  }

  bool has_too_many(NodeIndex node) const { return load_[node] > target_[node]; }
  bool has_room(NodeIndex node) const { return load_[node] < target_[node]; }
  // Whether `a` is further below its target, in proportion, than `b`. Up to two slots' worth of
  // chance: without it, nodes of the same target would always take their turns together.
  bool wants_more(NodeIndex a, NodeIndex b, uint32_t slot) const {
    const auto left = [&](NodeIndex node) {
      const uint64_t chance = scrambled(uint64_t{node} << 32 | slot << 4 | prefix_) >> 47;
      return (static_cast<int64_t>(target_[node]) - static_cast<int64_t>(load_[node])) *
                 (int64_t{1} << 16) +
             static_cast<int64_t>(chance);
    };
    const int64_t of_a = left(a) * std::max<int64_t>(target_[b], 1);
    const int64_t of_b = left(b) * std::max<int64_t>(target_[a], 1);
    return of_a != of_b ? of_a > of_b : a < b;
  }

  // Whether `a` should enter the slot rather than `b`: who was further on in its list before, as that
  // is nothing new for longer prefixes, then who wants more.
  bool is_better(NodeIndex a, NodeIndex b, uint32_t slot) const {
    const unsigned rank_a = has_room(a) ? rank_before(slot, a) : before_.width();
    const unsigned rank_b = has_room(b) ? rank_before(slot, b) : before_.width();
    return rank_a != rank_b ? rank_a < rank_b : wants_more(a, b, slot);
  }

  // --- the parts of the step ---------------------------------------------------------------------

  // Those who were in this prefix before stay if they may. Where more were than there is room for
  // (others have come before them in the list), it is decided later who leaves: false.
  bool keep(uint32_t slot, bool decide) {
    std::array<NodeIndex, limits::cluster_replicas_max> list;
    const auto pool = from_all() ? before_.replicas(slot, prefix_) : table_.replicas(slot, outer_);
    unsigned count = 0;
    for (size_t i = from_all() ? 0 : fixed_; i < pool.size(); ++i) {
      if (pool[i] == no_node || is_chosen(slot, pool[i])) continue;
      if (prefix_ > 1 && enters(slot, pool[i])) continue;
      list[count++] = pool[i];
    }
    if (prefix_ == 1) count = std::min(count, 1u);
    if (count > prefix_ - fixed_ && !decide) return false;
    const auto end = list.begin() + count;
    if (decide) {
      std::sort(list.begin(), end,
                [&](NodeIndex a, NodeIndex b) { return wants_more(a, b, slot); });
    }
    for (auto node = list.begin(); node != end && chosen_[slot] < prefix_; ++node) {
      if (may_choose(slot, *node)) choose(slot, *node);
    }
    return true;
  }

  // The best of those who could be chosen for the slot, besides who is, and for whom may(node).
  template <class May>
  NodeIndex best_of(uint32_t slot, May may) const {
    NodeIndex best = no_node;
    for_others(slot, [&](NodeIndex node) {
      if (best != no_node && !is_better(node, best, slot)) return;
      if (from_all() && is_chosen(slot, node)) return;
      if (may(node)) best = node;
    });
    return best;
  }

  void fill(uint32_t slot) {
    while (chosen_[slot] < prefix_) {
      NodeIndex best = best_of(slot, [&](NodeIndex node) { return may_choose(slot, node); });
      if (best == no_node) {
        best = best_of(slot, [&](NodeIndex node) { return may_choose(slot, node, Full::wait); });
      }
      GYRE_ASSERT(best != no_node);
      choose(slot, best);
    }
  }

  // The step that chooses whole lists sees to it that their first nodes are right as far as that is
  // to be had on the way; a later step would find too few slots in which the right ones are.
  bool chooses_first() const { return from_all() && fixed_ == 0; }
  bool wants_to_be_first(NodeIndex node) const { return first_[node] < first_target_[node]; }
  void make_first(uint32_t slot, NodeIndex node) {
    unsigned at = 0;
    while (table_.at(slot, at) != node) ++at;
    if (at != 0) swap_places(slot, 0, at);
    ++first_[node];
  }

  // Slots whose first node is gone get one that was next, or else who comes new.
  void find_first() {
    first_.assign(members_.size(), 0);
    first_target_ =
        targets(members_, fair_shares(members_, 1), 1, before_.loads(1, members_.size()));
    std::vector<uint16_t> without;
    for (const uint16_t slot : order_) {
      if (chosen_[slot] > 0 && rank_before(slot, table_.at(slot, 0)) == 0) {
        ++first_[table_.at(slot, 0)];
      } else {
        without.push_back(slot);
      }
    }
    for (const uint16_t slot : without) {
      NodeIndex best = no_node;
      for (const NodeIndex node : chosen(slot)) {
        if (!wants_to_be_first(node)) continue;
        if (best == no_node || wants_more(node, best, slot)) best = node;
      }
      if (best == no_node && chosen_[slot] < prefix_) {
        best = best_of(slot, [&](NodeIndex node) {
          return has_room(node) && wants_to_be_first(node) && may_choose(slot, node);
        });
        if (best != no_node) choose(slot, best);
      }
      if (best != no_node) make_first(slot, best);
    }
  }

  // A node that enters a slot takes the place of a first node that has too many of these, which
  // takes the place of the one that leaves.
  void hand_over_first() {
    first_ = table_.loads(1, members_.size());
    for (const uint16_t slot : order_) {
      const NodeIndex old = table_.at(slot, 0);
      if (first_[old] <= first_target_[old]) continue;
      for (unsigned at = 0; at < prefix_; ++at) {
        const NodeIndex out = table_.at(slot, at);
        if (!has_too_many(out)) continue;
        const NodeIndex best = best_of(slot, [&](NodeIndex in) {
          return has_room(in) && wants_to_be_first(in) && may_exchange(slot, out, in);
        });
        if (best == no_node) continue;
        exchange(slot, out, best);
        --first_[old];
        make_first(slot, best);
        break;
      }
    }
  }

  // Nodes with too many slots leave those in which they had the rank before; `rank` of the old
  // lists' width: those in which they were not.
  void exchange_directly(unsigned rank) {
    for (const uint16_t slot : order_) {
      for (unsigned at = fixed_; at < prefix_; ++at) {
        const NodeIndex out = table_.at(slot, at);
        if (!has_too_many(out)) continue;
        if (rank_before(slot, out) != rank) continue;
        const NodeIndex best = best_of(
            slot, [&](NodeIndex in) { return has_room(in) && may_exchange(slot, out, in); });
        if (best != no_node) exchange(slot, out, best);
      }
    }
  }

  void exchange_along_paths(unsigned distance_max) {
    closed_.assign(members_.size(), false);
    for (size_t i = 0; i < members_.size(); ++i) {
      const auto node = static_cast<NodeIndex>(i);
      // A path may end early where it crosses itself in a slot; what it has moved stays moved.
      for (unsigned tries = 0; has_too_many(node) && tries < slot_count; ++tries) {
        if (closed_[node] || !exchange_along_path(node, distance_max)) break;
      }
    }
  }

  // --- paths -------------------------------------------------------------------------------------

  // How a node is reached: by `from` leaving `slot` to it.
  struct Reached {
    unsigned distance = ~0u;  // entries into this prefix
    uint16_t slot = 0;
    NodeIndex from = no_node;
  };

  // Of all paths from a node with too many slots to one with room, a cheapest that costs no more than
  // `distance_max`. Where there is none everyone reached is closed: no later path leads out of there.
  bool exchange_along_path(NodeIndex start, unsigned distance_max) {
    reached_.assign(members_.size(), Reached{});
    frontier_.assign(1, start);
    reached_[start] = {0, 0, no_node};
    std::optional<NodeIndex> end;
    for (unsigned distance = 0; !end && !frontier_.empty(); ++distance) {
      // First all that is to be had for nothing more, then what costs one entry.
      for (size_t i = 0; !end && i < frontier_.size(); ++i) end = reach_from(frontier_[i], 0);
      std::swap(frontier_, settled_);
      frontier_.clear();
      if (distance == distance_max) break;
      for (size_t i = 0; !end && i < settled_.size(); ++i) end = reach_from(settled_[i], 1);
    }
    if (end) return follow(*end, start);
    for (size_t i = 0; i < members_.size(); ++i) {
      if (reached_[i].distance <= distance_max) closed_[i] = true;
    }
    return false;
  }

  // Goes from a node to all that its slots can be left to at a cost of 0 or 1 entries. Answers one
  // with room.
  std::optional<NodeIndex> reach_from(NodeIndex out, unsigned cost) {
    const unsigned distance = reached_[out].distance + cost;
    std::optional<NodeIndex> end;
    for (const uint16_t slot : slots_of_[out]) {
      const bool entered = enters(slot, out);
      if (entered && cost == 1) continue;  // all were reached for nothing
      const auto look_at = [&](NodeIndex in) {
        if (end || in == no_node || closed_[in] || reached_[in].distance <= distance) return;
        if (from_all() && is_chosen(slot, in)) return;
        if (cost == 0 && !entered && enters(slot, in)) return;
        if (!may_exchange(slot, out, in)) return;
        reached_[in] = {distance, slot, out};
        frontier_.push_back(in);
        if (has_room(in)) end = in;
      };
      if (from_all() && cost == 0 && !entered) {
        for (const NodeIndex in : before_.replicas(slot, prefix_)) look_at(in);
      } else {
        for_others(slot, look_at);
      }
      if (end) break;
    }
    return end;
  }

  // Gives places that nodes came new into back to who had them before, where exchanges that cost
  // nothing make up for it: each saves an entry (a negative cycle; Klein 1967).
  void recover() {
    bool any = true;
    for (unsigned tries = 0; any && tries < slot_count; ++tries) {
      any = false;
      for (size_t i = 0; i < members_.size(); ++i) any |= recover_from(static_cast<NodeIndex>(i));
    }
  }
  bool recover_from(NodeIndex start) {
    const bool may_lose = load_[start] > shares_.nodes[start].floor();
    reached_.assign(members_.size(), Reached{});
    std::vector<NodeIndex> queue;
    // Answers whether the search ends: back at the start, or where rounding up is as good.
    const auto look_at = [&](uint16_t slot, NodeIndex out, NodeIndex in) {
      if (in == no_node || reached_[in].distance == 0 || is_chosen(slot, in)) return false;
      if (!may_exchange(slot, out, in)) return false;
      reached_[in] = {0, slot, out};
      queue.push_back(in);
      return in == start || (may_lose && load_[in] < shares_.nodes[in].ceil());
    };
    for (const uint16_t slot : slots_of_[start]) {
      if (!enters(slot, start)) continue;
      for (const NodeIndex old : before_.replicas(slot, prefix_)) {
        if (look_at(slot, start, old)) return follow(queue.back(), start);
      }
    }
    for (size_t i = 0; i < queue.size(); ++i) {
      const NodeIndex node = queue[i];
      for (const uint16_t slot : slots_of_[node]) {
        if (enters(slot, node)) {
          for (size_t in = 0; in < members_.size(); ++in) {
            if (look_at(slot, node, static_cast<NodeIndex>(in))) {
              return follow(queue.back(), start);
            }
          }
        } else {
          for (const NodeIndex old : before_.replicas(slot, prefix_)) {
            if (look_at(slot, node, old)) return follow(queue.back(), start);
          }
        }
      }
    }
    return false;
  }

  // Makes the exchanges from `start` to `end`. Stops where one is not allowed any more after those
  // before it, which can only be where the path crosses itself in a slot.
  bool follow(NodeIndex end, NodeIndex start) {
    path_.clear();
    NodeIndex node = end;
    do {
      path_.push_back(node);
      node = reached_[node].from;
    } while (node != start);
    for (auto next = path_.rbegin(); next != path_.rend(); ++next) {
      const Reached how = reached_[*next];
      if (!is_chosen(how.slot, how.from) || is_chosen(how.slot, *next) ||
          !may_exchange(how.slot, how.from, *next)) {
        break;
      }
      exchange(how.slot, how.from, *next);
    }
    return true;
  }

  const Members& members_;
  const SlotTable& before_;
  SlotTable& table_;
  const unsigned fixed_;
  const unsigned prefix_;
  const unsigned outer_;
  const FairShares shares_;
  const std::vector<uint32_t> target_;  // slots, by node
  std::vector<unsigned> zone_min_;      // nodes of a zone in a slot
  std::vector<unsigned> zone_max_;
  const std::vector<uint16_t> order_;

  std::vector<uint32_t> load_;                   // slots that a node has, by node
  std::vector<std::vector<uint16_t>> slots_of_;  // those it need not keep
  std::vector<uint32_t> position_;               // of a slot in that of its at-th node
  std::vector<uint8_t> chosen_;                  // nodes, by slot

  std::vector<bool> is_full_at_last_;
  std::vector<unsigned> last_min_;   // nodes of a zone in a whole list
  std::vector<unsigned> last_full_;  // nodes of a zone in every whole list
  unsigned last_places_ = 0;         // of a whole list, that both take

  std::vector<uint32_t> first_;  // slots in which a node is first
  std::vector<uint32_t> first_target_;

  std::vector<Reached> reached_;
  std::vector<bool> closed_;
  std::vector<NodeIndex> frontier_;
  std::vector<NodeIndex> settled_;
  std::vector<NodeIndex> path_;
};

}  // namespace

SlotTable place(const Members& members, const SlotTable& before) {
  GYRE_ASSERT(members.size() >= 1 && members.size() <= limits::cluster_nodes_max);
  const auto width =
      static_cast<unsigned>(std::min<size_t>(members.size(), limits::cluster_replicas_max));
  SlotTable table(width);
  const unsigned middle = std::min(width, 3u);
  const auto step = [&](Range range) { Step(members, before, table, range).run(); };
  step({0, middle, 0});
  step({0, 1, middle});
  if (middle > 2) step({1, 2, middle});
  if (width > middle) step({middle, width, 0});
  if (width > middle + 1) step({middle, middle + 1, width});
  return table;
}

}  // namespace gyre::cluster
