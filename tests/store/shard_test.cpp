// What a shard promises while nothing goes wrong: reads see the newest write wherever it lies,
// scans see one moment, everything is there after a restart, nothing is left over at the end.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "shard_rig.hpp"

namespace gyre::test {
namespace {

std::string numbered(uint64_t i) {
  return fmt::format("key{:06}", i);
}

Task<void> put_get_remove_scan() {
  ShardHome home;
  {
    auto opened = co_await Shard::open(small_shard_options(), home.context());
    CO_OK(opened);
    Shard& shard = **opened;
    CO_OK(co_await put(shard, "b", "2"));
    CO_OK(co_await put(shard, "a", "1"));
    CO_OK(co_await put(shard, "c", "3"));
    CO_OK(co_await put(shard, "a", "one"));
    CO_OK(co_await put(shard, "empty", ""));
    CO_OK(co_await shard.remove("c"));
    CO_OK(co_await shard.remove("never"));
    CO_CHECK(*co_await get(shard, "a") == "one");
    CO_CHECK(*co_await get(shard, "b") == "2");
    CO_CHECK(*co_await get(shard, "empty") == "");
    CO_CHECK(*co_await get(shard, "c") == std::nullopt);
    CO_CHECK(*co_await get(shard, "never") == std::nullopt);
    CO_CHECK(*co_await scan_all(shard) == Contents{{"a", "one"}, {"b", "2"}, {"empty", ""}});
    CO_CHECK(*co_await scan_all(shard, "b", "e") == Contents{{"b", "2"}});
    CO_CHECK((*co_await scan_all(shard, "x", "b")).empty());
    CO_OK(co_await shard.close(false));
  }
  for (const bool flush : {false, true, false}) {
    auto opened = co_await Shard::open(small_shard_options(), home.context());
    CO_OK(opened);
    Shard& shard = **opened;
    CO_CHECK(*co_await get(shard, "a") == "one");
    CO_CHECK(*co_await get(shard, "c") == std::nullopt);
    CO_CHECK(*co_await scan_all(shard) == Contents{{"a", "one"}, {"b", "2"}, {"empty", ""}});
    CO_OK(co_await shard.close(flush));
  }
}

TEST_CASE("put, get, remove and scan, and all of it again after a restart") {
  ShardRig rig;
  CHECK(rig.live(put_get_remove_scan()) == LifeEnd::finished);
}

// Files of one kind in the shard's directory.
Task<size_t> count_files(std::string directory, std::string suffix) {
  const Result<std::vector<DirEntry>> entries = co_await list_directory(directory);
  if (!entries) co_return SIZE_MAX;
  size_t count = 0;
  for (const DirEntry& entry : *entries) count += entry.name.ends_with(suffix);
  co_return count;
}

Task<void> check_same(Shard& shard, const Contents& expected, uint64_t stride) {
  Result<Contents> found = co_await scan_all(shard);
  CO_OK(found);
  CHECK(found->size() == expected.size());
  CO_CHECK(*found == expected);
  uint64_t at = 0;
  for (const auto& [key, value] : expected) {
    if (at++ % stride != 0) continue;
    auto read = co_await get(shard, key);
    CO_OK(read);
    CO_CHECK(*read == value);
    CO_CHECK(*co_await get(shard, key + "x") == std::nullopt);
  }
}

Task<void> flush_and_compact(uint64_t seed) {
  ShardHome home(1u << 20);
  ShardOptions options = small_shard_options();
  Contents expected;
  sim::Prng prng(seed, "writes");
  for (unsigned life = 0; life < 2; ++life) {
    auto opened = co_await Shard::open(options, home.context());
    CO_OK(opened);
    Shard& shard = **opened;
    co_await check_same(shard, expected, 7);
    for (unsigned i = 0; i < 1500; ++i) {
      const std::string key = numbered(prng.below(700));
      if (prng.one_in(4)) {
        CO_OK(co_await shard.remove(key));
        expected.erase(key);
        continue;
      }
      const std::string value = noise(prng.next(), prng.below(600));
      CO_OK(co_await put(shard, key, value));
      expected[key] = value;
    }
    CHECK(shard.stats().flushes > 0);
    co_await check_same(shard, expected, 7);
    CO_OK(co_await shard.flush());
    CHECK(shard.memtable_bytes() <= Memtable().allocated_bytes());
    CO_OK(co_await shard.settle());
    CHECK(shard.stats().compactions > 0);
    CHECK(shard.levels().level(0).size() < options.compaction.l0_trigger);
    co_await check_same(shard, expected, 7);
    static_cast<void>(co_await sleep_for(seconds(1)));
    CO_CHECK(co_await count_files("shard", ".table") == shard.levels().table_count());
    CO_OK(co_await shard.close(life == 0));
  }
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  co_await check_same(**opened, expected, 1);
  CO_OK(co_await (*opened)->close(false));
}

TEST_CASE("flushes and compactions change nothing that a reader sees") {
  for (uint64_t seed = 1; seed <= scaled(3); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed);
    CHECK(rig.live(flush_and_compact(seed)) == LifeEnd::finished);
  }
}

Task<void> large_values(std::vector<size_t> sizes) {
  ShardHome home(24u << 20);
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 4u << 20;
  options.compaction.base_bytes_min = options.compaction.table_bytes_target = 4u << 20;
  options.compaction.l0_trigger = 2;
  Contents expected;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  for (const size_t size : sizes) {
    const std::string key = fmt::format("large{}", size);
    expected[key] = noise(size, size);
    CO_OK(co_await put(**opened, key, expected[key]));
    CO_OK(co_await put(**opened, key + "-small", "s"));
    expected[key + "-small"] = "s";
    auto read = co_await get(**opened, key);
    CO_OK(read);
    CO_CHECK(*read == expected[key]);
  }
  co_await check_same(**opened, expected, 1);
  CO_OK(co_await (*opened)->close(false));  // the rest comes back from the log
  opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  co_await check_same(**opened, expected, 1);
  CO_OK(co_await (*opened)->flush());
  CO_OK(co_await (*opened)->settle());
  co_await check_same(**opened, expected, 1);
  // Overwritten and removed ones go, with their bytes.
  for (const size_t size : sizes) {
    CO_OK(co_await put(**opened, fmt::format("large{}", size), "now small"));
    expected[fmt::format("large{}", size)] = "now small";
  }
  CO_OK(co_await (*opened)->flush());
  CO_OK(co_await (*opened)->settle());
  co_await check_same(**opened, expected, 1);
  CO_OK(co_await (*opened)->close(true));
  opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  co_await check_same(**opened, expected, 1);
  CO_OK(co_await (*opened)->close(true));
}

TEST_CASE("large values: in memory, in the log, in tables, through a compaction") {
  constexpr size_t k = 1024;
  ShardRig rig(5);
  CHECK(rig.live(large_values({64 * k - 1, 64 * k, 64 * k + 1, 256 * k, 256 * k + 1, 1024 * k - 1,
                               1024 * k + 1, 3000 * k})) == LifeEnd::finished);
}

TEST_CASE("a value of 17 MiB under a write memory of 24 MiB") {
  ShardRig rig(6);
  CHECK(rig.live(large_values({17u << 20})) == LifeEnd::finished);
}

Task<void> writers_wait_for_memory() {
  ShardHome home(24u << 20);
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 64u << 20;  // memory runs out first
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  Scope scope;
  struct Writer {
    static Task<void> run(Shard& shard, uint64_t id, unsigned& done) {
      CO_OK(co_await put(shard, numbered(id), noise(id, 5u << 20)));
      ++done;
    }
  };
  unsigned done = 0;
  for (uint64_t id = 0; id < 12; ++id) scope.spawn(Writer::run(shard, id, done));
  co_await scope.join();
  CHECK(done == 12);
  for (uint64_t id = 0; id < 12; ++id) {
    auto read = co_await get(shard, numbered(id));
    CO_OK(read);
    CO_CHECK(*read == noise(id, 5u << 20));
  }
  CO_CHECK((co_await put(shard, "k", noise(1, 25u << 20))).error().code == Errc::too_large);
  CO_CHECK((co_await shard.remove(std::string(25u << 20, 'k'))).error().code == Errc::too_large);
  CO_OK(co_await shard.close(false));
}

TEST_CASE("writers that wait for memory get it from flushes, one after another") {
  ShardRig rig(7);
  CHECK(rig.live(writers_wait_for_memory()) == LifeEnd::finished);
}

// --- expiry --------------------------------------------------------------------------------------

Task<void> check_expiry(Shard& shard, uint64_t expiry_ms) {
  CO_CHECK(*co_await get_at(shard, "ttl", expiry_ms - 1) == "soon gone");
  CO_CHECK(*co_await get_at(shard, "ttl", expiry_ms) == std::nullopt);
  CO_CHECK(*co_await get_at(shard, "ttl", expiry_ms + 1) == std::nullopt);
  for (const uint64_t now : {expiry_ms - 1, expiry_ms}) {
    auto scan = co_await shard.scan("", "", now);
    CO_OK(scan);
    auto found = co_await drain(**scan);
    CO_OK(found);
    CHECK(found->contains("ttl") == (now < expiry_ms));
    CHECK(found->contains("stays"));
    CHECK(!found->contains("shadowed"));
  }
}

Task<void> expiry() {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.compaction.l0_trigger = 1;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  const uint64_t expiry_ms = Reactor::current().wall_ms() + 100'000;
  CO_OK(co_await put(**opened, "shadowed", "older, without expiry"));
  CO_OK(co_await (*opened)->flush());
  CO_OK(co_await (*opened)->settle());
  CO_OK(co_await put(**opened, "shadowed", "newer", 1));  // long expired: hides the older
  CO_OK(co_await put(**opened, "ttl", "soon gone", expiry_ms));
  CO_OK(co_await put(**opened, "stays", "x"));
  co_await check_expiry(**opened, expiry_ms);
  CO_OK(co_await (*opened)->flush());
  co_await check_expiry(**opened, expiry_ms);
  CO_OK(co_await (*opened)->settle());
  co_await check_expiry(**opened, expiry_ms);
  CO_OK(co_await (*opened)->close(false));
  opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  co_await check_expiry(**opened, expiry_ms);
  static_cast<void>(co_await sleep_for(seconds(101)));
  CO_OK(co_await (*opened)->compact());
  CO_CHECK(*co_await scan_all(**opened) == Contents{{"stays", "x"}});
  uint64_t entries = 0;
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRef& table : (*opened)->levels().level(level)) {
      entries += table->record().entry_count;
    }
  }
  CHECK(entries == 1);  // purged, not only hidden
  CO_OK(co_await (*opened)->close(false));
}

