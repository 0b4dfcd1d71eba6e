// A shard and a model do the same random things in lockstep, under random and mostly tiny options:
// puts, removals, expiries, reads, scans, flushes, merges, restarts, kills and power cuts. After
// every step they must agree.
//
//   GYRE_TEST_SEED=17 test_store_model      one seed alone
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "../sim/crash_oracle.hpp"
#include "shard_rig.hpp"
#include "store/test_faults.hpp"

namespace gyre::test {
namespace {

struct ModelOptions {
  ShardOptions shard;
  uint64_t write_memory_bytes = 0;
  uint64_t keys = 0;
  unsigned lives = 0;
  unsigned steps = 0;  // per life
};

template <class T>
T pick(sim::Prng& prng, std::initializer_list<T> choices) {
  return choices.begin()[prng.below(choices.size())];
}

ModelOptions random_options(uint64_t seed) {
  sim::Prng prng(seed, "options");
  ModelOptions options;
  ShardOptions& shard = options.shard;
  shard = small_shard_options();
  shard.memtable_bytes_max = pick<size_t>(prng, {2u << 10, 8u << 10, 64u << 10, 1u << 20});
  shard.log_bytes_max = pick<uint64_t>(prng, {0, 16u << 10, 256u << 10});
  shard.log_segment_bytes_max = pick<uint64_t>(prng, {0, 1u << 20});
  shard.cache_bytes = pick<size_t>(prng, {1, 4u << 10, 32u << 10, 1u << 20});
  shard.table.block_bytes_target = pick<uint32_t>(prng, {64, 512, 4096});
  shard.table.restart_interval = pick<uint32_t>(prng, {1, 3, 16});
  shard.table.partition_blocks_max = pick<uint32_t>(prng, {1, 4, 256});
  shard.table.large_value_bytes_min = pick<uint64_t>(prng, {1, 100, 64u << 10, 128u << 10});
  shard.table.chunk_bytes = pick<uint32_t>(prng, {1000, 4096, 64u << 10});
  shard.table.bloom_bits_per_key = pick<uint32_t>(prng, {0, 1, 10});
  shard.table.bloom_bits_per_key_upper = pick<uint32_t>(prng, {0, 16, 20});
  shard.table.codec = prng.one_in(2) ? Codec::none : Codec::lz4;
  shard.compaction.l0_trigger = pick<unsigned>(prng, {1, 2, 4});
  shard.compaction.l0_stop = shard.compaction.l0_trigger + pick<unsigned>(prng, {1, 8, 20});
  shard.compaction.fanout = pick<unsigned>(prng, {2, 4, 8});
  shard.compaction.base_bytes_min = pick<uint64_t>(prng, {1, 4u << 10, 64u << 10});
  shard.compaction.table_bytes_target = pick<uint64_t>(prng, {1, 4u << 10, 32u << 10});
  options.write_memory_bytes = pick<uint64_t>(prng, {1u << 20, 2u << 20, 8u << 20});
  options.keys = pick<uint64_t>(prng, {3, 20, 100});
  options.lives = 2 + static_cast<unsigned>(prng.below(4));
  options.steps = 20 + static_cast<unsigned>(prng.below(80));
  return options;
}

sim::DiskOptions random_disk(uint64_t seed) {
  sim::Prng prng(seed, "disk");
  sim::DiskOptions disk;
  if (prng.one_in(2)) disk.short_read_ppm = disk.short_write_ppm = 30'000;
  if (prng.one_in(4)) disk.stall_ppm = 20'000;
  if (prng.one_in(4)) disk.capacity_bytes = 64u << 20;
  return disk;
}

struct Model {
  Model(uint64_t seed, ShardRig& on)
      : options(random_options(seed)), prng(seed, "steps"), rig(on) {}
  ModelOptions options;
  sim::Prng prng;
  ShardRig& rig;
  CrashOracle oracle;
  std::string error;
  std::string trail;  // the steps of this life

