#include "cluster/fair_share.hpp"

#include <algorithm>

namespace gyre::cluster {

namespace {

std::vector<unsigned> nodes_per_zone(const Members& members) {
  std::vector<unsigned> counts(members.zones_or_one());
  for (const Member& member : members.nodes) ++counts[member.zone];
  return counts;
}

// What a zone holds altogether.
struct ZoneLimits {
  uint64_t least = 0;  // slots
  uint64_t most = 0;
};

std::vector<ZoneLimits> limits_of(const Members& members, unsigned prefix) {
  const unsigned copies = zone_copies_max(members, prefix);
  std::vector<ZoneLimits> limits;
  for (const unsigned count : nodes_per_zone(members)) {
    // Without zones there is nothing to be even about.
    const unsigned least = members.zone_count == 0 ? 0 : std::min(copies - 1, count);
    limits.push_back(
        {uint64_t{least} * slot_count, uint64_t{std::min(copies, count)} * slot_count});
  }
  return limits;
}

// The zones that are at one of their limits, when water stands as high for all nodes as makes the
// sum right: a node takes its weight times the level, all slots at most. The level is searched for
// in units of 2^-32 slots, which finds who is at a limit; shares are computed without it.
class Limited {
 public:
  enum Where : uint8_t { between, at_least, at_most };

  Limited(const Members& members, const std::vector<ZoneLimits>& limits)
      : members_(members), limits_(limits) {}

  std::vector<Where> find(uint64_t slots) {
    uint64_t low = 0;
    uint64_t high = one * slot_count;
    while (low < high) {  // the lowest level with enough
      const uint64_t middle = low + (high - low) / 2;
      if (sum_at(middle) < slots * one) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const std::vector<uint64_t> wanted = wanted_at(low);
    std::vector<Where> where(limits_.size(), between);
    for (size_t zone = 0; zone < where.size(); ++zone) {
      if (wanted[zone] >= limits_[zone].most * one) {
        where[zone] = at_most;
      } else if (wanted[zone] <= limits_[zone].least * one) {
        where[zone] = at_least;
      }
    }
    return where;
  }

 private:
  static constexpr uint64_t one = uint64_t{1} << 32;  // a slot

  std::vector<uint64_t> wanted_at(uint64_t level) const {
    std::vector<uint64_t> wanted(limits_.size());
    for (const Member& member : members_.nodes) {
      wanted[member.zone] += std::min(level * member.weight, one * slot_count);
    }
    return wanted;
  }
  uint64_t sum_at(uint64_t level) const {
    uint64_t sum = 0;
    const std::vector<uint64_t> wanted = wanted_at(level);
    for (size_t zone = 0; zone < wanted.size(); ++zone) {
      sum += std::clamp(wanted[zone], limits_[zone].least * one, limits_[zone].most * one);
    }
    return sum;
  }

  const Members& members_;
  const std::vector<ZoneLimits>& limits_;
};

// Divides `amount` slots among some nodes by weight. Who would get more than all slots is full, and
// what it can't take raises the others.
template <class In>
void divide(const Members& members, uint64_t amount, In in, std::vector<Share>& shares) {
  uint64_t weight = 0;  // of those that are not full
  std::vector<bool> open(members.size());
  for (size_t i = 0; i < members.size(); ++i) {
    open[i] = in(members.nodes[i]);
    if (open[i]) weight += members.nodes[i].weight;
  }
  for (bool any = true; any;) {
    any = false;
    const uint64_t amount_before = amount;
    const uint64_t weight_before = weight;
    for (size_t i = 0; i < members.size(); ++i) {
      const uint64_t part = members.nodes[i].weight;
      if (!open[i] || amount_before * part < slot_count * weight_before) continue;
      shares[i] = {slot_count, 1};
      open[i] = false;
      any = true;
      amount -= slot_count;
      weight -= part;
    }
  }
  for (size_t i = 0; i < members.size(); ++i) {
    if (open[i]) shares[i] = {amount * members.nodes[i].weight, weight};
  }
}

// What the nodes of a zone between its limits get, added up. All of them that are not full have the
// same denominator.
Share sum_of(const Members& members, size_t zone, const std::vector<Share>& shares) {
  uint64_t full = 0;
  Share sum;
  for (size_t i = 0; i < members.size(); ++i) {
    if (members.nodes[i].zone != zone) continue;
    if (shares[i].denominator == 1) {
      full += shares[i].numerator;
    } else {
      sum.numerator += shares[i].numerator;
      sum.denominator = shares[i].denominator;
    }
  }
  sum.numerator += full * sum.denominator;
  return sum;
}

}  // namespace

unsigned zone_copies_max(const Members& members, unsigned prefix) {
  if (members.zone_count == 0) return prefix;
  GYRE_ASSERT(prefix <= members.size());
  const std::vector<unsigned> counts = nodes_per_zone(members);
  unsigned copies = 1;
  const auto room = [&] {
    unsigned sum = 0;
    for (const unsigned count : counts) sum += std::min(copies, count);
    return sum;
  };
  while (room() < prefix) ++copies;
  return copies;
}

FairShares fair_shares(const Members& members, unsigned prefix) {
  GYRE_ASSERT(prefix >= 1 && prefix <= members.size());
  const std::vector<ZoneLimits> limits = limits_of(members, prefix);
  const std::vector<Limited::Where> where =
      Limited(members, limits).find(uint64_t{prefix} * slot_count);
  FairShares shares{std::vector<Share>(members.size()), std::vector<Share>(limits.size())};
  uint64_t left = uint64_t{prefix} * slot_count;
  for (size_t zone = 0; zone < limits.size(); ++zone) {
    if (where[zone] == Limited::between) continue;
    const uint64_t amount =
        where[zone] == Limited::at_most ? limits[zone].most : limits[zone].least;
    divide(
        members, amount, [&](const Member& member) { return member.zone == zone; }, shares.nodes);
    shares.zones[zone] = {amount, 1};
    left -= amount;
  }
  const auto is_between = [&](const Member& member) {
    return where[member.zone] == Limited::between;
  };
  divide(members, left, is_between, shares.nodes);
  for (size_t zone = 0; zone < limits.size(); ++zone) {
    if (where[zone] == Limited::between) shares.zones[zone] = sum_of(members, zone, shares.nodes);
  }
  return shares;
}

uint64_t entries_min(const FairShares& shares, const std::vector<uint32_t>& loads, uint64_t gone) {
  uint64_t wanted = 0;
  uint64_t given = gone;
  for (size_t i = 0; i < loads.size(); ++i) {
    const uint32_t least = shares.nodes[i].floor();
    const uint32_t most = shares.nodes[i].ceil();
    if (loads[i] < least) wanted += least - loads[i];
    if (loads[i] > most) given += loads[i] - most;
  }
  return std::max(wanted, given);
}

}  // namespace gyre::cluster
