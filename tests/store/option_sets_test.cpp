// One history under many option sets: whatever the options, every read and scan has the same
// answer. The answers are worked out from the history alone, before any shard sees it.
//
// A history goes by the wall clock: each step has its moment, expiries come between two steps, and
// lives end (in a clean close, a kill or a power cut) when everything before is on the disk under
// every durability.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>

#include "model_rig.hpp"

namespace gyre::test {
namespace {

constexpr uint64_t step_ms = 8'000;
constexpr uint64_t life_gap_ms = 60'000;

struct Step {
  enum Kind : uint8_t { write, read, scan, slow_scan, flush, settle, compact, life_end } kind;
  uint64_t at_ms = 0;  // since the history began
  struct Put {
    std::string key;
    std::optional<std::string> value;
    uint64_t expire_ms = 0;  // since the history began; 0: never
  };
  std::vector<Put> writes;  // at once
  std::string start, end;   // read (start only), scans
  Contents expected;
  enum End : uint8_t { close, flushed_close, kill, power_cut } end_kind = close;
};

// --- the history ---------------------------------------------------------------------------------

struct HistoryMaker {
  explicit HistoryMaker(uint64_t seed) : prng(seed, "history") {}
  sim::Prng prng;
  std::map<std::string, Step::Put> state;
  std::vector<Step> steps;

  std::string key() { return fmt::format("key{:02}", prng.below(60)); }

