// When tables are merged: two jobs side by side, the more urgent first, what is dead reclaimed
// without being asked, and writers slowed down as much as is needed.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "shard_rig.hpp"
#include "store/await_write.hpp"
#include "store/source_cursor.hpp"

namespace gyre::test {
namespace {

constexpr unsigned bottom = limits::table_level_count - 1;

// --- side by side --------------------------------------------------------------------------------

ShardOptions deep_shard_options() {
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 32u << 10;
  options.compaction.fanout = 3;
  options.compaction.l0_trigger = 2;
  options.compaction.base_bytes_min = 32u << 10;
  options.compaction.table_bytes_target = 8u << 10;
  options.table.codec = Codec::none;
  return options;
}

Task<void> write_keys(Shard* shard, uint64_t seed, uint64_t writes, Contents* expected) {
  sim::Prng prng(seed, "keys");
  for (uint64_t i = 0; i < writes; ++i) {
    const std::string key = fmt::format("{}-{:05}", seed, prng.below(3000));
    const std::string value = noise(seed * 1'000'000 + i, 100);
    CO_OK(co_await put(*shard, key, value));
    (*expected)[key] = value;
  }
}

void check_disjoint(const TableLevels& levels) {
  for (unsigned level = 1; level <= bottom; ++level) {
    const TableLevels::Level& tables = levels.level(level);
    for (size_t i = 1; i < tables.size(); ++i) {
      CHECK(tables[i - 1]->record().largest_key < tables[i]->record().smallest_key);
    }
  }
}

Task<void> merge_side_by_side(uint64_t seed, uint64_t writes, ShardStats* stats) {
  ShardHome home;
  auto opened = co_await Shard::open(deep_shard_options(), home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  Contents expected[8];
  Scope scope;
  for (uint64_t writer = 0; writer < 8; ++writer) {
    scope.spawn(write_keys(&shard, seed + writer, writes, &expected[writer]));
  }
  for (unsigned i = 0; i < 50; ++i) {
    co_await sleep_for(milliseconds(100));
    check_disjoint(shard.levels());
  }
  co_await scope.join();
  CO_OK(co_await shard.settle());
  check_disjoint(shard.levels());
  Contents all;
  for (Contents& of_writer : expected) all.merge(of_writer);
  const auto found = co_await scan_all(shard);
  CO_OK(found);
  CHECK(*found == all);
  *stats = shard.stats();
  CO_OK(co_await shard.close(true));
}

TEST_CASE(
    "two merges side by side keep levels sorted and data whole; the less urgent stands still") {
  uint64_t paused = 0;
  uint64_t compactions = 0;
  for (uint64_t seed = 1; seed <= scaled(8, 2); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed, {.read = {microseconds(100), milliseconds(2)},
                        .write = {microseconds(100), milliseconds(2)}});
    ShardStats stats;
    CHECK(rig.live(merge_side_by_side(seed * 100, scaled(3000, 1000), &stats)) ==
          LifeEnd::finished);
    paused += stats.merges_paused;
    compactions += stats.compactions;
  }
  CHECK(compactions > 100);
  CHECK(paused > 10);
}

Task<void> fill_in_order(ShardStats* stats) {
  ShardHome home;
  auto opened = co_await Shard::open(deep_shard_options(), home.context());
  CO_OK(opened);
  for (unsigned i = 0; i < 5000; ++i) {
    CO_OK(co_await put(**opened, fmt::format("{:06}", i), noise(i, 100)));
  }
  CO_OK(co_await (*opened)->settle());
  *stats = (*opened)->stats();
  CO_CHECK((*co_await scan_all(**opened)).size() == 5000);
  CO_OK(co_await (*opened)->close(true));
}

TEST_CASE("filling in key order moves tables and merges none") {
  ShardRig rig(2);
  ShardStats stats;
  CHECK(rig.live(fill_in_order(&stats)) == LifeEnd::finished);
  CHECK(stats.trivial_moves > 10);
  CHECK(stats.compacted_bytes_written == 0);
}

// Four runs are to be merged and nothing else happens. How long that takes.
Task<void> merge_in_peace(bool paced, Nanos* took, uint64_t* bytes) {
  ShardHome home(64u << 20);
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 16u << 20;
  options.compaction.paced = paced;
  options.compaction.table_bytes_target = 4u << 20;
  options.table.codec = Codec::none;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  for (unsigned run = 0; run < 4; ++run) {
    for (unsigned i = 0; i < 400; ++i) {
      CO_OK(co_await put(shard, fmt::format("{:06}", i * 4 + run), noise(i, 5000)));
    }
    co_await sleep_for(seconds(100));  // what was written is no longer recent
    CO_OK(co_await shard.flush());
  }
  const Nanos start = Reactor::current().now();
  while (shard.levels().level(0).size() != 0) co_await sleep_for(milliseconds(1));
  *took = Reactor::current().now() - start;
  *bytes = shard.stats().compacted_bytes_read;
  CO_OK(co_await shard.close(true));
}

TEST_CASE("a merge that nothing waits for takes its time, unless it is told not to") {
  for (const bool paced : {true, false}) {
    CAPTURE(paced);
    ShardRig rig(6, {.bytes_per_second = 1'000'000'000});
    Nanos took = 0;
    uint64_t bytes = 0;
    CHECK(rig.live(merge_in_peace(paced, &took, &bytes)) == LifeEnd::finished);
    CHECK(bytes > 8'000'000);
    // At half of the soft limit: twice the least pace, once the writes before are forgotten.
    const double at_pace_s =
        static_cast<double>(bytes) / (2 * WriteController::merge_bytes_per_second_min);
    const double took_s = static_cast<double>(took) / 1e9;
    if (paced) {
      CHECK(took_s > at_pace_s / 2);
    } else {
      CHECK(took_s < at_pace_s / 2);
    }
    MESSAGE(took_s << " s for " << bytes << " bytes, at the pace " << at_pace_s << " s");
  }
}

// --- what is dead --------------------------------------------------------------------------------

enum class Death : uint8_t { removed, expired, most_expired };

Task<void> die(Death death, uint64_t* bytes_before, uint64_t* bytes_after, ShardStats* stats) {
  ShardHome home;
  ShardOptions options = deep_shard_options();
  options.compaction.l0_trigger = 4;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  const uint64_t soon = Reactor::current().wall_ms() + 120'000;
  for (unsigned i = 0; i < 3000; ++i) {
    const bool lasts = death == Death::removed || (death == Death::most_expired && i % 3 == 0);
    CO_OK(co_await put(shard, fmt::format("{:06}", i * 7919 % 3000), noise(i, 100),
                       lasts ? 0 : soon));
  }
  CO_OK(co_await shard.compact());
  *bytes_before = shard.levels().total_bytes();
  if (death == Death::removed) {
    for (unsigned i = 0; i < 3000; ++i) CO_OK(co_await shard.remove(fmt::format("{:06}", i)));
    CO_OK(co_await shard.flush());
  }
  co_await sleep_for(seconds(600));
  *bytes_after = shard.levels().total_bytes();
  *stats = shard.stats();
  const auto found = co_await scan_all(shard);
  CO_OK(found);
  CHECK(found->size() == (death == Death::most_expired ? 1000 : 0));
  CO_OK(co_await shard.close(true));
}

TEST_CASE("the space of what was removed or has expired comes back without being asked for") {
  for (const Death death : {Death::removed, Death::expired, Death::most_expired}) {
    CAPTURE(static_cast<int>(death));
    ShardRig rig(3);
    uint64_t before = 0;
    uint64_t after = 0;
    ShardStats stats;
    CHECK(rig.live(die(death, &before, &after, &stats)) == LifeEnd::finished);
    CHECK(before > 300'000);
    CHECK(stats.reclaims > 0);
    if (death == Death::most_expired) {
      CHECK(after < before * 45 / 100);
      CHECK(after > before * 25 / 100);
    } else {
      CHECK(after == 0);
    }
  }
}

// The tombstones that a scan of everything would pass over.
Task<Result<uint64_t>> tombstones_met(Shard& shard) {
  uint64_t met = 0;
  for (unsigned level = 0; level <= bottom; ++level) {
    for (const TableRef& table : shard.levels().level(level)) {
      SourceCursor cursor(std::vector<TableRef>{table}, TableCursorOptions::for_scan());
      Result<void> moved = co_await cursor.seek("");
      while (moved && cursor.valid()) {
        met += cursor.entry().is_tombstone() ? 1 : 0;
        if (!cursor.next()) moved = co_await cursor.load_next();
      }
      if (!moved) co_return fail(moved.error());
    }
  }
  co_return met;
}

struct Removals {
  unsigned keys;
  unsigned removed;
  bool in_a_row;
  bool reclaimed;
};

// Some keys are removed, the others overwritten.
Task<void> remove_some(Removals removals, uint64_t* met, ShardStats* stats) {
  ShardHome home;
  ShardOptions options = deep_shard_options();
  options.memtable_bytes_max = 1u << 20;
  options.compaction.l0_trigger = 4;
  options.compaction.table_bytes_target = 64u << 10;
  options.table.block_bytes_target = 512;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  const auto key = [](unsigned i) { return fmt::format("{:06}", i); };
  const auto [keys, removed, in_a_row, reclaimed] = removals;
  for (unsigned i = 0; i < keys; ++i) CO_OK(co_await put(shard, key(i), noise(i, 40)));
  CO_OK(co_await shard.compact());
  for (unsigned i = 0; i < keys; ++i) {
    const bool removes =
        in_a_row ? i >= keys / 2 && i < keys / 2 + removed : i % (keys / removed) == 1;
    if (removes) {
      CO_OK(co_await shard.remove(key(i)));
    } else {
      CO_OK(co_await put(shard, key(i), noise(i, 40)));
    }
  }
  CO_OK(co_await shard.flush());
  CO_REQUIRE(shard.levels().level(0).size() == 1);
  {
    const TableFile& table = *shard.levels().level(0)[0];
    CHECK(table.properties().tombstone_count == removed);
    CHECK((table.properties().tombstone_dense_block_count != 0) == in_a_row);
    CHECK(dead_share(table, Reactor::current().wall_ms()) <= 0.25);
    CHECK(is_tombstone_dense(table) == reclaimed);
  }
  co_await sleep_for(seconds(600));
  const Result<uint64_t> counted = co_await tombstones_met(shard);
  CO_OK(counted);
  *met = *counted;
  *stats = shard.stats();
  const auto found = co_await scan_all(shard);
  CO_OK(found);
  CHECK(found->size() == keys - removed);
  CO_OK(co_await shard.close(true));
}

TEST_CASE("tombstones in a long row are merged away without being asked for, others are not") {
  for (const Removals removals : {Removals{2000, 500, true, true},    // 12 % of the blocks
                                  Removals{2000, 100, true, false},   // 2 % of the blocks
                                  Removals{100, 25, true, false},     // a tenth, but one or two
                                  Removals{2000, 500, false, false},  // spread thin
                                  Removals{2000, 100, false, false}}) {
    CAPTURE(removals.keys);
    CAPTURE(removals.removed);
    CAPTURE(removals.in_a_row);
    ShardRig rig(8);
    uint64_t met = 0;
    ShardStats stats;
    CHECK(rig.live(remove_some(removals, &met, &stats)) == LifeEnd::finished);
    CHECK(met == (removals.reclaimed ? 0 : removals.removed));
    CHECK(stats.reclaims == (removals.reclaimed ? 1 : 0));
  }
}

// Tombstones that must stay, because the replicas may not have them: nothing is written again and
// again for them.
Task<void> hold_back(const bool* may_go) {
  ShardHome home;
  uint64_t purge_hlc_max = 0;
  ShardContext context = home.context();
  context.purge_hlc_max = &purge_hlc_max;
  auto opened = co_await Shard::open(deep_shard_options(), context);
  CO_OK(opened);
  Shard& shard = **opened;
  for (unsigned i = 0; i < 300; ++i) CO_OK(co_await put(shard, fmt::format("{:06}", i), "x"));
  for (unsigned i = 0; i < 300; ++i) CO_OK(co_await shard.remove(fmt::format("{:06}", i)));
  CO_OK(co_await shard.compact());
  CHECK(shard.levels().table_count() > 0);
  const auto tombstones = [&] {
    uint64_t count = 0;
    for (const TableRef& table : shard.levels().level(bottom)) {
      count += table->record().tombstone_count;
    }
    return count;
  };
  CHECK(tombstones() == 300);
  const uint64_t written = shard.stats().compacted_bytes_written;
  co_await sleep_for(seconds(10'000));
  CHECK(tombstones() == 300);
  CHECK(shard.stats().reclaims < 30);  // ever less often
  CHECK(shard.stats().compacted_bytes_written < written * 40);
  if (*may_go) {
    purge_hlc_max = UINT64_MAX;
    co_await sleep_for(seconds(5'000));
    CHECK(shard.levels().table_count() == 0);
  }
  CO_OK(co_await shard.close(true));
}

TEST_CASE("a tombstone stays until every replica is known to have it") {
  for (const bool may_go : {false, true}) {
    ShardRig rig(4);
    CHECK(rig.live(hold_back(&may_go)) == LifeEnd::finished);
  }
}

// --- what can't be read --------------------------------------------------------------------------

Task<void> fill_one_level() {
  ShardHome home;
  auto opened = co_await Shard::open(deep_shard_options(), home.context());
  CO_OK(opened);
  for (unsigned i = 0; i < 1000; ++i) {
    CO_OK(co_await put(**opened, fmt::format("{:06}", i), noise(i, 100)));
  }
  CO_OK(co_await (*opened)->compact());
  CHECK((*opened)->levels().level(bottom).size() > 5);
  CO_OK(co_await (*opened)->close(true));
}

// `unreadable`: of the keys that nothing newer covers.
Task<void> check_around_damage(Shard& shard, unsigned& unreadable) {
  unreadable = 0;
  for (unsigned i = 0; i < 1000; ++i) {
    const auto found = co_await get(shard, fmt::format("{:06}", i));
    if (!found) {
      ++unreadable;
      CHECK(found.error().code == Errc::corrupt);
      continue;
    }
    if (i % 7 == 3) {
      CO_CHECK(!found->has_value());
    } else {
      CO_CHECK(*found == noise(i, 100));
    }
  }
}

Task<void> live_with_damage(bool write) {
  ShardHome home;
  const ShardOptions options = deep_shard_options();
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  if (write) {
    for (unsigned i = 3; i < 1000; i += 7) CO_OK(co_await shard.remove(fmt::format("{:06}", i)));
    for (unsigned i = 0; i < 12'000; ++i) {
      CO_OK(co_await put(shard, fmt::format("{:06}-{}", i * 37 % 1000, i), noise(i, 100)));
    }
    CHECK(shard.stats().flushes > 2 * options.compaction.l0_stop);
  }
  static_cast<void>(co_await shard.compact());  // the first may stumble over it
  CO_OK(co_await shard.compact());
  CHECK(!shard.read_only());
  CHECK(shard.damaged_tables().size() == 1);
  CHECK(shard.levels().level(0).size() == 1);
  CHECK(shard.levels().level(0)[0]->is_damaged());
  unsigned unreadable = 0;
  co_await check_around_damage(shard, unreadable);
  CHECK(unreadable > 0);
  CHECK(unreadable < 200);  // a table's; its other blocks are read
  CO_OK(co_await shard.close(true));
}

TEST_CASE("merges go around a damaged table: writes go on, the rest is read, nothing comes back") {
  ShardRig rig(7);
  CHECK(rig.live(fill_one_level()) == LifeEnd::finished);
  std::vector<DirEntry> entries;
  rig.disk().list_dir("shard", entries);
  std::erase_if(entries, [](const DirEntry& e) { return !e.name.ends_with(".table"); });
  REQUIRE(entries.size() > 5);
  REQUIRE(rig.disk().corrupt("shard/" + entries[entries.size() / 2].name, 100, 4));
  CHECK(rig.live(live_with_damage(true)) == LifeEnd::finished);
  CHECK(rig.live(live_with_damage(false)) == LifeEnd::finished);
}

// --- writers -------------------------------------------------------------------------------------

struct WriterStats {
  uint64_t taken = 0;
  uint64_t refused = 0;
  Nanos longest = 0;
  std::vector<uint64_t> taken_by_second;
};

Task<void> write_for(Shard* shard, Semaphore* memory, uint64_t seed, Nanos end, WriterStats* out) {
  Reactor& reactor = Reactor::current();
  const Nanos start = reactor.now();
  sim::Prng prng(seed, "overload");
  while (reactor.now() < end) {
    AwaitWrite write(*shard);
    write.key_storage = fmt::format("{:08}", prng.below(100'000));
    write.record.key = write.key_storage;
    const std::string value = noise(prng.next(), 400);
    write.record.value = value;
    write.record.kind = Kind::value;
    write.charged_bytes = StoreWrite::charge_for(write.key_storage.size(), value.size());
    const Nanos asked = reactor.now();
    if (!co_await memory->acquire(write.charged_bytes)) co_return;
    const Errc status = co_await write;
    if (status == Errc::ok) {
      ++out->taken;
      out->longest = std::max(out->longest, reactor.now() - asked);
      const auto second = static_cast<size_t>((reactor.now() - start) / seconds(1));
      if (out->taken_by_second.size() <= second) out->taken_by_second.resize(second + 1);
      ++out->taken_by_second[second];
    } else {
      CHECK(status == Errc::overloaded);
      memory->release(write.charged_bytes);
      ++out->refused;
      co_await sleep_for(milliseconds(5));
    }
  }
}

Task<void> overload(uint64_t seed, Nanos length, WriterStats* out, ShardStats* stats) {
  ShardHome home(1u << 20);
  Semaphore credit(256u << 10);
  ShardContext context = home.context();
  context.flush_credit = &credit;
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 256u << 10;
  options.compaction.base_bytes_min = 1u << 20;
  options.compaction.table_bytes_target = 256u << 10;
  options.table.codec = Codec::none;
  auto opened = co_await Shard::open(options, context);
  CO_OK(opened);
  Scope scope;
  const Nanos end = Reactor::current().now() + length;
  for (unsigned writer = 0; writer < 64; ++writer) {
    scope.spawn(write_for(opened->get(), &home.memory, seed * 100 + writer, end, out));
  }
  size_t runs_max = 0;
  while (Reactor::current().now() < end) {
    co_await sleep_for(milliseconds(20));
    runs_max = std::max(runs_max, (*opened)->levels().level(0).size());
  }
  co_await scope.join();
  CHECK(runs_max < 2 * options.compaction.l0_stop);
  *stats = (*opened)->stats();
  CO_OK(co_await (*opened)->close(false));
}

TEST_CASE("writers beyond what can be merged are slowed down evenly and never stand still") {
  // Tables are written slowly, the log is not: merging is what limits.
  const Nanos length = seconds(static_cast<int64_t>(scaled(60, 30)));
  ShardRig rig(5, {.write = {microseconds(100), microseconds(200)},
                   .sync = {microseconds(100), microseconds(300)},
                   .bytes_per_second = 40'000'000});
  WriterStats writers;
  ShardStats stats;
  CHECK(rig.live(overload(5, length, &writers, &stats)) == LifeEnd::finished);
  CHECK(stats.writes_delayed > 100);
  CHECK(writers.taken > 1000);
  const auto whole_seconds = static_cast<size_t>(length / seconds(1));
  REQUIRE(writers.taken_by_second.size() >= whole_seconds);
  uint64_t least = UINT64_MAX;
  uint64_t most = 0;
  for (size_t second = whole_seconds / 2; second < whole_seconds; ++second) {
    least = std::min(least, writers.taken_by_second[second]);
    most = std::max(most, writers.taken_by_second[second]);
  }
  MESSAGE("taken " << writers.taken << ", refused " << writers.refused << ", delayed "
                   << stats.writes_delayed << ", per second " << least << " to " << most
                   << ", longest " << static_cast<double>(writers.longest) / 1e6 << " ms");
  CHECK(least > most / 4);
  CHECK(writers.refused < writers.taken / 4);
  // Its turn, a frame before it and its own.
  CHECK(writers.longest < WriteController::delay_max + milliseconds(200));
}

// Merging ends while writers wait their turn.
Task<void> overload_then_stop(sim::Disk* disk, WriterStats* out, ShardStats* stats) {
  ShardHome home(1u << 20);
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 128u << 10;
  options.compaction.l0_stop = 12;
  options.table.codec = Codec::none;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Scope scope;
  const Nanos end = Reactor::current().now() + seconds(20);
  for (unsigned writer = 0; writer < 64; ++writer) {
    scope.spawn(write_for(opened->get(), &home.memory, writer, end, out));
  }
  co_await sleep_for(seconds(5));
  disk->plan({.code = OpCode::read, .path_part = ".table", .error = EIO, .times = UINT32_MAX});
  co_await scope.join();
  CHECK(!(*opened)->read_only());
  *stats = (*opened)->stats();
  CO_OK(co_await (*opened)->close(false));
}

TEST_CASE("who waits its turn is refused soon when merging comes to a stop") {
  ShardRig rig(8, {.write = {microseconds(100), microseconds(200)},
                   .sync = {microseconds(100), microseconds(300)},
                   .bytes_per_second = 10'000'000});
  WriterStats writers;
  ShardStats stats;
  CHECK(rig.live(overload_then_stop(&rig.disk(), &writers, &stats)) == LifeEnd::finished);
  CHECK(stats.compactions_failed > 0);
  CHECK(writers.refused > 0);
  CHECK(stats.write_delay_longest <= 2 * WriteController::delay_max + milliseconds(5));
  CHECK(writers.longest < milliseconds(500));
}

}  // namespace
}  // namespace gyre::test
