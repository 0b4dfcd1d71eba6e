// Tables made from scratch and changed step by step: how fair, how much is moved, and that zones
// hold. The worst figures are printed.
#include "cluster/placement.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <vector>

#include "base/limits.hpp"
#include "least_movement.hpp"

using namespace gyre;
using namespace gyre::cluster;

namespace {

constexpr double fair_max = 1.05;
constexpr double movement_max = 1.01;

uint64_t test_scale() {
  const char* scale = std::getenv("GYRE_TEST_SCALE");
  return scale == nullptr ? 1 : std::max(std::strtoull(scale, nullptr, 10), 1ull);
}

// xorshift64* (Vigna 2014)
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {
    for (int i = 0; i < 8; ++i) next();
  }
  size_t below(size_t limit) { return static_cast<size_t>(next() % limit); }

 private:
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return (state_ * 0x2545f4914f6cdd1d) >> 16;
  }
  uint64_t state_;
};

struct Named {
  int name;
  uint32_t weight;
  unsigned zone;
};

// A cluster whose nodes have names, which stay when their numbers change.
class Cluster {
 public:
  Cluster(size_t node_count, unsigned zones, Random& random) : zones_(zones), random_(random) {
    // Every zone has a node, as far as there are nodes.
    for (size_t i = 0; i < node_count; ++i)
      add(zones == 0 ? 0 : i < zones ? i : random.below(zones));
    renew();
  }

  void change() {
    const size_t which = random_.below(3);
    const std::vector<Named> old = nodes_;
    if (which == 0) {
      add(zones_ == 0 ? 0 : random_.below(zones_));
    } else if (which == 1 && nodes_.size() > 3) {
      nodes_.erase(nodes_.begin() + static_cast<ptrdiff_t>(random_.below(nodes_.size())));
    } else {
      nodes_[random_.below(nodes_.size())].weight = random_weight();
    }
    renew(old);
  }
  void replace(size_t index) {
    const std::vector<Named> old = nodes_;
    const Named gone = nodes_[index];
    nodes_.erase(nodes_.begin() + static_cast<ptrdiff_t>(index));
    nodes_.push_back({next_name_++, gone.weight, gone.zone});
    renew(old);
  }

  const Members& members() const { return members_; }
  const SlotTable& before() const { return before_; }  // numbered as the members are now
  const SlotTable& table() const { return table_; }

 private:
  uint32_t random_weight() { return 1u << random_.below(3); }
  void add(size_t zone) {
    nodes_.push_back({next_name_++, random_weight(), static_cast<unsigned>(zone)});
  }

  void renew(const std::vector<Named>& old = {}) {
    std::map<unsigned, uint16_t> zones;
    if (zones_ != 0) {
      for (const Named& node : nodes_) zones.emplace(node.zone, uint16_t{0});
    }
    uint16_t next = 0;
    for (auto& [zone, number] : zones) number = next++;
    members_ = {};
    members_.zone_count = next;
    std::map<int, NodeIndex> numbers;
    for (const Named& node : nodes_) {
      numbers.emplace(node.name, static_cast<NodeIndex>(members_.size()));
      members_.nodes.push_back({node.weight, zones_ == 0 ? uint16_t{0} : zones.at(node.zone)});
    }
    before_ = SlotTable(table_.width());
    for (uint32_t slot = 0; slot < slot_count; ++slot) {
      for (unsigned rank = 0; rank < table_.width(); ++rank) {
        const auto found = numbers.find(old[table_.at(slot, rank)].name);
        before_.set(slot, rank, found == numbers.end() ? no_node : found->second);
      }
    }
    table_ = place(members_, before_);
  }

  const unsigned zones_;
  Random& random_;
  int next_name_ = 0;
  std::vector<Named> nodes_;
  Members members_;
  SlotTable before_;
  SlotTable table_;
};

double most_over_fair(const Members& members, const SlotTable& table, unsigned prefix) {
  const FairShares shares = fair_shares(members, prefix);
  const std::vector<uint32_t> loads = table.loads(prefix, members.size());
  double most = 0;
  for (size_t i = 0; i < loads.size(); ++i) {
    most = std::max(most, loads[i] / shares.nodes[i].value());
  }
  return most;
}

