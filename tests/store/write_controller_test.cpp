// How fast writes are taken when flushing and merging are behind: the rules one by one, and the
// loop that they close with a shard that merges at some pace.
#include "store/write_controller.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

namespace gyre {
namespace {

// As a shard asks: how long a write has to wait, or nothing if that is too long.
std::optional<Nanos> admit(WriteController& controller, size_t bytes, Nanos now) {
  const Nanos wait = controller.expected_wait(0, now);
  if (wait > WriteController::delay_max) return std::nullopt;
  controller.take(bytes, now);
  return wait;
}

constexpr WriteControllerOptions options{.level0_soft = 8, .level0_hard = 24};

TEST_CASE("below the soft limits every write is taken at once") {
  WriteController controller(options);
  controller.update({.memory_used = 0.6, .level0_runs = 8, .debt = 1}, seconds(1));
  CHECK(controller.pressure() == 0);
  for (int i = 0; i < 1000; ++i) CHECK(admit(controller, 1 << 20, seconds(1)) == Nanos{0});
}

TEST_CASE("memory is no pressure: who finds none queues for it") {
  WriteController controller(options);
  controller.update({.memory_used = 1}, seconds(1));
  CHECK(controller.pressure() == 0);
  CHECK(admit(controller, 100, seconds(1)) == Nanos{0});
  CHECK(controller.background_permille() == WriteController::background_permille_hard);
}

TEST_CASE("the larger of runs and debt counts, and at a hard limit nothing is taken") {
  WriteController controller(options);
  controller.update({.level0_runs = 16, .debt = 0.5}, seconds(1));
  CHECK(controller.pressure() == doctest::Approx(0.5));
  controller.update({.level0_runs = 9, .debt = 3.25}, seconds(1));
  CHECK(controller.pressure() == doctest::Approx(0.75));
  controller.update({.level0_runs = 24}, seconds(1));
  CHECK(controller.pressure() == 1);
  CHECK(!admit(controller, 1, seconds(1)));
  controller.update({.debt = 400}, seconds(1));
  CHECK(!admit(controller, 1, seconds(1)));
}

TEST_CASE("between the limits writes wait their turn, and who would wait too long is refused") {
  WriteController controller(options);
  controller.update({.level0_runs = 16}, 0);  // 1 MiB/s
  Nanos longest = 0;
  Nanos last = -1;
  unsigned taken = 0;
  while (const auto wait = admit(controller, 1024, seconds(1))) {
    CHECK(*wait >= last);
    last = *wait;
    longest = std::max(longest, *wait);
    REQUIRE(++taken < 1000);
  }
  // 20 ms at 1 MiB/s, and the burst.
  CHECK(taken == doctest::Approx(21.5).epsilon(0.05));
  CHECK(longest <= WriteController::delay_max);
  CHECK(longest > WriteController::delay_max / 2);
  // As time passes they are taken again.
  CHECK(admit(controller, 1024, seconds(1) + milliseconds(10)));
}

TEST_CASE("one huge write holds up those behind it for a second at most") {
  WriteController controller(options);
  controller.update({.level0_runs = 23}, 0);
  CHECK(admit(controller, 256 << 20, seconds(1)));
  CHECK(!admit(controller, 1, seconds(1)));
  CHECK(!admit(controller, 1, seconds(1) + milliseconds(900)));
  CHECK(admit(controller, 1, seconds(2)));
}

TEST_CASE("the share of background work grows without a step") {
  WriteController controller(options);
  unsigned last = 0;
  for (double runs = 0; runs <= 24; runs += 0.1) {
    controller.update({.level0_runs = runs}, 0);
    const unsigned now = controller.background_permille();
    CHECK(now >= last);
    if (last != 0) CHECK(now - last < 20);
    last = now;
  }
  controller.update({.level0_runs = 24}, 0);
  CHECK(controller.background_permille() == WriteController::background_permille_hard);
}

// A shard that merges `merged` bytes a second, to which clients offer twice as much.
struct Loop {
  double taken_bytes = 0;
  double refused_bytes = 0;
  double pressure_min = 1;
  double pressure_max = 0;
  std::vector<double> taken_by_second;
};

Loop run_loop(double offered, double merged, Nanos length, double run_bytes) {
  WriteControllerOptions of_runs = options;
  of_runs.level0_run_bytes = run_bytes;
  WriteController controller(of_runs);
  Loop loop;
  double unmerged = 0;
  constexpr Nanos step = microseconds(500);
  constexpr double write_bytes = 1000;
  double due = 0;
  for (Nanos now = 0; now < length; now += step) {
    const auto second = static_cast<size_t>(now / seconds(1));
    loop.taken_by_second.resize(second + 1);
    controller.update({.level0_runs = unmerged / run_bytes}, now);
    for (due += offered * 0.0005; due >= write_bytes; due -= write_bytes) {
      if (admit(controller, write_bytes, now)) {
        unmerged += write_bytes;
        loop.taken_bytes += write_bytes;
        loop.taken_by_second[second] += write_bytes;
      } else {
        loop.refused_bytes += write_bytes;
      }
    }
    unmerged = std::max(0.0, unmerged - merged * 0.0005);
    if (now > length / 2) {
      loop.pressure_min = std::min(loop.pressure_min, controller.pressure());
      loop.pressure_max = std::max(loop.pressure_max, controller.pressure());
    }
  }
  return loop;
}

TEST_CASE("at twice what can be merged, what is merged is taken, evenly") {
  for (const double run_bytes : {0.25e6, 4e6, 16e6, 64e6}) {
    CAPTURE(run_bytes);
    const Loop loop = run_loop(40e6, 20e6, seconds(240), run_bytes);
    // What lies in level 0 at the end was taken, too.
    CHECK(loop.taken_bytes < 240 * 20e6 + 24 * run_bytes);
    CHECK(loop.taken_bytes > 240 * 20e6 * 0.97);
    CHECK(loop.pressure_min > 0.3);
    CHECK(loop.pressure_max < 0.7);
    // No second without progress, and none that makes up for others.
    for (size_t second = 120; second < 239; ++second) {
      CHECK(loop.taken_by_second[second] > 20e6 * 0.8);
      CHECK(loop.taken_by_second[second] < 20e6 * 1.2);
    }
  }
}

TEST_CASE("what can be merged is never refused for long") {
  const Loop loop = run_loop(18e6, 20e6, seconds(60), 16e6);
  CHECK(loop.refused_bytes == 0);
}

}  // namespace
}  // namespace gyre
