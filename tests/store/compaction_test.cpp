// Which tables are merged: level targets, jobs that stay small, and the shape that a day of
// overwrites leaves behind.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "shard_rig.hpp"

namespace gyre::test {
namespace {

constexpr unsigned bottom = limits::table_level_count - 1;

TEST_CASE("an empty shard merges straight into the deepest level") {
  const LevelTargets targets = level_targets(TableLevels(), CompactionOptions());
  CHECK(targets.base_level == bottom);
  CHECK(targets.bytes[bottom] == CompactionOptions().base_bytes_min);
  CHECK(!pick_level0(TableLevels(), CompactionOptions()));
  CHECK(!pick_deeper(TableLevels(), CompactionOptions()));
  CHECK(!pick_full_compaction(TableLevels(), UINT64_MAX));
}

void check_shape(const TableLevels& levels, const CompactionOptions& options) {
  CHECK(levels.level(0).size() < options.l0_trigger);
  const LevelTargets targets = level_targets(levels, options);
  for (unsigned level = 1; level <= bottom; ++level) {
    const TableLevels::Level& tables = levels.level(level);
    uint64_t bytes = 0;
    for (size_t i = 0; i < tables.size(); ++i) {
      const TableRecord& record = tables[i]->record();
      CHECK(record.level == level);
      CHECK(record.smallest_key <= record.largest_key);
      if (i != 0) CHECK(tables[i - 1]->record().largest_key < record.smallest_key);
      // Blocks and large keys overshoot the target by a little.
      CHECK(record.size_bytes < 2 * options.table_bytes_target + (16u << 10));
      bytes += record.size_bytes;
    }
    CHECK(bytes == levels.level_bytes(level));
    if (level < bottom && level >= targets.base_level) CHECK(bytes <= targets.bytes[level]);
  }
  // A job below level 0 takes one table, whatever is over its target.
  CompactionOptions tighter = options;
  tighter.l0_trigger = 1000;
  for (const uint64_t base : {1u, 1024u, 64u << 10}) {
    tighter.base_bytes_min = base;
    tighter.fanout = 2;
    const auto job = pick_deeper(levels, tighter);
    if (!job || job->level == 0) continue;
    CHECK(job->inputs.size() == 1);
    CHECK(job->output_level == job->level + 1);
    CHECK(job->trivial_move == job->overlapping.empty());
    for (const TableRef& table : job->overlapping) {
      CHECK(table->overlaps(job->inputs[0]->record().smallest_key,
                            job->inputs[0]->record().largest_key));
    }
  }
}

Task<void> overwrite_for_a_day(uint64_t seed, uint64_t writes) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.compaction.fanout = 4;
  options.compaction.base_bytes_min = 32u << 10;
  options.compaction.table_bytes_target = 16u << 10;
  options.table.codec = Codec::none;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  sim::Prng prng(seed, "overwrites");
  constexpr uint64_t keys = 2000;
  constexpr size_t value_bytes = 120;
  for (uint64_t i = 0; i < writes; ++i) {
    // Half of the writes go to a twentieth of the keys.
    const uint64_t key = prng.one_in(2) ? prng.below(keys / 20) : prng.below(keys);
    CO_OK(co_await put(shard, fmt::format("key{:05}", key), noise(i, value_bytes)));
    if (i % 4000 == 3999) {
      CO_OK(co_await shard.settle());
      check_shape(shard.levels(), options.compaction);
    }
  }
  CO_OK(co_await shard.flush());
  CO_OK(co_await shard.settle());
  check_shape(shard.levels(), options.compaction);
  const uint64_t live = keys * (8 + 24 + value_bytes);
  CHECK(shard.levels().total_bytes() < 2 * live);
  const double amplification = static_cast<double>(shard.stats().compacted_bytes_written) /
                               static_cast<double>(shard.stats().flushed_bytes);
  CHECK(amplification < 12);
  CHECK(shard.stats().flushes > 10);
  // No read needs more than one table of each level.
  CO_OK(co_await shard.compact());
  CHECK(shard.levels().table_count() == shard.levels().level(bottom).size());
  CHECK(shard.levels().total_bytes() < live * 3 / 2);
  CO_OK(co_await shard.close(true));
}

TEST_CASE("a day of overwrites keeps the levels in shape and the space bounded") {
  for (uint64_t seed = 1; seed <= scaled(2); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed);
    rig.live(overwrite_for_a_day(seed, scaled(20'000, 5'000)));
  }
}

