#include "store/table_file.hpp"

#include "table_rig.hpp"

namespace gyre {
using namespace test;

namespace {

Task<void> write_into(uint64_t number, const std::vector<OwnedEntry>& entries,
                      TableWriterOptions options, TableRecord& record) {
  Result<TableRecord> written = co_await write_new_shard_table(number, entries, options);
  REQUIRE_OR_RETURN(written.has_value());
  record = *written;
}

TableRecord put_on_disk(SimRig& rig, const std::vector<OwnedEntry>& entries,
                        TableOptions table_options = {}, uint64_t number = 12) {
  TableWriterOptions options;
  options.table = table_options;
  options.level = 2;
  options.size_bytes_estimate = 1u << 20;
  TableRecord record;
  rig.run(write_into(number, entries, options, record));
  REQUIRE(record.file_number == number);
  return record;
}

const std::string table_path = join_path(shard_directory, table_file_name(12));

// --- everything is found -------------------------------------------------------------------------

Task<void> get_everything(const TableRecord& record, const std::vector<OwnedEntry>& entries) {
  TableWorld world;
  {
    Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    CHECK(world.host.tables_open() == 1);
    CHECK(world.host.table_memory_bytes() > 0);
    CHECK((*table)->properties().entry_count == entries.size());
    CHECK(record.level == 2);
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < entries.size(); ++i) {
      OwnedEntry found;
      const Result<bool> hit = co_await get(*table, entries[i].key, found);
      CHECK_MESSAGE(hit.has_value(), hit.error().message());
      if (!hit || !*hit || !(found == entries[i])) ++wrong;
      const Result<bool> other = co_await get(*table, key_of(2 * i + 1), found);
      if (!other || *other) ++wrong;
    }
    CHECK(wrong == 0);
    OwnedEntry found;
    for (const char* key : {"", "a", "key", "key99999999", "z"}) {
      const Result<bool> hit = co_await get(*table, key, found);
      CHECK((hit && !*hit));
    }
  }
  CHECK(world.host.tables_open() == 0);
  CHECK(world.host.table_memory_bytes() == 0);
  CHECK(world.dropped.empty());
}

}  // namespace

TEST_CASE("a table of 50000 entries gives each of them back, large ones too, and no others") {
  SimRig rig;
  const auto entries = make_entries(50'000, 2'500);
  const TableRecord record = put_on_disk(rig, entries);
  CHECK(record.entry_count == 50'000);
  CHECK(record.smallest_key == entries.front().key);
  CHECK(record.largest_key == entries.back().key);
  CHECK(rig.disk().content(table_path).size() % 4096 == 0);
  rig.cut_power(sim::CrashMode::lost);
  rig.run(get_everything(record, entries));
}

// --- without a wait ------------------------------------------------------------------------------

namespace {

Task<void> probe(const TableRecord& record, const std::vector<OwnedEntry>& entries) {
  TableWorld world;
  Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  const auto try_get = [&](std::string_view key, TableEntry& out) {
    return (*table)->try_get(key, bloom_hash(key), out);
  };
  TableEntry out;
  CHECK(try_get("a", out) == Probe::absent);
  CHECK(try_get("z", out) == Probe::absent);
  CHECK(try_get(entries[100].key, out) == Probe::needs_io);
  const Result<bool> hit =
      co_await (*table)->get(entries[100].key, bloom_hash(entries[100].key), out);
  REQUIRE_OR_RETURN(hit.has_value());
  CHECK(*hit);
  const uint64_t reads = world.host.stats().block_reads;
  CHECK(reads == 2);  // partition, block
  TableEntry again;
  CHECK(try_get(entries[100].key, again) == Probe::hit);
  CHECK(again.entry == entries[100].view());
  CHECK(again.pin.uncached_bytes() == 0);
  // In the same partition: what the filter refuses needs no block.
  uint64_t absent = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    absent += try_get(key_of(2 * (80 + i % 40) + 1), again) == Probe::absent;
  }
  CHECK(absent > 80);
  CHECK(world.host.stats().block_reads == reads);
}

// --- one read for many ---------------------------------------------------------------------------

Task<void> get_one(TableRef table, std::string key, unsigned& hits, Errc& error) {
  TableEntry out;
  const Result<bool> hit = co_await table->get(key, bloom_hash(key), out);
  if (!hit) {
    error = hit.error().code;
  } else if (*hit && out.pin && out.entry.key == key) {
    ++hits;
  }
}

Task<void> many_at_once(const TableRecord& record, const std::vector<OwnedEntry>& entries,
                        size_t cache_bytes) {
  TableWorld world(cache_bytes);
  {
    Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    unsigned hits = 0;
    Errc error = Errc::ok;
    Scope scope;
    for (unsigned i = 0; i < 64; ++i) {  // of one block
      scope.spawn(get_one(*table, entries[i % 4].key, hits, error));
    }
    co_await scope.join();
    CHECK(hits == 64);
    CHECK(error == Errc::ok);
    CHECK(world.host.stats().block_reads == 2);
    CHECK(world.host.stats().coalesced == 2 * 63);
  }
  CHECK(world.host.uncached_bytes() == 0);
}

Task<void> stop_some(const TableRecord& record, const std::vector<OwnedEntry>& entries) {
  TableWorld world;
  Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  unsigned hits = 0;
  Errc first_error = Errc::ok;
  Errc other_error = Errc::ok;
  Scope first;
  Scope others;
  first.spawn(get_one(*table, entries[0].key, hits, first_error));
  for (unsigned i = 0; i < 8; ++i) {
    others.spawn(get_one(*table, entries[0].key, hits, other_error));
  }
  co_await yield();
  others.request_stop();
  co_await others.join();
  co_await first.join();
  CHECK(hits == 1);
  CHECK(first_error == Errc::ok);
  CHECK(other_error == Errc::cancelled);
}

}  // namespace

