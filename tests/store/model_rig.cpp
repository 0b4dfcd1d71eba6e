#include "model_rig.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "../sim/crash_oracle.hpp"
#include "modify_rig.hpp"

namespace gyre::test {

namespace {

template <class T>
T pick(sim::Prng& prng, std::initializer_list<T> choices) {
  return choices.begin()[prng.below(choices.size())];
}

// From 1 to `max`, each power of two as likely as the next.
uint64_t any_magnitude(sim::Prng& prng, uint64_t max) {
  const auto bits = static_cast<unsigned>(std::bit_width(max));
  return 1 + (prng.below(max) >> prng.below(bits));
}

}  // namespace

ModelOptions random_model_options(uint64_t seed) {
  sim::Prng prng(seed, "options");
  ModelOptions options;
  ShardOptions& shard = options.shard;
  shard = small_shard_options();
  shard.durability = pick(prng, {Durability::group, Durability::group, Durability::group,
                                 Durability::group, Durability::interval, Durability::none});
  shard.sync_interval = milliseconds(pick<int>(prng, {1, 100}));
  shard.memtable_bytes_max = pick<size_t>(prng, {2u << 10, 8u << 10, 64u << 10, 1u << 20});
  shard.log_bytes_max = pick<uint64_t>(prng, {0, 64u << 10, 256u << 10});
  shard.log_segment_bytes_max = pick<uint64_t>(prng, {0, 1u << 20});
  shard.log_frame_patience = pick<Nanos>(prng, {0, 1, microseconds(500)});
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
  options.large_values = prng.one_in(3);
  if (prng.one_in(3)) options.disk.short_read_ppm = options.disk.short_write_ppm = 30'000;
  if (prng.one_in(5)) options.disk.stall_ppm = 20'000;
  if (prng.one_in(5)) options.disk.capacity_bytes = 64u << 20;
  shard.separate_value_bytes_min =
      pick<uint64_t>(prng, {1, 1, 40, 400, 16u << 10, no_value_separation});
  shard.value_file_bytes_max = pick<uint64_t>(prng, {1, 4u << 10, 1u << 20});
  return options;
}

std::string pool_value(sim::Prng& prng, size_t size_bytes) {
  static const std::string pool = noise(1, 2u << 20);
  static_cast<void>(size_bytes);
  if (prng.one_in(2)) return std::string(size_bytes, static_cast<char>('a' + prng.below(26)));
  return pool.substr(prng.below(pool.size() - size_bytes), size_bytes);
}

namespace {

struct Model {
  Model(uint64_t seed, ShardRig& on, ModelCounts& counted)
      : options(random_model_options(seed)), prng(seed, "steps"), rig(on), counts(counted) {
    if (options.shard.durability != Durability::group) oracle.acknowledgements_promise_nothing();
  }
  ModelOptions options;
  sim::Prng prng;
  ShardRig& rig;
  ModelCounts& counts;
  CrashOracle oracle;
  std::vector<std::pair<std::string, ModifyEnd>> modified;  // in the present step, by key
  uint64_t life_end = 0;                                    // at this count of operations
  std::string error;
  std::string trail;  // the last steps

