// Nodes that end at the worst moments and come back: what was acknowledged is there, and who is back
// counts at once.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>

#include <cstdio>

#include "chaos.hpp"
#include "lab_story.hpp"

namespace gyre::chaos {
namespace {

using test::HttpAnswer;

std::string target_of(const std::string& key) {
  return test::entity(key) + "&replicas=2/3";
}

HttpAnswer get(const LabCluster& cluster, size_t node, const std::string& key) {
  return cluster.connect(node)->get(target_of(key));
}

int put(const LabCluster& cluster, size_t node, const std::string& key, const std::string& value) {
  return cluster.connect(node)->put(target_of(key), value).status;
}

void cut_way(LabCluster& cluster, size_t from, size_t to) {
  cluster.proxy().set_way(LabCluster::machine(from), LabCluster::machine(to), {.cut = true});
}

TEST_CASE("all nodes are killed at once and started again") {
  const uint64_t seed = chaos_seed(31);
  CAPTURE(seed);
  LabStory story("all killed", {.proxied = false}, {.seed = seed});
  LabCluster& cluster = story.cluster();
  story.others_reach_quorum = false;
  story.run(
      0,
      [&] {
        for (int round = 0; round < 3; ++round) {
          for (size_t node = 0; node < cluster.size(); ++node) cluster.node(node).signal(SIGKILL);
          for (size_t node = 0; node < cluster.size(); ++node) {
            cluster.node(node).kill();
            cluster.node(node).launch();
          }
          for (size_t node = 0; node < cluster.size(); ++node) {
            REQUIRE_FALSE(cluster.node(node).wait_ready().ended);
          }
          const uint64_t answered = story.load().answered();
          REQUIRE(eventually([&] { return story.load().answered() > answered + 100; }));
        }
      },
      [] {});
  story.check();
}

TEST_CASE("a coordinator that is killed as soon as it has acknowledged takes nothing with it") {
  LabCluster cluster({});
  constexpr int keys = 30;
  for (size_t coordinator = 0; coordinator < cluster.size(); ++coordinator) {
    const size_t second = (coordinator + 1) % cluster.size();
    const size_t third = (coordinator + 2) % cluster.size();
    const auto key_of = [&](int i) { return fmt::format("round-{}-key-{}", coordinator, i); };
    for (int i = 0; i < keys; ++i) REQUIRE(put(cluster, coordinator, key_of(i), "old") == 201);
    cut_way(cluster, coordinator, third);
    // What is acknowledged before the second node has it shall be lost.
    cluster.proxy().set_way(LabCluster::machine(coordinator), LabCluster::machine(second),
                            {.delay = std::chrono::milliseconds(20)});
    // Of every three keys one is written, one removed, one left alone.
    const auto connection = cluster.connect(coordinator);
    for (int i = 0; i < keys; ++i) {
      if (i % 3 == 0) REQUIRE(connection->put(target_of(key_of(i)), "new").status == 201);
      if (i % 3 == 1) REQUIRE(connection->del(target_of(key_of(i))).status == 202);
    }
    cluster.node(coordinator).kill();
    for (const size_t other : {second, third}) {
      cluster.proxy().reset(LabCluster::machine(coordinator), LabCluster::machine(other));
    }
    cluster.proxy().heal();
    // Now it is only on the second node.
    for (const size_t node : {third, second}) {
      for (int i = 0; i < keys; ++i) {
        const HttpAnswer answer = get(cluster, node, key_of(i));
        CHECK(answer.status == (i % 3 == 1 ? 404 : 200));
        if (i % 3 != 1) CHECK(answer.body == (i % 3 == 0 ? "new" : "old"));
      }
    }
    cluster.node(coordinator).start();
  }
  CHECK(eventually([&] { return cluster.differing_keys() == 0; }));
  check_no(cluster.error_lines());
}

TEST_CASE("a request the instant that a node is back counts on it") {
  LabCluster cluster({.proxied = false});
  REQUIRE(put(cluster, 0, "k", "0") == 201);
  for (int round = 0; round < 6; ++round) {
    const size_t back = round % 2 == 0 ? 1 : 2;
    const size_t away = 3 - back;
    cluster.node(1).kill();
    cluster.node(2).kill();
    CHECK(get(cluster, 0, "k").status == 504);
    CHECK(put(cluster, 0, "unanswered", "x") == 504);
    cluster.node(back).start();
    const std::string value = std::to_string(round + 1);
    // First through who stayed, or first through who is back.
    if (round % 4 < 2) {
      CHECK(get(cluster, 0, "k").status == 200);
      CHECK(put(cluster, back, "k", value) == 201);
      CHECK(get(cluster, 0, "k").body == value);
    } else {
      CHECK(put(cluster, back, "k", value) == 201);
      CHECK(get(cluster, 0, "k").body == value);
      CHECK(get(cluster, back, "k").body == value);
    }
    cluster.node(away).start();
  }
  check_no(cluster.error_lines());
}

// How long until a quorum that needs the node is had, for nodes that never ended.
double ms_until_quorum(const LabCluster& cluster, size_t through) {
  const int64_t begun = QuorumLoad::now();
  size_t attempts = 0;
  CHECK(eventually([&] {
    ++attempts;
    return put(cluster, through, "k", "back") == 201;
  }));
  return static_cast<double>(QuorumLoad::now() - begun) / 1e6;
}

TEST_CASE("who goes on after a pause, and who is plugged in again, counts again") {
  LabCluster cluster({.proxied = false});
  REQUIRE(put(cluster, 0, "k", "0") == 201);
  cluster.node(2).kill();
  cluster.node(1).signal(SIGSTOP);
  CHECK(eventually([&] { return put(cluster, 0, "k", "1") == 504; }));
  cluster.node(1).signal(SIGCONT);
  std::printf("a node that goes on: a quorum with it %.1f ms later\n", ms_until_quorum(cluster, 0));
  cluster.network().unplug(1);
  CHECK(eventually([&] { return put(cluster, 0, "k", "2") == 504; }));
  cluster.network().plug(1);
  std::printf("a node that is plugged in: a quorum with it %.1f ms later\n",
              ms_until_quorum(cluster, 0));
  check_no(cluster.error_lines());
}

}  // namespace
}  // namespace gyre::chaos