  Step writes(uint64_t at_ms) {
    Step step{.kind = Step::write};
    std::map<std::string, bool> used;
    for (uint64_t left = 1 + prng.below(12); left > 0; --left) {
      Step::Put put{.key = key()};
      if (used[put.key]) continue;  // of two writes at once nobody knows which is the later
      used[put.key] = true;
      if (!prng.one_in(4)) {
        const uint64_t dice = prng.below(200);
        put.value = pool_value(prng, dice == 0   ? prng.below(200'000)
                                     : dice < 20 ? prng.below(6'000)
                                                 : prng.below(200));
        if (prng.one_in(4)) put.expire_ms = at_ms + step_ms / 2 + step_ms * prng.below(40);
      }
      state[put.key] = put;
      step.writes.push_back(std::move(put));
    }
    return step;
  }

  Contents visible(uint64_t at_ms, const std::string& start, const std::string& end) const {
    Contents contents;
    for (auto at = state.lower_bound(start); at != state.end(); ++at) {
      if (!end.empty() && at->first >= end) break;
      const Step::Put& put = at->second;
      if (!put.value || (put.expire_ms != 0 && put.expire_ms <= at_ms)) continue;
      contents[at->first] = *put.value;
    }
    return contents;
  }

  Step next(uint64_t at_ms) {
    const uint64_t dice = prng.below(100);
    if (dice < 45) return writes(at_ms);
    if (dice < 70) {
      Step step{.kind = Step::read, .start = key()};
      step.expected = visible(at_ms, step.start, step.start + '\0');
      return step;
    }
    if (dice < 88) {
      Step step{.kind = prng.one_in(3) ? Step::slow_scan : Step::scan};
      if (!prng.one_in(3)) step.start = key();
      if (!prng.one_in(3)) step.end = key();
      step.expected = visible(at_ms, step.start, step.end);
      return step;
    }
    if (dice < 92) return {.kind = Step::flush};
    if (dice < 94) return {.kind = Step::settle};
    if (dice < 96) return {.kind = Step::compact};
    return {.kind = Step::life_end, .end_kind = static_cast<Step::End>(prng.below(4))};
  }

  std::vector<Step> make(unsigned count) {
    uint64_t at_ms = step_ms;
    for (unsigned i = 0; i < count; ++i, at_ms += step_ms) {
      Step step = next(at_ms);
      step.at_ms = at_ms;
      if (step.kind == Step::life_end) at_ms += life_gap_ms;
      steps.push_back(std::move(step));
    }
    Step all{.kind = Step::scan, .at_ms = at_ms, .expected = visible(at_ms, "", "")};
    steps.push_back(std::move(all));
    steps.push_back({.kind = Step::life_end, .at_ms = at_ms + step_ms});
    return std::move(steps);
  }
};

// --- carrying it out -----------------------------------------------------------------------------

struct Play {
  const std::vector<Step>& steps;
  const ModelOptions& options;
  ShardRig& rig;
  size_t next = 0;
  uint64_t base_ms = 0;  // when the history began, on the wall
  uint64_t answers = 0;
  std::string error;

  bool alive() const { return rig.node().power() == sim::Power::on; }
  void wrong(std::string what) {
    if (error.empty()) error = std::move(what);
  }
};

Task<void> wait_until(uint64_t wall_ms) {
  for (;;) {
    const uint64_t now_ms = Reactor::current().wall_ms();
    if (now_ms >= wall_ms) co_return;
    co_await sleep_for(milliseconds(static_cast<int64_t>(wall_ms - now_ms)));
  }
}

Task<void> put_one(Shard& shard, Play& play, const Step::Put& put) {
  const uint64_t expire_at_ms = put.expire_ms == 0 ? 0 : play.base_ms + put.expire_ms;
  for (;;) {
    const Result<Version> done = put.value
                                     ? co_await test::put(shard, put.key, *put.value, expire_at_ms)
                                     : co_await shard.remove(put.key);
    if (done) co_return;
    if (done.error().code != Errc::overloaded) {
      play.wrong("a write: " + done.error().message());
      co_return;
    }
    co_await sleep_for(milliseconds(10));
  }
}

void compare(Play& play, const Step& step, const Result<Contents>& found) {
  ++play.answers;
  if (!found) {
    play.wrong("a scan: " + found.error().message());
  } else if (*found != step.expected) {
    play.wrong(fmt::format("step at {} ms, [{}, {}): {} keys instead of {}", step.at_ms, step.start,
                           step.end, found->size(), step.expected.size()));
  }
}

Task<void> slow_scan(std::unique_ptr<Scan> scan, const Step& step, Play& play) {
  Contents found;
  for (;;) {
    const Scan::Step next = scan->try_next();
    if (next == Scan::Step::end) break;
    if (next == Scan::Step::wait) {
      if (Result<void> loaded = co_await scan->load(); !loaded) {
        compare(play, step, fail(loaded.error()));
        co_return;
      }
      continue;
    }
    std::string& value = found[std::string(scan->entry().key)];
    if (scan->large()) {
      Result<LargeValueStream> stream = scan->large_value();
      Result<std::string> all =
          stream ? co_await read_all(std::move(*stream)) : fail(stream.error());
      if (!all) play.wrong("a large value: " + all.error().message());
      if (all) value = std::move(*all);
    } else {
      value = scan->entry().value;
    }
    if (found.size() % 5 == 0) co_await sleep_for(milliseconds(step_ms / 4));
  }
  compare(play, step, found);
}

Task<void> step_once(Shard& shard, Play& play, const Step& step, Scope& others) {
  const uint64_t now_ms = Reactor::current().wall_ms();
  Result<void> done{};
  switch (step.kind) {
    case Step::write: {
      Scope scope;
      for (const Step::Put& put : step.writes) scope.spawn(put_one(shard, play, put));
      co_await scope.join();
      break;
    }
    case Step::read: {
      const auto read = co_await get(shard, step.start);
      Result<Contents> found{Contents{}};
      if (!read) found = fail(read.error());
      if (read && *read) (*found)[step.start] = **read;
      compare(play, step, found);
      break;
    }
    case Step::scan:
      compare(play, step, co_await scan_all(shard, step.start, step.end));
      break;
    case Step::slow_scan: {
      auto scan = co_await shard.scan(step.start, step.end, now_ms);
      if (!scan) {
        play.wrong("a scan: " + scan.error().message());
        break;
      }
      others.spawn(slow_scan(std::move(*scan), step, play));
      break;
    }
    case Step::flush:
      done = co_await shard.flush();
      break;
    case Step::settle:
      done = co_await shard.settle();
      break;
    case Step::compact:
      done = co_await shard.compact();
      break;
    case Step::life_end:
      break;
  }
  if (!done) play.wrong("background work: " + done.error().message());
}

Task<void> play_life(Play& play) {
  if (play.base_ms == 0) play.base_ms = Reactor::current().wall_ms();
  ShardHome home(play.options.write_memory_bytes);
  auto opened = co_await Shard::open(play.options.shard, home.context());
  if (!opened) {
    play.wrong("it does not open: " + opened.error().message());
    co_return;
  }
  Shard& shard = **opened;
  Scope others;
  const Step* step = nullptr;
  for (; play.error.empty(); ++play.next) {
    step = &play.steps[play.next];
    co_await wait_until(play.base_ms + step->at_ms);
    if (Reactor::current().wall_ms() > play.base_ms + step->at_ms + step_ms / 4) {
      play.wrong("the steps take longer than their time");
    }
    if (step->kind == Step::life_end) break;
    co_await step_once(shard, play, *step, others);
  }
  co_await others.join();
  // Killed or cut here; what was written is on the disk by now.
  const bool dies = step->end_kind >= Step::kill;
  while (dies && play.error.empty() && play.alive()) co_await sleep_for(seconds(1));
  const Result<void> closed = co_await shard.close(step->end_kind == Step::flushed_close);
  if (!closed && !dies) play.wrong("the close: " + closed.error().message());
}

// Under the other durabilities a power cut may take what a kill leaves, so there it is only that.
std::string play_all(uint64_t seed, const std::vector<Step>& steps, const ModelOptions& options,
                     uint64_t& answers) {
  ShardRig rig(sim::WorldOptions{.seed = seed}, options.disk);
  Play play{steps, options, rig};
  while (play.next < steps.size() && play.error.empty()) {
    const auto end = std::find_if(steps.begin() + static_cast<ptrdiff_t>(play.next), steps.end(),
                                  [](const Step& step) { return step.kind == Step::life_end; });
    const bool dies = end->end_kind >= Step::kill;
    if (dies) {
      const auto end_ns = milliseconds(static_cast<int64_t>(end->at_ms + life_gap_ms / 2));
      rig.kill_after(end_ns - rig.world().time());
    }
    rig.live(play_life(play));
    if (play.next < steps.size() && steps[play.next].kind == Step::life_end) ++play.next;
    const bool synced = options.shard.durability == Durability::group;
    if (dies && end->end_kind == Step::power_cut && synced) rig.cut_power();
  }
  answers += play.answers;
  return play.error;
}

// --- option sets ---------------------------------------------------------------------------------

struct OptionSet {
  const char* name;
  void (*apply)(ModelOptions& options);
};

const OptionSet option_sets[] = {
    {"as they are", [](ModelOptions&) {}},
    {"memtable of 2 KiB", [](ModelOptions& o) { o.shard.memtable_bytes_max = 2u << 10; }},
    {"memtable of a byte", [](ModelOptions& o) { o.shard.memtable_bytes_max = 1; }},
    {"memtable of 64 MiB", [](ModelOptions& o) { o.shard.memtable_bytes_max = 64u << 20; }},
    {"little memory for writes", [](ModelOptions& o) { o.write_memory_bytes = 512u << 10; }},
    {"cache of a byte", [](ModelOptions& o) { o.shard.cache_bytes = 1; }},
    {"cache of one block", [](ModelOptions& o) { o.shard.cache_bytes = 16u << 10; }},
    {"blocks of a byte", [](ModelOptions& o) { o.shard.table.block_bytes_target = 1; }},
    {"blocks of 1 MiB", [](ModelOptions& o) { o.shard.table.block_bytes_target = 1u << 20; }},
    {"restarts everywhere", [](ModelOptions& o) { o.shard.table.restart_interval = 1; }},
    {"hardly any restarts", [](ModelOptions& o) { o.shard.table.restart_interval = 10'000; }},
    {"partitions of one block", [](ModelOptions& o) { o.shard.table.partition_blocks_max = 1; }},
    {"partitions of a byte", [](ModelOptions& o) { o.shard.table.partition_bytes_target = 1; }},
    {"every value is large", [](ModelOptions& o) { o.shard.table.large_value_bytes_min = 1; }},
    {"hardly any is", [](ModelOptions& o) { o.shard.table.large_value_bytes_min = 1u << 20; }},
    {"chunks of 7 bytes",
     [](ModelOptions& o) {
       o.shard.table.large_value_bytes_min = 500;
       o.shard.table.chunk_bytes = 7;
     }},
    {"every value apart", [](ModelOptions& o) { o.shard.separate_value_bytes_min = 1; }},
    {"every value apart in a file of its own",
     [](ModelOptions& o) {
       o.shard.separate_value_bytes_min = 1;
       o.shard.value_file_bytes_max = 1;
     }},
    {"large extents apart",
     [](ModelOptions& o) {
       o.shard.separate_value_bytes_min = 300;
       o.shard.table.large_value_bytes_min = 300;
     }},
    {"no value apart",
     [](ModelOptions& o) { o.shard.separate_value_bytes_min = no_value_separation; }},
    {"no filters", [](ModelOptions& o) { o.shard.table.bloom_bits_per_key = 0; }},
    {"filters of a bit", [](ModelOptions& o) { o.shard.table.bloom_bits_per_key = 1; }},
    {"no compression", [](ModelOptions& o) { o.shard.table.codec = Codec::none; }},
    {"compression", [](ModelOptions& o) { o.shard.table.codec = Codec::lz4; }},
    {"level 0 of one table",
     [](ModelOptions& o) {
       o.shard.compaction.l0_trigger = 1;
       o.shard.compaction.l0_stop = 2;
     }},
    {"no compaction",
     [](ModelOptions& o) {
       o.shard.compaction.l0_trigger = 10'000;
       o.shard.compaction.l0_stop = 20'000;
     }},
    {"fanout 2, levels of a byte",
     [](ModelOptions& o) {
       o.shard.compaction.fanout = 2;
       o.shard.compaction.base_bytes_min = 1;
     }},
    {"merges as fast as they can", [](ModelOptions& o) { o.shard.compaction.paced = false; }},
    {"fanout 100", [](ModelOptions& o) { o.shard.compaction.fanout = 100; }},
    {"tables of one entry", [](ModelOptions& o) { o.shard.compaction.table_bytes_target = 1; }},
    {"one table", [](ModelOptions& o) { o.shard.compaction.table_bytes_target = 1u << 30; }},
    {"a log of a page, small segments",
     [](ModelOptions& o) {
       o.shard.log_bytes_max = 4096;
       o.shard.log_segment_bytes_max = 1u << 20;
     }},
    {"synced now and then", [](ModelOptions& o) { o.shard.durability = Durability::interval; }},
    {"not synced", [](ModelOptions& o) { o.shard.durability = Durability::none; }},
    {"short reads and writes",
     [](ModelOptions& o) { o.disk.short_read_ppm = o.disk.short_write_ppm = 100'000; }},
    {"everything at its least",
     [](ModelOptions& o) {
       o.shard.memtable_bytes_max = 1;
       o.shard.cache_bytes = 1;
       o.shard.log_bytes_max = 1;
       o.shard.table = {.block_bytes_target = 1,
                        .restart_interval = 1,
                        .partition_blocks_max = 1,
                        .partition_bytes_target = 1,
                        .large_value_bytes_min = 1,
                        .chunk_bytes = 1000,
                        .bloom_bits_per_key = 0,
                        .codec = Codec::none};
       o.shard.compaction = {.l0_trigger = 1,
                             .l0_stop = 2,
                             .fanout = 2,
                             .base_bytes_min = 1,
                             .table_bytes_target = 1};
     }},
};

TEST_CASE("whatever the options, the answers are the same") {
  const uint64_t histories = scaled(8);
  uint64_t answers = 0;
  uint64_t runs = 0;
  for (uint64_t seed = 1; seed <= histories; ++seed) {
    const std::vector<Step> steps = HistoryMaker(seed).make(400);
    for (size_t set = 0; set < std::size(option_sets); ++set) {
      // On top of the usual options, and of random ones.
      ModelOptions options;
      options.shard = small_shard_options();
      if (seed % 2 == 0) options = random_model_options(seed * 1000 + set);
      options.disk.stall_ppm = 0;
      options.shard.sync_interval = milliseconds(500);
      options.disk.capacity_bytes = sim::DiskOptions{}.capacity_bytes;
      option_sets[set].apply(options);
      const std::string wrong = play_all(seed, steps, options, answers);
      ++runs;
      if (!wrong.empty()) {
        FAIL_CHECK("history " << seed << ", " << std::string(option_sets[set].name) << ": "
                              << wrong);
      }
    }
  }
  MESSAGE(fmt::format("option sets: {} histories under {} sets each, {} answers", histories,
                      std::size(option_sets), answers));
  CHECK(answers > 100 * runs);
}

}  // namespace
}  // namespace gyre::test
