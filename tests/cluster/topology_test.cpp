#include "cluster/topology.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace gyre;
using namespace gyre::cluster;

namespace {

std::vector<NodeEntry> nodes(const std::string& text) {
  Result<std::vector<NodeEntry>> parsed = parse_node_list(text);
  REQUIRE(parsed);
  return *parsed;
}

std::string mistake(const std::string& text) {
  Result<std::vector<NodeEntry>> parsed = parse_node_list(text);
  if (parsed) parsed = checked_nodes(std::move(*parsed));
  REQUIRE(!parsed);
  return parsed.error().detail;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("every node makes the same table of its peers, in whatever order they are named") {
  std::vector<NodeEntry> peers;
  for (unsigned i = 0; i < 9; ++i) {
    NodeEntry& node = peers.emplace_back();
    node.url = fmt::format("http://10.0.0.{}:8080", i);
    node.weight = 1 + i % 3;
    node.zone = fmt::format("z{}", i % 4);
  }
  const Result<Topology> first = make_topology(peers);
  REQUIRE(first);
  for (int shuffle = 0; shuffle < 6; ++shuffle) {
    std::rotate(peers.begin(), peers.begin() + 2, peers.end());
    std::swap(peers[1], peers[5]);
    const Result<Topology> again = make_topology(peers);
    REQUIRE(again);
    CHECK(*again == *first);
    CHECK(again->table_hash() == first->table_hash());
  }
}

TEST_CASE("tables of peers are what nodes of all builds agree on: they never change") {
  CHECK(make_topology(nodes("http://a:1"))->table_hash() == 0xfd121a4972f872ef);
  CHECK(make_topology(nodes("http://a:1,http://b:1"))->table_hash() == 0xdeabc9c802739e50);
  CHECK(make_topology(nodes("http://a:1,http://b:1,http://c:1,http://d:1"))->table_hash() ==
        0xb7b833ea4712b1a0);
  CHECK(make_topology(nodes("http://a:1,zone=x,weight=2,http://b:1,zone=y,http://c:1,zone=z,"
                            "http://d:1,zone=z,http://e:1,zone=y,weight=4,http://f:1,zone=x"))
            ->table_hash() == 0xe3e20eaded0bf265);
}

TEST_CASE("the table's hash tells apart what places keys differently, and nothing else") {
  const Topology base = *make_topology(nodes("http://a:1,zone=x,http://b:1,zone=y"));
  Topology other = base;
  other.epoch = 9;
  other.nodes[0].uuid = std::string(32, '1');
  other.nodes[0].shards = 4;
  CHECK(other.table_hash() == base.table_hash());
  const auto differs = [&](auto change) {
    Topology changed = base;
    change(changed);
    CHECK(changed.table_hash() != base.table_hash());
  };
  differs([](Topology& it) { it.nodes[0].url = "http://a:2"; });
  differs([](Topology& it) { it.nodes[0].weight = 2; });
  differs([](Topology& it) { it.nodes[0].zone = "xx"; });
  differs([](Topology& it) {
    const NodeIndex first = it.table.at(16383, 0);
    it.table.set(16383, 0, it.table.at(16383, 1));
    it.table.set(16383, 1, first);
  });
}

TEST_CASE("clusters of one and of two nodes") {
  const Topology one = *make_topology(nodes("http://a:1"));
  CHECK(one.table.width() == 1);
  CHECK(one.table.loads(1, 1)[0] == slot_count);
  const Topology two = *make_topology(nodes("http://b:1,weight=3,http://a:1"));
  CHECK(two.nodes[0].url == "http://a:1");
  CHECK(two.table.width() == 2);
  CHECK(two.table.loads(1, 2) == std::vector<uint32_t>{slot_count / 4, slot_count / 4 * 3});
  CHECK(two.table.loads(2, 2) == std::vector<uint32_t>{slot_count, slot_count});
}

TEST_CASE("a list of nodes carries weights, zones, shards and uuids") {
  const std::vector<NodeEntry> list = nodes(
      "http://a:1/,http://b:2,zone=r1,weight=4,shards=8,uuid=00112233445566778899aabbccddeeff");
  REQUIRE(list.size() == 2);
  CHECK(list[0] == NodeEntry{"http://a:1", 1, "", "", 0});
  CHECK(list[1] == NodeEntry{"http://b:2", 4, "r1", "00112233445566778899aabbccddeeff", 8});
}

TEST_CASE("what makes no sense in a list of nodes is named") {
  CHECK(has(mistake(""), "is not the URL of a node"));
  CHECK(has(mistake("a:1"), "a:1 is not the URL of a node: write http://HOST:PORT"));
  CHECK(has(mistake("http://a:1,"), "is not the URL"));
  CHECK(has(mistake("weight=2,http://a:1"), "weight=2 is not the URL"));
  CHECK(has(mistake("http://a:1,weight=0"), "http://a:1: weight=0 is not a whole number from 1"));
  CHECK(has(mistake("http://a:1,weight=-1"), "weight=-1"));
  CHECK(has(mistake("http://a:1,weight=10001"), "10000"));
  CHECK(has(mistake("http://a:1,weight=1.5"), "weight=1.5"));
  CHECK(has(mistake("http://a:1,zone="), "zone= is not a name"));
  CHECK(has(mistake("http://a:1,zone=a b"), "zone=a b is not a name"));
  CHECK(has(mistake("http://a:1,shards=257"), "256"));
  CHECK(has(mistake("http://a:1,uuid=12"), "32 digits"));
  CHECK(has(mistake("http://a:1,colour=red"), "colour is not known of a node"));
  CHECK(has(mistake("http://a:1,http://a:1/"), "http://a:1 is named twice"));
  CHECK(has(mistake("http://a:1,zone=x,http://b:1"), "http://b:1 has no zone and http://a:1 has"));
  std::string many = "http://n0:1";
  for (int i = 1; i <= 1024; ++i) many += fmt::format(",http://n{}:1", i);
  CHECK(has(mistake(many), "1025 nodes: a cluster has at most 1024"));
  CHECK(has(mistake("http://" + std::string(600, 'a') + ":1"), "more than 512 bytes"));
}