  bool alive() const { return rig.node().power() == sim::Power::on; }
  void wrong(std::string what) {
    if (alive() && error.empty()) error = std::move(what);
  }
  std::string key() { return fmt::format("k{}", prng.below(options.keys)); }
  std::string value() {
    const uint64_t kind = prng.below(40);
    const size_t size = kind == 0   ? prng.below(600'000)
                        : kind < 3  ? prng.below(90'000)
                        : kind < 10 ? prng.below(5'000)
                                    : prng.below(120);
    std::string bytes = noise(prng.next(), size);
    if (prng.one_in(2)) bytes.assign(size, 'z');  // compresses
    return bytes;
  }
};

Task<void> write_one(Shard& shard, ShardHome& home, Model& model, std::string key,
                     std::optional<std::string> value, uint64_t expire_at_ms) {
  const Errc status = co_await write(shard, home.memory, model.oracle, std::move(key),
                                     std::move(value), expire_at_ms);
  if (status == Errc::overloaded) co_return;
  if (status != Errc::ok) model.wrong(fmt::format("a write: {}", to_string(status)));
}

Task<void> write_step(Shard& shard, ShardHome& home, Model& model, Scope& scope) {
  std::string key = model.key();
  std::optional<std::string> value;
  uint64_t expire_at_ms = 0;
  if (!model.prng.one_in(4)) {
    value = model.value();
    if (model.prng.one_in(5)) {
      expire_at_ms = Reactor::current().wall_ms() + 1 + model.prng.below(3'000);
    }
  }
  scope.spawn(write_one(shard, home, model, std::move(key), std::move(value), expire_at_ms));
  co_return;
}

Task<void> read_step(Shard& shard, Model& model) {
  const uint64_t now_ms = Reactor::current().wall_ms();
  const std::string key = model.key();
  const auto found = co_await get_at(shard, key, now_ms);
  if (!found) {
    model.wrong("a read: " + found.error().message());
    co_return;
  }
  const Contents expected = model.oracle.contents(now_ms);
  const auto at = expected.find(key);
  const bool same = *found ? at != expected.end() && at->second == **found : at == expected.end();
  if (!same) model.wrong("a read of " + key);
}

Task<void> scan_step(Shard& shard, Model& model) {
  const uint64_t now_ms = Reactor::current().wall_ms();
  ScanRange range;
  if (model.prng.one_in(4)) {
    range = ScanRange::of_prefix(model.key());
  } else {
    if (!model.prng.one_in(3)) range.start = model.key();
    if (!model.prng.one_in(3)) range.end = model.key();
  }
  if (model.prng.one_in(2)) range.direction = ScanDirection::reverse;
  Contents expected = model.oracle.contents(now_ms);
  std::erase_if(expected, [&](const auto& entry) {
    return entry.first < range.start || (!range.end.empty() && entry.first >= range.end);
  });
  auto scan = co_await shard.scan(range, now_ms);
  if (!scan) {
    model.wrong("a scan: " + scan.error().message());
    co_return;
  }
  const auto found = co_await drain(**scan, range.direction);
  if (!found) {
    model.wrong("a scan: " + found.error().message());
  } else if (*found != expected) {
    const bool forward = range.direction == ScanDirection::forward;
    model.wrong(fmt::format("the scan {} [{}, {}):{}", forward ? "of" : "back over", range.start,
                            range.end, CrashOracle::differences(expected, *found)));
  }
}

// Reads slowly while the next steps run.
Task<void> slow_scan(std::unique_ptr<Scan> scan, Contents contents, Model& model, uint64_t seed,
                     ScanDirection direction) {
  sim::Prng prng(seed, "slow scan");
  std::vector<std::pair<std::string, std::string>> expected(contents.begin(), contents.end());
  if (direction == ScanDirection::reverse) std::reverse(expected.begin(), expected.end());
  auto at = expected.begin();
  for (;;) {
    const Scan::Step step = scan->try_next();
    if (step == Scan::Step::end) break;
    if (step == Scan::Step::wait) {
      if (Result<void> loaded = co_await scan->load(); !loaded) {
        model.wrong("a slow scan: " + loaded.error().message());
        co_return;
      }
      continue;
    }
    if (at == expected.end() || scan->entry().key != at->first ||
        scan->value_bytes() != at->second.size() ||
        (!scan->large() && scan->entry().value != at->second)) {
      model.wrong("a slow scan at " + std::string(scan->entry().key));
      co_return;
    }
    ++at;
    if (prng.one_in(3)) co_await sleep_for(static_cast<Nanos>(prng.below(20'000'000)));
  }
  if (at != expected.end()) model.wrong("a slow scan ends before " + at->first);
}

Task<void> background_step(Shard& shard, Model& model, unsigned which) {
  Result<void> done{};
  if (which == 0) done = co_await shard.flush();
  if (which == 1) done = co_await shard.settle();
  if (which == 2) done = co_await shard.compact();
  if (!done && done.error().code != Errc::closed) {
    model.wrong("background work: " + done.error().message());
  }
}

Task<void> check_all(Shard& shard, Model& model, const char* when) {
  const uint64_t now_ms = Reactor::current().wall_ms();
  auto scan = co_await shard.scan("", "", now_ms);
  if (!scan) {
    model.wrong(fmt::format("{}: {}", when, scan.error().message()));
    co_return;
  }
  const auto found = co_await drain(**scan);
  if (!found) {
    model.wrong(fmt::format("{}: {}", when, found.error().message()));
    co_return;
  }
  const std::string text = model.oracle.check(*found, shard.visible_seq(), now_ms);
  if (!text.empty()) model.wrong(fmt::format("{}: {}", when, text));
}

Task<void> steps(Shard& shard, ShardHome& home, Model& model) {
  Scope writes;
  Scope others;
  sim::Prng& prng = model.prng;
  for (unsigned step = 0; step < model.options.steps && model.alive() && model.error.empty();
       ++step) {
    const uint64_t dice = prng.below(100);
    model.trail += dice < 55   ? 'w'
                   : dice < 70 ? 'r'
                   : dice < 78 ? 's'
                   : dice < 84 ? 'S'
                   : dice < 92 ? 'b'
                               : 't';
    if (dice < 55) {
      // One write, or several at once, of which later ones may overtake large ones.
      const uint64_t count = prng.one_in(3) ? 1 + prng.below(8) : 1;
      for (uint64_t i = 0; i < count; ++i) co_await write_step(shard, home, model, writes);
      co_await writes.join();
    } else if (dice < 70) {
      co_await read_step(shard, model);
    } else if (dice < 78) {
      co_await scan_step(shard, model);
    } else if (dice < 84) {
      const uint64_t now_ms = Reactor::current().wall_ms();
      const auto direction = prng.one_in(2) ? ScanDirection::forward : ScanDirection::reverse;
      auto scan = co_await shard.scan({.start = "", .end = "", .direction = direction}, now_ms);
      if (!scan) {
        model.wrong("a scan: " + scan.error().message());
        break;
      }
      others.spawn(slow_scan(std::move(*scan), model.oracle.contents(now_ms), model, prng.next(),
                             direction));
    } else if (dice < 92) {
      const auto which = static_cast<unsigned>(prng.below(3));
      if (prng.one_in(2)) {
        others.spawn(background_step(shard, model, which));
      } else {
        co_await background_step(shard, model, which);
      }
    } else {
      co_await sleep_for(static_cast<Nanos>(prng.below(1'500'000'000)));
    }
  }
  co_await others.join();
  if (model.alive()) co_await check_all(shard, model, "at the end of a life");
}

Task<void> model_life(Model& model) {
  ShardHome home(model.options.write_memory_bytes);
  auto shard = co_await Shard::open(model.options.shard, home.context());
  if (!shard) {
    model.wrong("it does not open: " + shard.error().message());
    co_return;
  }
  co_await check_all(**shard, model, "after open");
  if (model.alive() && model.error.empty()) {
    model.oracle.adopt((*shard)->visible_seq());
    co_await steps(**shard, home, model);
  }
  const Result<void> closed = co_await (*shard)->close(model.prng.one_in(2));
  if (!closed) model.wrong("close: " + closed.error().message());
}

// "" or what went wrong.
std::string run_model(uint64_t seed) {
  ShardRig rig(sim::WorldOptions{.seed = seed}, random_disk(seed));
  Model model(seed, rig);
  for (unsigned life = 0; life < model.options.lives; ++life) {
    model.trail.clear();
    const uint64_t fate = model.prng.below(4);
    const auto mode = pick(model.prng, {sim::CrashMode::lost, sim::CrashMode::torn,
                                        sim::CrashMode::garbled, sim::CrashMode::random});
    if (fate == 1) {
      const auto phase = pick(
          model.prng, {sim::CrashPhase::before, sim::CrashPhase::during, sim::CrashPhase::after});
      rig.disk().stop_at(rig.disk().write_points() + 1 + model.prng.below(150), phase);
    }
    if (fate == 2) rig.kill_after(static_cast<Nanos>(model.prng.below(2'000'000'000)));
    const LifeEnd end = rig.live(model_life(model), mode);
    if (!model.error.empty()) {
      return fmt::format("seed {}, life {} ({}): {}", seed, life, model.trail, model.error);
    }
    if (end == LifeEnd::finished) {
      rig.disk().stop_at(0, sim::CrashPhase::before);
      if (model.prng.one_in(3)) rig.cut_power(mode);
    }
  }
  return "";
}

std::optional<uint64_t> only_seed() {
  const char* text = std::getenv("GYRE_TEST_SEED");
  if (text == nullptr) return std::nullopt;
  return std::strtoull(text, nullptr, 10);
}

TEST_CASE("a shard and a model agree, step by step, over random options") {
  const uint64_t seeds = scaled(400, 20);
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    if (only_seed() && seed != 1) break;
    const uint64_t actual = only_seed().value_or(seed);
    const std::string wrong = run_model(actual);
    if (wrong.empty()) continue;
    FAIL_CHECK(wrong << "\n  again: GYRE_TEST_SEED=" << actual << " test_store_model");
    if (seed > 200) break;
  }
}

TEST_CASE("planted: the model notices tombstones that are dropped too early") {
  store_test_faults.drop_tombstones_early = true;
  std::string wrong;
  for (uint64_t seed = 1; seed <= 200 && wrong.empty(); ++seed) wrong = run_model(seed);
  store_test_faults.drop_tombstones_early = false;
  REQUIRE(!wrong.empty());
  MESSAGE(wrong);
}

}  // namespace
}  // namespace gyre::test
