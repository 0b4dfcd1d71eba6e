#include "cluster/topology_plan.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace gyre;
using namespace gyre::cluster;

namespace {

Topology topology(const std::string& peers) {
  return *make_topology(*parse_node_list(peers));
}

std::string refusal(const Topology& before, const TopologyChanges& changes) {
  const Result<Topology> after = change_topology(before, changes);
  REQUIRE(!after);
  return after.error().detail;
}

bool has(const std::string& text, std::string_view part) {
  if (text.find(part) != text.npos) return true;
  MESSAGE("not found: ", part, "\nin: ", text);
  return false;
}

const std::string three = "http://a:1,http://b:1,http://c:1";

}  // namespace

TEST_CASE("a change makes the next epoch, which remembers the table before") {
  const Topology before = topology(three);
  const Topology after = *change_topology(before, {.add = *parse_node_list("http://d:1,weight=2"),
                                                   .remove = {"http://a:1"},
                                                   .reweight = {{"http://b:1", 3}}});
  CHECK(after.epoch == before.epoch + 1);
  CHECK(after.previous_hash == before.table_hash());
  REQUIRE(after.nodes.size() == 3);
  CHECK(after.nodes[0] == NodeEntry{"http://b:1", 3, "", "", 0});
  CHECK(after.nodes[2] == NodeEntry{"http://d:1", 2, "", "", 0});
  CHECK(balance_of(after, 1).most < 1.001);
}

TEST_CASE("changes that make no sense are refused, and the node is named") {
  const Topology before = topology(three);
  CHECK(has(refusal(before, {.remove = {"http://x:1"}}), "http://x:1 is no node"));
  CHECK(has(refusal(before, {.reweight = {{"http://x:1", 2}}}), "http://x:1 is no node"));
  CHECK(has(refusal(before, {.add = *parse_node_list("http://a:1")}), "http://a:1 is a node of"));
  CHECK(has(refusal(before, {.add = *parse_node_list("http://a:1"), .remove = {"http://a:1"}}),
            "http://a:1 is named in two changes"));
  CHECK(has(refusal(before, {.remove = {"http://a:1", "http://a:1"}}), "two changes"));
  CHECK(
      has(refusal(before, {.remove = {"http://a:1", "http://b:1", "http://c:1"}}), "at least one"));
  CHECK(has(refusal(before, {.add = *parse_node_list("http://d:1,zone=x")}), "has no zone"));
  CHECK(!parse_reweight("http://a:1"));
  CHECK(!parse_reweight("http://a:1=0"));
  CHECK(!parse_reweight("=2"));
  CHECK(!parse_reweight("http://a:1=2,weight=3"));
  CHECK(*parse_reweight("http://a:1=2") == std::pair<std::string, uint32_t>("http://a:1", 2));
}

TEST_CASE("a plan tells what each node holds and gets, and what moves altogether") {
  const Topology before = topology(three + ",http://d:1,http://e:1,http://f:1");
  const Topology after =
      *change_topology(before, {.add = *parse_node_list("http://g:1"), .remove = {"http://b:1"}});
  const TopologyPlan plan = compare(before, after);
  REQUIRE(plan.nodes.size() == 7);
  const NodePlan& gone = plan.nodes[1];
  const NodePlan& come = plan.nodes[6];
  CHECK(gone.node.url == "http://b:1");
  CHECK(gone.before == 8192);
  CHECK(gone.after == 0);
  CHECK(gone.out == 8192);
  CHECK(come.before == 0);
  CHECK(come.after == 8192);
  CHECK(come.in == 8192);
  CHECK(come.fair == doctest::Approx(8192));
  for (const size_t other : {0, 2, 3, 4, 5}) {
    CHECK(plan.nodes[other].in == 0);
    CHECK(plan.nodes[other].out == 0);
  }
  REQUIRE(plan.prefixes.size() == 3);
  CHECK(plan.prefixes[1].after.prefix == 3);
  CHECK(plan.prefixes[1].moved == 8192);
  CHECK(plan.prefixes[1].moved_min == 8192);
  CHECK(plan.warnings.empty());
  const std::string text = print_plan(plan, before, after);
  CHECK(has(text, "epoch 1 → 2, 6 → 6 nodes, 3 copies, no zones"));
  CHECK(has(text, "http://g:1  -         1       0    8192    8192.0    8192       0"));
  CHECK(has(text, "first 3: most/fair 1.000 → 1.000, 8192 copies to send, 8192 at least"));
}

TEST_CASE("a plan for another number of copies counts those") {
  const Topology before = topology(three);
  const TopologyPlan plan = compare({}, before, 2);
  CHECK(plan.nodes[0].after + plan.nodes[1].after + plan.nodes[2].after == 2 * slot_count);
  CHECK(plan.prefixes.size() == 3);  // 1, 2, 3
  CHECK(has(print_plan(plan, {}, before), "epoch 1, 3 nodes, 2 copies"));
}

TEST_CASE("zones that hold more or less than their weight are warned of") {
  const auto warnings = [](const std::string& peers) {
    const Topology it = topology(peers);
    std::string text;
    for (const std::string& warning : compare({}, it).warnings) text += warning + "\n";
    return text;
  };
  CHECK(warnings("http://a:1,zone=x,http://b:1,zone=y,http://c:1,zone=z").empty());
  const std::string skewed = warnings(
      "http://a:1,zone=x,http://b:1,zone=y,http://c:1,zone=z,http://d:1,zone=z,"
      "http://e:1,zone=y");
  CHECK(has(skewed, "zone skew: nodes of zone x hold 1.67 times"));
  CHECK(skewed.find("zone y") == skewed.npos);
  CHECK(has(warnings("http://a:1,zone=x,http://b:1,zone=y,http://c:1,zone=y"),
            "2 zones for 3 copies: up to 2 of a key's are in one zone"));
  CHECK(has(warnings("http://a:1,http://b:1"), "2 nodes hold 2 copies of a key, not 3"));
}
