// A disk that is slow, does its work in small parts, fails single reads, or whose sync fails while
// nobody waits for it; and a table that can't be merged any more.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cerrno>

#include "../sim/crash_oracle.hpp"
#include "shard_rig.hpp"

namespace gyre::test {
namespace {

ShardOptions slow_options() {
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 16u << 10;
  options.cache_bytes = 1;
  options.table.block_bytes_target = 512;
  options.table.partition_blocks_max = 2;
  options.compaction.l0_trigger = 2;
  return options;
}

std::string key_of(uint64_t i) {
  return fmt::format("key{:02}", i);
}
std::string value_of(uint64_t i) {
  return noise(i, i % 20 == 7 ? 100'000 : 300);
}
constexpr uint64_t key_count = 60;

Task<void> fill(bool merges) {
  ShardHome home;
  auto shard = co_await Shard::open(slow_options(), home.context());
  CO_OK(shard);
  for (uint64_t i = 0; i < key_count; ++i) {
    CO_OK(co_await put(**shard, key_of(i), value_of(i)));
  }
  if (merges) CO_OK(co_await (*shard)->compact());
  CO_OK(co_await (*shard)->close(true));
}

// --- single reads fail ---------------------------------------------------------------------------

struct ReadFaults {
  bool opened = false;
  unsigned failed = 0;
};

// Lookups, and a scan that begins again where it failed.
Task<void> read_everything(ReadFaults& run) {
  ShardHome home;
  auto shard = co_await Shard::open(slow_options(), home.context());
  run.opened = shard.has_value();
  if (!shard) {
    CHECK(shard.error().code == Errc::io);
    co_return;
  }
  for (uint64_t i = 0; i < key_count; ++i) {
    const auto read = co_await get(**shard, key_of(i));
    if (read) {
      CO_CHECK(*read == value_of(i));
      continue;
    }
    ++run.failed;
    CHECK(read.error().code == Errc::io);
    CO_CHECK(*co_await get(**shard, key_of(i)) == value_of(i));  // the next one tries again
  }
  for (unsigned tries = 0; tries < 2; ++tries) {
    const auto all = co_await scan_all(**shard, "key", "kez");
    if (all) {
      CHECK(all->size() == key_count);
      for (uint64_t i = 0; i < key_count; ++i) CO_CHECK(all->at(key_of(i)) == value_of(i));
      continue;
    }
    ++run.failed;
    CHECK(all.error().code == Errc::io);
  }
  CHECK_FALSE((*shard)->read_only());
  CO_OK(co_await put(**shard, "new", "value"));
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE("a read of a block, an index or a filter that fails fails one request, or one start") {
  unsigned struck = 0;
  unsigned refused_starts = 0;
  const uint32_t step = test_scale() >= 1.0 ? 1 : 5;
  for (uint32_t nth = 1; nth < 600; nth += step) {
    CAPTURE(nth);
    ShardRig rig(2);
    rig.live(fill(true));
    rig.disk().plan({.code = OpCode::read, .path_part = ".table", .nth = nth});
    ReadFaults run;
    CHECK(rig.live(read_everything(run)) == LifeEnd::finished);
    if (rig.disk().faults().empty()) break;
    ++struck;
    refused_starts += !run.opened;
    // A read ahead that nobody comes to need fails nobody.
    CHECK(run.failed <= 1);
    ReadFaults again;
    rig.live(read_everything(again));
    CHECK(again.opened);
    CHECK(again.failed == 0);
  }
  MESSAGE(fmt::format("reads that failed: {}, {} of them in starts", struck, refused_starts));
  CHECK(struck > 100 / step);
  CHECK(refused_starts > 0);
  CHECK(refused_starts < struck / 4);
}

// --- a sync that fails behind acknowledged writes ------------------------------------------------

struct SyncFault {
  CrashOracle oracle;
  std::string error;
  bool became_read_only = false;
};

ShardOptions interval_options() {
  ShardOptions options = slow_options();
  options.durability = Durability::interval;
  options.sync_interval = milliseconds(5);
  return options;
}

Task<void> write_until_sync_fails(SyncFault& run) {
  ShardHome home;
  run.oracle.acknowledgements_promise_nothing();
  auto shard = co_await Shard::open(interval_options(), home.context());
  if (!shard) co_return;
  for (uint64_t i = 0; i < 100 && !(*shard)->read_only(); ++i) {
    static_cast<void>(
        co_await write(**shard, home.memory, run.oracle, key_of(i % 30), noise(i, 200)));
    co_await sleep_for(milliseconds(3));
  }
  run.became_read_only = (*shard)->read_only();
  if (run.became_read_only) {
    CHECK_FALSE((*shard)->read_only_reason().empty());
    const auto refused = co_await put(**shard, "late", "x");
    CHECK((!refused && refused.error().code == Errc::read_only));
    const auto found = co_await scan_all(**shard);
    CO_OK(found);
    run.error = run.oracle.check(*found, (*shard)->visible_seq());
  }
  static_cast<void>(co_await (*shard)->close(true));
}

Task<void> look_after_sync_fault(SyncFault& run) {
  ShardHome home;
  auto shard = co_await Shard::open(interval_options(), home.context());
  if (!shard) {
    run.error = "it does not open: " + shard.error().message();
    co_return;
  }
  const auto found = co_await scan_all(**shard);
  CO_OK(found);
  run.error = run.oracle.check(*found, (*shard)->visible_seq());
  CO_OK(co_await put(**shard, "after", "1"));
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE(
    "a failed sync between acknowledgements makes the shard read-only and is not tried again") {
  unsigned read_only = 0;
  for (uint32_t nth = 1; nth < 40; ++nth) {
    CAPTURE(nth);
    ShardRig rig(nth);
    SyncFault run;
    rig.disk().plan({.code = OpCode::fsync, .path_part = ".log", .nth = nth});
    rig.live(write_until_sync_fails(run));
    if (rig.disk().faults().empty()) break;
    CHECK(run.error == "");
    read_only += run.became_read_only;
    CHECK(rig.disk().faults().size() == 1);
    rig.disk().clear_plans();
    rig.cut_power(sim::CrashMode::lost);
    rig.live(look_after_sync_fault(run));
    CHECK(run.error == "");
  }
  CHECK(read_only > 10);
}

// --- work in parts, and slow ---------------------------------------------------------------------

Task<void> busy_life(CrashOracle& oracle, uint64_t writes, std::string& error) {
  ShardHome home(2u << 20);
  auto shard = co_await Shard::open(slow_options(), home.context());
  CO_OK(shard);
  oracle.adopt((*shard)->visible_seq());
  for (uint64_t i = 0; i < writes; ++i) {
    const Errc status = co_await write(
        **shard, home.memory, oracle, key_of(i * 7 % key_count),
        i % 5 == 4 ? std::nullopt : std::optional(noise(i, i % 25 == 3 ? 300'000 : 200)));
    CHECK((status == Errc::ok || status == Errc::overloaded));
  }
  CO_OK(co_await (*shard)->compact());
  const auto found = co_await scan_all(**shard);
  CO_OK(found);
  error = oracle.check(*found, (*shard)->visible_seq());
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE("reads and writes that do a part of what was asked are gone on with") {
  for (uint64_t seed = 1; seed <= scaled(10, 2); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed, {.short_read_ppm = 100'000, .short_write_ppm = 100'000});
    CrashOracle oracle;
    std::string error;
    for (unsigned life = 0; life < 3; ++life) {
      CHECK(rig.live(busy_life(oracle, 100, error)) == LifeEnd::finished);
      CHECK(error == "");
    }
    CHECK(rig.disk().faults().size() >= 2);
  }
}

Task<void> write_one_of_many(Shard& shard, ShardHome& home, CrashOracle& oracle, uint64_t i,
                             uint64_t& refused) {
  const Errc status =
      co_await write(shard, home.memory, oracle, fmt::format("many{}", i), noise(i, 10'000));
  CHECK((status == Errc::ok || status == Errc::overloaded));
  if (status == Errc::overloaded) ++refused;
}

// What is in memory is read at once, a write takes as long as the disk, and who asks for more than
// memory holds meanwhile is refused, not forgotten.
Task<void> life_on_slow_disk(uint64_t& refused) {
  ShardHome home(1u << 20);
  auto shard = co_await Shard::open(slow_options(), home.context());
  CO_OK(shard);
  Reactor& reactor = Reactor::current();
  CO_OK(co_await put(**shard, "key", "value"));
  const Nanos begun = reactor.now();
  CO_OK(co_await put(**shard, "key", "value 2"));
  CHECK(reactor.now() - begun >= seconds(1));
  CHECK(reactor.now() - begun < seconds(4));
  Scope scope;
  CrashOracle oracle;
  for (uint64_t i = 0; i < 300; ++i) {
    scope.spawn(write_one_of_many(**shard, home, oracle, i, refused));
  }
  for (unsigned i = 0; i < 100; ++i) {
    StoreRead read;
    CHECK((*shard)->try_get("key", reactor.wall_ms(), read) == ReadOutcome::found);
    CHECK(read.value == "value 2");
    if ((*shard)->stats().flushes != 0) break;
    co_await sleep_for(milliseconds(10));
  }
  co_await scope.join();
  CO_OK(co_await (*shard)->settle());
  const auto found = co_await scan_all(**shard, "many", "manz");
  CO_OK(found);
  CHECK(oracle.check(*found, UINT64_MAX) == "");
  CHECK(found->size() + refused == 300);
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE("a disk that takes a second for everything slows writes, not reads of memory") {
  const sim::Latency second{seconds(1), seconds(1)};
  ShardRig rig(1, {.read = second, .write = second, .sync = second, .name = second});
  uint64_t refused = 0;
  CHECK(rig.live(life_on_slow_disk(refused)) == LifeEnd::finished);
}

// --- a table that can't be merged ----------------------------------------------------------------

Task<void> write_over_rot(uint64_t& taken, uint64_t& refused) {
  ShardHome home;
  ShardOptions options = slow_options();
  options.compaction.l0_stop = 6;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  for (uint64_t i = 0; i < 40 && refused == 0; ++i) {
    // Overlaps everything: it can't go past the rotten place.
    auto written = co_await put(**shard, fmt::format("key00-{:02}", i), "value");
    if (written) written = co_await put(**shard, fmt::format("key59-{:02}", i), "value");
    if (!written) {
      CHECK(written.error().code == Errc::overloaded);
      ++refused;
      break;
    }
    ++taken;
    CO_OK(co_await (*shard)->flush());
    co_await sleep_for(seconds(1));
  }
  CHECK((*shard)->stats().compactions_failed > 0);
  CHECK_FALSE((*shard)->read_only());
  // What is not in the rotten place is read as ever.
  unsigned failed = 0;
  for (uint64_t i = 0; i < key_count; ++i) {
    const auto read = co_await get(**shard, key_of(i));
    if (read) {
      CO_CHECK(*read == value_of(i));
    } else {
      ++failed;
      CHECK(read.error().code == Errc::corrupt);
    }
  }
  CHECK(failed > 0);
  CHECK(failed < key_count / 2);
  for (uint64_t i = 0; i < taken; ++i) {
    CO_CHECK(*co_await get(**shard, fmt::format("key59-{:02}", i)) == "value");
  }
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE("a rotten block keeps its table out of merges, and writes go on") {
  ShardRig rig(4);
  rig.live(fill(false));
  std::vector<DirEntry> entries;
  rig.disk().list_dir("shard", entries);
  std::erase_if(entries, [](const DirEntry& e) { return !e.name.ends_with(".table"); });
  REQUIRE(!entries.empty());
  for (const DirEntry& table : entries) REQUIRE(rig.disk().corrupt("shard/" + table.name, 100, 4));
  uint64_t taken = 0;
  uint64_t refused = 0;
  CHECK(rig.live(write_over_rot(taken, refused)) == LifeEnd::finished);
  CHECK(taken == 40);
  CHECK(refused == 0);
}

}  // namespace
}  // namespace gyre::test
