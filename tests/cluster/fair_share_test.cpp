#include "cluster/fair_share.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace gyre::cluster;

namespace {

std::vector<double> shares(const Members& members, unsigned prefix) {
  std::vector<double> values;
  for (const Share& share : fair_shares(members, prefix).nodes) {
    values.push_back(share.value() / slot_count);
  }
  return values;
}

void check_near(const std::vector<double>& values, const std::vector<double>& expected) {
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i) CHECK(values[i] == doctest::Approx(expected[i]));
}

}  // namespace

TEST_CASE("shares are in proportion to weights, up to all slots") {
  check_near(shares({{{1, 0}, {2, 0}, {4, 0}, {1, 0}}, 0}, 1), {0.125, 0.25, 0.5, 0.125});
  // 4/8 of two copies would be all slots, of three one and a half.
  check_near(shares({{{1, 0}, {2, 0}, {4, 0}, {1, 0}}, 0}, 2), {0.25, 0.5, 1, 0.25});
  check_near(shares({{{1, 0}, {2, 0}, {4, 0}, {1, 0}}, 0}, 3), {0.5, 1, 1, 0.5});
  check_near(shares({{{1, 0}, {10'000, 0}}, 0}, 2), {1, 1});
}

TEST_CASE("a zone holds one copy where there are as many zones as copies") {
  const Members members{{{1, 0}, {1, 1}, {1, 2}, {1, 2}, {1, 2}, {3, 2}}, 3};
  CHECK(zone_copies_max(members, 1) == 1);
  CHECK(zone_copies_max(members, 3) == 1);
  CHECK(zone_copies_max(members, 5) == 3);  // the other two have one node each
  check_near(shares(members, 1), {1 / 8., 1 / 8., 1 / 8., 1 / 8., 1 / 8., 3 / 8.});
  check_near(shares(members, 3), {1, 1, 1 / 6., 1 / 6., 1 / 6., 1 / 2.});
}

TEST_CASE("with fewer zones than copies each holds them as evenly as possible") {
  const Members members{{{1, 0}, {1, 0}, {1, 0}, {3, 1}, {3, 1}, {3, 1}}, 2};
  CHECK(zone_copies_max(members, 2) == 1);
  CHECK(zone_copies_max(members, 3) == 2);
  // By weight the second zone would hold 2.25 of three copies.
  check_near(shares(members, 3), {1 / 3., 1 / 3., 1 / 3., 2 / 3., 2 / 3., 2 / 3.});
  check_near(shares(members, 2), {1 / 3., 1 / 3., 1 / 3., 1 / 3., 1 / 3., 1 / 3.});
}

TEST_CASE("what a longer prefix asks of a node or zone is never less") {
  for (unsigned seed = 0; seed < 300; ++seed) {
    Members members;
    members.zone_count = seed % 6;
    const unsigned count = std::max(5u, members.zone_count) + seed % 7;
    for (unsigned i = 0; i < count; ++i) {
      const unsigned zone = members.zone_count == 0 ? 0 : i % members.zone_count;
      members.nodes.push_back(
          {1 + (seed * 7 + i * i * 13) % (1 + seed % 40), static_cast<uint16_t>(zone)});
    }
    for (unsigned prefix = 1; prefix <= 5; ++prefix) {
      const FairShares now = fair_shares(members, prefix);
      double nodes = 0;
      double zones = 0;
      for (const Share& share : now.nodes) nodes += share.value();
      for (const Share& share : now.zones) zones += share.value();
      CHECK(nodes == doctest::Approx(prefix * slot_count));
      CHECK(zones == doctest::Approx(prefix * slot_count));
      if (prefix == 1) continue;
      const FairShares shorter = fair_shares(members, prefix - 1);
      for (size_t i = 0; i < now.nodes.size(); ++i) {
        CHECK(now.nodes[i].value() >= shorter.nodes[i].value() - 1e-6);
      }
      for (size_t i = 0; i < now.zones.size(); ++i) {
        CHECK(now.zones[i].value() >= shorter.zones[i].value() - 1e-6);
      }
    }
  }
}
