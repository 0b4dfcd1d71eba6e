#include "store/large_reader.hpp"

#include <algorithm>

#include "table_rig.hpp"

namespace gyre {
using namespace test;

namespace {

OwnedEntry large_entry(uint64_t index, size_t size_bytes) {
  return {key_of(index), Kind::value, {1, index}, 0, noise(size_bytes, index)};
}

const std::vector<size_t> sizes = {64u << 10,        (64u << 10) + 1, 100'000,
                                   (192u << 10) - 1, (248u << 10),    (252u << 10) - 24,
                                   256u << 10,       (1u << 20) + 3,  (5u << 20) + 12'345};

Task<void> write_into(const std::vector<OwnedEntry>& entries, TableOptions table_options,
                      TableRecord& record) {
  TableWriterOptions options;
  options.table = table_options;
  Result<TableRecord> written = co_await write_new_shard_table(12, entries, options);
  REQUIRE_OR_RETURN(written.has_value());
  record = *written;
}

// The table's handle for a key.
Task<std::string> handle_of(TableRef table, std::string key) {
  TableEntry found;
  const Result<bool> hit = co_await table->get(key, bloom_hash(key), found);
  CHECK((hit && *hit));
  CHECK(found.entry.kind == Kind::large);
  co_return std::string(found.entry.value);
}

Task<void> stream_all(const TableRecord& record, const std::vector<OwnedEntry>& entries) {
  TableWorld world;
  const Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  for (const OwnedEntry& entry : entries) {
    const std::string handle = co_await handle_of(*table, entry.key);
    CHECK(LargeReader::size_of(**table, handle).value() == entry.value.size());
    Result<LargeReader> reader = LargeReader::open(*table, handle);
    REQUIRE_OR_RETURN(reader.has_value());
    CHECK(reader->size_bytes() == entry.value.size());
    const uint64_t reads_before = world.host.stats().window_reads;
    std::string value;
    size_t memory_max = 0;
    for (;;) {
      CHECK(reader->remaining_bytes() == entry.value.size() - value.size());
      const Result<std::string_view> piece = co_await reader->next();
      REQUIRE_OR_RETURN(piece.has_value());
      if (piece->empty()) break;
      CHECK(piece->size() <= LargeReader::piece_bytes_max);
      value.append(*piece);
      memory_max = std::max(memory_max, reader->memory_bytes());
    }
    CHECK((value == entry.value));
    if (record.entry_count == sizes.size()) {
      CHECK(memory_max <= LargeReader::memory_bytes_expected(entry.value.size()));
    }
    if (entry.value.size() < 240u << 10 && record.entry_count == sizes.size()) {
      CHECK(world.host.stats().window_reads - reads_before <= 2);
    }
  }
}

Task<void> stream_damaged(const TableRecord& record, std::string key, std::string expected) {
  TableWorld world;
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    Result<LargeReader> reader = LargeReader::open(*table, co_await handle_of(*table, key));
    REQUIRE_OR_RETURN(reader.has_value());
    std::string value;
    Result<std::string_view> piece = co_await reader->next();
    while (piece && !piece->empty()) {
      value.append(*piece);
      piece = co_await reader->next();
    }
    REQUIRE_OR_RETURN(!piece.has_value());
    CHECK(piece.error().code == Errc::corrupt);
    CHECK(piece.error().detail.find("000012.table: at offset") != std::string::npos);
    CHECK(value == std::string_view(expected).substr(0, value.size()));  // never a wrong byte
    const Result<std::string_view> more = co_await reader->next();
    CHECK_FALSE(more.has_value());
  }
  co_await world.host.drain();
}

Task<void> leave_early(const TableRecord& record, const std::vector<OwnedEntry>& entries) {
  TableWorld world;
  std::string last_piece;
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, record);
    REQUIRE_OR_RETURN(table.has_value());
    for (const OwnedEntry& entry : entries) {
      Result<LargeReader> reader = LargeReader::open(*table, co_await handle_of(*table, entry.key));
      const Result<std::string_view> piece = co_await reader->next();
      REQUIRE_OR_RETURN(piece.has_value());
    }
  }
  co_await world.host.drain();
  CHECK(world.host.tables_open() == 0);
}

Task<void> bad_handles(const TableRecord& record) {
  TableWorld world;
  const Result<TableRef> table = co_await TableFile::open(world.host, record);
  REQUIRE_OR_RETURN(table.has_value());
  LargeHandle behind;
  behind.offset = record.size_bytes - 10;
  behind.size_bytes = 1u << 20;
  behind.chunk_bytes = 64u << 10;
  for (const std::string& encoded : {std::string(), std::string("x"), behind.encode()}) {
    const Result<LargeReader> reader = LargeReader::open(*table, encoded);
    REQUIRE_OR_RETURN(!reader.has_value());
    CHECK(reader.error().code == Errc::corrupt);
  }
}

}  // namespace

TEST_CASE("large values of all sizes stream back in bounded memory") {
  SimRig rig;
  std::vector<OwnedEntry> entries;
  for (size_t i = 0; i < sizes.size(); ++i) entries.push_back(large_entry(i, sizes[i]));
  TableRecord record;
  rig.run(write_into(entries, TableOptions(), record));
  rig.run(stream_all(record, entries));
  rig.run(leave_early(record, entries));
  rig.run(bad_handles(record));
}

TEST_CASE("chunks of any size stream back") {
  SimRig rig;
  std::vector<OwnedEntry> entries;
  for (uint64_t i = 0; i < 30; ++i) entries.push_back(large_entry(i, 1 + i * 1'731));
  entries.push_back(large_entry(30, 0));
  entries.push_back(large_entry(31, (3u << 20) + 1));
  for (const uint32_t chunk_bytes : {100u, 4096u, 300'000u, 1u << 20}) {
    CAPTURE(chunk_bytes);
    TableOptions options = small_table_options();
    options.large_value_bytes_min = 0;
    options.chunk_bytes = chunk_bytes;
    TableRecord record;
    rig.run(write_into(entries, options, record));
    rig.run(stream_all(record, entries));
    rig.disk().execute({.code = OpCode::unlink, .path = "shard/000012.table"});
  }
}

TEST_CASE("a damaged chunk or checksum list ends the stream before its bytes") {
  SimRig rig;
  const std::vector<OwnedEntry> entries = {large_entry(1, 3u << 20)};
  TableRecord record;
  rig.run(write_into(entries, TableOptions(), record));
  const std::string path = join_path(shard_directory, table_file_name(12));
  // The extent is the first thing in the file, its list follows it.
  for (const uint64_t offset : {0u, 70'000u, 1'500'000u, (3u << 20) - 1, (3u << 20) + 5}) {
    CAPTURE(offset);
    REQUIRE(rig.disk().corrupt(path, offset, 1));
    rig.run(stream_damaged(record, entries[0].key, entries[0].value));
    REQUIRE(rig.disk().corrupt(path, offset, 1));
  }
}

}  // namespace gyre