TEST_CASE("an expiry is exact to the millisecond, in memory, in tables and after compaction") {
  ShardRig rig(8);
  CHECK(rig.live(expiry()) == LifeEnd::finished);
}

// --- tombstones ----------------------------------------------------------------------------------

Task<void> tombstones() {
  ShardHome home;
  ShardOptions options = small_shard_options();
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  for (uint64_t i = 0; i < 400; ++i) CO_OK(co_await put(shard, numbered(i), noise(i, 300)));
  CO_OK(co_await shard.compact());
  CHECK(shard.levels().total_bytes() > 400 * 300);
  for (uint64_t i = 0; i < 400; ++i) CO_OK(co_await shard.remove(numbered(i)));
  CO_CHECK((*co_await scan_all(shard)).empty());
  CO_OK(co_await shard.flush());
  CO_CHECK((*co_await scan_all(shard)).empty());
  CO_OK(co_await shard.compact());
  CO_CHECK((*co_await scan_all(shard)).empty());
  CHECK(shard.levels().table_count() == 0);
  CO_OK(co_await shard.compact());  // nothing to do
  CO_OK(co_await put(shard, "again", "1"));
  CO_OK(co_await shard.compact());
  CO_CHECK(*co_await scan_all(shard) == Contents{{"again", "1"}});
  CO_OK(co_await shard.close(true));
}

