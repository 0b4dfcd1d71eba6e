// Tables on a simulated disk: entries to put into them, and a host to open them with.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.hpp"
#include "sim_rig.hpp"
#include "store/block_cache.hpp"
#include "store/bloom.hpp"
#include "store/file_names.hpp"
#include "store/large_reader.hpp"
#include "store/table_cursor.hpp"
#include "store/table_file.hpp"
#include "store/table_writer.hpp"
#include "table_support.hpp"

namespace gyre::test {

inline const std::string shard_directory = "shard";

inline std::string noise(size_t size_bytes, uint64_t seed) {
  std::string out;
  out.reserve(size_bytes + 8);
  while (out.size() < size_bytes) {
    seed = hash64("noise", seed);
    out.append(reinterpret_cast<const char*>(&seed), 8);
  }
  out.resize(size_bytes);
  return out;
}

inline std::string key_of(uint64_t index) {
  return fmt::format("key{:08}", index);
}

// Mostly small values; some tombstones, some with expiry, every `large_every`-th one large.
inline std::vector<OwnedEntry> make_entries(uint64_t count, uint64_t large_every = 0,
                                            size_t large_bytes = 100'000) {
  std::vector<OwnedEntry> entries;
  entries.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    OwnedEntry entry;
    entry.key = key_of(2 * i);  // odd ones are absent
    entry.version = {1000 + i * 7 % 5000, i};
    if (large_every != 0 && i % large_every == large_every - 1) {
      entry.value = noise(large_bytes + i, i);
    } else if (i % 11 == 3) {
      entry.kind = Kind::tombstone;
    } else {
      entry.value = noise(20 + i % 90, i);
      if (i % 13 == 5) entry.expire_at_ms = 5'000'000 + i;
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

inline TableOptions small_table_options() {
  TableOptions options;
  options.block_bytes_target = 1024;
  options.partition_blocks_max = 8;
  options.large_value_bytes_min = 4096;
  options.chunk_bytes = 4096;
  return options;
}

inline Task<Result<TableRecord>> write_table(uint64_t file_number,
                                             const std::vector<OwnedEntry>& entries,
                                             TableWriterOptions options = {}) {
  Result<std::unique_ptr<TableWriter>> writer =
      co_await TableWriter::create(shard_directory, file_number, options);
  if (!writer) co_return fail(writer.error());
  for (const OwnedEntry& entry : entries) {
    const bool is_large =
        entry.kind == Kind::value && entry.value.size() >= options.table.large_value_bytes_min;
    Result<void> done;
    if (is_large) {
      done = co_await (*writer)->add_large(entry.view(), ValueBuffer(entry.value));
    } else if ((*writer)->add(entry.view())) {
      done = co_await (*writer)->drain();
    }
    if (!done) co_return fail(done.error());
  }
  co_return co_await (*writer)->finish(test_created_ms, 42);
}

inline Task<Result<TableRecord>> write_new_shard_table(uint64_t file_number,
                                                       const std::vector<OwnedEntry>& entries,
                                                       TableWriterOptions options = {}) {
  const Result<void> made = co_await make_directories(shard_directory);
  if (!made) co_return fail(made.error());
  Result<TableRecord> record = co_await write_table(file_number, entries, options);
  if (!record) co_return record;
  const Result<void> synced = co_await sync_directory(shard_directory);
  if (!synced) co_return fail(synced.error());
  co_return record;
}

// All of a large value.
inline Task<Result<std::string>> read_large(TableRef table, std::string encoded) {
  Result<LargeReader> reader = LargeReader::open(table, encoded);
  if (!reader) co_return fail(reader.error());
  std::string out;
  for (;;) {
    const Result<std::string_view> piece = co_await reader->next();
    if (!piece) co_return fail(piece.error());
    if (piece->empty()) co_return out;
    out.append(*piece);
  }
}

// The entry with its whole value.
inline Task<Result<OwnedEntry>> own(TableRef table, Entry entry) {
  OwnedEntry out{std::string(entry.key), entry.kind, entry.version, entry.expire_at_ms,
                 std::string(entry.value)};
  if (entry.kind == Kind::large) {
    out.kind = Kind::value;
    Result<std::string> value = co_await read_large(std::move(table), out.value);
    if (!value) co_return fail(value.error());
    out.value = std::move(*value);
  }
  co_return out;
}

// Everything from `first` on.
inline Task<Result<std::vector<OwnedEntry>>> read_all(TableRef table, TableCursorOptions options,
                                                      std::string first = {}) {
  TableCursor cursor(table, std::move(options));
  std::vector<OwnedEntry> out;
  Result<void> moved = co_await cursor.seek(std::move(first));
  while (moved && cursor.valid()) {
    Result<OwnedEntry> entry = co_await own(table, cursor.entry());
    if (!entry) co_return fail(entry.error());
    out.push_back(std::move(*entry));
    if (!cursor.next()) moved = co_await cursor.load_next();
  }
  if (!moved) co_return fail(moved.error());
  co_return out;
}

struct TableWorld {
  explicit TableWorld(size_t cache_bytes = 8u << 20)
      : cache(cache_bytes), host(shard_directory, cache, &TableWorld::on_dropped, this) {}
  static void on_dropped(void* context, DroppedFile table) noexcept {
    static_cast<TableWorld*>(context)->dropped.push_back(std::move(table));
  }

  std::vector<DroppedFile> dropped;
  BlockCache cache;
  TableHost host;
};

inline Task<Result<bool>> get(TableRef table, std::string key, OwnedEntry& out) {
  TableEntry found;
  const Result<bool> hit = co_await table->get(key, bloom_hash(key), found);
  if (!hit || !*hit) co_return hit;
  Result<OwnedEntry> entry = co_await own(table, found.entry);
  if (!entry) co_return fail(entry.error());
  out = std::move(*entry);
  co_return true;
}

}  // namespace gyre::test
