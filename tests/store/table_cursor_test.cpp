#include "store/table_cursor.hpp"

#include <algorithm>
#include <memory>

#include "store/merge.hpp"
#include "table_rig.hpp"

namespace gyre {
using namespace test;

namespace {

Task<void> write_into(uint64_t number, const std::vector<OwnedEntry>& entries,
                      TableOptions table_options, TableRecord& record) {
  TableWriterOptions options;
  options.table = table_options;
  Result<TableRecord> written = co_await write_new_shard_table(number, entries, options);
  REQUIRE_OR_RETURN(written.has_value());
  record = *written;
}

TableRecord put_on_disk(SimRig& rig, const std::vector<OwnedEntry>& entries, TableOptions options,
                        uint64_t number = 12) {
  TableRecord record;
  rig.run(write_into(number, entries, options, record));
  REQUIRE(record.file_number == number);
  return record;
}

std::vector<OwnedEntry> from(const std::vector<OwnedEntry>& entries, const std::string& key) {
  const auto first =
      std::lower_bound(entries.begin(), entries.end(), key,
                       [](const OwnedEntry& a, const std::string& b) { return a.key < b; });
  return {first, entries.end()};
}

Task<void> walk_all(const TableRecord& record, const std::vector<OwnedEntry>& entries,
                    size_t cache_bytes) {
  TableWorld world(cache_bytes);
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    CHECK((*table)->partition_count() > 3);
    for (const bool compaction : {true, false, false}) {
      const Result<std::vector<OwnedEntry>> walked = co_await read_all(
          *table, compaction ? TableCursorOptions::for_compaction() : TableCursorOptions());
      REQUIRE_OR_RETURN(walked.has_value());
      CHECK((*walked == entries));
      if (compaction) CHECK(world.cache.stats().inserted_blocks == 0);
    }
  }
  co_await world.host.drain();
  CHECK(world.host.uncached_bytes() == 0);
}

Task<void> seek_around(const TableRecord& record, const std::vector<OwnedEntry>& entries) {
  TableWorld world;
  const Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  TableCursor cursor(*table);
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < 300; ++i) {
    const std::string key = key_of(hash64("seek", i) % (2 * entries.size() + 10));
    const Result<void> sought = co_await cursor.seek(key);
    REQUIRE_OR_RETURN(sought.has_value());
    const auto expected = from(entries, key);
    const size_t steps = std::min<size_t>(expected.size(), i % 40);
    for (size_t step = 0; step < steps; ++step) {
      const Result<OwnedEntry> entry = co_await own(*table, cursor.entry());
      if (!entry || !(*entry == expected[step]) || cursor.key() != expected[step].key) ++wrong;
      if (!cursor.next()) static_cast<void>(co_await cursor.load_next());
    }
    if (cursor.valid() != (steps < expected.size())) ++wrong;
    if (cursor.valid() && cursor.key() != expected[steps].key) ++wrong;
  }
  CHECK(wrong == 0);
  for (const char* key : {"", "a", "key"}) {
    static_cast<void>(co_await cursor.seek(key));
    CHECK((cursor.valid() && cursor.key() == entries.front().key));
  }
  static_cast<void>(co_await cursor.seek("z"));
  CHECK_FALSE(cursor.valid());
  CHECK(cursor.next());  // off the end already: nothing to load
  CHECK_FALSE(cursor.valid());
}

Task<void> walk_back(const TableRecord& record, const std::vector<OwnedEntry>& entries,
                     size_t cache_bytes) {
  TableWorld world(cache_bytes);
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    for (const bool compaction : {true, false, false}) {
      TableCursor cursor(*table,
                         compaction ? TableCursorOptions::for_compaction() : TableCursorOptions());
      Result<void> moved = co_await cursor.seek_to_last();
      size_t left = entries.size();
      while (moved && cursor.valid()) {
        REQUIRE_OR_RETURN(left != 0);
        const Result<OwnedEntry> entry = co_await own(*table, cursor.entry());
        REQUIRE_OR_RETURN(entry.has_value());
        REQUIRE_OR_RETURN((*entry == entries[--left]));
        if (!cursor.next()) moved = co_await cursor.load_next();
      }
      CHECK(moved.has_value());
      CHECK(left == 0);
      CHECK(cursor.next());  // off the end already
    }
  }
  co_await world.host.drain();
  CHECK(world.host.uncached_bytes() == 0);
}