TEST_CASE("a full compaction leaves neither tombstones nor what they hid") {
  ShardRig rig(9);
  CHECK(rig.live(tombstones()) == LifeEnd::finished);
}

// --- many at once --------------------------------------------------------------------------------

// Every writer reads its own writes back, whatever the background does.
Task<void> write_and_read(Shard& shard, uint64_t id, unsigned rounds, unsigned& ended) {
  for (unsigned round = 0; round < rounds; ++round) {
    const std::string key = fmt::format("w{:03}-{}", id, round % 3);
    const std::string value = noise(id * 1000 + round, 40 + (id * 37 + round * 101) % 900);
    CO_OK(co_await put(shard, key, value));
    auto read = co_await get(shard, key);
    CO_OK(read);
    CO_CHECK(*read == value);
    if (round % 5 != 4) continue;
    CO_OK(co_await shard.remove(key));
    CO_CHECK(*co_await get(shard, key) == std::nullopt);
    CO_OK(co_await put(shard, key, value));
  }
  ++ended;
}

Task<void> many_writers(unsigned count, unsigned rounds) {
  ShardHome home(2u << 20);
  auto opened = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  Scope scope;
  unsigned ended = 0;
  for (unsigned id = 0; id < count; ++id) scope.spawn(write_and_read(shard, id, rounds, ended));
  while (ended < count && scope.size() != 0) {
    static_cast<void>(co_await sleep_for(milliseconds(20)));
    CO_OK(co_await shard.flush());
    CO_OK(co_await shard.settle());
  }
  co_await scope.join();
  CHECK(ended == count);
  CHECK(shard.stats().flushes > 1);
  CHECK(shard.log_stats().frames < shard.log_stats().records / 4);  // group commit gathers
  Result<Contents> all = co_await scan_all(shard);
  CO_OK(all);
  CHECK(all->size() == count * std::min(rounds, 3u));
  CO_OK(co_await shard.close(false));
  opened = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(opened);
  Result<Contents> again = co_await scan_all(**opened);
  CO_OK(again);
  CO_CHECK(*all == *again);
  CO_OK(co_await (*opened)->close(true));
}

