// The handoff of a shard through power cuts at every write point (handoff_rig.hpp).
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "handoff_rig.hpp"

namespace gyre::cluster::test {
namespace {

TEST_CASE("no peer lacks a write for good, wherever the power is cut") {
  uint64_t cases = 0;
  HandoffRun totals;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const std::string failure = sweep_handoff(seed, seed <= 20 ? 1 : 5, cases, &totals);
    CHECK(failure == "");
  }
  MESSAGE(fmt::format("{} cases", cases));
  CHECK(cases > 10'000);
}

TEST_CASE("every way that a write can end comes up, without a crash too") {
  HandoffRun sum;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    HandoffRun run{.seed = seed, .writes = 90, .options = small_handoff_options()};
    run_handoff(run, {});
    CHECK_MESSAGE(run.error == "", "seed ", seed);
    sum.stored += run.stored;
    sum.unconfirmed_ends += run.unconfirmed_ends;
    sum.recorded += run.recorded;
    sum.late += run.late;
    sum.degraded += run.degraded;
    sum.expired += run.expired;
    sum.sent += run.sent;
    sum.files += run.files;
  }
  MESSAGE(
      fmt::format("{} stored, {} without a notice, {} recorded, {} late, {} degraded, {} "
                  "expired, {} sent, {} files",
                  sum.stored, sum.unconfirmed_ends, sum.recorded, sum.late, sum.degraded,
                  sum.expired, sum.sent, sum.files));
  CHECK(sum.stored > 1'000);
  CHECK(sum.unconfirmed_ends > 100);
  CHECK(sum.recorded > 100);
  CHECK(sum.late > 100);
  CHECK(sum.degraded > 100);
  CHECK(sum.expired > 100);
  CHECK(sum.sent > 100);
  CHECK(sum.files > 200);
}

TEST_CASE("writes and syncs that fail lose nothing") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    HandoffRun run{.seed = seed, .writes = 60, .options = small_handoff_options()};
    run.disk.write_error_ppm = 30'000;
    run.disk.fsync_error_ppm = 30'000;
    run.disk.short_write_ppm = 100'000;
    run_handoff(run, {{20 + seed, sim::CrashPhase::during, sim::CrashMode::random}});
    // The disk fails the last life too: it may not open or close.
    const bool disk_said_so = run.error.find("it does not open") != std::string::npos ||
                              run.error.find("the close") != std::string::npos ||
                              run.error.find("stays so") != std::string::npos;
    CHECK_MESSAGE((run.error.empty() || disk_said_so), "seed ", seed, ": ", run.error);
  }
}

}  // namespace
}  // namespace gyre::cluster::test
