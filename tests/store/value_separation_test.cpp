// Values apart from the tables of a shard: merges leave them where they are, their files go when
// nothing names them, sparse ones are emptied, and everything that works on files knows them.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <set>

#include "shard_rig.hpp"
#include "store/checkpoint.hpp"

namespace gyre::test {
namespace {

constexpr uint64_t key_count = 100;

ShardOptions apart(std::string directory = "shard") {
  ShardOptions options = small_shard_options(std::move(directory));
  options.separate_value_bytes_min = 1'000;
  options.table.large_value_bytes_min = 8'000;
  options.compaction.l0_trigger = 2;
  options.compaction.base_bytes_min = 4u << 10;
  options.compaction.table_bytes_target = 4u << 10;
  options.compaction.reclaim_age_ms = 0;
  return options;
}

std::string key_of(uint64_t i) {
  return fmt::format("key{:03}", i);
}

// Of every tenth key a small one, of every tenth one that is streamed.
std::string value_of(uint64_t i, uint64_t generation) {
  const size_t size = i % 10 == 3 ? 50 : i % 10 == 7 ? 20'000 : 2'000 + 13 * i;
  return noise(generation * 1'000 + i, size);
}

Task<bool> fill(Shard& shard, uint64_t generation, uint64_t step = 1, uint64_t from = 0) {
  for (uint64_t i = from; i < key_count; i += step) {
    if (!co_await put(shard, key_of(i), value_of(i, generation))) co_return false;
  }
  co_return true;
}

Contents contents(uint64_t generation) {
  Contents all;
  for (uint64_t i = 0; i < key_count; ++i) all[key_of(i)] = value_of(i, generation);
  return all;
}

uint64_t live_bytes(const Shard& shard) {
  return shard.tables().value_totals().live_bytes;
}

Task<std::set<std::string>> value_files_on_disk(std::string directory) {
  std::set<std::string> names;
  const auto entries = co_await list_directory(std::move(directory));
  if (!entries) co_return names;
  for (const DirEntry& entry : *entries) {
    if (parse_file_name(entry.name).kind == FileKind::values) names.insert(entry.name);
  }
  co_return names;
}

Task<void> merge_copies_nothing() {
  ShardHome home;
  auto shard = co_await Shard::open(apart(), home.context());
  CO_OK(shard);
  CO_CHECK(co_await fill(**shard, 1));
  CO_OK(co_await (*shard)->flush());
  const uint64_t written = (*shard)->stats().value_bytes_written;
  CO_CHECK(written > 80 * 2'000);
  CO_CHECK(live_bytes(**shard) > written * 9 / 10);
  CO_OK(co_await (*shard)->compact());
  CO_CHECK((*shard)->stats().value_bytes_written == written);
  CO_CHECK((*shard)->stats().compacted_bytes_written < written / 10);
  CO_CHECK(*co_await scan_all(**shard) == contents(1));
  for (uint64_t i = 0; i < key_count; ++i) {
    const auto read = co_await get(**shard, key_of(i));
    CO_OK(read);
    CO_CHECK(*read == value_of(i, 1));
  }
  // The second time nothing has to be read.
  CO_OK(co_await get(**shard, key_of(5)));
  StoreRead read;
  CO_CHECK((*shard)->try_get(key_of(5), Reactor::current().wall_ms(), read) == ReadOutcome::found);
  CO_CHECK(read.value == value_of(5, 1));
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a merge names values where they are, and scans and lookups find them there") {
  ShardRig rig;
  CHECK(rig.live(merge_copies_nothing()) == LifeEnd::finished);
}

Task<void> all_removed(const Shard& shard) {
  do {
    static_cast<void>(co_await sleep_for(milliseconds(50)));
  } while (shard.remover().waiting_bytes() != 0);
}

Task<void> overwrite_all() {
  ShardHome home;
  auto shard = co_await Shard::open(apart(), home.context());
  CO_OK(shard);
  for (uint64_t generation = 1; generation <= 10; ++generation) {
    CO_CHECK(co_await fill(**shard, generation));
    CO_OK(co_await (*shard)->compact());
  }
  co_await all_removed(**shard);
  const ValueFileTotals totals = (*shard)->tables().value_totals();
  CO_CHECK(totals.bytes == totals.live_bytes);  // what is old is gone as a whole
  CO_CHECK((*shard)->stats().value_bytes_moved == 0);
  CO_CHECK((co_await value_files_on_disk("shard")).size() == totals.files);
  CO_CHECK(*co_await scan_all(**shard) == contents(10));
  for (uint64_t i = 0; i < key_count; ++i) CO_OK(co_await (*shard)->remove(key_of(i)));
  CO_OK(co_await (*shard)->compact());
  co_await all_removed(**shard);
  CO_CHECK((*shard)->tables().value_totals().files == 0);
  CO_CHECK((co_await value_files_on_disk("shard")).empty());
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a value file goes when nothing names it any more") {
  ShardRig rig;
  CHECK(rig.live(overwrite_all()) == LifeEnd::finished);
  // The core would free their blocks, a millisecond for each file: they are closed, or empty, before.
  CHECK(rig.disk().bytes_freed_by_close() == 0);
}

Task<void> empty_sparse_files(bool reopen) {
  ShardHome home;
  auto shard = co_await Shard::open(apart(), home.context());
  CO_OK(shard);
  Contents expected = contents(1);
  CO_CHECK(co_await fill(**shard, 1));
  CO_OK(co_await (*shard)->compact());
  const std::set<std::string> before = co_await value_files_on_disk("shard");
  for (uint64_t i = 0; i < key_count; ++i) {
    if (i % 4 == 0) continue;  // a quarter stays
    CO_OK(co_await put(**shard, key_of(i), value_of(i, 2)));
    expected[key_of(i)] = value_of(i, 2);
  }
  CO_OK(co_await (*shard)->flush());
  // A scan keeps the old files for as long as it needs them.
  auto scan = co_await (*shard)->scan("", "", Reactor::current().wall_ms());
  CO_OK(scan);
  if (reopen) {
    scan->reset();
    CO_OK(co_await (*shard)->close(true));
    shard = co_await Shard::open(apart(), home.context());
    CO_OK(shard);
  }
  CO_OK(co_await (*shard)->compact());
  // What is due is found without being asked.
  static_cast<void>(co_await sleep_for(seconds(60)));
  CO_CHECK((*shard)->stats().value_bytes_moved > 0);
  CO_CHECK((*shard)->tables().value_totals().sparse_files == 0);
  if (!reopen) {
    CO_CHECK(*co_await drain(**scan) == expected);
    scan->reset();
    static_cast<void>(co_await sleep_for(seconds(1)));
  }
  for (const std::string& name : co_await value_files_on_disk("shard")) {
    CO_CHECK(!before.contains(name));
  }
  const ValueFileTotals totals = (*shard)->tables().value_totals();
  CO_CHECK(totals.bytes <= 2 * totals.live_bytes);
  CO_CHECK(*co_await scan_all(**shard) == expected);
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("sparse value files are emptied without being asked, and stay while a scan reads them") {
  ShardRig rig;
  CHECK(rig.live(empty_sparse_files(false)) == LifeEnd::finished);
}

TEST_CASE("what is sparse is known after a start") {
  ShardRig rig;
  CHECK(rig.live(empty_sparse_files(true)) == LifeEnd::finished);
}

Task<Result<uint64_t>> records_of(Scan& scan) {
  for (uint64_t records = 0;;) {
    switch (scan.try_next()) {
      case Scan::Step::end:
        co_return records;
      case Scan::Step::wait:
        if (Result<void> loaded = co_await scan.load(); !loaded) co_return fail(loaded.error());
        break;
      case Scan::Step::record:
        ++records;
        break;
    }
  }
}

// A read takes a millisecond: one after the other they would take one for each value.
Task<void> scan_reads_ahead(ScanDirection direction) {
  ShardHome home;
  ShardOptions options = apart();
  options.cache_bytes = 1;
  options.memtable_bytes_max = 4u << 20;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  for (uint64_t i = 0; i < 200; ++i) CO_OK(co_await put(**shard, key_of(i), noise(i, 3'000)));
  CO_OK(co_await (*shard)->compact());
  const BlockReadStats before = (*shard)->tables().stats();
  const Nanos start = Reactor::current().now();
  auto scan = co_await (*shard)->scan(
      ScanRange{.start = key_of(20), .end = key_of(180), .direction = direction},
      Reactor::current().wall_ms());
  CO_OK(scan);
  const Result<uint64_t> records = co_await records_of(**scan);
  CO_OK(records);
  CO_CHECK(*records == 160);
  CO_CHECK(Reactor::current().now() - start < milliseconds(80));
  // What lies outside the range is not read.
  const BlockReadStats after = (*shard)->tables().stats();
  const uint64_t reads =
      after.window_reads + after.block_reads - before.window_reads - before.block_reads;
  CO_CHECK(reads >= 160);
  CO_CHECK(reads < 160 + 30);
  scan->reset();

  // One that ends early takes what it has started with it.
  auto short_one = co_await (*shard)->scan(ScanRange{.direction = direction}, 0);
  CO_OK(short_one);
  for (unsigned seen = 0; seen < 5;) {
    const Scan::Step step = (*short_one)->try_next();
    if (step == Scan::Step::record) ++seen;
    if (step == Scan::Step::wait) CO_OK(co_await (*short_one)->load());
  }
  short_one->reset();
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a scan reads the values of the next entries ahead, both ways, within its range") {
  for (const ScanDirection direction : {ScanDirection::forward, ScanDirection::reverse}) {
    ShardRig rig(1, {.read = {milliseconds(1), milliseconds(1)}});
    CHECK(rig.live(scan_reads_ahead(direction)) == LifeEnd::finished);
  }
}

// A third of the values is overwritten: no file is sparse, but whoever asks gets the room back.
Task<void> compact_wasteful_files() {
  ShardHome home;
  auto shard = co_await Shard::open(apart(), home.context());
  CO_OK(shard);
  CO_CHECK(co_await fill(**shard, 1));
  CO_OK(co_await (*shard)->compact());
  for (uint64_t i = 0; i < key_count; i += 3)
    CO_OK(co_await put(**shard, key_of(i), value_of(i, 2)));
  CO_OK(co_await (*shard)->flush());
  CO_OK(co_await (*shard)->settle());
  static_cast<void>(co_await sleep_for(seconds(60)));
  CO_OK(co_await (*shard)->compact());
  co_await all_removed(**shard);
  const ValueFileTotals totals = (*shard)->tables().value_totals();
  CO_CHECK(totals.live_bytes > 150'000);
  CO_CHECK(totals.bytes - totals.live_bytes <= totals.bytes / 16);
  CO_CHECK((*shard)->full_compaction_bytes_left() == 0);
  Contents expected = contents(1);
  for (uint64_t i = 0; i < key_count; i += 3) expected[key_of(i)] = value_of(i, 2);
  CO_CHECK(*co_await scan_all(**shard) == expected);
  // Nobody asks any more: what becomes dead now waits until a file is sparse.
  for (uint64_t i = 9; i < key_count; i += 6) {
    if (i % 10 != 7) CO_OK(co_await put(**shard, key_of(i), value_of(i, 3)));
  }
  CO_OK(co_await (*shard)->flush());
  for (const uint64_t i : {uint64_t{0}, key_count - 1})
    CO_OK(co_await put(**shard, key_of(i), "small"));
  CO_OK(co_await (*shard)->flush());
  CO_OK(co_await (*shard)->settle());
  const uint64_t moved = (*shard)->stats().value_bytes_moved;
  static_cast<void>(co_await sleep_for(seconds(60)));
  CO_CHECK((*shard)->tables().value_totals().bytes > (*shard)->tables().value_totals().live_bytes);
  CO_CHECK((*shard)->stats().value_bytes_moved == moved);
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a full compaction makes room of what is dead in files that are not sparse") {
  ShardRig rig;
  CHECK(rig.live(compact_wasteful_files()) == LifeEnd::finished);
}

// --- files that are damaged, gone, left over, copied ----------------------------------------------

Task<void> fill_and_close() {
  ShardHome home;
  auto shard = co_await Shard::open(apart(), home.context());
  CO_OK(shard);
  CO_CHECK(co_await fill(**shard, 1));
  CO_OK(co_await (*shard)->compact());
  CO_OK(co_await (*shard)->close(true));
}

Task<void> expect_refusal(std::string name) {
  ShardHome home;
  auto shard = co_await Shard::open(apart(), home.context());
  CO_REQUIRE(!shard);
  CO_CHECK(shard.error().code == Errc::corrupt);
  CO_CHECK(shard.error().message().find(name) != std::string::npos);
  CO_CHECK(shard.error().message().find("checkpoint") != std::string::npos);
}

Task<void> replace(std::string path, std::string content, bool exists) {
  CO_OK(co_await unlink_file(path));
  if (exists) {
    Result<File> file = co_await File::open(path, flag_write | flag_create);
    CO_OK(file);
    CO_OK(co_await file->write_full(0, content));
    CO_OK(co_await file->close());
  }
}

TEST_CASE("a value file that is missing or cut short refuses the start, and names it") {
  ShardRig rig;
  CHECK(rig.live(fill_and_close()) == LifeEnd::finished);
  std::set<std::string> names;
  CHECK(rig.live([](std::set<std::string>& out) -> Task<void> {
    out = co_await value_files_on_disk("shard");
  }(names)) == LifeEnd::finished);
  REQUIRE(names.size() > 2);
  for (const std::string& name : names) {
    const std::string path = "shard/" + name;
    const std::string content = rig.disk().content(path);
    for (const size_t size : {size_t{0}, size_t{4096}, content.size() - 4096}) {
      if (size >= content.size()) continue;
      CHECK(rig.live(replace(path, content.substr(0, size), true)) == LifeEnd::finished);
      CHECK(rig.live(expect_refusal(name)) == LifeEnd::finished);
    }
    CHECK(rig.live(replace(path, "", true)) == LifeEnd::finished);
    CHECK(rig.live(expect_refusal(name)) == LifeEnd::finished);
    CHECK(rig.live(replace(path, "", false)) == LifeEnd::finished);
    CHECK(rig.live(expect_refusal(name)) == LifeEnd::finished);
    CHECK(rig.live([](std::string to, std::string bytes) -> Task<void> {
      Result<File> file = co_await File::open(to, flag_write | flag_create);
      CO_OK(file);
      CO_OK(co_await file->write_full(0, bytes));
      CO_OK(co_await file->close());
    }(path, content)) == LifeEnd::finished);
  }
  CHECK(rig.live([]() -> Task<void> {
    ShardHome home;
    auto shard = co_await Shard::open(apart(), home.context());
    CO_OK(shard);
    CO_CHECK(*co_await scan_all(**shard) == contents(1));
    CO_OK(co_await (*shard)->close(false));
  }()) == LifeEnd::finished);
}

Task<void> leave_over() {
  Result<File> file = co_await File::open("shard/999999.values", flag_write | flag_create);
  CO_OK(file);
  CO_OK(co_await file->write_full(0, "what a flush that was killed had written"));
  CO_OK(co_await file->close());
  ShardHome home;
  auto shard = co_await Shard::open(apart(), home.context());
  CO_OK(shard);
  CO_CHECK(!(co_await value_files_on_disk("shard")).contains("999999.values"));
  CO_CHECK(*co_await scan_all(**shard) == contents(1));
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a start removes value files that no table names") {
  ShardRig rig;
  CHECK(rig.live(fill_and_close()) == LifeEnd::finished);
  CHECK(rig.live(leave_over()) == LifeEnd::finished);
}

// Every 97th byte of every value file: the value there answers an error, all others are as they
// were; verify names the file and the value.
Task<void> damage_values(sim::Disk& disk) {
  ShardHome home;
  ShardOptions options = apart();
  options.cache_bytes = 0;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  uint64_t flipped = 0;
  for (const std::string& name : co_await value_files_on_disk("shard")) {
    const std::string path = "shard/" + name;
    const size_t size = disk.content(path).size();
    for (size_t offset = 7; offset < size; offset += 9'973, ++flipped) {
      CO_CHECK(disk.corrupt(path, offset, 0x10));
      uint64_t errors = 0;
      for (uint64_t i = 0; i < key_count; ++i) {
        const auto read = co_await get(**shard, key_of(i));
        if (!read) {
          ++errors;
          CO_CHECK(read.error().code == Errc::corrupt);
          CO_CHECK(read.error().message().find(name) != std::string::npos);
        } else {
          CO_CHECK(*read == value_of(i, 1));
        }
      }
      CO_CHECK(errors <= 1);
      const auto report = co_await (*shard)->verify();
      CO_OK(report);
      CO_CHECK((report->damage_count != 0) == (errors == 1));
      if (errors == 1) {
        const auto names_value = [&](const std::string& text) {
          return text.find("the value of ") != std::string::npos &&
                 text.find(name) != std::string::npos;
        };
        CO_CHECK(std::any_of(report->damage.begin(), report->damage.end(), names_value));
      }
      CO_CHECK(disk.corrupt(path, offset, 0x10));
    }
  }
  CO_CHECK(flipped > 20);
  const auto report = co_await (*shard)->verify();
  CO_OK(report);
  CO_CHECK(report->damage_count == 0);
  CO_CHECK((*shard)->damaged_tables().empty());
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a damaged value is an error of its own, and verify tells which it is") {
  ShardRig rig;
  CHECK(rig.live(fill_and_close()) == LifeEnd::finished);
  CHECK(rig.live(damage_values(rig.disk())) == LifeEnd::finished);
}

// A sparse file with a damaged value can't be emptied: the others are there all the same.
Task<void> empty_damaged(sim::Disk& disk) {
  ShardHome home;
  ShardOptions options = apart();
  options.cache_bytes = 0;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  const auto& level = (*shard)->levels().level(limits::table_level_count - 1);
  CO_REQUIRE(!level.empty());
  const std::string path = level[0]->value_files()[0]->path();
  CO_CHECK(disk.corrupt(path, 100, 0x10));
  for (uint64_t i = 0; i < key_count; ++i) {
    if (i % 4 != 0) CO_OK(co_await put(**shard, key_of(i), value_of(i, 2)));
  }
  static_cast<void>(co_await (*shard)->compact());
  static_cast<void>(co_await sleep_for(seconds(300)));
  uint64_t errors = 0;
  for (uint64_t i = 0; i < key_count; ++i) {
    const auto read = co_await get(**shard, key_of(i));
    errors += read ? 0 : 1;
    if (read) CO_CHECK(*read == value_of(i, i % 4 == 0 ? 1 : 2));
  }
  CO_CHECK(errors <= 1);
  CO_CHECK(!(*shard)->read_only());
  CO_OK(co_await put(**shard, "another", "value"));
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a damaged value keeps nothing else from being merged") {
  ShardRig rig;
  CHECK(rig.live(fill_and_close()) == LifeEnd::finished);
  CHECK(rig.live(empty_damaged(rig.disk())) == LifeEnd::finished);
}

Task<void> copy_while_serving() {
  CO_OK(co_await make_directories("copy"));
  ShardHome home;
  auto shard = co_await Shard::open(apart(), home.context());
  CO_OK(shard);
  CO_CHECK(co_await fill(**shard, 2, 2));
  CO_OK(co_await (*shard)->checkpoint("copy"));
  CO_CHECK((*shard)->checkpoint_progress().bytes_done == (*shard)->checkpoint_progress().bytes);
  CO_CHECK(co_await fill(**shard, 3));
  CO_OK(co_await (*shard)->compact());
  CO_OK(co_await (*shard)->close(false));

  auto copy = co_await Shard::open(apart("copy"), home.context());
  CO_OK(copy);
  Contents expected = contents(1);
  for (uint64_t i = 0; i < key_count; i += 2) expected[key_of(i)] = value_of(i, 2);
  CO_CHECK(*co_await scan_all(**copy) == expected);
  CO_OK(co_await (*copy)->close(false));
}

TEST_CASE("a checkpoint takes the value files along") {
  ShardRig rig;
  CHECK(rig.live(fill_and_close()) == LifeEnd::finished);
  CHECK(rig.live(copy_while_serving()) == LifeEnd::finished);
}

// Values that tables hold move out of them when they are next merged, and separate ones stay
// readable when separation is turned off.
Task<void> change_the_threshold() {
  ShardHome home;
  ShardOptions options = apart();
  options.separate_value_bytes_min = no_value_separation;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  CO_CHECK(co_await fill(**shard, 1));
  CO_OK(co_await (*shard)->compact());
  CO_CHECK((*shard)->tables().value_totals().files == 0);
  CO_OK(co_await (*shard)->close(true));
  shard = co_await Shard::open(apart(), home.context());
  CO_OK(shard);
  for (const uint64_t i : {uint64_t{0}, key_count - 1}) {  // so that all is merged
    CO_OK(co_await put(**shard, key_of(i), value_of(i, 1)));
  }
  CO_OK(co_await (*shard)->compact());
  CO_CHECK((*shard)->tables().value_totals().files > 0);
  CO_OK(co_await (*shard)->close(true));
  shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  for (const uint64_t i : {uint64_t{0}, key_count - 1}) {
    CO_OK(co_await put(**shard, key_of(i), value_of(i, 1)));
  }
  CO_OK(co_await (*shard)->compact());
  CO_CHECK(*co_await scan_all(**shard) == contents(1));
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE("the size from which values are kept apart may change from start to start") {
  ShardRig rig;
  CHECK(rig.live(change_the_threshold()) == LifeEnd::finished);
}

}  // namespace
}  // namespace gyre::test