TEST_CASE("128 writers at once read their own writes while flushes and compactions run") {
  for (uint64_t seed = 1; seed <= scaled(3); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed);
    CHECK(rig.live(many_writers(128, 12)) == LifeEnd::finished);
  }
}

// --- snapshots -----------------------------------------------------------------------------------

// A scan opened between two rounds of writes shows exactly the first rounds, however slowly it is
// read and whatever is flushed, merged and deleted meanwhile.
Task<void> slow_scan(Shard& shard, Contents expected, uint64_t seed, unsigned& ended) {
  sim::Prng prng(seed, "scan");
  auto scan = co_await shard.scan("", "", Reactor::current().wall_ms());
  CO_OK(scan);
  Contents found;
  for (;;) {
    const Scan::Step step = (*scan)->try_next();
    if (step == Scan::Step::end) break;
    if (step == Scan::Step::wait) {
      CO_OK(co_await (*scan)->load());
      continue;
    }
    const std::string key((*scan)->entry().key);
    CO_REQUIRE(!(*scan)->large());
    found[key] = (*scan)->entry().value;
    if (prng.one_in(8)) {
      static_cast<void>(co_await sleep_for(static_cast<Nanos>(prng.below(5'000'000))));
    }
  }
  CHECK(found.size() == expected.size());
  CO_CHECK(found == expected);
  ++ended;
}

Task<void> background_churn(Shard& shard, bool& stop, uint64_t seed) {
  sim::Prng prng(seed, "churn");
  while (!stop) {
    static_cast<void>(co_await sleep_for(static_cast<Nanos>(prng.below(20'000'000))));
    CO_OK(co_await shard.flush());
    if (prng.one_in(2)) CO_OK(co_await shard.settle());
    if (prng.one_in(4)) CO_OK(co_await shard.compact());
  }
}

Task<void> consistent_scans(uint64_t seed) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 16u << 10;
  options.cache_bytes = 32u << 10;
  options.compaction.l0_trigger = 2;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  Scope scope;
  bool stop = false;
  scope.spawn(background_churn(shard, stop, seed));
  Contents expected;
  sim::Prng prng(seed, "rounds");
  unsigned ended = 0;
  for (unsigned round = 0; round < 12; ++round) {
    for (unsigned i = 0; i < 60; ++i) {
      const std::string key = numbered(prng.below(150));
      if (prng.one_in(3)) {
        CO_OK(co_await shard.remove(key));
        expected.erase(key);
      } else {
        const std::string value = noise(prng.next(), prng.below(500));
        CO_OK(co_await put(shard, key, value));
        expected[key] = value;
      }
    }
    scope.spawn(slow_scan(shard, expected, seed * 100 + round, ended));
    static_cast<void>(co_await yield());  // the scan begins before the next write
  }
  stop = true;
  co_await scope.join();
  CHECK(ended == 12);
  CO_OK(co_await shard.close(true));
}

