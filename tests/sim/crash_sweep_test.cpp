// Scripted runs of a shard are ended at every one of their moments (crash_sweep.hpp), and so are
// the recoveries from that. That these sweeps notice bugs is shown in tests/store/planted_bugs_test.
#include "crash_sweep.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace gyre::test {
namespace {

void expect_clean(const CrashSweep& sweep, const char* what) {
  for (const std::string& failure : sweep.failures) FAIL_CHECK(failure);
  CHECK(sweep.failures.empty());
  MESSAGE(fmt::format("crash points: {} ({} script, {})", sweep.cases, sweep.script->name, what));
}

uint64_t stride() {
  return test_scale() >= 1.0 ? 1 : static_cast<uint64_t>(1.0 / test_scale());
}

TEST_CASE("every write point of a scripted run, before, during and after: lost, torn, garbled") {
  for (const CrashScript* script :
       {&log_script, &overlap_script, &merge_script, &value_script, &modify_script}) {
    CrashSweep sweep{.script = script};
    sweep_points(sweep, stride());
    expect_clean(sweep, "every write point");
    CHECK(sweep.cases > (script == &modify_script ? 300 : 1000) / stride());
  }
}

TEST_CASE("every event of a scripted run: the power is cut, or the process killed") {
  CrashSweep merges{.script = &merge_script};
  sweep_events(merges, stride());
  expect_clean(merges, "every event");
  CrashSweep values{.script = &value_script};
  sweep_events(values, 5 * stride());
  expect_clean(values, "every fifth event");
  CrashSweep modifies{.script = &modify_script};
  sweep_events(modifies, 5 * stride());
  expect_clean(modifies, "every fifth event");
  CrashSweep log{.script = &log_script};
  sweep_events(log, 7 * stride());
  expect_clean(log, "every seventh event");
  CrashSweep overlap{.script = &overlap_script};
  sweep_events(overlap, 3 * stride());
  expect_clean(overlap, "every third event");
}

TEST_CASE("the same with other seeds, at random points") {
  for (uint64_t seed = 2; seed < 2 + scaled(6); ++seed) {
    const CrashScript* const scripts[] = {&log_script, &merge_script, &overlap_script};
    CrashSweep sweep{.script = scripts[seed % 3], .seed = seed};
    sweep_points(sweep, 11 + seed % 5);
    expect_clean(sweep, "another seed");
  }
}

TEST_CASE("other durabilities lose the end, never the middle") {
  for (const Durability durability : {Durability::interval, Durability::none}) {
    for (uint64_t seed = 1; seed <= scaled(2); ++seed) {
      CrashSweep sweep{.seed = seed, .durability = durability};
      sweep_points(sweep, 12);
      expect_clean(sweep, durability == Durability::none ? "none" : "interval");
    }
  }
}

CrashMoment random_moment(sim::Prng& prng, uint64_t points) {
  return {.point = 1 + prng.below(points), .phase = crash_phases[prng.below(3)]};
}

TEST_CASE("a crash during the recovery from a crash, at every write point of that") {
  for (const CrashScript* script : {&log_script, &overlap_script, &merge_script, &value_script}) {
    CrashSweep sweep{.script = script, .seed = 3};
    const uint64_t points = measure(sweep).write_points;
    sim::Prng prng(sweep.seed, "points");
    for (uint64_t i = 0; i < scaled(20, 4) && !sweep.enough(); ++i) {
      const CrashMoment first = random_moment(prng, points);
      const sim::CrashMode mode = crash_modes[prng.below(3)];
      for (uint64_t again = 1;; ++again) {
        if (!crash_at(sweep, {first, {.point = again, .phase = crash_phases[prng.below(3)]}},
                      mode)) {
          break;
        }
      }
    }
    expect_clean(sweep, "a crash in the recovery");
  }
}

TEST_CASE("three crashes in a row, two of them in recoveries") {
  CrashSweep sweep{.script = &merge_script, .seed = 5};
  const uint64_t points = measure(sweep).write_points;
  sim::Prng prng(sweep.seed, "points");
  for (uint64_t i = 0; i < scaled(12, 3) && !sweep.enough(); ++i) {
    const CrashMoment first = random_moment(prng, points);
    const sim::CrashMode mode = crash_modes[prng.below(3)];
    for (uint64_t again = 1; again < 40; again += 1 + prng.below(3)) {
      const CrashMoment second{.point = again, .phase = crash_phases[prng.below(3)]};
      if (!crash_at(sweep, {first, second}, mode)) break;
      for (uint64_t third = 1 + prng.below(3);; third += 1 + prng.below(6)) {
        if (!crash_at(sweep,
                      {first, second, {.point = third, .phase = crash_phases[prng.below(3)]}},
                      mode)) {
          break;
        }
      }
    }
  }
  expect_clean(sweep, "two crashes in recoveries");
}

TEST_CASE("a killed process loses nothing that was acknowledged, whenever it is killed") {
  for (const Durability durability : {Durability::group, Durability::interval, Durability::none}) {
    for (const CrashScript* script : {&log_script, &overlap_script}) {
      CrashSweep sweep{.script = script, .seed = 4, .durability = durability};
      sweep_kills(sweep, scaled(60, 20));
      expect_clean(sweep, "kills");
    }
  }
}

}  // namespace
}  // namespace gyre::test