Task<void> seek_back_around(const TableRecord& record, const std::vector<OwnedEntry>& entries) {
  TableWorld world;
  const Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  TableCursor cursor(*table);
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < 600; ++i) {
    const std::string key = key_of(hash64("seek", i) % (2 * entries.size() + 10));
    const auto expected = from(entries, key);
    size_t left = entries.size() - expected.size();
    if (i % 3 == 0) {  // between walks back, one forwards
      static_cast<void>(co_await cursor.seek(key));
      if (cursor.valid() != !expected.empty()) ++wrong;
    }
    const Result<void> sought = co_await cursor.seek_before(key);
    REQUIRE_OR_RETURN(sought.has_value());
    for (size_t step = 0; step < i % 40 && left > 0; ++step) {
      if (!cursor.valid() || cursor.key() != entries[--left].key) ++wrong;
      if (!cursor.next()) static_cast<void>(co_await cursor.load_next());
    }
    if (cursor.valid() != (left > 0)) ++wrong;
    if (cursor.valid() && cursor.key() != entries[left - 1].key) ++wrong;
  }
  CHECK(wrong == 0);
  for (const std::string& key : {std::string(), std::string("a"), entries.front().key}) {
    static_cast<void>(co_await cursor.seek_before(key));
    CHECK_FALSE(cursor.valid());
  }
  static_cast<void>(co_await cursor.seek_before("z"));
  CHECK((cursor.valid() && cursor.key() == entries.back().key));
}