TEST_CASE("a scan shows one moment across writes, flushes, compactions and removed files") {
  for (uint64_t seed = 1; seed <= scaled(20, 3); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed);
    CHECK(rig.live(consistent_scans(seed)) == LifeEnd::finished);
  }
}

// --- the end -------------------------------------------------------------------------------------

Task<void> wait_for_flush(Shard& shard, bool& ended) {
  const Result<void> done = co_await shard.flush();
  CHECK((done || done.error().code == Errc::closed));
  ended = true;
}
Task<void> wait_for_settle(Shard& shard, bool& ended) {
  const Result<void> done = co_await shard.settle();
  CHECK((done || done.error().code == Errc::closed));
  ended = true;
}
Task<void> wait_for_put(Shard& shard, uint64_t id, unsigned& ended) {
  const Result<Version> done = co_await put(shard, numbered(id), noise(id, 900u << 10));
  CHECK((done || done.error().code == Errc::closed));
  ++ended;
}

Task<void> close_in_mid_work(Nanos pause) {
  ShardHome home(2u << 20);
  auto opened = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(opened);
  for (uint64_t i = 0; i < 300; ++i) CO_OK(co_await put(**opened, numbered(i), noise(i, 700)));
  Scope scope;
  bool flushed = false;
  bool settled = false;
  unsigned puts = 0;
  scope.spawn(wait_for_flush(**opened, flushed));
  scope.spawn(wait_for_settle(**opened, settled));
  for (uint64_t id = 1000; id < 1008; ++id) scope.spawn(wait_for_put(**opened, id, puts));
  static_cast<void>(co_await sleep_for(pause));
  CO_OK(co_await (*opened)->close(false));
  opened->reset();
  co_await scope.join();
  CHECK(flushed);
  CHECK(settled);
  CHECK(puts == 8);
  opened = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(opened);
  for (uint64_t i = 0; i < 300; i += 11) {
    CO_CHECK(*co_await get(**opened, numbered(i)) == noise(i, 700));
  }
  CO_OK(co_await (*opened)->close(false));
}

TEST_CASE("close ends what waits for the shard and keeps what was acknowledged") {
  for (uint64_t seed = 1; seed <= scaled(12, 4); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed);
    CHECK(rig.live(close_in_mid_work(static_cast<Nanos>(seed * seed) * 300'000)) ==
          LifeEnd::finished);
  }
}

Task<void> reopen_without_flush(unsigned times) {
  ShardHome home;
  Contents expected;
  for (unsigned i = 0; i < times; ++i) {
    auto opened = co_await Shard::open(small_shard_options(), home.context());
    CO_OK(opened);
    CO_OK(co_await put(**opened, numbered(i % 7), fmt::format("{}", i)));
    expected[numbered(i % 7)] = fmt::format("{}", i);
    CO_CHECK(*co_await scan_all(**opened) == expected);
    CO_CHECK(co_await count_files("shard", ".log") < 20);
    CO_OK(co_await (*opened)->close(false));
  }
}

TEST_CASE("reopening many times without a flush does not pile up log segments") {
  ShardRig rig(3);
  CHECK(rig.live(reopen_without_flush(60)) == LifeEnd::finished);
}

Task<void> long_log() {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 4u << 20;
  options.log_bytes_max = 1u << 20;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  // Each write alone is a frame of 4 KiB: the log is full long before the memtable.
  for (unsigned i = 0; i < 2000; ++i) CO_OK(co_await put(**opened, numbered(i % 10), "v"));
  CHECK((*opened)->stats().flushes >= 6);
  CHECK((*opened)->log_disk_bytes() < 16u << 20);
  CO_OK(co_await (*opened)->close(false));
}

TEST_CASE("a long log is flushed though the memtable is small, and its segments are reused") {
  ShardRig rig(4);
  CHECK(rig.live(long_log()) == LifeEnd::finished);
}

}  // namespace
Task<void> write_until_refused(Shard* shard, unsigned writer, unsigned* refused, Event* ended) {
  for (unsigned i = 0; *refused == 0; ++i) {
    Result<Version> done = co_await put(*shard, numbered(writer), noise(i, 3000));
    if (done) continue;
    CHECK((done.error().code == Errc::read_only || done.error().code == Errc::io));
    CHECK(shard->read_only_reason().find("making shard/0") != std::string::npos);
    ++*refused;
  }
  ended->set();
}

