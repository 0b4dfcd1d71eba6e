#include "store/table_writer.hpp"

#include <cerrno>

#include "table_rig.hpp"

namespace gyre {
using namespace test;

namespace {

const std::string table_path = join_path(shard_directory, table_file_name(12));

Task<void> write_into(const std::vector<OwnedEntry>& entries, TableWriterOptions options,
                      Result<TableRecord>& out) {
  out = co_await write_new_shard_table(12, entries, options);
}

Result<TableRecord> write_out(SimRig& rig, const std::vector<OwnedEntry>& entries,
                              TableWriterOptions options = {}) {
  Result<TableRecord> out = fail(Errc::invalid);
  rig.run(write_into(entries, options, out));
  return out;
}

Task<void> read_into(const TableRecord& record, Result<std::vector<OwnedEntry>>& out) {
  TableWorld world;
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    if (!table) {
      out = fail(table.error());
      co_return;
    }
    out = co_await read_all(*table, TableCursorOptions::for_compaction());
  }
  co_await world.host.drain();
}

Result<std::vector<OwnedEntry>> read_back(SimRig& rig, const TableRecord& record) {
  Result<std::vector<OwnedEntry>> out = fail(Errc::invalid);
  rig.run(read_into(record, out));
  return out;
}

bool exists(SimRig& rig, const std::string& path) {
  FileStatus status;
  rig.disk().stat(path, status);
  return status.exists;
}

// --- copying -------------------------------------------------------------------------------------

Task<void> copy_table(const TableRecord& record, TableRecord& copied) {
  TableWorld world;
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    TableWriterOptions options;
    options.table = small_table_options();
    Result<std::unique_ptr<TableWriter>> writer =
        co_await TableWriter::create(shard_directory, 13, options);
    REQUIRE_OR_RETURN(writer.has_value());
    CHECK((*writer)->empty());
    TableCursor cursor(*table, TableCursorOptions::for_compaction());
    Result<void> moved = co_await cursor.seek_to_first();
    size_t memory_max = 0;
    while (moved && cursor.valid()) {
      const Entry& entry = cursor.entry();
      Result<void> done;
      if (entry.kind == Kind::large) {
        Result<LargeReader> reader = LargeReader::open(*table, entry.value);
        REQUIRE_OR_RETURN(reader.has_value());
        done = co_await (*writer)->add_large(entry, *reader);
      } else if ((*writer)->add(entry)) {
        done = co_await (*writer)->drain();
      }
      REQUIRE_OR_RETURN(done.has_value());
      memory_max = std::max(memory_max, (*writer)->memory_bytes());
      CHECK((*writer)->estimated_file_bytes() >= (*writer)->file_bytes());
      if (!cursor.next()) moved = co_await cursor.load_next();
    }
    CHECK(memory_max <= TableWriter::memory_bytes_expected);
    Result<TableRecord> finished = co_await (*writer)->finish(test_created_ms, 42);
    REQUIRE_OR_RETURN(finished.has_value());
    copied = *finished;
    const Result<void> synced = co_await sync_directory(shard_directory);
    CHECK(synced.has_value());
  }
  co_await world.host.drain();
}

// --- giving up -----------------------------------------------------------------------------------

Task<void> abandon_midway(const std::vector<OwnedEntry>& entries) {
  static_cast<void>(co_await make_directories(shard_directory));
  Result<std::unique_ptr<TableWriter>> writer =
      co_await TableWriter::create(shard_directory, 12, {});
  REQUIRE_OR_RETURN(writer.has_value());
  const Result<void> added =
      co_await (*writer)->add_large(entries[0].view(), ValueBuffer(entries[0].value));
  CHECK(added.has_value());
  co_await (*writer)->abandon();
  co_await (*writer)->abandon();
  const Result<void> after = co_await (*writer)->drain();
  REQUIRE_OR_RETURN(!after.has_value());
  CHECK(after.error().code == Errc::cancelled);
  const Result<TableRecord> finished = co_await (*writer)->finish(1, 1);
  CHECK_FALSE(finished.has_value());
}