bool is_whole(const Members& members, const SlotTable& table) {
  if (table.width() != std::min<size_t>(members.size(), 5)) return false;
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    const auto list = table.replicas(slot, 5);
    const std::set<NodeIndex> different(list.begin(), list.end());
    if (different.size() != table.width() || *different.rbegin() >= members.size()) return false;
  }
  return true;
}

uint64_t slots_over_in_a_zone(const Members& members, const SlotTable& table) {
  uint64_t over = 0;
  if (members.zone_count == 0) return 0;
  for (unsigned prefix = 1; prefix <= table.width(); ++prefix) {
    const unsigned copies_max = zone_copies_max(members, prefix);
    for (uint32_t slot = 0; slot < slot_count; ++slot) {
      std::map<unsigned, unsigned> copies;
      for (const NodeIndex node : table.replicas(slot, prefix)) {
        if (++copies[members.nodes[node].zone] > copies_max) ++over;
      }
    }
  }
  return over;
}

// The worst that was seen, by prefix.
struct Worst {
  std::map<unsigned, double> fair;
  double movement = 1;
  std::map<unsigned, std::pair<uint64_t, uint64_t>> moved_and_bound;

  void see(const Cluster& cluster) {
    for (unsigned prefix = 1; prefix <= cluster.table().width(); ++prefix) {
      double& most = fair[prefix];
      most = std::max(most, most_over_fair(cluster.members(), cluster.table(), prefix));
    }
  }
  void see_change(const Cluster& cluster) {
    see(cluster);
    const Members& members = cluster.members();
    for (unsigned prefix = 1; prefix <= cluster.table().width(); ++prefix) {
      const uint64_t moved = entries(cluster.before(), cluster.table(), prefix);
      uint64_t gone = 0;
      for (uint32_t slot = 0; slot < slot_count; ++slot) {
        for (const NodeIndex node : cluster.before().replicas(slot, prefix))
          gone += node == no_node;
      }
      const uint64_t bound = entries_min(fair_shares(members, prefix),
                                         cluster.before().loads(prefix, members.size()), gone);
      moved_and_bound[prefix].first += moved;
      moved_and_bound[prefix].second += bound;
      if (prefix == 3) check_movement(cluster, moved, bound);
    }
  }
  // The bound is below what is possible where a node in need is in a slot's list already, or in its
  // zones; only then the least movement is worth finding.
  void check_movement(const Cluster& cluster, uint64_t moved, uint64_t bound) {
    const Members& members = cluster.members();
    uint64_t least = bound;
    if (static_cast<double>(moved) > movement_max * static_cast<double>(bound)) {
      least = test::LeastMovement(members, cluster.before(), cluster.table(), 3).entries();
    }
    // Rounding differently may save some: less than one slot for every eight nodes.
    const uint64_t rounding = (members.size() + 7) / 8;
    CHECK(static_cast<double>(moved) <= movement_max * static_cast<double>(least + rounding));
    if (least > 0) {
      movement = std::max(movement, static_cast<double>(moved) / static_cast<double>(least));
    }
  }
  std::string text() const {
    std::string line;
    for (const auto& [prefix, most] : fair) line += fmt::format(" {:.4f}", most);
    line +=
        fmt::format("; movement of the first 3 to the least {:.4f}; moved to the bound:", movement);
    for (const auto& [prefix, both] : moved_and_bound) {
      line += fmt::format(" {:.4f}", static_cast<double>(both.first) /
                                         static_cast<double>(std::max<uint64_t>(both.second, 1)));
    }
    return line;
  }
};

void check_fair(const Worst& worst) {
  for (const unsigned prefix : {1u, 3u, 5u}) {
    if (worst.fair.contains(prefix)) CHECK(worst.fair.at(prefix) <= fair_max);
  }
}

}  // namespace

