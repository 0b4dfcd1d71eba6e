// Several things at once go wrong with a cluster, at random, for as long as one likes: whatever
// happens, clients are told nothing that can't be, and in the end everything is there.
//
// GYRE_TEST_SCALE multiplies the rounds (8; 500 are about half an hour), GYRE_TEST_SEED picks others.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>

#include <cstdio>
#include <random>
#include <set>

#include "chaos.hpp"
#include "lab_story.hpp"

namespace gyre::chaos {
namespace {

using std::chrono::milliseconds;

class Nemesis {
 public:
  Nemesis(LabCluster& cluster, uint64_t seed) : cluster_(cluster), random_(seed) {}

  // One thing that goes wrong; its name.
  std::string hurt() {
    const size_t a = below(cluster_.size());
    const size_t b = (a + 1 + below(cluster_.size() - 1)) % cluster_.size();
    const unsigned one = LabCluster::machine(a);
    const unsigned other = LabCluster::machine(b);
    TcpProxy& proxy = cluster_.proxy();
    switch (below(10)) {
      case 0:
        cluster_.node(a).kill();
        return fmt::format("kill {}", a);
      case 1:
        cluster_.node(a).signal(SIGSTOP);
        return fmt::format("stop {}", a);
      case 2:
        if (!unplugged_.insert(a).second) return "nothing";
        cluster_.network().unplug(a);
        return fmt::format("unplug {}", a);
      case 3:
        cluster_.cut_off(a);
        return fmt::format("cut off {}", a);
      case 4:
        proxy.set_both_ways(one, other, {.cut = true});
        return fmt::format("split {} and {}", a, b);
      case 5:
        proxy.set_way(one, other, {.cut = true});
        return fmt::format("cut {} to {}", a, b);
      case 6:
        proxy.set_way(one, other, {.delay = milliseconds(1 + below(300))});
        return fmt::format("delay {} to {}", a, b);
      case 7:
        proxy.set_way(one, other, {.bytes_per_second = 20'000 + below(500'000)});
        return fmt::format("slow {} to {}", a, b);
      case 8:
        proxy.set_both_ways(one, other, {.bytes_between_errors = 1000 + below(50'000)});
        return fmt::format("damage between {} and {}", a, b);
      default:
        proxy.reset(one, other);
        return fmt::format("reset {} and {}", a, b);
    }
  }

  // Everything is well again, and every node that runs is ready.
  void heal() {
    cluster_.proxy().heal();
    for (const size_t node : unplugged_) cluster_.network().plug(node);
    unplugged_.clear();
    for (size_t node = 0; node < cluster_.size(); ++node) {
      if (cluster_.node(node).running()) {
        cluster_.node(node).signal(SIGCONT);
      } else {
        cluster_.node(node).start();
      }
    }
  }

  uint64_t below(uint64_t end) { return random_() % end; }

 private:
  LabCluster& cluster_;
  std::mt19937_64 random_;
  std::set<size_t> unplugged_;
};

TEST_CASE("whatever goes wrong at random, nothing acknowledged is lost and no read goes back") {
  const uint64_t seed = chaos_seed(41);
  CAPTURE(seed);
  LabStory story("random", {.seed = seed}, {.seed = seed});
  story.others_reach_quorum = false;
  Nemesis nemesis(story.cluster(), seed);
  story.run(
      0,
      [&] {
        for (uint64_t round = 0; round < test::scaled(8, 3); ++round) {
          std::string faults;
          for (uint64_t count = 1 + nemesis.below(4); count > 0; --count) {
            faults += nemesis.hurt() + "; ";
            std::this_thread::sleep_for(milliseconds(nemesis.below(1000)));
          }
          std::printf("round %llu: %s\n", static_cast<unsigned long long>(round), faults.c_str());
          nemesis.heal();
          // Only what is well again can show what was done to it.
          const uint64_t answered = story.load().answered();
          REQUIRE(eventually([&] { return story.load().answered() > answered + 200; }));
        }
      },
      [] {});
  story.check();
}

}  // namespace
}  // namespace gyre::chaos
