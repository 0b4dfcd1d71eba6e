// A scripted run of a shard is crashed at every one of its write points, before, during and after
// it, and the disk loses, tears or garbles what was not durable. Whatever happened, the shard opens
// again and holds a prefix of its writes with everything acknowledged in it. The same sweep must
// notice bugs that are planted.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/hash.hpp"
#include "crash_oracle.hpp"
#include "store/test_faults.hpp"

namespace gyre::test {
namespace {

using sim::CrashMode;
using sim::CrashPhase;

constexpr unsigned key_count = 10;

std::string key_of(uint64_t i) {
  return fmt::format("key{}", i % key_count);
}

ShardOptions sweep_options(Durability durability) {
  ShardOptions options = small_shard_options();
  options.durability = durability;
  options.sync_interval = milliseconds(5);
  options.compaction.l0_trigger = 2;
  options.compaction.fanout = 2;
  options.compaction.base_bytes_min = 4u << 10;
  options.compaction.table_bytes_target = 8u << 10;
  return options;
}

struct Sweep {
  uint64_t seed = 1;
  Durability durability = Durability::group;
  sim::DiskOptions disk;
  bool step_wall_back = true;  // an hour, while the node is down
  bool ends_at_first = false;  // the first failure is enough
  uint64_t cases = 0;
  std::vector<std::string> failures;
};

// What the lives of one crashed run share.
struct Run {
  explicit Run(const Sweep& sweep) : durability(sweep.durability) {
    if (durability != Durability::group) oracle.acknowledgements_promise_nothing();
  }
  Durability durability;
  CrashOracle oracle;
  std::string error;  // of a life that nothing disturbed
  uint64_t salt = 0;  // makes values of different lives differ
};

// --- the script ----------------------------------------------------------------------------------

Task<void> write_some(Shard& shard, ShardHome& home, Run& run, uint64_t from, uint64_t count) {
  for (uint64_t i = from; i < from + count; ++i) {
    const uint64_t dice = hash64(fmt::format("write {}", i));
    const std::string value = noise(run.salt + i, 50 + dice % 1200);
    const Errc status = co_await write(shard, home.memory, run.oracle, key_of(dice >> 20),
                                       dice % 3 == 0 ? std::nullopt : std::optional(value));
    if (status != Errc::ok) co_return;
  }
}

Task<void> write_at_once(Shard& shard, ShardHome& home, Run& run, uint64_t from) {
  Scope scope;
  for (uint64_t writer = 0; writer < 3; ++writer) {
    scope.spawn(write_some(shard, home, run, from + writer * 4, 4));
  }
  co_await scope.join();
}

Task<void> write_large(Shard& shard, ShardHome& home, Run& run, size_t size) {
  static_cast<void>(
      co_await write(shard, home.memory, run.oracle, key_of(size), noise(run.salt + size, size)));
}

// Small records slip into the frames of a large one.
Task<void> write_large_among_small(Shard& shard, ShardHome& home, Run& run, uint64_t from) {
  Scope scope;
  scope.spawn(write_large(shard, home, run, 1'300'000));
  scope.spawn(write_some(shard, home, run, from, 4));
  co_await scope.join();
}

Task<Result<void>> work(Shard& shard, ShardHome& home, Run& run) {
  co_await write_at_once(shard, home, run, 0);
  Result<void> done = co_await shard.flush();
  if (!done) co_return done;
  co_await write_large_among_small(shard, home, run, 20);
  done = co_await shard.flush();  // the first segment is free
  if (!done) co_return done;
  done = co_await shard.settle();
  if (!done) co_return done;
  co_await write_at_once(shard, home, run, 40);
  co_await write_large_among_small(shard, home, run, 60);  // into a recycled one
  done = co_await shard.flush();
  if (!done) co_return done;
  co_await write_some(shard, home, run, 80, 4);
  static_cast<void>(co_await sleep_for(milliseconds(300)));  // the promise of an idle log
  co_await write_some(shard, home, run, 90, 3);
  done = co_await shard.flush();
  if (!done) co_return done;
  done = co_await shard.settle();
  if (!done) co_return done;
  co_await write_at_once(shard, home, run, 100);
  co_return Result<void>{};
}

Task<void> scripted_life(Run& run) {
  ShardHome home(4u << 20);
  auto shard = co_await Shard::open(sweep_options(run.durability), home.context());
  if (!shard) {
    run.error = "the first open: " + shard.error().message();
    co_return;
  }
  const Result<void> worked = co_await work(**shard, home, run);
  if (!worked) run.error = "the script: " + worked.error().message();
  const Result<void> closed = co_await (*shard)->close(false);
  if (!closed) run.error = "the close: " + closed.error().message();
}

// --- the life after ------------------------------------------------------------------------------

Task<std::string> check_contents(Shard& shard, const CrashOracle& oracle) {
  const Result<Contents> found = co_await scan_all(shard);
  if (!found) co_return "the scan: " + found.error().message();
  const std::string wrong = oracle.check(*found, shard.visible_seq());
  if (!wrong.empty()) co_return wrong;
  for (uint64_t i = 0; i < key_count; ++i) {
    const auto read = co_await get(shard, key_of(i));
    if (!read) co_return "a read: " + read.error().message();
    const auto at = found->find(key_of(i));
    const bool same = *read ? at != found->end() && at->second == **read : at == found->end();
    if (!same) co_return "a read and the scan differ at " + key_of(i);
  }
  co_return "";
}

// Opens and looks, nothing more.
Task<void> look(Run& run, bool& looked) {
  ShardHome home(4u << 20);
  auto shard = co_await Shard::open(sweep_options(run.durability), home.context());
  if (!shard) {
    run.error = "it does not open: " + shard.error().message();
    co_return;
  }
  run.error = co_await check_contents(**shard, run.oracle);
  if (run.error.empty()) {
    run.oracle.adopt((*shard)->visible_seq());
    looked = true;
  }
  static_cast<void>(co_await (*shard)->close(false));
}

// Looks, writes to every key, has it all merged, and looks again, also after a clean restart.
Task<void> look_and_go_on(Run& run) {
  ShardHome home(4u << 20);
  for (unsigned round = 0; round < 2; ++round) {
    auto shard = co_await Shard::open(sweep_options(run.durability), home.context());
    if (!shard) {
      run.error = fmt::format("it does not open ({}): {}", round, shard.error().message());
      co_return;
    }
    run.error = co_await check_contents(**shard, run.oracle);
    if (run.error.empty()) {
      run.oracle.adopt((*shard)->visible_seq());
      run.salt += 1000;
      for (uint64_t i = 0; i < key_count; i += 1 + round) {
        const std::optional<std::string> value =
            i % 4 == 3 ? std::nullopt : std::optional(noise(run.salt + i, 300));
        static_cast<void>(co_await write(**shard, home.memory, run.oracle, key_of(i), value));
        // The oracle goes by versions; this does not.
        const auto read = co_await get(**shard, key_of(i));
        if (!read || *read != value) {
          run.error = "a write after the crash does not show at " + key_of(i);
          break;
        }
      }
      if (run.error.empty()) run.error = co_await check_contents(**shard, run.oracle);
      if (!run.error.empty()) run.error += " (after writing again)";
      if (round == 1 && run.error.empty()) {
        const Result<void> merged = co_await (*shard)->compact();
        run.error = merged ? co_await check_contents(**shard, run.oracle)
                           : "the compaction: " + merged.error().message();
        if (!run.error.empty()) run.error += " (after a compaction)";
      }
    }
    const Result<void> closed = co_await (*shard)->close(round == 0);
    if (!closed && run.error.empty()) run.error = "the close: " + closed.error().message();
    if (!run.error.empty()) co_return;
  }
}

// --- sweeping ------------------------------------------------------------------------------------

const char* name_of(CrashPhase phase) {
  return phase == CrashPhase::before ? "before" : phase == CrashPhase::during ? "during" : "after";
}
const char* name_of(CrashMode mode) {
  switch (mode) {
    case CrashMode::lost:
      return "lost";
    case CrashMode::torn:
      return "torn";
    case CrashMode::garbled:
      return "garbled";
    case CrashMode::random:
      break;
  }
  return "random";
}

void note(Sweep& sweep, std::string_view what, const Run& run) {
  ++sweep.cases;
  if (!run.error.empty()) {
    sweep.failures.push_back(fmt::format("seed {}, {}: {}", sweep.seed, what, run.error));
  }
}

bool enough(const Sweep& sweep) {
  return sweep.ends_at_first ? !sweep.failures.empty() : sweep.failures.size() >= 10;
}

void step_back(ShardRig& rig, const Sweep& sweep) {
  if (sweep.step_wall_back) rig.node().clock().step_wall(-3'600'000'000);
}

// How many write points the script has.
uint64_t write_points(Sweep& sweep) {
  ShardRig rig(sweep.seed, sweep.disk);
  Run run(sweep);
  rig.live(scripted_life(run));
  note(sweep, "undisturbed", run);
  return rig.disk().write_points();
}

// One crash of the script, and if `again` is not 0, one more at that write point of the recovery.
// True if there was such a point.
bool crash_once(Sweep& sweep, uint64_t point, CrashPhase phase, CrashMode mode, uint64_t again = 0,
                CrashPhase phase_again = CrashPhase::before) {
  ShardRig rig(sweep.seed, sweep.disk);
  Run run(sweep);
  rig.disk().stop_at(point, phase);
  std::string what = fmt::format("{} write point {}, {}", name_of(phase), point, name_of(mode));
  if (rig.live(scripted_life(run), mode) == LifeEnd::finished) return false;
  run.error.clear();
  step_back(rig, sweep);
  if (again != 0) {
    rig.disk().stop_at(again, phase_again);
    what += fmt::format(", then {} {} of the recovery", name_of(phase_again), again);
    bool looked = false;
    if (rig.live(look(run, looked), mode) == LifeEnd::finished) {
      note(sweep, what, run);
      return false;
    }
    run.error.clear();
    step_back(rig, sweep);
  }
  rig.live(look_and_go_on(run));
  note(sweep, what, run);
  return true;
}

constexpr CrashPhase phases[] = {CrashPhase::before, CrashPhase::during, CrashPhase::after};
constexpr CrashMode modes[] = {CrashMode::lost, CrashMode::torn, CrashMode::garbled};

// Every `stride`-th write point.
void sweep_points(Sweep& sweep, uint64_t stride = 1) {
  const uint64_t points = write_points(sweep);
  for (uint64_t point = 1 + sweep.seed % stride; point <= points && !enough(sweep);
       point += stride) {
    for (const CrashPhase phase : phases) {
      for (const CrashMode mode : modes) crash_once(sweep, point, phase, mode);
    }
  }
}

void expect_clean(const Sweep& sweep) {
  for (const std::string& failure : sweep.failures) FAIL_CHECK(failure);
  CHECK(sweep.failures.empty());
  MESSAGE(sweep.cases << " crashes");
}

uint64_t stride() {
  return test_scale() >= 1.0 ? 1 : static_cast<uint64_t>(1.0 / test_scale());
}

TEST_CASE("every write point of a scripted run, before, during and after: lost, torn, garbled") {
  Sweep sweep;
  sweep_points(sweep, stride());
  expect_clean(sweep);
  CHECK(sweep.cases > 1000 / stride());
}

TEST_CASE("the same with other seeds, at random points") {
  for (uint64_t seed = 2; seed < 2 + scaled(6); ++seed) {
    Sweep sweep{.seed = seed, .step_wall_back = seed % 2 == 0};
    sweep_points(sweep, 11 + seed % 5);
    expect_clean(sweep);
  }
}

TEST_CASE("other durabilities lose the end, never the middle") {
  for (const Durability durability : {Durability::interval, Durability::none}) {
    for (uint64_t seed = 1; seed <= scaled(2); ++seed) {
      Sweep sweep{.seed = seed, .durability = durability};
      sweep_points(sweep, 12);
      expect_clean(sweep);
    }
  }
}

TEST_CASE("a crash during the recovery from a crash") {
  Sweep sweep{.seed = 3};
  const uint64_t points = write_points(sweep);
  sim::Prng prng(sweep.seed, "points");
  for (uint64_t i = 0; i < scaled(24, 4) && !enough(sweep); ++i) {
    const uint64_t point = 1 + prng.below(points);
    const CrashMode mode = modes[prng.below(3)];
    const CrashPhase phase = phases[prng.below(3)];
    for (uint64_t again = 1;; ++again) {
      if (!crash_once(sweep, point, phase, mode, again, phases[prng.below(3)])) break;
    }
  }
  expect_clean(sweep);
}

// Kills at evenly spread moments. What the recovery shows must also survive a power cut right
// after it.
void sweep_kills(Sweep& sweep, uint64_t kills) {
  Nanos total = 0;
  {
    ShardRig rig(sweep.seed, sweep.disk);
    Run run(sweep);
    rig.live(scripted_life(run));
    total = rig.world().time() - seconds(10);
  }
  for (uint64_t i = 0; i < kills && !enough(sweep); ++i) {
    ShardRig rig(sweep.seed, sweep.disk);
    Run run(sweep);
    rig.kill_after(static_cast<Nanos>(static_cast<uint64_t>(total) * i / kills));
    rig.live(scripted_life(run));
    run.error.clear();
    step_back(rig, sweep);
    bool looked = false;
    rig.live(look(run, looked));
    if (run.error.empty()) {
      rig.cut_power(modes[i % 3]);
      rig.live(look_and_go_on(run));
    }
    note(sweep, fmt::format("killed at {} of {}", i, kills), run);
  }
}

TEST_CASE("a killed process loses nothing that was acknowledged, whenever it is killed") {
  for (const Durability durability : {Durability::group, Durability::interval, Durability::none}) {
    Sweep sweep{.seed = 4, .durability = durability};
    sweep_kills(sweep, scaled(60, 20));
    expect_clean(sweep);
  }
}

// --- planted bugs --------------------------------------------------------------------------------

struct Planted {
  explicit Planted(bool StoreTestFaults::* fault) : fault_(fault) {
    store_test_faults.*fault_ = true;
  }
  ~Planted() { store_test_faults.*fault_ = false; }
  bool StoreTestFaults::* fault_;
};

bool caught(Sweep sweep) {
  sweep.ends_at_first = true;
  for (sweep.seed = 1; sweep.seed <= 3; ++sweep.seed) {
    sweep_points(sweep, sweep.seed == 1 ? 5 : 1);
    if (!sweep.failures.empty()) break;
  }
  if (!sweep.failures.empty()) MESSAGE(sweep.cases << " crashes: " << sweep.failures.front());
  return !sweep.failures.empty();
}

TEST_CASE("planted: a disk that does not keep DSYNC writes") {
  CHECK(caught({.disk = {.skip_durability = sim::skip_dsync}}));
}

TEST_CASE("planted: fsync of files does nothing") {
  CHECK(caught({.disk = {.skip_durability = sim::skip_fsync}}));
}

TEST_CASE("planted: fsync of directories does nothing") {
  CHECK(caught({.disk = {.skip_durability = sim::skip_dir_fsync}}));
}

TEST_CASE("planted: writes are acknowledged before their frame is written") {
  const Planted planted(&StoreTestFaults::acknowledge_before_written);
  CHECK(caught({}));
}

TEST_CASE("planted: a table is installed before it is durable") {
  const Planted planted(&StoreTestFaults::install_before_table_durable);
  CHECK(caught({}));
}

TEST_CASE("planted: a table is installed before its name is durable") {
  const Planted planted(&StoreTestFaults::skip_table_directory_sync);
  CHECK(caught({}));
}

TEST_CASE("planted: frames are written to a segment whose name is not durable") {
  const Planted planted(&StoreTestFaults::skip_segment_directory_sync);
  CHECK(caught({}));
}

TEST_CASE("planted: a start does not sync what it replays") {
  const Planted planted(&StoreTestFaults::trust_replayed_frames);
  Sweep sweep{.durability = Durability::none, .ends_at_first = true};
  sweep_kills(sweep, 100);
  REQUIRE(!sweep.failures.empty());
  MESSAGE(sweep.cases << " kills: " << sweep.failures.front());
}

TEST_CASE("planted: the clock is forgotten at open") {
  const Planted planted(&StoreTestFaults::forget_clock);
  CHECK(caught({}));
}

TEST_CASE("planted: tombstones are dropped too early") {
  const Planted planted(&StoreTestFaults::drop_tombstones_early);
  CHECK(caught({}));
}

}  // namespace
}  // namespace gyre::test