// The next segment can't be made, though the one in use has room: a frame is in flight then.
Task<void> close_as_the_log_gives_up(sim::Disk* disk, bool frame_fails) {
  ShardHome home;
  auto opened = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(opened);
  disk->plan({.code = OpCode::allocate, .path_part = ".log", .error = EIO});
  unsigned refused = 0;
  Event ended;
  Scope scope;
  for (unsigned writer = 0; writer < 4; ++writer) {
    scope.spawn(write_until_refused(opened->get(), writer, &refused, &ended));
  }
  static_cast<void>(co_await ended.wait());
  if (frame_fails) disk->plan({.code = OpCode::write, .path_part = ".log", .error = EIO});
  CO_OK(co_await (*opened)->close(true));
  co_await scope.join();
  CHECK(refused > 0);
}

TEST_CASE("closing waits for the frame in flight, also when the log has given up meanwhile") {
  for (uint64_t seed = 1; seed <= scaled(20, 8); ++seed) {
    CAPTURE(seed);
    sim::DiskOptions slow;
    slow.write = {milliseconds(5), milliseconds(20)};
    ShardRig rig(seed, slow);
    CHECK(rig.live(close_as_the_log_gives_up(&rig.disk(), seed % 2 == 0)) == LifeEnd::finished);
  }
}