TEST_CASE("a probe answers from memory only and reads nothing") {
  SimRig rig;
  const auto entries = make_entries(2'000);
  const TableRecord record = put_on_disk(rig, entries);
  rig.run(probe(record, entries));
}

TEST_CASE("many lookups of one block read it once") {
  SimRig rig;
  const auto entries = make_entries(2'000);
  const TableRecord record = put_on_disk(rig, entries);
  SUBCASE("into the cache") {
    rig.run(many_at_once(record, entries, 8u << 20));
  }
  SUBCASE("and share it where the cache has no room") {
    rig.run(many_at_once(record, entries, 0));
  }
}

TEST_CASE("a stopped lookup leaves the read to those who still want it") {
  SimRig rig;
  const auto entries = make_entries(2'000);
  const TableRecord record = put_on_disk(rig, entries);
  rig.run(stop_some(record, entries));
}

// --- a full cache --------------------------------------------------------------------------------

namespace {

Task<void> without_cache(const TableRecord& record, const std::vector<OwnedEntry>& entries) {
  TableWorld world(0);
  Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  {
    TableEntry out;
    const Result<bool> hit =
        co_await (*table)->get(entries[9].key, bloom_hash(entries[9].key), out);
    REQUIRE_OR_RETURN((hit && *hit));
    CHECK(out.entry.value == entries[9].value);
    CHECK(out.pin.uncached_bytes() > 0);
    CHECK(world.host.uncached_bytes() == out.pin.uncached_bytes());
    const BlockPin copy = out.pin;
    CHECK(world.host.uncached_bytes() == copy.uncached_bytes());  // one block, two pins
  }
  CHECK(world.host.uncached_bytes() == 0);
}

// --- obsolete tables -----------------------------------------------------------------------------

Task<void> drop(const TableRecord& record, const std::vector<OwnedEntry>& entries) {
  TableWorld world;
  Result<TableRef> opened = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(opened.has_value());
  TableRef table = *opened;
  opened->reset();
  const TableRef other = table;
  table->mark_obsolete();
  table.reset();
  CHECK(world.dropped.empty());
  OwnedEntry found;
  const Result<bool> hit = co_await get(other, entries[5].key, found);
  CHECK((hit && *hit));
  {
    TableCursor cursor(other, TableCursorOptions::for_compaction());
    const Result<void> sought = co_await cursor.seek_to_first();
    CHECK(sought.has_value());  // and reads ahead, for nobody
  }
  const_cast<TableRef&>(other).reset();
  co_await world.host.drain();
  REQUIRE_OR_RETURN(world.dropped.size() == 1);
  CHECK(world.dropped[0].file_number == 12);
  CHECK(world.dropped[0].size_bytes == record.size_bytes);
}

}  // namespace

TEST_CASE("a block that the cache has no room for is handed out all the same, and counted") {
  SimRig rig;
  const auto entries = make_entries(2'000);
  const TableRecord record = put_on_disk(rig, entries);
  rig.run(without_cache(record, entries));
}

TEST_CASE("an obsolete table is readable as long as somebody holds it, then reported once") {
  SimRig rig;
  const auto entries = make_entries(5'000);
  const TableRecord record = put_on_disk(rig, entries, small_table_options());
  rig.run(drop(record, entries));
}

// --- damage --------------------------------------------------------------------------------------

namespace {

// Opens the table and reads everything in every way. Corrupt, or all entries right.
Task<void> read_or_refuse(const TableRecord& record, const std::vector<OwnedEntry>& entries,
                          bool& refused) {
  refused = false;
  TableWorld world;
  const auto refuse = [&](const Error& error) {
    refused = true;
    CHECK_MESSAGE(error.code == Errc::corrupt, error.message());
    CHECK(error.detail.find(table_path) != std::string::npos);
    CHECK(error.detail.find("offset") != std::string::npos);
  };
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    if (!table) {
      refuse(table.error());
      co_return;
    }
    const Result<std::vector<OwnedEntry>> walked =
        co_await read_all(*table, TableCursorOptions::for_compaction());
    if (walked) {
      CHECK((*walked == entries));
    } else {
      refuse(walked.error());
    }
    for (const OwnedEntry& entry : entries) {
      OwnedEntry found;
      const Result<bool> hit = co_await get(*table, entry.key, found);
      if (!hit) {
        refuse(hit.error());
      } else {
        CHECK((*hit && found == entry));
      }
    }
  }
  co_await world.host.drain();
}

Task<void> open_only(TableRecord record, Error& error) {
  TableWorld world;
  const Result<TableRef> table = co_await TableFile::open(world.host, std::move(record));
  error = table ? Error::of(Errc::ok) : table.error();
}

Error open_error(SimRig& rig, const TableRecord& record) {
  Error error;
  rig.run(open_only(record, error));
  return error;
}

}  // namespace

TEST_CASE("a flipped bit anywhere in a table is refused with file and offset") {
  SimRig rig;
  const auto entries = make_entries(60, 20, 5'000);
  const TableRecord record = put_on_disk(rig, entries, small_table_options());
  bool refused = true;
  rig.run(read_or_refuse(record, entries, refused));
  CHECK_FALSE(refused);
  unsigned flips = 0;
  for (uint64_t offset = 0; offset < record.size_bytes; offset += offset % 3 == 0 ? 61 : 40) {
    CAPTURE(offset);
    const char mask = static_cast<char>(1 << offset % 8);
    REQUIRE(rig.disk().corrupt(table_path, offset, mask));
    rig.run(read_or_refuse(record, entries, refused));
    CHECK(refused);
    REQUIRE(rig.disk().corrupt(table_path, offset, mask));
    ++flips;
  }
  CHECK(flips > 300);
}

TEST_CASE("a missing, short or foreign table is refused and the error says what to do") {
  SimRig rig;
  const auto entries = make_entries(200);
  const TableRecord record = put_on_disk(rig, entries);
  TableRecord wrong = record;
  CHECK(open_error(rig, record).code == Errc::ok);

  wrong.file_number = 13;
  Error error = open_error(rig, wrong);
  CHECK(error.code == Errc::corrupt);
  CHECK(error.detail.find("000013.table: missing") != std::string::npos);
  CHECK(error.detail.find("checkpoint") != std::string::npos);

  wrong = record;
  wrong.size_bytes += 1u << 20;
  error = open_error(rig, wrong);
  CHECK(error.code == Errc::corrupt);
  CHECK(error.detail.find("ends at offset") != std::string::npos);

  wrong = record;
  wrong.entry_count += 1;
  error = open_error(rig, wrong);
  CHECK(error.code == Errc::corrupt);
  CHECK(error.detail.find("200 entries") != std::string::npos);
}

// --- errors of the disk --------------------------------------------------------------------------

namespace {

Task<void> fail_then_get(SimRig& rig, const TableRecord& record,
                         const std::vector<OwnedEntry>& entries) {
  TableWorld world;
  const Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  rig.disk().plan({.code = OpCode::read, .path_part = "000012.table"});
  OwnedEntry found;
  const Result<bool> failed = co_await get(*table, entries[7].key, found);
  REQUIRE_OR_RETURN(!failed.has_value());
  CHECK(failed.error().code == Errc::io);
  CHECK(failed.error().os_error == 5);
  CHECK(failed.error().detail.find(table_path) != std::string::npos);
  const Result<bool> hit = co_await get(*table, entries[7].key, found);
  REQUIRE_OR_RETURN(hit.has_value());
  CHECK((*hit && found == entries[7]));
}

}  // namespace

TEST_CASE("a read error is passed on, and the next read tries again") {
  SimRig rig;
  const auto entries = make_entries(500);
  const TableRecord record = put_on_disk(rig, entries);
  rig.run(fail_then_get(rig, record, entries));
}

TEST_CASE("short reads are continued") {
  sim::DiskOptions disk;
  disk.short_read_ppm = 400'000;
  disk.short_write_ppm = 400'000;
  SimRig rig(3, disk);
  const auto entries = make_entries(3'000, 500, 700'000);
  const TableRecord record = put_on_disk(rig, entries);
  rig.run(get_everything(record, entries));
}

}  // namespace gyre