Task<void> count_reads_back(const TableRecord& record) {
  TableWorld world;
  const Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  const uint64_t windows = record.size_bytes / (256u << 10) + 1;
  const uint64_t partitions = (*table)->partition_count();
  {
    TableCursor cursor(*table, TableCursorOptions::for_compaction());
    Result<void> moved = co_await cursor.seek_to_last();
    while (moved && cursor.valid()) {
      if (!cursor.next()) moved = co_await cursor.load_next();
    }
    CHECK(moved.has_value());
    const BlockReadStats& stats = world.host.stats();
    CHECK(stats.window_reads <= windows + 2 * partitions);
    CHECK(stats.window_read_bytes <= record.size_bytes + stats.window_reads * 8192);
  }
  // A short one reads little, and nothing that lies wholly before its bound.
  uint64_t bytes_before = world.host.stats().window_read_bytes;
  TableCursor cursor(*table, TableCursorOptions::for_scan());
  Result<void> moved = co_await cursor.seek_before(key_of(1001));
  for (unsigned i = 0; i < 10 && moved; ++i) {
    if (!cursor.next()) moved = co_await cursor.load_next();
  }
  CHECK(world.host.stats().window_read_bytes - bytes_before <= 64u << 10);
  TableCursorOptions options;
  options.read_ahead_until = key_of(77'000);
  TableCursor bounded(*table, options);
  bytes_before = world.host.stats().window_read_bytes;
  moved = co_await bounded.seek_to_last();
  while (moved && bounded.valid() && bounded.key() > *options.read_ahead_until) {
    if (!bounded.next()) moved = co_await bounded.load_next();
  }
  CHECK((moved && bounded.valid() && bounded.key() == key_of(77'000)));
  CHECK(world.host.stats().window_read_bytes - bytes_before < record.size_bytes / 16);
}

Task<void> count_reads(const TableRecord& record) {
  TableWorld world;
  const Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  const uint64_t windows = record.size_bytes / (256u << 10) + 1;
  const uint64_t partitions = (*table)->partition_count();
  {
    TableCursor cursor(*table, TableCursorOptions::for_compaction());
    Result<void> moved = co_await cursor.seek_to_first();
    size_t memory_max = 0;
    while (moved && cursor.valid()) {
      memory_max = std::max(memory_max, cursor.memory_bytes());
      if (!cursor.next()) moved = co_await cursor.load_next();
    }
    CHECK(moved.has_value());
    const BlockReadStats& stats = world.host.stats();
    CHECK(stats.window_reads <= windows + 2 * partitions);
    CHECK(stats.block_reads == partitions);
    CHECK(stats.window_read_bytes <= record.size_bytes + stats.window_reads * 8192);
    CHECK(memory_max > 256u << 10);
    CHECK(memory_max <= TableCursor::memory_bytes_expected(TableCursorOptions::for_compaction()) +
                            (64u << 10));  // a partition outside the cache
  }
  // A short scan reads little: one block, then two, …
  const uint64_t bytes_before = world.host.stats().window_read_bytes;
  TableCursor cursor(*table, TableCursorOptions::for_scan());
  Result<void> moved = co_await cursor.seek(key_of(1001));
  for (unsigned i = 0; i < 10 && moved; ++i) {
    if (!cursor.next()) moved = co_await cursor.load_next();
  }
  CHECK(world.host.stats().window_read_bytes - bytes_before <= 64u << 10);
}

Task<void> stop_at_bound(const TableRecord& record) {
  TableWorld world;
  const Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  TableCursorOptions options;
  options.read_ahead_until = key_of(3000);
  TableCursor cursor(*table, options);
  Result<void> moved = co_await cursor.seek_to_first();
  while (moved && cursor.valid() && cursor.key() < *options.read_ahead_until) {
    if (!cursor.next()) moved = co_await cursor.load_next();
  }
  REQUIRE_OR_RETURN(moved.has_value());
  CHECK((cursor.valid() && cursor.key() == key_of(3000)));
  const uint64_t bounded = world.host.stats().window_read_bytes;
  // It could be walked on.
  uint64_t rest = 0;
  while (moved && cursor.valid()) {
    ++rest;
    if (!cursor.next()) moved = co_await cursor.load_next();
  }
  CHECK(rest == record.entry_count - 1500);
  CHECK(bounded < record.size_bytes / 4);
}

Task<void> give_up(const TableRecord& record) {
  TableWorld world;
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    for (unsigned i = 0; i < 20; ++i) {
      TableCursor cursor(*table, TableCursorOptions::for_compaction());
      const Result<void> sought = co_await cursor.seek(key_of(i * 100));
      CHECK(sought.has_value());
    }
  }
  CHECK(world.host.tables_open() == 1);  // reads ahead hold it
  co_await world.host.drain();
  CHECK(world.host.tables_open() == 0);
}

Task<void> walk_damaged(const TableRecord& record, size_t entries_before) {
  TableWorld world;
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    for (const bool compaction : {true, false}) {
      TableCursor cursor(*table, compaction ? TableCursorOptions::for_compaction()
                                            : TableCursorOptions::for_scan());
      Result<void> moved = co_await cursor.seek_to_first();
      size_t seen = 0;
      while (moved && cursor.valid()) {
        ++seen;
        if (!cursor.next()) moved = co_await cursor.load_next();
      }
      REQUIRE_OR_RETURN(!moved.has_value());
      CHECK(moved.error().code == Errc::corrupt);
      CHECK(moved.error().detail.find("000012.table") != std::string::npos);
      CHECK_FALSE(cursor.valid());
      CHECK(seen > entries_before / 2);
      CHECK(seen <= entries_before);
      // Another place of the table is still readable.
      const Result<void> again = co_await cursor.seek(record.largest_key);
      CHECK((again && cursor.valid()));
    }
  }
  co_await world.host.drain();
}

Task<void> fail_read(SimRig& rig, const TableRecord& record) {
  TableWorld world;
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    TableCursor cursor(*table, TableCursorOptions::for_compaction());
    rig.disk().plan({.code = OpCode::read, .path_part = ".table", .nth = 6});
    Result<void> moved = co_await cursor.seek_to_first();
    while (moved && cursor.valid()) {
      if (!cursor.next()) moved = co_await cursor.load_next();
    }
    REQUIRE_OR_RETURN(!moved.has_value());
    CHECK(moved.error().code == Errc::io);
  }
  co_await world.host.drain();
}

// --- merging -------------------------------------------------------------------------------------

Task<void> merge_two(std::vector<TableRecord> records, const std::vector<OwnedEntry>& expected) {
  TableWorld world;
  std::vector<std::unique_ptr<TableCursor>> cursors;
  for (const TableRecord& record : records) {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    cursors.push_back(std::make_unique<TableCursor>(*table, TableCursorOptions::for_compaction()));
    const Result<void> sought = co_await cursors.back()->seek_to_first();
    CHECK(sought.has_value());
  }
  MergeHeap<TableCursor> heap;
  for (const auto& cursor : cursors) heap.push(*cursor);
  std::vector<OwnedEntry> merged;
  while (!heap.empty()) {
    while (TableCursor* const loser = heap.shadowed()) {
      if (!loser->next()) static_cast<void>(co_await loser->load_next());
      heap.advanced(*loser);
    }
    TableCursor& winner = heap.top();
    const Result<OwnedEntry> entry = co_await own(winner.table(), winner.entry());
    REQUIRE_OR_RETURN(entry.has_value());
    merged.push_back(*entry);
    if (!winner.next()) static_cast<void>(co_await winner.load_next());
    heap.advanced(winner);
  }
  CHECK((merged == expected));
  cursors.clear();
  co_await world.host.drain();
}

}  // namespace