Task<void> put_as_it_ends(Shard* shard, unsigned id, Errc* status) {
  const Result<Version> done = co_await put(*shard, numbered(id), noise(id, 300'000));
  *status = done ? Errc::ok : done.error().code;
}

// What is under way when the disk is full is larger than the rest of the segment.
Task<void> close_without_space(sim::Disk* disk, std::vector<Errc>* ended) {
  ShardHome home;
  auto opened = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(opened);
  disk->plan({.code = OpCode::allocate, .path_part = ".log", .error = ENOSPC, .times = UINT32_MAX});
  Scope scope;
  for (unsigned id = 0; id < ended->size(); ++id) {
    scope.spawn(put_as_it_ends(opened->get(), id, &(*ended)[id]));
  }
  co_await sleep_for(seconds(5));
  static_cast<void>(co_await (*opened)->close(true));
  co_await scope.join();
}

Task<void> read_what_ended_well(const std::vector<Errc>* ended) {
  ShardHome home;
  auto opened = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(opened);
  for (unsigned id = 0; id < ended->size(); ++id) {
    const auto read = co_await get(**opened, numbered(id));
    CO_OK(read);
    if ((*ended)[id] == Errc::ok) CO_CHECK(*read == noise(id, 300'000));
  }
  CO_OK(co_await (*opened)->close(false));
}

TEST_CASE("closing on a full disk answers the writes that wait for a segment") {
  ShardRig rig(7);
  std::vector<Errc> ended(12, Errc::invalid);
  CHECK(rig.live(close_without_space(&rig.disk(), &ended)) == LifeEnd::finished);
  CHECK(std::count(ended.begin(), ended.end(), Errc::ok) > 0);
  CHECK(std::count(ended.begin(), ended.end(), Errc::read_only) > 0);
  CHECK(std::count(ended.begin(), ended.end(), Errc::invalid) == 0);
  rig.disk().clear_plans();
  CHECK(rig.live(read_what_ended_well(&ended)) == LifeEnd::finished);
}

// A memtable's memory comes back while it is written, as far as there is credit for it.
Task<void> give_back(uint64_t credit_bytes, sim::Disk* disk, uint64_t* free_in_mid_flush) {
  ShardHome home(4u << 20);
  Semaphore credit(credit_bytes);
  ShardContext context = home.context();
  context.flush_credit = &credit;
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 8u << 20;
  auto opened = co_await Shard::open(options, context);
  CO_OK(opened);
  for (unsigned i = 0; i < 1000; ++i) CO_OK(co_await put(**opened, numbered(i), noise(i, 3000)));
  const uint64_t free_before = home.memory.available();
  CHECK(free_before < 1u << 20);
  // The table is written but for its end.
  disk->plan({.code = OpCode::fsync, .path_part = ".table", .error = EIO});
  Scan* pinned = nullptr;
  auto scan = co_await (*opened)->scan("", "", 0);
  CO_OK(scan);
  pinned = scan->get();
  static_cast<void>(co_await (*opened)->flush());
  *free_in_mid_flush = home.memory.available() - free_before;
  CHECK(credit.capacity() - credit.available() == *free_in_mid_flush);
  CHECK(pinned != nullptr);
  scan->reset();
  CHECK((*opened)->read_only());
  static_cast<void>(co_await (*opened)->close(false));
  CHECK(credit.available() == credit.capacity());
}

TEST_CASE("a flush gives memory back as it writes, as far as there is credit") {
  for (const uint64_t credit_bytes : {0u, 1u << 20, 16u << 20}) {
    CAPTURE(credit_bytes);
    ShardRig rig(8);
    uint64_t freed = 0;
    CHECK(rig.live(give_back(credit_bytes, &rig.disk(), &freed)) == LifeEnd::finished);
    CHECK(freed <= credit_bytes);
    CHECK(freed >= std::min<uint64_t>(credit_bytes, 2u << 20));
  }
}

// --- statistics ----------------------------------------------------------------------------------

namespace {

Task<void> count_levels() {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.compaction.l0_trigger = 100;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  const uint64_t now_ms = Reactor::current().wall_ms();
  constexpr unsigned bottom = limits::table_level_count - 1;
  const auto report = [&](unsigned level) { return shard.level_report(level, now_ms); };
  // Even keys in one table, a few of them anew in a second one.
  for (int i = 0; i < 200; i += 2) CO_OK(co_await put(shard, fmt::format("k{:03}", i), "value"));
  CO_OK(co_await shard.flush());
  CO_OK(co_await put(shard, "k000", "newer", now_ms + 1'000'000));
  CO_OK(co_await shard.remove("k002"));
  CO_OK(co_await put(shard, "k198", "newer"));
  CO_OK(co_await shard.flush());
  CO_CHECK(report(0).tables == 2);
  CO_CHECK(report(0).entries == 103);
  CO_CHECK(report(0).tombstones == 1);
  CO_CHECK(report(0).expired_table_bytes == 0);
  CO_CHECK(shard.level_report(0, now_ms + 2'000'000).expired_table_bytes ==
           shard.levels().level(0).front()->size_bytes());
  CO_CHECK(report(0).writes.written_bytes == shard.stats().flushed_bytes);
  CO_CHECK(report(0).reads.asked == 0);

  // Whether a lookup had to wait for the disk or not, it is counted once.
  for (int round = 0; round < 2; ++round) {
    const LevelReadStats before = report(0).reads;
    for (int i = 0; i < 198; ++i) {
      const auto found = co_await get(shard, fmt::format("k{:03}", i));
      CO_CHECK(found && found->has_value() == (i % 2 == 0 && i != 2));
    }
    const LevelReadStats after = report(0).reads;
    const uint64_t asked = after.asked - before.asked;
    const uint64_t filtered = after.filtered - before.filtered;
    const uint64_t in_vain = after.false_positives - before.false_positives;
    CO_CHECK(asked == 2 * 198 - 2);  // k000 and k002 end in the newer table
    CO_CHECK(asked - filtered - in_vain == 99);
    CO_CHECK(in_vain < 30);
    CO_CHECK((after.block_reads != before.block_reads) == (round == 0));
  }
  CO_OK(co_await shard.compact());
  CO_CHECK(report(0).writes.merged_bytes == report(0).writes.written_bytes);
  CO_CHECK(report(bottom).writes.written_bytes == shard.stats().compacted_bytes_written);
  CO_CHECK(report(bottom).bytes == report(bottom).writes.written_bytes);
  CO_CHECK(report(bottom).tombstones == 0);
  CO_CHECK(report(0).tables == 0);
  CO_OK(co_await get(shard, "k100"));
  CO_CHECK(report(bottom).reads.asked == 1);
  CO_OK(co_await shard.close(false));
}

}  // namespace

TEST_CASE("levels count lookups once, what filters said, and what was written and merged") {
  ShardRig rig;
  CHECK(rig.live(count_levels()) == LifeEnd::finished);
}

}  // namespace gyre::test
