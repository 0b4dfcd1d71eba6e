// kill -9 of the real binary under load, again and again on one directory: nothing acknowledged is
// lost, torn or undone, and removed keys stay removed.
//
// What this can show: that no answer leaves before its log frame was handed to the kernel, that
// recovery copes with whatever a process leaves behind at any moment (a half-written frame, table
// or manifest edit, an orphan, an earlier recovery that was cut short), and that the parts work
// together in the binary that users run. What it can't: the page cache outlives a killed process,
// so a missing sync goes unnoticed here. A lost, torn or garbled disk write is what the crash sweep
// on the simulated disk shows (tests/sim/crash_sweep_test.cpp), with a missing sync as its planted
// bug.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <random>

#include "chaos.hpp"

namespace gyre::chaos {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using test::NodeProcess;

namespace {

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// How long starts took, and the bytes of log they found.
struct Recoveries {
  struct One {
    double ms;
    uint64_t log_bytes;
  };
  std::vector<One> all;

  void start(NodeProcess& node) {
    const uint64_t bytes = std::filesystem::exists(node.data()) ? log_bytes(node.data()) : 0;
    const Clock::time_point before = Clock::now();
    node.start();
    all.push_back({ms_since(before), bytes});
  }
  void report(const std::string& what) {
    std::sort(all.begin(), all.end(), [](const One& a, const One& b) { return a.ms < b.ms; });
    const auto text = [](const One& one) {
      return fmt::format("{:.0f} ms ({:.1f} MiB of log)", one.ms,
                         static_cast<double>(one.log_bytes) / (1u << 20));
    };
    MESSAGE(what << ": " << all.size() << " starts; fastest " << text(all.front()) << ", median "
                 << text(all[all.size() / 2]) << ", slowest " << text(all.back()));
  }
};

struct Work {
  double flushes = 0;
  double compactions = 0;
  void count(const NodeProcess& node) {
    flushes += node.metric("flushes_total");
    compactions += node.metric("compactions_total");
  }
};

// Until the clients have done `bytes` of work, or the machine has no time for it.
void wait_for_work(const Load& load, uint64_t bytes, milliseconds at_most) {
  const uint64_t target = load.counts().acknowledged_bytes + bytes;
  const Clock::time_point deadline = Clock::now() + at_most;
  while (load.counts().acknowledged_bytes < target && Clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(1));
  }
}

// Whatever one cycle may write: often little, sometimes enough for flushes and a compaction.
uint64_t some_work(std::mt19937_64& random) {
  const uint64_t dice = random() % 8;
  if (dice < 3) return random() % (1u << 20);
  if (dice < 7) return random() % (12u << 20);
  return 40u << 20;
}

void kill_under_load(NodeProcess& node, Load& load) {
  CHECK_FALSE(node.wait(0).ended);
  load.ask_to_stop();
  node.kill();
  load.stop();
}

}  // namespace

TEST_CASE("nothing acknowledged is lost when the process is killed under load") {
  const uint64_t seed = chaos_seed(1);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const uint64_t cycles = test::scaled(50, 3);
  NodeProcess node(small_node_flags(), false);
  Load load({.seed = seed});
  Recoveries recoveries;
  Work work;
  uint64_t recoveries_killed = 0;
  for (uint64_t cycle = 0; cycle < cycles; ++cycle) {
    CAPTURE(cycle);
    // Some recoveries are killed too, at any moment.
    for (uint64_t again = random() % 4; cycle != 0 && again > 1; --again) {
      node.launch();
      std::this_thread::sleep_for(std::chrono::microseconds(
          random() % static_cast<uint64_t>(recoveries.all.back().ms * 1200 + 1)));
      node.kill();
      ++recoveries_killed;
    }
    recoveries.start(node);
    check_no(load.look(node.port(), true));
    load.start(node.port());
    wait_for_work(load, some_work(random), milliseconds(3000));
    work.count(node);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
    kill_under_load(node, load);
    check_no(load.take_problems());
    check_healthy(node);
  }
  recoveries.start(node);
  check_no(load.look(node.port(), true));
  node.stop();

  const LoadCounts& counts = load.counts();
  recoveries.report("after kill -9");
  MESSAGE(cycles << " kills, " << recoveries_killed << " of recoveries; "
                 << counts.acknowledged.load() << " writes acknowledged ("
                 << (counts.acknowledged_bytes >> 20) << " MiB), " << counts.refused.load()
                 << " refused, " << counts.reads.load() << " reads; " << work.flushes
                 << " flushes, " << work.compactions << " compactions");
  CHECK(counts.acknowledged > cycles);
  CHECK(counts.reads > cycles);
  CHECK(counts.timeouts == 0);
  if (cycles >= 50) {
    CHECK(work.flushes > 0);
    CHECK(work.compactions > 0);
  }
}

TEST_CASE("a stop under load loses nothing, and the next start has nothing to recover") {
  const uint64_t seed = chaos_seed(2);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const uint64_t cycles = test::scaled(12, 2);
  NodeProcess node(small_node_flags(), false);
  Load load({.seed = seed});
  Recoveries recoveries;
  for (uint64_t cycle = 0; cycle < cycles; ++cycle) {
    CAPTURE(cycle);
    if (cycle % 3 == 2) {  // a stop that comes while it starts
      node.launch();
      std::this_thread::sleep_for(std::chrono::microseconds(
          random() % static_cast<uint64_t>(recoveries.all.back().ms * 1200 + 1)));
      node.signal(SIGTERM);
      const test::Exit early = node.wait(60);
      CHECK(early.ended);
      // Before it has asked for its signals, the signal simply ends it.
      CHECK((early.code == 0 || early.signal == SIGTERM));
    }
    recoveries.start(node);
    CHECK(node.ready_line().find("records_recovered=0\n") != std::string::npos);
    check_no(load.look(node.port(), true));
    load.start(node.port());
    wait_for_work(load, some_work(random), milliseconds(2000));
    // The clients go on until their connections end.
    node.signal(SIGTERM);
    const test::Exit exit = node.wait(60);
    CHECK(exit.ended);
    CHECK(exit.code == 0);
    load.stop();
    check_no(load.take_problems());
    check_healthy(node);
  }
  recoveries.start(node);
  check_no(load.look(node.port(), true));
  node.stop();
  recoveries.report("after a clean stop");
  CHECK(load.counts().acknowledged > cycles);
}

TEST_CASE("a directory put back to an earlier state is noticed") {
  namespace fs = std::filesystem;
  NodeProcess node(small_node_flags());
  Load load({.seed = 3});
  const std::string old = node.root() + "/old";
  for (const bool copied : {false, true}) {
    load.start(node.port());
    wait_for_work(load, 2u << 20, milliseconds(20'000));
    kill_under_load(node, load);
    if (!copied) {
      fs::copy(node.data(), old, fs::copy_options::recursive);
      node.start();
      check_no(load.look(node.port(), true));
    }
  }
  fs::remove_all(node.data());
  fs::rename(old, node.data());
  node.start();
  CHECK_FALSE(load.look(node.port(), true).empty());
  node.stop();
}

}  // namespace gyre::chaos
