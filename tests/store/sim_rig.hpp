// Runs a coroutine on a simulated machine with one core, and checks that nothing of it is left.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

#include "sim/sim_backend.hpp"
#include "sim/world.hpp"

// REQUIRE for coroutines, which an exception must not leave.
#define REQUIRE_OR_RETURN(condition)   \
  do {                                 \
    const bool holds_{condition};      \
    CHECK_MESSAGE(holds_, #condition); \
    if (!holds_) co_return;            \
  } while (false)

namespace gyre::test {

class SimRig {
 public:
  explicit SimRig(uint64_t seed = 1, sim::DiskOptions disk = {})
      : SimRig(sim::WorldOptions{.seed = seed}, disk) {}
  SimRig(sim::WorldOptions world, const sim::DiskOptions& disk)
      : world_(world), node_(add_node(disk)) {}

  sim::Disk& disk() { return node_.disk(); }
  sim::World& world() { return world_; }

  // One life of a program. False if it ended at the disk's stop point, with the power cut in
  // `mode`; the next run() starts on what the disk kept.
  bool run(Task<void> main, sim::CrashMode mode = sim::CrashMode::random) {
    const int64_t frames_before = frames_live() - 1;  // `main` is one
    bool ended = true;
    {
      sim::SimBackend backend(node_, 0);
      Reactor reactor(backend, {});
      reactor.start(then_quiet(std::move(main)));
      node_.drive(0, reactor);
      sim::Stop stop = world_.run_until([&] { return node_.ended(); }, seconds(3600));
      if (stop == sim::Stop::crash_point) {
        ended = false;
        world_.crash(node_, mode);
        stop = world_.run_until([&] { return node_.ended(); }, seconds(3600));
      }
      REQUIRE(stop == sim::Stop::satisfied);
      if (ended) {
        CHECK(world_.check_quiescent(node_) == "");
        CHECK(reactor.operations_in_flight() == 0);
        CHECK(reactor.descriptors_open == 0);
      }
      node_.stop_driving(0);
    }
    CHECK(frames_live() == frames_before);
    if (!ended) world_.power_on(node_);
    return ended;
  }

  void cut_power(sim::CrashMode mode = sim::CrashMode::random) {
    world_.crash(node_, mode);
    world_.power_on(node_);
  }

 private:
  sim::Node& add_node(const sim::DiskOptions& disk) {
    sim::NodeOptions options;
    options.disk = disk;
    return world_.add_node(std::move(options));
  }
  // Closes in the background take a moment.
  static Task<void> then_quiet(Task<void> main) {
    co_await std::move(main);
    static_cast<void>(co_await sleep_for(seconds(10)));
  }

  sim::World world_;
  sim::Node& node_;
};

}  // namespace gyre::test
