// One of three nodes dies, is stopped, is slow, is cut off or misunderstood, while clients read and
// write with quorums.
#include <doctest/doctest.h>
#include <signal.h>

#include "chaos.hpp"
#include "lab_story.hpp"

namespace gyre::chaos {
namespace {

constexpr size_t victim = 1;

TEST_CASE("one of three is killed and started again") {
  const uint64_t seed = chaos_seed(11);
  CAPTURE(seed);
  LabStory story("killed", {.proxied = false}, {.seed = seed});
  test::NodeProcess& node = story.cluster().node(victim);
  story.run(victim, [&] { node.kill(); }, [&] { node.start(); });
  story.check();
}

TEST_CASE("one of three stands still") {
  const uint64_t seed = chaos_seed(12);
  CAPTURE(seed);
  LabStory story("stopped", {.proxied = false}, {.seed = seed});
  test::NodeProcess& node = story.cluster().node(victim);
  story.run(victim, [&] { node.signal(SIGSTOP); }, [&] { node.signal(SIGCONT); });
  story.check();
}

TEST_CASE("the cable of one of three is pulled out") {
  const uint64_t seed = chaos_seed(13);
  CAPTURE(seed);
  LabStory story("unplugged", {.proxied = false}, {.seed = seed});
  LabNetwork& network = story.cluster().network();
  story.run(victim, [&] { network.unplug(victim); }, [&] { network.plug(victim); });
  story.check();
}

TEST_CASE("one of three hears the others but is not heard") {
  const uint64_t seed = chaos_seed(14);
  CAPTURE(seed);
  LabStory story("not heard", {.proxied = false}, {.seed = seed});
  LabNetwork& network = story.cluster().network();
  const size_t others[] = {0, 2};
  story.run(
      victim,
      [&] {
        for (const size_t other : others) network.blackhole(victim, other);
      },
      [&] {
        for (const size_t other : others) network.end_blackhole(victim, other);
      });
  story.check();
}

TEST_CASE("one of three is heard but hears nothing, and its connections stay") {
  const uint64_t seed = chaos_seed(15);
  CAPTURE(seed);
  LabStory story("deaf", {.seed = seed}, {.seed = seed});
  TcpProxy& proxy = story.cluster().proxy();
  story.run(
      victim,
      [&] {
        for (const size_t other : {0, 2}) {
          proxy.set_way(LabCluster::machine(other), LabCluster::machine(victim), {.cut = true});
        }
      },
      [&] { proxy.heal(); });
  story.check();
}

TEST_CASE("two of three can't reach each other, the third reaches both") {
  const uint64_t seed = chaos_seed(16);
  CAPTURE(seed);
  LabStory story("split", {.seed = seed}, {.seed = seed});
  TcpProxy& proxy = story.cluster().proxy();
  const unsigned one = LabCluster::machine(victim);
  const unsigned other = LabCluster::machine(2);
  story.run(
      victim, [&] { proxy.set_both_ways(one, other, {.cut = true}); },
      [&] {
        proxy.heal();
        proxy.reset(one, other);
      });
  story.check();
}

TEST_CASE("the way to one of three is long") {
  const uint64_t seed = chaos_seed(17);
  CAPTURE(seed);
  LabStory story("delayed", {.seed = seed}, {.seed = seed});
  story.run(
      victim,
      [&] { story.cluster().set_ways_of(victim, {.delay = std::chrono::milliseconds(100)}); },
      [&] { story.cluster().proxy().heal(); });
  story.check();
}

TEST_CASE("the cable of one of three is thin") {
  const uint64_t seed = chaos_seed(18);
  CAPTURE(seed);
  LabStory story("thin cable", {.proxied = false}, {.seed = seed});
  LabNetwork& network = story.cluster().network();
  if (!LabNetwork::can_limit()) {
    MESSAGE("left out: no tc command (package iproute2)");
    return;
  }
  story.run(
      victim, [&] { network.limit(victim, 700'000 / 8); }, [&] { network.end_limit(victim); });
  story.check();
}

TEST_CASE("what is said to and by one of three is damaged on the way") {
  const uint64_t seed = chaos_seed(19);
  CAPTURE(seed);
  LabStory story("damaged", {.seed = seed}, {.seed = seed});
  // A long value that only the victim has is known to be the newest, and can't be fetched.
  story.others_reach_quorum = false;
  TcpProxy& proxy = story.cluster().proxy();
  story.run(
      victim, [&] { story.cluster().set_ways_of(victim, {.bytes_between_errors = 20'000}); },
      [&] { proxy.heal(); });
  uint64_t flipped = 0;
  for (const size_t other : {0, 2}) {
    flipped += proxy.counts(LabCluster::machine(victim), LabCluster::machine(other)).flipped;
    flipped += proxy.counts(LabCluster::machine(other), LabCluster::machine(victim)).flipped;
  }
  CHECK(flipped > 0);
  MESSAGE("bits flipped: " << flipped);
  story.check();
}

TEST_CASE("the connections between all are reset again and again") {
  const uint64_t seed = chaos_seed(20);
  CAPTURE(seed);
  LabStory story("reset", {.seed = seed}, {.seed = seed});
  TcpProxy& proxy = story.cluster().proxy();
  size_t resets = 0;
  story.run(
      victim,
      [&] {
        for (int round = 0; round < 20; ++round) {
          for (unsigned a = 1; a <= 3; ++a) resets += proxy.reset(a, a % 3 + 1);
          const uint64_t answered = story.load().answered();
          REQUIRE(eventually([&] { return story.load().answered() > answered + 20; }));
        }
      },
      [] {});
  CHECK(resets > 20);
  story.check();
}

}  // namespace
}  // namespace gyre::chaos
