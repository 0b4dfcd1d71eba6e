// What nodes missed reaches them without anybody reading it, and a node that lost its data counts
// again only when it has it.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>

#include <cstdio>
#include <functional>

#include "chaos.hpp"
#include "lab_cluster.hpp"
#include "quorum_load.hpp"

namespace gyre::chaos {

using test::HttpAnswer;

namespace {

constexpr int keys = 200;

std::string key_of(int i) {
  return fmt::format("key-{}", i);
}

std::string target_of(const std::string& key, const std::string& replicas = "2/3") {
  return test::entity(key) + "&replicas=" + replicas;
}

HttpAnswer get(const LabCluster& cluster, size_t node, const std::string& key) {
  return cluster.connect(node)->get(target_of(key));
}

int put(const LabCluster& cluster, size_t node, const std::string& key, const std::string& value,
        const std::string& replicas = "2/3") {
  return cluster.connect(node)->put(target_of(key, replicas), value).status;
}

void cut_way(LabCluster& cluster, size_t from, size_t to) {
  cluster.proxy().set_way(LabCluster::machine(from), LabCluster::machine(to), {.cut = true});
}

// Every key is "old" on all three, as soon as all three are reached.
void fill(LabCluster& cluster) {
  CHECK(eventually([&] { return put(cluster, 0, "first", "x", "3/3") == 201; }));
  const auto connection = cluster.connect(0);
  for (int i = 0; i < keys; ++i) {
    REQUIRE(connection->put(target_of(key_of(i), "3/3"), "old").status == 201);
  }
}

// Of every three keys one is written twice, one removed, one left alone.
void change(LabCluster& cluster, size_t through, const std::string& value) {
  const auto connection = cluster.connect(through);
  for (int i = 0; i < keys; ++i) {
    if (i % 3 == 0) {
      REQUIRE(connection->put(target_of(key_of(i)), "between").status == 201);
      REQUIRE(connection->put(target_of(key_of(i)), value).status == 201);
    }
    if (i % 3 == 1) REQUIRE(connection->del(target_of(key_of(i))).status == 202);
  }
}

bool has_changes(const LabCluster& cluster, size_t node, const std::string& value) {
  const std::map<std::string, std::string> records = cluster.own_records(node);
  for (int i = 0; i < keys; ++i) {
    const auto found = records.find(key_of(i));
    if (i % 3 == 1 ? found != records.end()
                   : found == records.end() || found->second != (i % 3 == 0 ? value : "old")) {
      return false;
    }
  }
  return true;
}

void check_converges(const LabCluster& cluster, const std::vector<size_t>& nodes,
                     const std::string& value, const std::string& what) {
  const int64_t begun = QuorumLoad::now();
  const bool equal = eventually([&] {
    for (const size_t node : nodes) {
      if (!has_changes(cluster, node, value)) return false;
    }
    return true;
  });
  CHECK_MESSAGE(equal, what);
  std::printf("%s: replicas equal after %.1f s, nobody reading\n", what.c_str(),
              static_cast<double>(QuorumLoad::now() - begun) / 1e9);
}

TEST_CASE("what a node missed comes to it when it is back, though nobody reads it") {
  LabCluster cluster({});
  fill(cluster);
  const std::pair<const char*, std::pair<std::function<void()>, std::function<void()>>> faults[] = {
      {"killed", {[&] { cluster.node(1).kill(); }, [&] { cluster.node(1).start(); }}},
      {"stopped",
       {[&] { cluster.node(1).signal(SIGSTOP); }, [&] { cluster.node(1).signal(SIGCONT); }}},
      {"cut off", {[&] { cluster.cut_off(1); }, [&] { cluster.proxy().heal(); }}},
      {"not heard",
       {[&] {
          cut_way(cluster, 1, 0);
          cut_way(cluster, 1, 2);
        },
        [&] { cluster.proxy().heal(); }}},
  };
  for (const auto& [what, steps] : faults) {
    fill(cluster);
    steps.first();
    // Some of it may still come there, since it is on its way.
    change(cluster, 0, "new");
    CHECK(eventually([&] { return put(cluster, 0, "all", "x", "3/3") == 504; }));
    change(cluster, 0, "newest");
    steps.second();
    check_converges(cluster, {0, 1, 2}, "newest", what);
  }
  check_no(cluster.error_lines());
}

TEST_CASE("what only the coordinator knew to be missed is found out when it is gone") {
  LabCluster cluster({});
  for (size_t coordinator = 0; coordinator < cluster.size(); ++coordinator) {
    const size_t second = (coordinator + 1) % cluster.size();
    const size_t third = (coordinator + 2) % cluster.size();
    fill(cluster);
    cut_way(cluster, coordinator, third);
    change(cluster, coordinator, "new");
    cluster.node(coordinator).kill();
    cluster.proxy().reset(LabCluster::machine(coordinator), LabCluster::machine(third));
    cluster.proxy().heal();
    check_converges(cluster, {second, third}, "new", "coordinator killed");
    cluster.node(coordinator).start();
    check_converges(cluster, {0, 1, 2}, "new", "coordinator back");
  }
  check_no(cluster.error_lines());
}

TEST_CASE(
    "a node that has lost its data takes writes, and its reads count when it has them again") {
  LabCluster cluster({});
  for (const size_t wiped : {1, 2}) {
    const size_t behind = 3 - wiped;  // has missed what the wiped one had acknowledged
    const std::string value = fmt::format("acknowledged by 0 and {}", wiped);
    fill(cluster);
    cut_way(cluster, 0, behind);
    for (int i = 0; i < keys; ++i) {
      if (i % 2 == 0) REQUIRE(put(cluster, 0, key_of(i), value) == 201);
      if (i % 2 == 1) REQUIRE(cluster.connect(0)->del(target_of(key_of(i))).status == 202);
    }
    cluster.cut_off(0);
    cluster.proxy().reset(LabCluster::machine(0), LabCluster::machine(wiped));
    cluster.proxy().reset(LabCluster::machine(0), LabCluster::machine(behind));
    cluster.node(wiped).kill();
    test::remove_directory(cluster.node(wiped).data());
    cluster.node(wiped).launch();
    REQUIRE_FALSE(cluster.node(wiped).wait_ready().ended);
    // Only node 0 has it now, and nobody can ask that.
    for (const size_t through : {wiped, behind}) {
      for (int i = 0; i < keys; i += 41) CHECK(get(cluster, through, key_of(i)).status == 504);
    }
    CHECK(put(cluster, behind, "new", value) == 201);
    cluster.proxy().heal();
    for (const size_t through : {wiped, behind, size_t{0}}) {
      CHECK(eventually([&] { return get(cluster, through, key_of(0)).status != 504; }));
      for (int i = 0; i < keys; ++i) {
        const HttpAnswer answer = get(cluster, through, key_of(i));
        CHECK(answer.status == (i % 2 == 1 ? 404 : 200));
        if (i % 2 == 0) CHECK(answer.body == value);
      }
    }
    REQUIRE(eventually([&] { return cluster.differing_keys() == 0; }));
  }
  check_no(cluster.error_lines());
}

}  // namespace
}  // namespace gyre::chaos