Task<void> destroy_midway(const std::vector<OwnedEntry>& entries) {
  static_cast<void>(co_await make_directories(shard_directory));
  Result<std::unique_ptr<TableWriter>> writer =
      co_await TableWriter::create(shard_directory, 12, {});
  REQUIRE_OR_RETURN(writer.has_value());
  const Result<void> added =
      co_await (*writer)->add_large(entries[0].view(), ValueBuffer(entries[0].value));
  CHECK(added.has_value());  // with writes under way
}

}  // namespace

TEST_CASE("a finished table survives a power cut once its directory is synced") {
  SimRig rig;
  const auto entries = make_entries(5'000, 500);
  TableWriterOptions options;
  SUBCASE("preallocated too short") {
    options.size_bytes_estimate = 4096;
  }
  SUBCASE("preallocated too long") {
    options.size_bytes_estimate = 64u << 20;
  }
  SUBCASE("not preallocated") {}
  const Result<TableRecord> record = write_out(rig, entries, options);
  REQUIRE(record.has_value());
  rig.cut_power(sim::CrashMode::lost);
  CHECK(rig.disk().content(table_path).size() == (record->size_bytes + 4095) / 4096 * 4096);
  const auto back = read_back(rig, *record);
  REQUIRE(back.has_value());
  CHECK((*back == entries));
}

TEST_CASE("a power cut at any point of writing leaves whole tables or none that is vouched for") {
  const auto entries = make_entries(6'000, 1'500, 300'000);
  uint64_t points = 0;
  for (uint64_t point = 1;; ++point) {
    CAPTURE(point);
    SimRig rig(point);
    rig.disk().stop_at(point, static_cast<sim::CrashPhase>(point % 3));
    Result<TableRecord> record = fail(Errc::invalid);
    if (rig.run(write_into(entries, {}, record))) {
      REQUIRE(record.has_value());
      break;
    }
    ++points;
    if (!record) continue;
    const auto back = read_back(rig, *record);
    REQUIRE(back.has_value());
    CHECK((*back == entries));
  }
  CHECK(points > 8);
}

TEST_CASE("a table copied entry by entry, large values streamed, holds the same") {
  SimRig rig;
  const auto entries = make_entries(3'000, 100, 300'000);
  const Result<TableRecord> record = write_out(rig, entries);
  REQUIRE(record.has_value());
  TableRecord copied;
  rig.run(copy_table(*record, copied));
  REQUIRE(copied.file_number == 13);
  CHECK(copied.entry_count == record->entry_count);
  const auto back = read_back(rig, copied);
  REQUIRE(back.has_value());
  CHECK((*back == entries));
}

TEST_CASE("a full disk is no_space and leaves no file") {
  const auto entries = make_entries(200, 10, 300'000);
  for (const uint64_t estimate : {uint64_t{0}, uint64_t{32} << 20}) {
    sim::DiskOptions disk;
    disk.capacity_bytes = 3u << 20;
    SimRig rig(1, disk);
    TableWriterOptions options;
    options.size_bytes_estimate = estimate;
    const Result<TableRecord> record = write_out(rig, entries, options);
    REQUIRE_FALSE(record.has_value());
    CHECK(record.error().code == Errc::no_space);
    CHECK(record.error().detail.find(table_path) != std::string::npos);
    CHECK_FALSE(exists(rig, table_path));
  }
}

TEST_CASE("an error of the disk ends the table and leaves no file") {
  const auto entries = make_entries(200, 10, 300'000);
  struct Fault {
    OpCode code;
    uint32_t nth;
    int error;
    Errc expected;
  };
  for (const Fault& fault :
       {Fault{OpCode::write, 1, EIO, Errc::io}, Fault{OpCode::write, 9, EIO, Errc::io},
        Fault{OpCode::write, 10, ENOSPC, Errc::no_space},
        Fault{OpCode::allocate, 1, ENOSPC, Errc::no_space},
        Fault{OpCode::truncate, 1, EIO, Errc::io}, Fault{OpCode::fsync, 1, EIO, Errc::io},
        Fault{OpCode::close, 1, EIO, Errc::io}}) {
    SimRig rig;
    CAPTURE(to_string(fault.code));
    CAPTURE(fault.nth);
    rig.disk().plan(
        {.code = fault.code, .path_part = ".table", .nth = fault.nth, .error = fault.error});
    const Result<TableRecord> record = write_out(rig, entries);
    if (record && fault.code == OpCode::close) continue;  // this disk's close can't fail
    REQUIRE_FALSE(record.has_value());
    CHECK(record.error().code == fault.expected);
    CHECK(record.error().os_error == fault.error);
    CHECK(record.error().detail.find(table_path) != std::string::npos);
    CHECK_FALSE(exists(rig, table_path));
  }
}

TEST_CASE("a file system without preallocation is written to all the same") {
  SimRig rig;
  const auto entries = make_entries(500, 100, 300'000);
  rig.disk().plan({.code = OpCode::allocate, .error = EOPNOTSUPP, .times = 1000});
  TableWriterOptions options;
  options.size_bytes_estimate = 1u << 20;
  const Result<TableRecord> record = write_out(rig, entries, options);
  REQUIRE(record.has_value());
  const auto back = read_back(rig, *record);
  REQUIRE(back.has_value());
  CHECK((*back == entries));
}

TEST_CASE("a table that is given up is removed") {
  SimRig rig;
  const std::vector<OwnedEntry> entries = {{"k", Kind::value, {1, 1}, 0, noise(2u << 20, 1)}};
  rig.run(abandon_midway(entries));
  CHECK_FALSE(exists(rig, table_path));
}

TEST_CASE("a writer that is destroyed midway keeps its file open until its writes have ended") {
  SimRig rig;
  const std::vector<OwnedEntry> entries = {{"k", Kind::value, {1, 1}, 0, noise(2u << 20, 1)}};
  rig.run(destroy_midway(entries));
  CHECK(exists(rig, table_path));
}

TEST_CASE("an existing table is never written over") {
  SimRig rig;
  const auto entries = make_entries(10);
  const Result<TableRecord> record = write_out(rig, entries);
  REQUIRE(record.has_value());
  const Result<TableRecord> again = write_out(rig, make_entries(20));
  REQUIRE_FALSE(again.has_value());
  CHECK(again.error().code == Errc::already_exists);
  const auto back = read_back(rig, *record);
  REQUIRE(back.has_value());
  CHECK((*back == entries));
}

namespace {

Task<void> write_at_level(uint8_t level, uint32_t bits, uint32_t bits_upper, uint32_t& got) {
  TableWriterOptions options;
  options.level = level;
  options.table.bloom_bits_per_key = bits;
  options.table.bloom_bits_per_key_upper = bits_upper;
  const Result<TableRecord> record =
      co_await write_new_shard_table(12, make_entries(2'000), options);
  REQUIRE_OR_RETURN(record.has_value());
  TableWorld world;
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, *record);
    REQUIRE_OR_RETURN(table.has_value());
    got = (*table)->properties().options.bloom_bits_per_key;
  }
  co_await world.host.drain();
}

uint32_t bits_at(uint8_t level, uint32_t bits, uint32_t bits_upper) {
  SimRig rig;
  uint32_t got = 0;
  rig.run(write_at_level(level, bits, bits_upper, got));
  return got;
}

}  // namespace

TEST_CASE("tables above the deepest level have the longer filters") {
  const uint8_t bottom = limits::table_level_count - 1;
  for (uint8_t level = 0; level < bottom; ++level) CHECK(bits_at(level, 10, 16) == 16);
  CHECK(bits_at(bottom, 10, 16) == 10);
  CHECK(bits_at(0, 20, 16) == 20);  // never fewer than below
  CHECK(bits_at(0, 0, 16) == 0);    // none means none
  CHECK(TableOptions().bloom_bits_per_key == 10);
  CHECK(TableOptions().bloom_bits_per_key_upper == 16);
}

}  // namespace gyre