TEST_CASE("a cursor walks a table in order, around large values and over partitions") {
  SimRig rig;
  const auto entries = make_entries(10'000, 100, 6'000);
  const TableRecord record = put_on_disk(rig, entries, small_table_options());
  SUBCASE("with a cache") {
    rig.run(walk_all(record, entries, 8u << 20));
  }
  SUBCASE("with a cache that is too small") {
    rig.run(walk_all(record, entries, 64u << 10));
  }
  SUBCASE("without one") {
    rig.run(walk_all(record, entries, 0));
  }
}

TEST_CASE("a cursor seeks to the first key that is not smaller") {
  SimRig rig;
  const auto entries = make_entries(4'000, 50, 6'000);
  rig.run(seek_around(put_on_disk(rig, entries, small_table_options()), entries));
}

TEST_CASE("a cursor walks back over blocks, large values and partitions") {
  for (const size_t cache_bytes : {size_t{1}, size_t{8} << 20}) {
    SimRig rig;
    const auto entries = make_entries(4'000, 100, 30'000);
    rig.run(walk_back(put_on_disk(rig, entries, small_table_options()), entries, cache_bytes));
  }
}

TEST_CASE("a cursor seeks to the last key that is smaller, and goes back from there") {
  SimRig rig;
  const auto entries = make_entries(4'000, 50, 6'000);
  rig.run(seek_back_around(put_on_disk(rig, entries, small_table_options()), entries));
}

TEST_CASE("a walk back reads in large pieces too, and nothing before a bound") {
  SimRig rig;
  rig.run(count_reads_back(put_on_disk(rig, make_entries(40'000), TableOptions())));
}

TEST_CASE("a walk reads in large pieces and a short scan in small ones") {
  SimRig rig;
  rig.run(count_reads(put_on_disk(rig, make_entries(40'000), TableOptions())));
}

TEST_CASE("nothing is read ahead behind a bound") {
  SimRig rig;
  rig.run(stop_at_bound(put_on_disk(rig, make_entries(40'000), TableOptions())));
}

TEST_CASE("a cursor that is given up during a read leaves nothing behind") {
  SimRig rig;
  rig.run(give_up(put_on_disk(rig, make_entries(10'000), TableOptions())));
}

TEST_CASE("a walk ends at a damaged block with file and offset") {
  SimRig rig;
  const TableRecord record = put_on_disk(rig, make_entries(4'000), small_table_options());
  rig.disk().corrupt(join_path(shard_directory, table_file_name(12)), record.size_bytes / 2, 4);
  rig.run(walk_damaged(record, 2'400));
}

TEST_CASE("a walk ends at a read error") {
  SimRig rig;
  const TableRecord record = put_on_disk(rig, make_entries(4'000), small_table_options());
  rig.run(fail_read(rig, record));
}

TEST_CASE("cursors of two tables merge, the newer entry of each key winning") {
  SimRig rig;
  auto older = make_entries(3'000, 200, 6'000);
  std::vector<OwnedEntry> newer;
  for (size_t i = 0; i < older.size(); i += 3) {
    newer.push_back(older[i]);
    newer.back().version.hlc += 10'000;
    newer.back().kind = Kind::value;
    newer.back().value = noise(i % 500 == 0 ? 9'000 : 30, i + 77);
  }
  const TableRecord a = put_on_disk(rig, older, small_table_options(), 12);
  const TableRecord b = put_on_disk(rig, newer, small_table_options(), 13);
  auto expected = older;
  for (size_t i = 0; i < newer.size(); ++i) expected[3 * i] = newer[i];
  rig.run(merge_two({a, b}, expected));
}

}  // namespace gyre
