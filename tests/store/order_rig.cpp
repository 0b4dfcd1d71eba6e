#include "order_rig.hpp"

#include <fmt/format.h>

#include "../sim/crash_oracle.hpp"

namespace gyre::test {

namespace {

constexpr uint64_t key_count = 40;
constexpr unsigned writes_per_writer = 60;
constexpr unsigned scans_per_reader = 6;
constexpr unsigned lookups_per_reader = 25;

// What one read answered, and as of when. Compared at the end, when the numbers of all writes are
// known.
struct Answer {
  uint64_t seq = 0;
  uint64_t now_ms = 0;
  std::string start, end;
  Contents found;
};

struct Order {
  Order(uint64_t seed, ShardRig& on, OrderCounts& counted)
      : prng(seed, "order"), rig(on), counts(counted) {
    oracle.keep_all();
  }
  sim::Prng prng;
  ShardRig& rig;
  OrderCounts& counts;
  CrashOracle oracle;
  std::vector<Answer> answers;
  unsigned writers = 0;  // still at work
  std::string error;

  void wrong(std::string what) {
    if (error.empty()) error = std::move(what);
  }
  std::string key() { return fmt::format("k{:02}", prng.below(key_count)); }
};

uint64_t installs(const Shard& shard) {
  return shard.stats().flushes + shard.stats().compactions;
}

ShardOptions order_options(sim::Prng& prng) {
  ShardOptions options = small_shard_options();
  const auto pick = [&](std::initializer_list<uint64_t> choices) {
    return choices.begin()[prng.below(choices.size())];
  };
  options.memtable_bytes_max = pick({2u << 10, 8u << 10, 32u << 10});
  options.cache_bytes = pick({1, 8u << 10, 1u << 20});
  options.table.block_bytes_target = static_cast<uint32_t>(pick({64, 1024}));
  options.table.partition_blocks_max = static_cast<uint32_t>(pick({1, 4}));
  options.table.large_value_bytes_min = pick({300, 64u << 10});
  options.table.chunk_bytes = 500;
  options.compaction.l0_trigger = static_cast<unsigned>(pick({1, 2, 4}));
  options.compaction.fanout = 2;
  options.compaction.base_bytes_min = pick({1, 8u << 10});
  options.compaction.table_bytes_target = pick({1, 2u << 10, 16u << 10});
  options.separate_value_bytes_min = pick({1, 100, no_value_separation});
  options.value_file_bytes_max = pick({1, 4u << 10});
  return options;
}

sim::DiskOptions order_disk(uint64_t seed) {
  sim::Prng prng(seed, "disk");
  const auto latency = [&](int64_t max_us) {
    return sim::Latency{
        microseconds(10),
        microseconds(20 + static_cast<int64_t>(prng.below(static_cast<uint64_t>(max_us))))};
  };
  sim::DiskOptions disk;
  disk.read = latency(prng.one_in(2) ? 80'000 : 2'000);
  disk.write = latency(3'000);
  disk.sync = latency(10'000);
  disk.name = latency(3'000);
  return disk;
}

Task<void> pause(Order& order, uint64_t max_us) {
  co_await sleep_for(microseconds(static_cast<int64_t>(order.prng.below(max_us))));
}

Task<void> writer(Shard& shard, ShardHome& home, Order& order) {
  for (unsigned i = 0; i < writes_per_writer; ++i) {
    std::optional<std::string> value;
    uint64_t expire_at_ms = 0;
    if (!order.prng.one_in(3)) {
      value = noise(order.prng.next(), order.prng.below(order.prng.one_in(10) ? 4'000 : 300));
      if (order.prng.one_in(4)) {
        expire_at_ms = Reactor::current().wall_ms() + 1 + order.prng.below(400);
      }
    }
    const Errc status = co_await write(shard, home.memory, order.oracle, order.key(),
                                       std::move(value), expire_at_ms);
    if (status != Errc::ok && status != Errc::overloaded) {
      order.wrong(fmt::format("a write: {}", to_string(status)));
    }
    ++order.counts.writes;
    if (order.prng.one_in(3)) co_await pause(order, 20'000);
  }
  --order.writers;
}

Task<void> churner(Shard& shard, Order& order) {
  while (order.writers != 0) {
    co_await pause(order, 60'000);
    const uint64_t dice = order.prng.below(4);
    Result<void> done{};
    if (dice <= 1) done = co_await shard.flush();
    if (dice == 2) done = co_await shard.settle();
    if (dice == 3) done = co_await shard.compact();
    if (!done) order.wrong("background work: " + done.error().message());
  }
}

Task<void> scanner(Shard& shard, Order& order) {
  for (unsigned i = 0; i < scans_per_reader && order.error.empty(); ++i) {
    co_await pause(order, 60'000);
    Answer answer{.seq = shard.visible_seq(), .now_ms = Reactor::current().wall_ms()};
    if (order.prng.one_in(3)) answer.start = order.key();
    if (order.prng.one_in(3)) answer.end = order.key();
    const uint64_t installs_before = installs(shard);
    auto scan = co_await shard.scan(answer.start, answer.end, answer.now_ms);
    if (!scan) {
      order.wrong("a scan: " + scan.error().message());
      co_return;
    }
    const uint64_t pause_one_in = 1 + order.prng.below(4);
    for (Scan::Step step; (step = (*scan)->try_next()) != Scan::Step::end;) {
      if (step == Scan::Step::wait) {
        if (Result<void> loaded = co_await (*scan)->load(); !loaded) {
          order.wrong("a scan: " + loaded.error().message());
          co_return;
        }
        continue;
      }
      const std::string key((*scan)->entry().key);
      if (!answer.found.empty() && answer.found.rbegin()->first >= key) {
        order.wrong("a scan out of order at " + key);
      }
      std::string& value = answer.found[key];
      if ((*scan)->large()) {
        auto stream = (*scan)->large_value();
        Result<std::string> all = stream ? co_await read_all(std::move(*stream))
                                         : Result<std::string>(fail(stream.error()));
        if (!all) order.wrong("a large value: " + all.error().message());
        if (all) value = std::move(*all);
      } else {
        value = (*scan)->entry().value;
      }
      if (order.prng.one_in(pause_one_in)) co_await pause(order, 30'000);
    }
    ++order.counts.scans;
    if (installs(shard) != installs_before) ++order.counts.scans_across_installs;
    order.answers.push_back(std::move(answer));
  }
}

Task<void> reader(Shard& shard, Order& order) {
  for (unsigned i = 0; i < lookups_per_reader && order.error.empty(); ++i) {
    co_await pause(order, 40'000);
    Answer answer{.seq = shard.visible_seq(), .now_ms = Reactor::current().wall_ms()};
    answer.start = order.key();
    answer.end = answer.start + '\0';
    const uint64_t installs_before = installs(shard);
    const uint64_t waited_before = shard.stats().reads_waited;
    const auto found = co_await get_at(shard, answer.start, answer.now_ms);
    if (!found) {
      order.wrong("a lookup: " + found.error().message());
      co_return;
    }
    if (*found) answer.found[answer.start] = **found;
    if (shard.stats().reads_waited != waited_before) {
      ++order.counts.lookups;
      if (installs(shard) != installs_before) ++order.counts.lookups_across_installs;
    }
    order.answers.push_back(std::move(answer));
  }
}

Task<void> order_life(Order& order) {
  ShardHome home;
  auto opened = co_await Shard::open(order_options(order.prng), home.context());
  if (!opened) {
    order.wrong("it does not open: " + opened.error().message());
    co_return;
  }
  Shard& shard = **opened;
  Scope scope;
  for (unsigned i = 0; i < 3; ++i) {
    ++order.writers;
    scope.spawn(writer(shard, home, order));
  }
  for (unsigned i = 0; i < 2; ++i) scope.spawn(churner(shard, order));
  for (unsigned i = 0; i < 3; ++i) scope.spawn(scanner(shard, order));
  for (unsigned i = 0; i < 4; ++i) scope.spawn(reader(shard, order));
  co_await scope.join();
  // Nobody reads any more: what is obsolete has gone.
  Result<void> settled = co_await shard.flush();
  if (settled) settled = co_await shard.settle();
  if (!settled) order.wrong("settling: " + settled.error().message());
  // Nor are there values left to be moved, after a while.
  for (unsigned i = 0; i < 600 && shard.tables().value_totals().sparse_files != 0; ++i) {
    co_await sleep_for(milliseconds(100));
  }
  if (shard.tables().value_totals().sparse_files != 0) order.wrong("sparse value files stay");
  co_await sleep_for(seconds(1));
  std::vector<DirEntry> entries;
  order.rig.disk().list_dir(shard.options().directory, entries);
  std::erase_if(entries, [](const DirEntry& e) { return !e.name.ends_with(".table"); });
  if (entries.size() != shard.levels().table_count()) {
    order.wrong(fmt::format("{} tables, but {} files of tables", shard.levels().table_count(),
                            entries.size()));
  }
  order.rig.disk().list_dir(shard.options().directory, entries);
  std::erase_if(entries, [](const DirEntry& e) { return !e.name.ends_with(".values"); });
  if (entries.size() != shard.tables().value_totals().files) {
    order.wrong(fmt::format("{} value files are named, {} are there",
                            shard.tables().value_totals().files, entries.size()));
  }
  const Result<void> closed = co_await shard.close(true);
  if (!closed) order.wrong("close: " + closed.error().message());
}

}  // namespace

std::string run_order(uint64_t seed, OrderCounts& counts) {
  ShardRig rig(sim::WorldOptions{.seed = seed}, order_disk(seed));
  Order order(seed, rig, counts);
  rig.live(order_life(order));
  for (const Answer& answer : order.answers) {
    const auto expected = order.oracle.view_at(answer.seq, answer.now_ms, answer.start, answer.end);
    const std::string wrong = CrashOracle::differences(expected, answer.found);
    if (!wrong.empty()) {
      order.wrong(
          fmt::format("[{}, {}) as of seq {}:{}", answer.start, answer.end, answer.seq, wrong));
    }
  }
  return order.error.empty() ? "" : fmt::format("seed {}: {}", seed, order.error);
}

}  // namespace gyre::test
