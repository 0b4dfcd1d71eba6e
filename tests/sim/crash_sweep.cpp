#include "crash_sweep.hpp"

#include <fmt/format.h>

#include "../store/modify_rig.hpp"
#include "base/hash.hpp"

namespace gyre::test {

namespace {

using sim::CrashMode;
using sim::CrashPhase;

constexpr unsigned key_count = 10;

std::string key_of(uint64_t i) {
  return fmt::format("key{}", i % key_count);
}

ShardOptions options_of(const CrashSweep& sweep) {
  ShardOptions options = small_shard_options();
  options.durability = sweep.durability;
  options.sync_interval = milliseconds(5);
  options.compaction.l0_trigger = 2;
  options.compaction.fanout = 2;
  options.compaction.base_bytes_min = 4u << 10;
  options.compaction.table_bytes_target = 8u << 10;
  sweep.script->adjust(options);
  return options;
}

// --- scripts -------------------------------------------------------------------------------------

Task<void> write_some(Shard& shard, ShardHome& home, CrashRun& run, uint64_t from, uint64_t count) {
  for (uint64_t i = from; i < from + count; ++i) {
    const uint64_t dice = hash64(fmt::format("write {}", i));
    const std::string value = noise(run.salt + i, 50 + dice % 1200);
    const Errc status = co_await write(shard, home.memory, run.oracle, key_of(dice >> 20),
                                       dice % 3 == 0 ? std::nullopt : std::optional(value));
    if (status != Errc::ok) co_return;
  }
}

Task<void> write_at_once(Shard& shard, ShardHome& home, CrashRun& run, uint64_t from) {
  Scope scope;
  for (uint64_t writer = 0; writer < 3; ++writer) {
    scope.spawn(write_some(shard, home, run, from + writer * 4, 4));
  }
  co_await scope.join();
}

Task<void> write_large(Shard& shard, ShardHome& home, CrashRun& run, size_t size) {
  static_cast<void>(
      co_await write(shard, home.memory, run.oracle, key_of(size), noise(run.salt + size, size)));
}

// Small records slip into the frames of a large one.
Task<void> write_large_among_small(Shard& shard, ShardHome& home, CrashRun& run, uint64_t from) {
  Scope scope;
  scope.spawn(write_large(shard, home, run, 1'300'000));
  scope.spawn(write_some(shard, home, run, from, 4));
  co_await scope.join();
}

Task<Result<void>> log_work(Shard& shard, ShardHome& home, CrashRun& run) {
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

// Writers that come at different times, so that frames are sent while others are in flight.
Task<void> write_later(Shard& shard, ShardHome& home, CrashRun& run, uint64_t from, Nanos delay) {
  if (co_await sleep_for(delay)) co_await write_some(shard, home, run, from, 4);
}

Task<void> write_one_by_one(Shard& shard, ShardHome& home, CrashRun& run, uint64_t from,
                            bool with_large) {
  Scope scope;
  if (with_large) scope.spawn(write_large(shard, home, run, 700'000 + from));
  for (uint64_t writer = 0; writer < 8; ++writer) {
    scope.spawn(write_later(shard, home, run, from + writer * 4,
                            microseconds(static_cast<int64_t>(writer) * 300)));
  }
  co_await scope.join();
}

Task<Result<void>> overlap_work(Shard& shard, ShardHome& home, CrashRun& run) {
  co_await write_one_by_one(shard, home, run, 0, false);
  co_await write_one_by_one(shard, home, run, 40, true);
  if (Result<void> done = co_await shard.flush(); !done) co_return done;
  co_await write_one_by_one(shard, home, run, 80, true);  // into another segment
  static_cast<void>(co_await sleep_for(milliseconds(300)));
  co_await write_one_by_one(shard, home, run, 120, false);
  if (shard.options().durability == Durability::group &&
      shard.log_stats().frames_beside < shard.log_stats().frames / 3) {
    co_return fail(Errc::invalid, "frames did not overlap");
  }
  co_return Result<void>{};
}

// Every key of the range once, those below `dying` with an expiry that comes soon.
Task<void> write_keys(Shard& shard, ShardHome& home, CrashRun& run, std::string prefix,
                      uint64_t generation, uint64_t dying, bool removes) {
  for (uint64_t i = 0; i < key_count; ++i) {
    const uint64_t seed = run.salt + 100 * generation + i;
    std::optional<std::string> value = noise(seed, i == 3 ? 5'000 : 200 + seed % 500);
    if (removes && i % 2 == 0) value.reset();
    const uint64_t expire_at_ms = i < dying ? Reactor::current().wall_ms() + 300 : 0;
    const Errc status =
        co_await write(shard, home.memory, run.oracle, fmt::format("{}{}", prefix, i),
                       std::move(value), expire_at_ms);
    if (status != Errc::ok) co_return;
  }
}

bool moved(const TableLevels& before, const TableLevels& after) {
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRef& table : before.level(level)) {
      for (unsigned below = level + 1; below < limits::table_level_count; ++below) {
        for (const TableRef& other : after.level(below)) {
          if (other->file_number() == table->file_number()) return true;
        }
      }
    }
  }
  return false;
}

Task<Result<void>> merge_work(Shard& shard, ShardHome& home, CrashRun& run) {
  Result<void> done{};
  for (uint64_t generation = 0; done && generation < 3; ++generation) {
    co_await write_keys(shard, home, run, "key", generation, generation == 2 ? 6 : 0, false);
    done = co_await shard.flush();
  }
  if (done) done = co_await shard.settle();
  if (!done) co_return done;
  if (shard.levels().table_count() < 3)
    co_return fail(Errc::invalid, "no merge of several outputs");
  static_cast<void>(co_await sleep_for(milliseconds(400)));
  done = co_await shard.compact();  // six values have expired and go
  if (!done) co_return done;
  // A table that overlaps with nothing is moved.
  co_await write_keys(shard, home, run, "last", 3, 0, false);
  if (done = co_await shard.flush(); !done) co_return done;
  const TableLevels before = shard.levels();
  done = co_await shard.compact();
  if (!done) co_return done;
  if (!moved(before, shard.levels())) co_return fail(Errc::invalid, "no table was moved");
  co_await write_keys(shard, home, run, "key", 4, 2, true);
  if (done = co_await shard.flush(); !done) co_return done;
  static_cast<void>(co_await sleep_for(milliseconds(400)));
  done = co_await shard.compact();  // tombstones and expired values go
  if (!done) co_return done;
  co_await write_keys(shard, home, run, "key", 5, 0, false);
  co_return Result<void>{};
}

// The same with values apart: their files come, become sparse, are emptied and go.
Task<Result<void>> value_work(Shard& shard, ShardHome& home, CrashRun& run) {
  Result<void> done = co_await merge_work(shard, home, run);
  const auto write_key = [&](uint64_t key, uint64_t salt) {
    return write(shard, home.memory, run.oracle, fmt::format("key{}", key),
                 noise(run.salt + salt, 600));
  };
  // Of the four values of one file three are overwritten.
  for (uint64_t key = 0; key < 4; ++key) static_cast<void>(co_await write_key(key, 700 + key));
  if (done) done = co_await shard.compact();
  for (uint64_t key = 1; key < 4; ++key) static_cast<void>(co_await write_key(key, 800 + key));
  if (done) done = co_await shard.compact();
  static_cast<void>(co_await sleep_for(milliseconds(100)));
  if (done && shard.stats().value_bytes_moved == 0) {
    co_return fail(Errc::invalid, "no value was moved to another file");
  }
  co_await write_keys(shard, home, run, "last", 6, 0, true);
  co_return done;
}

Task<void> count_some(Shard& shard, ShardHome& home, CrashRun& run, uint64_t from, uint64_t count) {
  for (uint64_t i = from; i < from + count; ++i) {
    CrashRun::Counter& counter = run.counters[i % run.counters.size()];
    ++counter.begun;
    ModifyEnd end = co_await modify(shard, home.memory, run.oracle,
                                    fmt::format("count{}", i % run.counters.size()), incremented);
    if (end.status != Errc::ok) co_return;
    ++counter.acknowledged;
    const std::string text = noise(run.salt + i, 100);
    end = co_await modify(shard, home.memory, run.oracle,
                          fmt::format("once{}", from / 20 * 20 + i % 3), set_if_absent(text));
    if (end.status == Errc::ok && i % 3 == 0)
      end = co_await modify(shard, home.memory, run.oracle, key_of(i), appending(text));
    if (end.status != Errc::ok) co_return;
  }
}

Task<void> count_at_once(Shard& shard, ShardHome& home, CrashRun& run, uint64_t from) {
  Scope scope;
  for (uint64_t worker = 0; worker < 4; ++worker) {
    scope.spawn(count_some(shard, home, run, from + worker * 3, 3));
  }
  scope.spawn(write_some(shard, home, run, from, 3));
  co_await scope.join();
}

Task<Result<void>> modify_work(Shard& shard, ShardHome& home, CrashRun& run) {
  co_await count_at_once(shard, home, run, 0);
  Result<void> done = co_await shard.flush();
  if (!done) co_return done;
  co_await count_at_once(shard, home, run, 20);
  static_cast<void>(co_await modify(shard, home.memory, run.oracle, key_of(1),
                                    appending(noise(run.salt, 300'000))));
  if (done = co_await shard.flush(); !done) co_return done;
  static_cast<void>(
      co_await modify(shard, home.memory, run.oracle, key_of(1), appending("and more")));
  if (done = co_await shard.compact(); !done) co_return done;
  co_await count_at_once(shard, home, run, 40);
  if (shard.stats().modifies_read == 0) co_return fail(Errc::invalid, "nothing was read first");
  co_return Result<void>{};
}

// "" if every increment that was acknowledged is there, and none that was not begun.
std::string check_counters(const Contents& found, const CrashRun& run) {
  for (size_t i = 0; i < run.counters.size(); ++i) {
    const auto at = found.find(fmt::format("count{}", i));
    const uint64_t value = at == found.end() ? 0 : std::stoull(at->second);
    const CrashRun::Counter& counter = run.counters[i];
    const uint64_t least = run.oracle.acknowledgements_promise() ? counter.acknowledged : 0;
    if (value < least || value > counter.begun) {
      return fmt::format("count{} is {}: of {} increments {} were acknowledged", i, value,
                         counter.begun, counter.acknowledged);
    }
  }
  return "";
}

Task<void> scripted_life(const CrashSweep& sweep, CrashRun& run) {
  ShardHome home(4u << 20);
  auto shard = co_await Shard::open(options_of(sweep), home.context());
  if (!shard) {
    run.error = "the first open: " + shard.error().message();
    co_return;
  }
  const Result<void> worked = co_await sweep.script->work(**shard, home, run);
  if (!worked) run.error = "the script: " + worked.error().message();
  const Result<void> closed = co_await (*shard)->close(sweep.script->flushes_at_close);
  if (!closed) run.error = "the close: " + closed.error().message();
}

// --- the life after ------------------------------------------------------------------------------

Task<std::string> check_contents(Shard& shard, const CrashRun& run) {
  const uint64_t now_ms = Reactor::current().wall_ms();
  auto scan = co_await shard.scan("", "", now_ms);
  if (!scan) co_return "the scan: " + scan.error().message();
  const Result<Contents> found = co_await drain(**scan);
  if (!found) co_return "the scan: " + found.error().message();
  std::string wrong = run.oracle.check(*found, shard.visible_seq(), now_ms);
  if (wrong.empty()) wrong = check_counters(*found, run);
  if (!wrong.empty()) co_return wrong;
  for (const char* prefix : {"key", "last"}) {
    for (uint64_t i = 0; i < key_count; ++i) {
      const std::string key = fmt::format("{}{}", prefix, i);
      const auto read = co_await get_at(shard, key, now_ms);
      if (!read) co_return "a read: " + read.error().message();
      const auto at = found->find(key);
      const bool same = *read ? at != found->end() && at->second == **read : at == found->end();
      if (!same) co_return "a read and the scan differ at " + key;
    }
  }
  co_return "";
}

// Opens, looks and writes a little.
Task<void> look(const CrashSweep& sweep, CrashRun& run) {
  ShardHome home(4u << 20);
  auto shard = co_await Shard::open(options_of(sweep), home.context());
  if (!shard) {
    run.error = "it does not open: " + shard.error().message();
    co_return;
  }
  run.error = co_await check_contents(**shard, run);
  if (run.error.empty()) {
    run.oracle.adopt((*shard)->visible_seq());
    run.salt += 1000;
    co_await write_some(**shard, home, run, run.salt, 2);
  }
  static_cast<void>(co_await (*shard)->close(false));
}

Task<void> write_again(Shard& shard, ShardHome& home, CrashRun& run, unsigned round) {
  run.salt += 1000;
  for (uint64_t i = 0; i < key_count && run.error.empty(); i += 1 + round) {
    const std::optional<std::string> value =
        i % 4 == 3 ? std::nullopt : std::optional(noise(run.salt + i, 300));
    static_cast<void>(co_await write(shard, home.memory, run.oracle, key_of(i), value));
    // The oracle goes by versions; this does not.
    const auto read = co_await get(shard, key_of(i));
    if (!read || *read != value) {
      run.error = "a write after the crash does not show at " + key_of(i);
    }
  }
  if (run.error.empty()) run.error = co_await check_contents(shard, run);
  if (!run.error.empty()) run.error += " (after writing again)";
}

// Looks, writes to every key, has it all merged, and looks again, also after a clean restart.
Task<void> look_and_go_on(const CrashSweep& sweep, CrashRun& run) {
  ShardHome home(4u << 20);
  for (unsigned round = 0; round < 2; ++round) {
    auto shard = co_await Shard::open(options_of(sweep), home.context());
    if (!shard) {
      run.error = fmt::format("it does not open ({}): {}", round, shard.error().message());
      co_return;
    }
    run.error = co_await check_contents(**shard, run);
    if (run.error.empty()) {
      run.oracle.adopt((*shard)->visible_seq());
      co_await write_again(**shard, home, run, round);
      if (round == 1 && run.error.empty()) {
        const Result<void> merged = co_await (*shard)->compact();
        run.error = merged ? co_await check_contents(**shard, run)
                           : "the compaction: " + merged.error().message();
        if (!run.error.empty()) run.error += " (after a compaction)";
      }
    }
    const Result<void> closed = co_await (*shard)->close(round == 0);
    if (!closed && run.error.empty()) run.error = "the close: " + closed.error().message();
    if (!run.error.empty()) co_return;
  }
}

// --- one case ------------------------------------------------------------------------------------

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

std::string name_of(const CrashMoment& moment) {
  if (moment.point != 0)
    return fmt::format("{} write point {}", name_of(moment.phase), moment.point);
  return fmt::format("at event {}", moment.event);
}

void note(CrashSweep& sweep, std::string_view what, const CrashRun& run) {
  ++sweep.cases;
  if (run.error.empty()) return;
  sweep.failures.push_back(
      fmt::format("{} script, seed {}, {}: {}", sweep.script->name, sweep.seed, what, run.error));
}

void step_back(ShardRig& rig, const CrashSweep& sweep) {
  if (sweep.script->steps_wall_back && sweep.seed % 2 == 1) {
    rig.node().clock().step_wall(-3'600'000'000);
  }
}

CrashRun begin(const CrashSweep& sweep) {
  CrashRun run;
  if (sweep.durability != Durability::group) run.oracle.acknowledgements_promise_nothing();
  return run;
}

void arm(ShardRig& rig, const CrashMoment& moment) {
  if (moment.point != 0) rig.disk().stop_at(rig.disk().write_points() + moment.point, moment.phase);
  if (moment.event != 0) rig.stop_after_events(moment.event, false);
}

void ignore_adjust(ShardOptions&) {}

void adjust_for_overlap(ShardOptions& options) {
  options.log_frame_patience = 1;
  options.log_segment_bytes_max = 1u << 20;
}

void adjust_for_merges(ShardOptions& options) {
  options.compaction.base_bytes_min = 2u << 10;
  options.compaction.table_bytes_target = 2u << 10;
  options.table.block_bytes_target = 512;
  options.table.large_value_bytes_min = 1024;
  options.table.chunk_bytes = 1000;
  options.table.codec = Codec::none;
}

void adjust_for_values(ShardOptions& options) {
  adjust_for_merges(options);
  options.compaction.table_bytes_target = 200;
  options.separate_value_bytes_min = 300;
  options.value_file_bytes_max = 3'000;
}

// Everything is read from the disk, anew each time.
void adjust_for_modifies(ShardOptions& options) {
  options.cache_bytes = 1;
}

}  // namespace

const CrashScript log_script{"log", ignore_adjust, log_work, false, true};
const CrashScript overlap_script{"overlap", adjust_for_overlap, overlap_work, false, true};
const CrashScript value_script{"value", adjust_for_values, value_work, true, false};
const CrashScript modify_script{"modify", adjust_for_modifies, modify_work, true, false};
const CrashScript merge_script{"merge", adjust_for_merges, merge_work, true, false};

ScriptLength measure(CrashSweep& sweep) {
  ShardRig rig(sweep.seed, sweep.disk);
  CrashRun run = begin(sweep);
  rig.live(scripted_life(sweep, run));
  note(sweep, "undisturbed", run);
  return {rig.disk().write_points(), rig.world().events_run(), rig.world().time() - seconds(10)};
}

bool crash_at(CrashSweep& sweep, const std::vector<CrashMoment>& moments, CrashMode mode) {
  ShardRig rig(sweep.seed, sweep.disk);
  CrashRun run = begin(sweep);
  std::string what;
  bool all_came = true;
  for (size_t life = 0; life < moments.size() && all_came; ++life) {
    arm(rig, moments[life]);
    what += fmt::format("{}{}", life == 0 ? "" : ", then of the recovery ", name_of(moments[life]));
    const LifeEnd end = rig.live(life == 0 ? scripted_life(sweep, run) : look(sweep, run), mode);
    all_came = end != LifeEnd::finished;
    rig.disk().stop_at(0, CrashPhase::before);
    if (!all_came && life == 0) return false;
    if (all_came) {
      run.error.clear();
      step_back(rig, sweep);
    }
  }
  what += fmt::format(", {}", name_of(mode));
  if (run.error.empty()) rig.live(look_and_go_on(sweep, run));
  note(sweep, what, run);
  return all_came;
}

// --- sweeps --------------------------------------------------------------------------------------

void sweep_points(CrashSweep& sweep, uint64_t stride) {
  const uint64_t points = measure(sweep).write_points;
  for (uint64_t point = 1 + sweep.seed % stride; point <= points && !sweep.enough();
       point += stride) {
    for (const CrashPhase phase : crash_phases) {
      for (const CrashMode mode : crash_modes) {
        crash_at(sweep, {{.point = point, .phase = phase}}, mode);
      }
    }
  }
}

namespace {

// The life of `rig` to come is killed. What the next one shows and writes must survive a power cut
// right after it.
void kill_once(CrashSweep& sweep, ShardRig& rig, std::string_view what, CrashMode mode) {
  CrashRun run = begin(sweep);
  rig.live(scripted_life(sweep, run));
  run.error.clear();
  step_back(rig, sweep);
  rig.live(look(sweep, run));
  if (run.error.empty()) {
    rig.cut_power(mode);
    rig.live(look_and_go_on(sweep, run));
  }
  note(sweep, what, run);
}

}  // namespace

void sweep_events(CrashSweep& sweep, uint64_t stride) {
  const uint64_t events = measure(sweep).events;
  for (uint64_t event = 1 + sweep.seed % stride; event < events && !sweep.enough();
       event += stride) {
    const CrashMode mode = crash_modes[event / stride % 3];
    crash_at(sweep, {{.event = event}}, mode);
    ShardRig rig(sweep.seed, sweep.disk);
    rig.stop_after_events(event, true);
    kill_once(sweep, rig, fmt::format("killed at event {}, {}", event, name_of(mode)), mode);
  }
}

void sweep_kills(CrashSweep& sweep, uint64_t kills) {
  const Nanos total = measure(sweep).time;
  for (uint64_t i = 0; i < kills && !sweep.enough(); ++i) {
    ShardRig rig(sweep.seed, sweep.disk);
    rig.kill_after(static_cast<Nanos>(static_cast<uint64_t>(total) * i / kills));
    kill_once(sweep, rig, fmt::format("killed at {} of {}", i, kills), crash_modes[i % 3]);
  }
}

}  // namespace gyre::test
