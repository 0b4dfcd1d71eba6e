// Checking the files of a shard that serves: verify, and the scrub.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/hash.hpp"
#include "shard_rig.hpp"
#include "store/file_names.hpp"

namespace gyre::test {
namespace {

constexpr Nanos day = seconds(86'400);

ShardOptions scrub_options() {
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 16u << 10;
  options.table.large_value_bytes_min = 4u << 10;
  options.compaction.l0_trigger = 100;  // tables stay as they are
  return options;
}

Task<Result<void>> fill(Shard& shard, uint64_t from, uint64_t count) {
  for (uint64_t i = from; i < from + count; ++i) {
    const uint64_t dice = hash64(fmt::format("{}", i));
    const std::string key = fmt::format("key{:04}", dice % 500);
    if (dice % 7 == 0) {
      Result<Version> removed = co_await shard.remove(key);
      if (!removed) co_return fail(removed.error());
      continue;
    }
    const uint64_t expires = dice % 5 == 0 ? Reactor::current().wall_ms() + 1'000'000'000 : 0;
    const size_t size = dice % 50 == 1 ? 20'000 : 100;
    Result<Version> stored = co_await put(shard, key, noise(dice, size), expires);
    if (!stored) co_return fail(stored.error());
  }
  co_return co_await shard.flush();
}

Task<Result<std::unique_ptr<Shard>>> open_filled(ShardHome& home, ShardOptions options) {
  auto shard = co_await Shard::open(std::move(options), home.context());
  if (!shard) co_return fail(shard.error());
  if (Result<void> filled = co_await fill(**shard, 0, 600); !filled) co_return fail(filled.error());
  co_return shard;
}

std::string path_of(uint64_t number) {
  return join_path("shard", table_file_name(number));
}

Task<void> verify_sound() {
  ShardHome home;
  auto shard = co_await open_filled(home, scrub_options());
  CO_OK(shard);
  const Result<VerifyReport> report = co_await (*shard)->verify();
  CO_OK(report);
  CO_CHECK(report->tables == (*shard)->levels().table_count());
  CO_CHECK(report->tables > 3);
  CO_CHECK(report->bytes >= (*shard)->stored_bytes());
  CO_CHECK(report->entries > 400);
  CO_CHECK(report->large_values > 0);
  CO_CHECK(report->damage_count == 0);
  CO_CHECK((*shard)->verify_progress().bytes_done == report->bytes);
  CO_OK(co_await (*shard)->close(false));
}

// One byte after the other of one table, and what verify says.
Task<void> verify_damaged(sim::Disk& disk) {
  ShardHome home;
  auto shard = co_await open_filled(home, scrub_options());
  CO_OK(shard);
  const TableRecord table = (*shard)->levels().level(0).front()->record();
  const std::string path = path_of(table.file_number);
  for (uint64_t offset = 0; offset < table.size_bytes;
       offset += offset + 100 < table.size_bytes ? 997 : 7) {
    CO_CHECK(disk.corrupt(path, offset, 0x10));
    const Result<VerifyReport> report = co_await (*shard)->verify();
    CO_OK(report);
    const bool told =
        report->damage_count > 0 && report->damage.front().find(path) != std::string::npos;
    CHECK_MESSAGE(told, "byte " << offset << " of " << table.size_bytes);
    CO_CHECK((*shard)->damaged_tables().size() == 1);
    CO_CHECK(disk.corrupt(path, offset, 0x10));
  }
  const Result<VerifyReport> again = co_await (*shard)->verify();
  CO_CHECK(again && again->damage_count == 0);
  CO_CHECK((*shard)->damaged_tables().empty());

  // Other files.
  const std::string manifest = join_path("shard", manifest_file_name(1));
  CO_CHECK(disk.corrupt(manifest, 50, 1));
  Result<VerifyReport> report = co_await (*shard)->verify();
  CO_CHECK(report && report->damage_count == 1 &&
           report->damage.front().find(manifest) != std::string::npos);
  CO_CHECK(disk.corrupt(manifest, 50, 1));
  CO_OK(co_await unlink_file(path));
  report = co_await (*shard)->verify();
  CO_CHECK(report && report->damage_count == 1 &&
           report->damage.front().find("missing") != std::string::npos);
  CO_OK(co_await (*shard)->close(false));
}

// The log: what is durable of it, while it is written to.
Task<void> verify_log(sim::Disk& disk, Durability durability) {
  ShardHome home;
  ShardOptions options = scrub_options();
  options.durability = durability;
  options.memtable_bytes_max = 8u << 20;
  auto shard = co_await open_filled(home, options);
  CO_OK(shard);
  for (uint64_t i = 0; i < 300; ++i) {
    const size_t size = i == 100 ? 2'500'000 : 500;  // one goes over several frames
    CO_OK(co_await put(**shard, fmt::format("log{}", i), noise(i, size)));
  }
  static_cast<void>(co_await sleep_for(seconds(1)));  // synced by then
  Result<VerifyReport> report = co_await (*shard)->verify();
  CO_OK(report);
  CO_CHECK(report->damage_count == 0);
  CO_CHECK(report->bytes > (*shard)->stored_bytes() + 2'500'000);
  std::vector<DirEntry> entries;
  disk.list_dir("shard", entries);
  uint64_t noticed = 0;
  for (const DirEntry& entry : entries) {
    if (parse_file_name(entry.name).kind != FileKind::log) continue;
    const std::string path = "shard/" + entry.name;
    for (uint64_t offset = 20; offset < entry.size_bytes; offset += 101 * 4096) {
      CO_CHECK(disk.corrupt(path, offset, 0x10));
      report = co_await (*shard)->verify();
      CO_OK(report);
      CO_CHECK(report->damage_count <= 1);
      noticed += report->damage_count;
      if (report->damage_count == 1) CO_CHECK(report->damage[0].find(".log") != std::string::npos);
      CO_CHECK(disk.corrupt(path, offset, 0x10));
    }
  }
  CO_CHECK(noticed > 5);
  CO_CHECK(!(*shard)->read_only());
  CO_OK(co_await (*shard)->close(false));
}

Task<void> write_until(Shard& shard, StopSource& stop) {
  uint64_t from = 1000;
  while (!stop.stop_requested()) {
    if (!co_await fill(shard, from, 100)) co_return;
    from += 100;
  }
}

Task<void> verify_while_merging() {
  ShardHome home;
  ShardOptions options = scrub_options();
  options.compaction.l0_trigger = 2;
  options.compaction.base_bytes_min = 32u << 10;
  auto shard = co_await open_filled(home, options);
  CO_OK(shard);
  StopSource stop;
  Scope scope;
  scope.spawn(write_until(**shard, stop));
  const uint64_t merged_before = (*shard)->stats().compactions;
  for (unsigned i = 0; i < 20; ++i) {
    const Result<VerifyReport> report = co_await (*shard)->verify();
    CO_OK(report);
    CO_CHECK(report->damage_count == 0);
  }
  CO_CHECK((*shard)->stats().compactions > merged_before);
  stop.request_stop();
  co_await scope.join();
  CO_OK(co_await (*shard)->close(false));
}

Task<void> scrub_sound() {
  ShardHome home;
  ShardOptions options = scrub_options();
  options.scrub_period = 7 * day;
  auto shard = co_await open_filled(home, options);
  CO_OK(shard);
  const uint64_t files = (*shard)->levels().table_count() + (*shard)->tables().value_files_open();
  static_cast<void>(co_await sleep_for(day / 2));
  CO_CHECK((*shard)->stats().scrubbed_tables < files);  // a trickle
  static_cast<void>(co_await sleep_for(7 * day + day / 2));
  const uint64_t scrubbed = (*shard)->stats().scrubbed_tables;
  CO_CHECK(scrubbed >= files);
  CO_CHECK(scrubbed <= 2 * files);
  CO_CHECK((*shard)->damaged_tables().empty());
  CO_OK(co_await (*shard)->close(false));
}

Task<void> scrub_damaged(sim::Disk& disk) {
  ShardHome home;
  ShardOptions options = scrub_options();
  options.scrub_period = day;
  options.cache_bytes = 0;
  auto shard = co_await open_filled(home, options);
  CO_OK(shard);
  const uint64_t number = (*shard)->levels().level(0).front()->file_number();
  CO_CHECK(disk.corrupt(path_of(number), 1000, 4));
  static_cast<void>(co_await sleep_for(2 * day));
  const std::vector<DamagedTable> damaged = (*shard)->damaged_tables();
  CO_REQUIRE(damaged.size() == 1);
  CO_CHECK(damaged[0].file_number == number);
  CO_CHECK(damaged[0].first.find(path_of(number) + ": offset ") == 0);
  // The rest goes on; nothing takes the table away.
  CO_CHECK(!(*shard)->read_only());
  CO_OK(co_await put(**shard, "another", "value"));
  CO_OK(co_await (*shard)->compact());
  FileStatus status;
  disk.stat(path_of(number), status);
  CO_CHECK(status.exists);
  CO_OK(co_await put(**shard, "another", "value"));
  CO_OK(co_await (*shard)->close(false));
}

// Wherever the scrub is, a close does not wait for it.
Task<void> close_during_scrub(Nanos after) {
  ShardHome home;
  ShardOptions options = scrub_options();
  options.scrub_period = seconds(10);
  auto shard = co_await open_filled(home, options);
  CO_OK(shard);
  static_cast<void>(co_await sleep_for(after));
  const Nanos before = Reactor::current().now();
  CO_OK(co_await (*shard)->close(false));
  CO_CHECK(Reactor::current().now() - before < milliseconds(100));
}

}  // namespace

TEST_CASE("verify passes a sound shard and counts what it read") {
  ShardRig rig;
  CHECK(rig.live(verify_sound()) == LifeEnd::finished);
}

TEST_CASE("verify tells every changed byte of a table, a damaged manifest and a missing file") {
  ShardRig rig;
  CHECK(rig.live(verify_damaged(rig.disk())) == LifeEnd::finished);
}

TEST_CASE("verify tells damage to what the log holds durably") {
  for (const Durability durability : {Durability::group, Durability::interval}) {
    ShardRig rig;
    CHECK(rig.live(verify_log(rig.disk(), durability)) == LifeEnd::finished);
  }
}

TEST_CASE("verify finds nothing wrong while tables come and go") {
  ShardRig rig;
  CHECK(rig.live(verify_while_merging()) == LifeEnd::finished);
}

TEST_CASE("the scrub reads every table once in a period, spread over it") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    ShardRig rig(seed);
    rig.kill_after(30 * day);
    CHECK(rig.live(scrub_sound()) == LifeEnd::finished);
  }
}

TEST_CASE("the scrub finds damage nobody has read, and leaves the table in place") {
  ShardRig rig;
  rig.kill_after(30 * day);
  CHECK(rig.live(scrub_damaged(rig.disk())) == LifeEnd::finished);
}

TEST_CASE("a close does not wait for the scrub") {
  for (int64_t ms = 0; ms < 12'000; ms += 501) {
    ShardRig rig(static_cast<uint64_t>(ms) + 1);
    CHECK(rig.live(close_during_scrub(milliseconds(ms))) == LifeEnd::finished);
  }
}

}  // namespace gyre::test