  bool alive() const { return rig.node().power() == sim::Power::on; }
  bool goes_on() const { return error.empty() && alive(); }
  void wrong(std::string what) {
    if (goes_on()) error = std::move(what);
  }
  void step(char what) {
    if (trail.size() > 200) trail.erase(0, 100);
    trail += what;
  }
  uint64_t key_number() { return prng.below(options.keys); }
  std::string key() { return fmt::format("k{:02}", key_number()); }
  std::string value() {
    const uint64_t kind = prng.below(1000);
    const size_t size = kind == 0 && options.large_values   ? prng.below(600'000)
                        : kind < 10 && options.large_values ? prng.below(90'000)
                        : kind < 50                         ? prng.below(5'000)
                        : kind < 200                        ? prng.below(1'000)
                                                            : prng.below(120);
    return pool_value(prng, size);
  }
};

// --- steps ---------------------------------------------------------------------------------------

Task<void> write_one(Shard& shard, ShardHome& home, Model& model, std::string key,
                     std::optional<std::string> value, uint64_t expire_at_ms, Version version) {
  const Errc status = co_await write(shard, home.memory, model.oracle, std::move(key),
                                     std::move(value), expire_at_ms, version);
  if (status != Errc::ok && status != Errc::overloaded) {
    model.wrong(fmt::format("a write: {}", to_string(status)));
  }
}

// What another node stamped, a little earlier or later. An older one comes only where something
// stays that wins for good: a purged tombstone hides nothing any more.
Version foreign_version(Shard& shard, ShardHome& home, Model& model, const std::string& key) {
  if (!model.prng.one_in(10)) return {};
  const uint64_t distance = hlc_from_us(any_magnitude(model.prng, 1'000'000));
  const uint64_t now = std::max(home.clock.last(), hlc_from_us(Reactor::current().wall_us()));
  const Version later{now + distance, model.prng.next()};
  const CrashOracle::Write* winner = model.oracle.winner_at(shard.visible_seq(), key);
  if (winner == nullptr || winner->value == nullptr || winner->expire_at_ms != 0) return later;
  const Version earlier{winner->version.hlc - distance, model.prng.next()};
  return model.prng.one_in(2) ? earlier : later;
}

Make any_make(Model& model) {
  const std::string text = model.value();
  const uint64_t kind = model.prng.below(5);
  uint64_t expire_at_ms = 0;
  if (model.prng.one_in(5)) {
    expire_at_ms = Reactor::current().wall_ms() + 1 + any_magnitude(model.prng, 3'000);
  }
  return [=](const std::optional<std::string>& current) -> std::optional<Made> {
    switch (kind) {
      case 0:  // set if absent
        if (current) return std::nullopt;
        return Made{.value = text, .expire_at_ms = expire_at_ms};
      case 1:  // another expiry
        if (!current) return std::nullopt;
        return Made{.value = current, .expire_at_ms = expire_at_ms};
      case 2:  // take it away
        if (!current) return std::nullopt;
        return Made{};
      default:  // append
        if (!current || current->size() > 300'000) return Made{.value = text};
        return Made{.value = *current + text, .expire_at_ms = expire_at_ms};
    }
  };
}

Task<void> modify_one(Shard& shard, ShardHome& home, Model& model, std::string key, Make make) {
  ModifyEnd end = co_await modify(shard, home.memory, model.oracle, key, std::move(make));
  // Twice a large value may be more than all the memory for writes.
  if (end.status != Errc::ok && end.status != Errc::overloaded && end.status != Errc::too_large) {
    model.wrong(fmt::format("a modify: {}", to_string(end.status)));
  }
  ++model.counts.modifies;
  if (end.status == Errc::ok && end.seq == 0) ++model.counts.modifies_left;
  if (end.status == Errc::ok) model.modified.emplace_back(std::move(key), std::move(end));
}

// Each has seen what came before it, when all that did is known.
void check_modified(Model& model) {
  for (const auto& [key, end] : std::exchange(model.modified, {})) {
    if (end.seq == 0) continue;
    const CrashOracle::Write* before = model.oracle.winner_at(end.seq - 1, key);
    const bool present = before != nullptr && before->live(end.now_ms);
    if (present != end.seen.has_value() || (present && *before->value != *end.seen)) {
      model.wrong(fmt::format("a modify of {}, seq {}, saw {} bytes, not the {} of seq {}", key,
                              end.seq, end.seen ? end.seen->size() : 0,
                              present ? before->value->size() : 0,
                              before != nullptr ? before->seq : 0));
    }
  }
}

// Several at once, of which later ones may overtake large ones.
Task<void> write_step(Shard& shard, ShardHome& home, Model& model) {
  Scope scope;
  const uint64_t count = any_magnitude(model.prng, 64);
  const uint64_t modify_one_in = 1 + model.prng.below(8);
  model.oracle.keep_all();
  for (uint64_t i = 0; i < count; ++i) {
    std::string key = model.key();
    if (model.prng.one_in(modify_one_in)) {
      scope.spawn(modify_one(shard, home, model, std::move(key), any_make(model)));
      continue;
    }
    std::optional<std::string> value;
    uint64_t expire_at_ms = 0;
    if (!model.prng.one_in(4)) {
      value = model.value();
      if (model.prng.one_in(5)) {
        expire_at_ms = Reactor::current().wall_ms() + 1 + any_magnitude(model.prng, 3'000);
      }
    }
    const Version version = foreign_version(shard, home, model, key);
    scope.spawn(
        write_one(shard, home, model, std::move(key), std::move(value), expire_at_ms, version));
  }
  model.counts.operations += count;
  co_await scope.join();
  if (model.goes_on()) check_modified(model);
  model.modified.clear();
  model.oracle.keep_all(false);
}

Task<void> read_step(Shard& shard, Model& model) {
  for (uint64_t left = 1 + model.prng.below(8); left > 0 && model.goes_on(); --left) {
    ++model.counts.operations;
    const uint64_t now_ms = Reactor::current().wall_ms();
    const std::string key = model.key();
    const auto expected = model.oracle.get_at(shard.visible_seq(), key, now_ms);
    const auto found = co_await get_at(shard, key, now_ms);
    if (!found) {
      model.wrong("a read: " + found.error().message());
    } else if (found->has_value() != (expected != nullptr) || (expected && **found != *expected)) {
      model.wrong("a read of " + key);
    }
  }
}

Task<void> scan_step(Shard& shard, Model& model) {
  ++model.counts.operations;
  ++model.counts.scans;
  const uint64_t now_ms = Reactor::current().wall_ms();
  ScanRange range;
  if (model.prng.one_in(4)) {
    range = ScanRange::of_prefix(fmt::format("k{}", model.prng.below(10)));
  } else {
    const uint64_t first = model.key_number();
    range.start = fmt::format("k{:02}", first);
    range.end = fmt::format("k{:02}", std::min<uint64_t>(99, first + model.prng.below(8)));
  }
  if (model.prng.one_in(2)) range.direction = ScanDirection::reverse;
  const auto expected = model.oracle.view_at(shard.visible_seq(), now_ms, range.start, range.end);
  auto scan = co_await shard.scan(range, now_ms);
  if (!scan) {
    model.wrong("a scan: " + scan.error().message());
    co_return;
  }
  const auto found = co_await drain(**scan, range.direction);
  if (!found) {
    model.wrong("a scan: " + found.error().message());
  } else if (std::string text = CrashOracle::differences(expected, *found); !text.empty()) {
    const bool forward = range.direction == ScanDirection::forward;
    model.wrong(fmt::format("the scan {} [{}, {}):{}", forward ? "of" : "back over", range.start,
                            range.end, text));
  }
}

// Reads slowly while the next steps run.
Task<void> slow_scan(std::unique_ptr<Scan> scan, CrashOracle::View view, Model& model,
                     uint64_t seed, ScanDirection direction) {
  sim::Prng prng(seed, "slow scan");
  std::vector<std::pair<std::string, std::shared_ptr<const std::string>>> expected(view.begin(),
                                                                                   view.end());
  if (direction == ScanDirection::reverse) std::reverse(expected.begin(), expected.end());
  const uint64_t pause_one_in = 1 + prng.below(8);
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
        scan->value_bytes() != at->second->size() ||
        (!scan->large() && scan->entry().value != *at->second)) {
      model.wrong("a slow scan at " + std::string(scan->entry().key));
      co_return;
    }
    ++at;
    if (prng.one_in(pause_one_in)) {
      co_await sleep_for(static_cast<Nanos>(prng.below(20'000'000)));
    }
  }
  if (at != expected.end()) model.wrong("a slow scan ends before " + at->first);
}

Task<void> begin_slow_scan(Shard& shard, Model& model, Scope& others) {
  ++model.counts.operations;
  ++model.counts.scans;
  const uint64_t now_ms = Reactor::current().wall_ms();
  auto expected = model.oracle.view_at(shard.visible_seq(), now_ms);
  const auto direction = model.prng.one_in(2) ? ScanDirection::forward : ScanDirection::reverse;
  auto scan = co_await shard.scan({.start = "", .end = "", .direction = direction}, now_ms);
  if (!scan) {
    model.wrong("a scan: " + scan.error().message());
    co_return;
  }
  others.spawn(
      slow_scan(std::move(*scan), std::move(expected), model, model.prng.next(), direction));
}

Task<void> background_step(Shard& shard, Model& model, unsigned which) {
  ++model.counts.operations;
  const uint64_t seq = shard.visible_seq();
  Result<void> done{};
  if (which == 0) done = co_await shard.flush();
  if (which == 1) done = co_await shard.settle();
  if (which == 2) done = co_await shard.compact();
  if (done && which != 1) model.oracle.durable_through(seq);
  if (!done && done.error().code != Errc::closed) {
    model.wrong("background work: " + done.error().message());
  }
}

Task<void> check_all(Shard& shard, Model& model, const char* when) {
  const uint64_t now_ms = Reactor::current().wall_ms();
  const uint64_t visible_seq = shard.visible_seq();
  auto scan = co_await shard.scan(ScanRange{}, now_ms);
  if (!scan) {
    model.wrong(fmt::format("{}: {}", when, scan.error().message()));
    co_return;
  }
  const auto found = co_await drain(**scan);
  if (!found) {
    model.wrong(fmt::format("{}: {}", when, found.error().message()));
    co_return;
  }
  const std::string text = model.oracle.check(*found, visible_seq, now_ms);
  if (!text.empty()) model.wrong(fmt::format("{}: {}", when, text));
}

// --- lives ---------------------------------------------------------------------------------------

Task<void> steps(Shard& shard, ShardHome& home, Model& model) {
  Scope others;
  sim::Prng& prng = model.prng;
  while (model.counts.operations < model.life_end && model.goes_on()) {
    const uint64_t dice = prng.below(1000);
    if (dice < 450) {
      model.step('w');
      co_await write_step(shard, home, model);
    } else if (dice < 850) {
      model.step('r');
      co_await read_step(shard, model);
    } else if (dice < 930) {
      model.step('s');
      co_await scan_step(shard, model);
    } else if (dice < 950) {
      model.step('S');
      co_await begin_slow_scan(shard, model, others);
    } else if (dice < 975) {
      const auto which = static_cast<unsigned>(prng.below(3));
      model.step("fsc"[which]);
      if (prng.one_in(2)) {
        others.spawn(background_step(shard, model, which));
      } else {
        co_await background_step(shard, model, which);
      }
    } else {
      model.step('t');
      ++model.counts.operations;
      co_await sleep_for(static_cast<Nanos>(any_magnitude(prng, 1'500'000'000)));
    }
  }
  co_await others.join();
  if (model.goes_on()) co_await check_all(shard, model, "at the end of a life");
}

Task<void> model_life(Model& model) {
  ShardHome home(model.options.write_memory_bytes);
  auto opened = co_await Shard::open(model.options.shard, home.context());
  if (!opened) {
    model.wrong("it does not open: " + opened.error().message());
    co_return;
  }
  Shard& shard = **opened;
  co_await check_all(shard, model, "after open");
  if (model.goes_on()) {
    model.oracle.adopt(shard.visible_seq());
    co_await steps(shard, home, model);
  }
  model.counts.flushes += shard.stats().flushes;
  model.counts.compactions += shard.stats().compactions;
  model.counts.modifies_read += shard.stats().modifies_read;
  model.counts.recovered_records += shard.stats().records_recovered;
  const uint64_t seq = shard.visible_seq();
  const bool flushes = model.prng.one_in(2);
  model.step(flushes ? 'C' : 'c');
  const Result<void> closed = co_await shard.close(flushes);
  if (!closed) model.wrong("close: " + closed.error().message());
  if (model.goes_on()) model.oracle.durable_through(seq);
}

// What becomes of the next life.
sim::CrashMode prepare_end(Model& model, ShardRig& rig) {
  sim::Prng& prng = model.prng;
  const uint64_t fate = prng.below(4);
  rig.disk().stop_at(0, sim::CrashPhase::before);
  if (fate == 1) {
    const auto phase =
        pick(prng, {sim::CrashPhase::before, sim::CrashPhase::during, sim::CrashPhase::after});
    rig.disk().stop_at(rig.disk().write_points() + any_magnitude(prng, 2'000), phase);
  }
  if (fate == 2) rig.kill_after(static_cast<Nanos>(any_magnitude(prng, 4'000'000'000)));
  return pick(prng, {sim::CrashMode::lost, sim::CrashMode::torn, sim::CrashMode::garbled,
                     sim::CrashMode::random});
}

}  // namespace

std::string run_model(uint64_t seed, uint64_t operations, ModelCounts& counts) {
  const uint64_t end = counts.operations + operations;
  ShardRig rig(sim::WorldOptions{.seed = seed}, random_model_options(seed).disk);
  Model model(seed, rig, counts);
  for (unsigned life = 0; counts.operations < end; ++life) {
    model.trail.clear();
    model.life_end = std::min(end, counts.operations + 100 + model.prng.below(operations / 2 + 1));
    const sim::CrashMode mode = prepare_end(model, rig);
    ++counts.lives;
    const LifeEnd life_end = rig.live(model_life(model), mode);
    if (!model.error.empty()) {
      return fmt::format("seed {}, life {} (…{}): {}", seed, life, model.trail, model.error);
    }
    if (life_end == LifeEnd::power_cut) ++counts.power_cuts;
    if (life_end == LifeEnd::killed) ++counts.kills;
    if (life_end == LifeEnd::finished && model.prng.one_in(3)) rig.cut_power(mode);
  }
  return "";
}

}  // namespace gyre::test
