// Scans of every form against an ordered map: forwards, back and by prefix, over memtables and
// tables that overlap in keys and versions, and while the shard goes on.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "shard_rig.hpp"
#include "store/await_write.hpp"

namespace gyre::test {
namespace {

using Records = std::vector<std::pair<std::string, std::string>>;

struct Winner {
  Version version;
  std::optional<std::string> value;
  uint64_t expire_at_ms = 0;
};
using Winners = std::map<std::string, Winner>;

// Keys that are prefixes of each other, empty, or full of bytes that can't grow.
std::string awkward_key(sim::Prng& prng) {
  static constexpr char alphabet[] = {'\0', 'a', 'b', '\xfe', '\xff'};
  std::string key(prng.below(6), '\0');
  for (char& byte : key) byte = alphabet[prng.below(sizeof alphabet)];
  return key;
}

bool is_in(const ScanRange& range, const std::string& key) {
  return key >= range.start && (range.end.empty() || key < range.end);
}

Records expected_of(const Winners& winners, const ScanRange& range, uint64_t now_ms) {
  Records out;
  for (const auto& [key, winner] : winners) {
    const bool expired = winner.expire_at_ms != 0 && winner.expire_at_ms <= now_ms;
    if (winner.value && !expired && is_in(range, key)) out.emplace_back(key, *winner.value);
  }
  if (range.direction == ScanDirection::reverse) std::reverse(out.begin(), out.end());
  return out;
}

Task<Result<Records>> records_of(std::unique_ptr<Scan> scan, Nanos pause = 0) {
  Records out;
  for (;;) {
    switch (scan->try_next()) {
      case Scan::Step::end:
        co_return out;
      case Scan::Step::wait:
        if (Result<void> loaded = co_await scan->load(); !loaded) co_return fail(loaded.error());
        break;
      case Scan::Step::record: {
        std::string key(scan->entry().key);
        std::string value(scan->large() ? std::string_view() : scan->entry().value);
        if (scan->large()) {
          Result<LargeValueStream> stream = scan->large_value();
          if (!stream) co_return fail(stream.error());
          Result<std::string> all = co_await read_all(std::move(*stream));
          if (!all) co_return fail(all.error());
          value = std::move(*all);
        }
        out.emplace_back(std::move(key), std::move(value));
        if (pause != 0) co_await sleep_for(pause);
      }
    }
  }
}

// Some carry a version of the past, as a late repair does (which must not come after the tombstone
// that it is older than, as that one may be gone).
Task<void> write_random(Shard& shard, ShardHome& home, Winners& winners, sim::Prng& prng) {
  AwaitWrite write(shard);
  std::string key = awkward_key(prng);
  std::optional<std::string> value;
  if (!prng.one_in(4)) value = noise(prng.next(), prng.one_in(30) ? 70'000 : prng.below(60));
  if (value && prng.one_in(6)) {
    write.record.expire_at_ms = Reactor::current().wall_ms() + 1 + prng.below(3'000);
  }
  const auto known = winners.find(key);
  const bool was_live =
      known == winners.end() || (known->second.value && known->second.expire_at_ms == 0);
  if (was_live && prng.one_in(4)) {
    write.record.version = {hlc_from_us(1'000 + prng.below(1'000'000)), prng.next()};
  }
  write.charged_bytes = StoreWrite::charge_for(key.size(), value ? value->size() : 0);
  if (!home.memory.try_acquire(write.charged_bytes)) {
    CO_OK(co_await shard.flush());
    co_return;
  }
  write.record.kind = value ? Kind::value : Kind::tombstone;
  write.key_storage = key;
  write.record.key = write.key_storage;
  if (value) {
    write.buffer = buffer_of(*value);
    write.record.value_buffer = &write.buffer;
  }
  const Errc status = co_await write;
  if (write.charged_bytes != 0) home.memory.release(write.charged_bytes);
  CO_REQUIRE(status == Errc::ok || status == Errc::overloaded);
  if (status == Errc::overloaded) co_return;
  Winner& winner = winners[key];
  if (winner.version < write.record.version) {
    winner = {write.record.version, std::move(value), write.record.expire_at_ms};
  }
}

ScanRange random_range(sim::Prng& prng) {
  const auto direction = prng.one_in(2) ? ScanDirection::forward : ScanDirection::reverse;
  if (prng.one_in(3)) return ScanRange::of_prefix(awkward_key(prng).substr(0, 2), direction);
  return {prng.one_in(4) ? "" : awkward_key(prng), prng.one_in(4) ? "" : awkward_key(prng),
          direction};
}

using Gap = std::pair<std::string, std::string>;

Task<void> compare(Shard& shard, const Winners& winners, ScanRange range, Gap gap = {}) {
  const uint64_t now_ms = Reactor::current().wall_ms();
  auto scan = co_await shard.scan(range, now_ms);
  CO_OK(scan);
  if (!gap.first.empty()) (*scan)->leave_out(gap.first, gap.second);
  const auto found = co_await records_of(std::move(*scan));
  CO_OK(found);
  Records expected = expected_of(winners, range, now_ms);
  std::erase_if(expected, [&](const auto& record) {
    return !gap.first.empty() && record.first >= gap.first && record.first < gap.second;
  });
  const bool same = *found == expected;
  CHECK(same);
  if (!same) MESSAGE(fmt::format("{} found, {} expected", found->size(), expected.size()));
}

Task<void> compare_slowly(std::unique_ptr<Scan> scan, Records expected, Nanos pause) {
  const auto found = co_await records_of(std::move(scan), pause);
  CO_OK(found);
  CHECK((*found == expected));
}

Task<void> random_life(uint64_t seed) {
  sim::Prng prng(seed, "scans");
  ShardHome home(4u << 20);
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = prng.one_in(2) ? 4u << 10 : 32u << 10;
  options.cache_bytes = prng.one_in(2) ? 1 : 256u << 10;
  options.table.block_bytes_target = prng.one_in(2) ? 64 : 512;
  options.table.restart_interval = 1 + static_cast<uint32_t>(prng.below(6));
  options.table.partition_blocks_max = prng.one_in(2) ? 2 : 256;
  options.compaction.base_bytes_min = 4u << 10;
  options.compaction.table_bytes_target = 2u << 10;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  Winners winners;
  {
    Scope slow;
    for (unsigned step = 0; step < 400; ++step) {
      co_await write_random(**shard, home, winners, prng);
      if (prng.one_in(40)) CO_OK(co_await (*shard)->flush());
      if (prng.one_in(150)) CO_OK(co_await (*shard)->settle());
      if (prng.one_in(10)) co_await compare(**shard, winners, random_range(prng));
      if (prng.one_in(10)) {
        Gap gap{awkward_key(prng), awkward_key(prng)};
        co_await compare(**shard, winners, random_range(prng), std::move(gap));
      }
      if (prng.one_in(40)) {
        const ScanRange range = random_range(prng);
        const uint64_t now_ms = Reactor::current().wall_ms();
        auto scan = co_await (*shard)->scan(range, now_ms);
        CO_OK(scan);
        slow.spawn(compare_slowly(std::move(*scan), expected_of(winners, range, now_ms),
                                  static_cast<Nanos>(prng.below(10'000'000))));
      }
    }
    for (const auto direction : {ScanDirection::forward, ScanDirection::reverse}) {
      co_await compare(**shard, winners, {.start = "", .end = "", .direction = direction});
    }
    co_await slow.join();
  }
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE("scans forwards, back and by prefix agree with an ordered map") {
  const uint64_t seeds = scaled(60, 10);
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed);
    rig.live(random_life(seed));
  }
}

Task<void> jump_over(bool in_tables, ScanDirection direction) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 4u << 20;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  for (const char* key : {"a", "z"}) CO_OK(co_await put(**shard, key, key));
  for (unsigned i = 0; i < 5'000; ++i) {
    CO_OK(co_await put(**shard, fmt::format("key{:05}", i), noise(i, 200)));
  }
  if (in_tables) CO_OK(co_await (*shard)->flush());
  auto scan = co_await (*shard)->scan({.start = "", .end = "", .direction = direction}, 0);
  CO_OK(scan);
  (*scan)->leave_out("key", "kez");
  std::string keys;
  unsigned calls = 0;
  for (Scan::Step step; (step = (*scan)->try_next()) != Scan::Step::end; ++calls) {
    if (step == Scan::Step::record) keys += (*scan)->entry().key;
    if (step == Scan::Step::wait) CO_OK(co_await (*scan)->load());
  }
  CHECK(keys == (direction == ScanDirection::forward ? "az" : "za"));
  CHECK(calls < 8);
  scan->reset();
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("keys that are left out are jumped over, however many there are") {
  for (const bool in_tables : {false, true}) {
    for (const auto direction : {ScanDirection::forward, ScanDirection::reverse}) {
      ShardRig rig;
      rig.live(jump_over(in_tables, direction));
    }
  }
}

TEST_CASE("a prefix is a range, also where its last bytes can't grow") {
  CHECK(ScanRange::of_prefix("ab").end == "ac");
  CHECK(ScanRange::of_prefix("a\xff").end == "b");
  CHECK(ScanRange::of_prefix("a\xff\xff").end == "b");
  CHECK(ScanRange::of_prefix("\xfe").end == "\xff");
  CHECK(ScanRange::of_prefix("\xff\xff").end == "");
  CHECK(ScanRange::of_prefix("").end == "");
  CHECK(ScanRange::of_prefix(std::string(1, '\0')).end == "\x01");
}

// How often a call may come back without a record before the whole range is through.
Task<void> count_waits(bool in_tables, ScanDirection direction, unsigned& waits) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 4u << 20;
  options.cache_bytes = 4u << 20;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  for (unsigned i = 0; i < 5'000; ++i) {
    CO_OK(co_await (*shard)->remove(fmt::format("key{:05}", i)));
  }
  if (in_tables) CO_OK(co_await (*shard)->flush());
  auto scan = co_await (*shard)->scan(ScanRange{.start = "", .end = "", .direction = direction}, 0);
  CO_OK(scan);
  for (waits = 0; (*scan)->try_next() == Scan::Step::wait; ++waits) {
    CO_OK(co_await (*scan)->load());
  }
  scan->reset();
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a scan over tombstones gives the core back on its way") {
  for (const bool in_tables : {false, true}) {
    for (const auto direction : {ScanDirection::forward, ScanDirection::reverse}) {
      ShardRig rig;
      unsigned waits = 0;
      rig.live(count_waits(in_tables, direction, waits));
      CHECK(waits >= 5'000 / 256);
    }
  }
}

Task<void> count_waits_over_new_keys(ScanDirection direction, unsigned& waits) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 4u << 20;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  for (const char* key : {"a", "b", "z"}) CO_OK(co_await put(**shard, key, ""));
  auto scan = co_await (*shard)->scan(ScanRange{.start = "", .end = "", .direction = direction}, 0);
  CO_OK(scan);
  CO_REQUIRE((*scan)->try_next() == Scan::Step::record);
  for (unsigned i = 0; i < 5'000; ++i) {
    CO_OK(co_await put(**shard, fmt::format("key{:05}", i), ""));
  }
  unsigned records = 1;
  for (;;) {
    const Scan::Step step = (*scan)->try_next();
    if (step == Scan::Step::end) break;
    if (step == Scan::Step::record) ++records;
    if (step != Scan::Step::wait) continue;
    ++waits;
    CO_OK(co_await (*scan)->load());
  }
  CHECK(records == 3);
  scan->reset();
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("what was written behind a scan's back is passed over piece by piece") {
  for (const auto direction : {ScanDirection::forward, ScanDirection::reverse}) {
    ShardRig rig;
    unsigned waits = 0;
    rig.live(count_waits_over_new_keys(direction, waits));
    // Going back, the three are one batch of the memtable: it does not come past the others.
    CHECK((waits >= 1) == (direction == ScanDirection::forward));
  }
}

}  // namespace
}  // namespace gyre::test