TEST_CASE("new tables are fair to within a slot, and no zone holds too many copies") {
  for (const unsigned zones : {0u, 3u, 5u}) {
    Worst worst;
    for (const size_t count : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32, 50, 75, 100}) {
      for (uint64_t round = 0; round < 2 * test_scale(); ++round) {
        Random random(1000 * count + 10 * round + zones);
        const Cluster cluster(count, zones, random);
        CAPTURE(zones);
        CAPTURE(count);
        REQUIRE(is_whole(cluster.members(), cluster.table()));
        CHECK(slots_over_in_a_zone(cluster.members(), cluster.table()) == 0);
        for (const unsigned prefix : {1u, 3u, 5u}) {
          if (prefix > count) continue;
          const FairShares shares = fair_shares(cluster.members(), prefix);
          const std::vector<uint32_t> loads = cluster.table().loads(prefix, count);
          for (size_t i = 0; i < count; ++i) {
            CHECK(loads[i] + 1 >= shares.nodes[i].floor());
            CHECK(loads[i] <= shares.nodes[i].ceil() + 1);
          }
        }
        worst.see(cluster);
      }
    }
    fmt::print("new tables, {} zones: most/fair of the first 1 to 5:{}\n", zones, worst.text());
    check_fair(worst);
  }
}

TEST_CASE("chains of added, removed and reweighted nodes move the least and stay fair") {
  for (const unsigned zones : {0u, 3u, 5u}) {
    Worst worst;
    for (const size_t count : {3, 5, 10, 30, 100}) {
      for (uint64_t round = 0; round < test_scale(); ++round) {
        Random random(2000 * count + 10 * round + zones);
        Cluster cluster(count, zones, random);
        for (int step = 0; step < 10; ++step) {
          cluster.change();
          CAPTURE(zones);
          CAPTURE(count);
          CAPTURE(step);
          REQUIRE(is_whole(cluster.members(), cluster.table()));
          CHECK(slots_over_in_a_zone(cluster.members(), cluster.table()) == 0);
          worst.see_change(cluster);
        }
      }
    }
    fmt::print("chains, {} zones: most/fair of the first 1 to 5:{}\n", zones, worst.text());
    check_fair(worst);
  }
}

TEST_CASE("a node in place of another takes its slots over, and nothing else moves") {
  for (const unsigned zones : {0u, 3u}) {
    Random random(77 + zones);
    Cluster cluster(12, zones, random);
    const std::vector<uint32_t> loads = cluster.table().loads(3, 12);
    const std::vector<uint32_t> lists = cluster.table().loads(5, 12);
    cluster.replace(4);
    CHECK(entries(cluster.before(), cluster.table(), 3) == loads[4]);
    CHECK(entries(cluster.before(), cluster.table(), 5) == lists[4]);
    CHECK(cluster.table().loads(3, 12)[11] == loads[4]);
  }
}

TEST_CASE("nothing moves when nothing changes") {
  for (const unsigned zones : {0u, 3u, 5u}) {
    Random random(5 + zones);
    const Cluster cluster(20, zones, random);
    CHECK(place(cluster.members(), cluster.table()) == cluster.table());
  }
}

TEST_CASE("a table that somebody else made, as unfair as can be, becomes a fair one") {
  Members members;
  for (int i = 0; i < 9; ++i) members.nodes.push_back({1, 0});
  SlotTable bad(5);
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    for (unsigned rank = 0; rank < 5; ++rank) bad.set(slot, rank, static_cast<NodeIndex>(rank));
  }
  const SlotTable table = place(members, bad);
  REQUIRE(is_whole(members, table));
  for (const unsigned prefix : {1u, 3u, 5u}) CHECK(most_over_fair(members, table, prefix) < 1.001);
}

TEST_CASE("a slot's nodes share their other slots with all nodes alike") {
  Members members;
  for (int i = 0; i < 20; ++i) members.nodes.push_back({1, 0});
  const SlotTable table = place(members, SlotTable());
  std::map<std::pair<NodeIndex, NodeIndex>, unsigned> together;
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    for (const NodeIndex a : table.replicas(slot, 3)) {
      for (const NodeIndex b : table.replicas(slot, 3)) {
        if (a < b) ++together[{a, b}];
      }
    }
  }
  const double mean = 3.0 * slot_count / (20 * 19 / 2);  // 259
  CHECK(together.size() == 190);
  for (const auto& [pair, slots] : together) {
    CHECK(slots > mean * 0.75);
    CHECK(slots < mean * 1.25);
  }
}

TEST_CASE("as many nodes as there may be") {
  Members members;
  for (unsigned i = 0; i < limits::cluster_nodes_max; ++i) members.nodes.push_back({1, 0});
  const SlotTable table = place(members, SlotTable());
  REQUIRE(is_whole(members, table));
  for (const uint32_t load : table.loads(3, members.size())) CHECK(load == 48);
}