Task<void> long_keys(sim::Disk& disk) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  uint64_t largest_bytes = 0;
  for (uint64_t i = 0; i < 150; ++i) {
    CO_OK(co_await put(**opened, std::string(100'000, 'k') + fmt::format("{}", i % 7), "value"));
    CO_OK(co_await (*opened)->flush());
    std::vector<DirEntry> entries;
    disk.list_dir("shard", entries);
    for (const DirEntry& entry : entries) {
      if (!entry.name.starts_with("MANIFEST")) continue;
      largest_bytes = std::max(largest_bytes, entry.size_bytes);
    }
  }
  CHECK(largest_bytes < 12u << 20);  // 150 edits would take 30 MB
  CO_OK(co_await (*opened)->close(true));
  opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  CO_CHECK((*co_await scan_all(**opened)).size() == 7);
  CO_OK(co_await (*opened)->close(true));
}

TEST_CASE("long keys make long edits: the manifest begins anew before it can't be read any more") {
  ShardRig rig(5);
  rig.live(long_keys(rig.disk()));
}

Task<void> put_large(Shard& shard, std::string key, size_t size, Version& version) {
  const Result<Version> written = co_await put(shard, std::move(key), noise(1, size));
  CO_OK(written);
  version = *written;
}

// The tombstone is newer than a value whose bytes are still on their way into the log.
Task<void> purge_around_a_slow_write() {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.compaction.l0_trigger = 1;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  Version of_value;
  Scope scope;
  scope.spawn(put_large(shard, "key", 6'000'000, of_value));
  co_await sleep_for(milliseconds(5));
  const Result<Version> removed = co_await shard.remove("key");
  CO_OK(removed);
  CHECK(!of_value);  // it was overtaken
  CO_OK(co_await shard.flush());
  CO_OK(co_await shard.compact());
  CHECK(!of_value);
  co_await scope.join();
  CHECK(of_value);
  CHECK(of_value < *removed);
  CO_CHECK(*co_await get(shard, "key") == std::nullopt);
  CO_OK(co_await shard.flush());
  CO_OK(co_await shard.compact());
  CO_CHECK(*co_await get(shard, "key") == std::nullopt);
  CHECK(shard.levels().table_count() == 0);
  CO_OK(co_await shard.close(true));
}

TEST_CASE("a tombstone stays while an older write of its key has not reached the memtable") {
  // Frames of 1 MiB take long, tables don't.
  ShardRig rig(4, {.write = {milliseconds(50), milliseconds(60)},
                   .sync = {microseconds(10), microseconds(20)}});
  rig.live(purge_around_a_slow_write());
}

Task<void> compact_again_and_again() {
  ShardHome home;
  ShardOptions options = small_shard_options();
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  // Expiries that have not come, and tombstones that newer memtable entries keep: neither may make
  // a full compaction go round for ever.
  const uint64_t later = Reactor::current().wall_ms() + 1'000'000;
  for (unsigned i = 0; i < 300; ++i) {
    CO_OK(co_await put(shard, fmt::format("key{:03}", i), noise(i, 300), later));
  }
  for (unsigned round = 0; round < 3; ++round) {
    CO_OK(co_await shard.compact());
    CHECK(shard.levels().table_count() == shard.levels().level(bottom).size());
  }
  const uint64_t written = shard.stats().compacted_bytes_written;
  CO_OK(co_await shard.settle());
  CHECK(shard.stats().compacted_bytes_written == written);
  CO_CHECK((*co_await scan_all(shard)).size() == 300);
  CO_OK(co_await shard.close(true));
}

TEST_CASE("a full compaction ends though there is something it can't purge") {
  ShardRig rig(3);
  rig.live(compact_again_and_again());
}

}  // namespace
}  // namespace gyre::test
