#include "cluster/scan_cover.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "scan_world.hpp"

using namespace gyre::cluster;

namespace {

std::vector<unsigned> copies_of(const std::vector<ScanPart>& parts) {
  std::vector<unsigned> copies(slot_count, 0);
  for (const ScanPart& part : parts) {
    part.slots.for_each([&](uint32_t slot) { ++copies[slot]; });
  }
  return copies;
}

bool is_held(const SlotTable& table, const ScanPart& part, unsigned from) {
  bool held = true;
  part.slots.for_each([&](uint32_t slot) {
    const auto nodes = table.replicas(slot, from);
    held = held && std::ranges::find(nodes, part.node) != nodes.end();
  });
  return held;
}

}  // namespace

TEST_CASE("every slot is covered by exactly ack of its nodes, each of them once") {
  for (const unsigned nodes : {1u, 2u, 3u, 5u, 12u}) {
    const unsigned width = std::min(nodes, 5u);
    const SlotTable table = random_slot_table(nodes, nodes, width);
    for (unsigned from = 1; from <= width; ++from) {
      for (unsigned ack = 1; ack <= from; ++ack) {
        ScanCover cover(table, ack, from, 0);
        const auto parts = cover.cover(std::vector<Reluctance>(nodes, 1));
        REQUIRE(parts);
        std::map<NodeIndex, unsigned> times;
        for (const ScanPart& part : *parts) {
          CHECK(is_held(table, part, from));
          CHECK(++times[part.node] == 1);
        }
        const std::vector<unsigned> copies = copies_of(*parts);
        CHECK(std::ranges::all_of(copies, [&](unsigned count) { return count == ack; }));
      }
    }
  }
}

TEST_CASE("few nodes are asked: of three that hold everything, two for a majority") {
  const SlotTable table = random_slot_table(1, 3, 3);
  for (const NodeIndex self : {NodeIndex{0}, NodeIndex{1}, NodeIndex{2}}) {
    std::vector<Reluctance> reluctance(3, 1);
    reluctance[self] = 0;
    ScanCover cover(table, 2, 3, self);
    const auto parts = cover.cover(reluctance);
    REQUIRE(parts);
    REQUIRE(parts->size() == 2);
    CHECK((*parts)[0].node == self);
    CHECK((*parts)[0].slots == SlotSet::all());
    CHECK((*parts)[1].node == (self + 1) % 3);
  }
}

TEST_CASE("who is asked unwillingly is asked only where nobody else is left, or not at all") {
  const SlotTable table = random_slot_table(2, 4, 3);
  std::vector<Reluctance> reluctance = {0, 1, 2, 1};
  {
    ScanCover cover(table, 1, 3, 0);
    const auto parts = cover.cover(reluctance);
    REQUIRE(parts);
    CHECK(std::ranges::none_of(*parts, [](const ScanPart& part) { return part.node == 2; }));
  }
  reluctance[2] = never_asked;
  CHECK(ScanCover(table, 2, 3, 0).cover(reluctance));
  CHECK_FALSE(ScanCover(table, 3, 3, 0).cover(reluctance));
}

TEST_CASE("another node takes over for each slot, and none that covers it already") {
  const SlotTable table = random_slot_table(3, 6, 5);
  ScanCover cover(table, 3, 5, 0);
  std::vector<Reluctance> reluctance(6, 1);
  auto parts = cover.cover(reluctance);
  REQUIRE(parts);
  for (NodeIndex gone = 0; gone < 2; ++gone) {
    reluctance[gone] = never_asked;
    std::vector<ScanPart> next;
    for (const ScanPart& part : *parts) {
      if (part.node != gone) {
        next.push_back(part);
        continue;
      }
      const auto others = cover.replace(part, reluctance);
      REQUIRE(others);
      next.insert(next.end(), others->begin(), others->end());
    }
    std::vector<std::vector<unsigned>> by_node(6, std::vector<unsigned>(slot_count, 0));
    for (const ScanPart& part : next) {
      CHECK(part.node > gone);
      CHECK(is_held(table, part, 5));
      part.slots.for_each([&](uint32_t slot) { ++by_node[part.node][slot]; });
    }
    for (const auto& times : by_node) CHECK(std::ranges::max(times) <= 1);
    const std::vector<unsigned> copies = copies_of(next);
    CHECK(std::ranges::all_of(copies, [](unsigned count) { return count == 3; }));
    parts = next;
  }
  // Of five nodes three are needed, and three of six are gone: some slot has two left.
  reluctance[2] = never_asked;
  const auto third = std::ranges::find(*parts, NodeIndex{2}, &ScanPart::node);
  REQUIRE(third != parts->end());
  CHECK_FALSE(cover.replace(*third, reluctance));
  // Nothing has changed: the same question has the same answer, and with the node itself it has one.
  reluctance[2] = 9;
  const auto again = cover.replace(*third, reluctance);
  REQUIRE(again);
  uint32_t taken = 0;
  for (const ScanPart& part : *again) taken += part.slots.size();
  CHECK(taken == third->slots.size());
}

TEST_CASE("a plan is for as long as nobody is preferred otherwise, and says when there is none") {
  const SlotTable table = random_slot_table(4, 3, 3);
  const ScanPlan plan(table, 2, 3, 1, {1, 0, 1});
  REQUIRE(plan.parts());
  CHECK(plan.parts()->size() == 2);
  CHECK(plan.is_for(2, 3, {1, 0, 1}));
  CHECK_FALSE(plan.is_for(1, 3, {1, 0, 1}));
  CHECK_FALSE(plan.is_for(2, 2, {1, 0, 1}));
  CHECK_FALSE(plan.is_for(2, 3, {1, 0, 2}));
  CHECK_FALSE(ScanPlan(table, 3, 3, 1, {1, 0, never_asked}).parts());
}
