// An open table: its file, its top index, and lookups in it through the block cache.
//
//   try_get   plain code, from memory only: answers, or says that a block has to be read
//   get       the same with reads; two reads of one block at a time become one
//
// A TableFile is counted (TableRef), without atomics. Whoever awaits one of its tasks holds a
// reference meanwhile. When the last reference goes, the file is closed in the background; if the
// table was marked obsolete its host is told, who then removes the file.
//
// Blocks are addressed in the cache by (file number, offset): a shard never uses a file number
// twice, not even one whose table was never finished.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "store/block_cache.hpp"
#include "store/bloom.hpp"
#include "store/entry.hpp"
#include "store/level_stats.hpp"
#include "store/manifest_edit.hpp"
#include "store/shared_file.hpp"
#include "store/table_format.hpp"
#include "store/table_index.hpp"

namespace gyre {

class TableFile;
using TableRef = Ref<TableFile>;

struct DroppedTable {
  uint64_t file_number = 0;
  uint64_t size_bytes = 0;
};

struct TableReadStats {
  uint64_t block_reads = 0;  // of the disk
  uint64_t block_read_bytes = 0;
  uint64_t coalesced = 0;     // waited for somebody else's read of the same block
  uint64_t uncached = 0;      // the cache had no room
  uint64_t window_reads = 0;  // of cursors and large values
  uint64_t window_read_bytes = 0;
};

// A decoded block that the cache had no room for, with its own count.
struct LooseBlock;
struct BlockRead;

// What the tables of one shard share. Outlives them, their blocks and their reads: drain() first.
class TableHost {
 public:
  // Called when the last reference to an obsolete table has gone: its file is to be removed, and
  // nothing reads it any more.
  using DroppedHandler = void (*)(void* context, DroppedTable table) noexcept;

  TableHost(std::string directory, BlockCache& cache, DroppedHandler on_dropped = nullptr,
            void* context = nullptr)
      : directory_(std::move(directory)),
        cache_(cache),
        on_dropped_(on_dropped),
        context_(context) {}
  ~TableHost();  // no table may be left
  TableHost(const TableHost&) = delete;
  TableHost& operator=(const TableHost&) = delete;

  const std::string& directory() const { return directory_; }
  BlockCache& cache() { return cache_; }
  const TableReadStats& stats() const { return stats_; }
  LevelReadStats& level_stats(unsigned level) { return level_stats_[level]; }
  size_t tables_open() const { return tables_open_; }
  // An open table by its number, or an empty Ref.
  Ref<TableFile> open_table(uint64_t file_number) const;
  // Of blocks that the cache had no room for, as long as somebody holds them.
  size_t uncached_bytes() const { return uncached_bytes_; }
  // Of open tables: top indexes, keys.
  size_t table_memory_bytes() const { return table_memory_bytes_; }
  void count_window_read(size_t size_bytes) {
    ++stats_.window_reads;
    stats_.window_read_bytes += size_bytes;
  }
  // Resumes when the last table is gone. Reads ahead that nobody waits for keep a table for as
  // long as they take.
  Task<void> drain();

 private:
  friend class TableFile;
  friend struct LooseBlock;

  static constexpr size_t read_buckets = 256;
  BlockRead** bucket_of(uint64_t file_number, uint64_t offset) {
    return &reads_[(file_number * 31 + (offset >> 8)) % read_buckets];
  }

  std::string directory_;
  BlockCache& cache_;
  DroppedHandler on_dropped_;
  void* context_;
  std::array<BlockRead*, read_buckets> reads_{};  // in flight
  Event no_tables_;
  size_t tables_open_ = 0;
  std::unordered_map<uint64_t, TableFile*> by_number_;  // of open tables
  size_t uncached_bytes_ = 0;
  size_t table_memory_bytes_ = 0;
  TableReadStats stats_;
  std::array<LevelReadStats, limits::table_level_count> level_stats_;
};

// Keeps a decoded block: one in the cache, or a loose one. Must not outlive the host.
class BlockPin {
 public:
  BlockPin() = default;
  explicit BlockPin(BlockRef cached) : cached_(std::move(cached)) {}
  BlockPin(const BlockPin& other);
  BlockPin(BlockPin&& other) noexcept
      : cached_(std::move(other.cached_)), loose_(std::exchange(other.loose_, nullptr)) {}
  BlockPin& operator=(BlockPin other) noexcept;
  ~BlockPin() { reset(); }
  void reset();

  explicit operator bool() const { return cached_ || loose_ != nullptr; }
  std::string_view bytes() const;
  // What the caller's budget has to carry because the cache doesn't; 0 for a cached block.
  size_t uncached_bytes() const;

 private:
  friend class TableFile;
  friend class TableCursor;
  explicit BlockPin(LooseBlock* loose);
  BlockRef cached_;
  LooseBlock* loose_ = nullptr;
};

// What a lookup found. entry.key is the view that was asked with; entry.value lives as long as
// `pin`. If entry.kind is Kind::large, a LargeReader (large_reader.hpp) reads the value.
struct TableEntry {
  Entry entry;
  BlockPin pin;
  LookupEnd end = LookupEnd::filtered;
};

enum class Probe : uint8_t {
  absent,
  hit,
  needs_io,  // get() will tell
};

class TableFile : public SharedFile {
 public:
  // Opens the table `record` of the host's directory and checks it: existence, size, footer, top
  // index, and that its properties are those that the manifest remembers.
  static Task<Result<TableRef>> open(TableHost& host, TableRecord record);
  ~TableFile() override;

  // Point lookup from memory. Allocates nothing. `key_hash` is bloom_hash(key). The caller counts
  // it (count_lookup): a lookup in several tables may have to be done again.
  Probe try_get(std::string_view key, uint64_t key_hash, TableEntry& out);
  // Point lookup. `key` must stay until the task has ended, and as long as out.entry.key is used.
  // Errc::corrupt names file and offset; other errors are those of the disk. Counts itself.
  Task<Result<bool>> get(std::string_view key, uint64_t key_hash, TableEntry& out);

  // A block, from the cache or from the disk into the cache. If the cache has no room the block is
  // returned all the same, uncached.
  Task<Result<BlockPin>> load_block(BlockHandle handle, CacheHint hint = CacheHint::normal);
  // Partition `index`, < partition_count(), as bytes for PartitionView::open(…, offset).
  Task<Result<BlockPin>> load_partition(uint32_t index, CacheHint hint = CacheHint::normal);
  // From the cache only; empty if it is not there.
  BlockPin cached_block(const BlockHandle& handle, CacheHint hint = CacheHint::normal);

  const TableRecord& record() const { return record_; }
  // Without the smallest and largest key, which are in the record.
  const TableProperties& properties() const { return properties_; }
  const TopIndex& top_index() const { return top_index_; }
  uint32_t partition_count() const { return top_index_.partitions().size(); }
  uint64_t file_number() const { return record_.file_number; }
  uint64_t size_bytes() const { return record_.size_bytes; }
  // Everything but top index, properties and footer lies before this offset.
  uint64_t data_end() const { return data_end_; }
  TableHost& host() const { return host_; }
  std::string path() const;
  bool may_hold(std::string_view key) const {
    return key >= record_.smallest_key && key <= record_.largest_key;
  }
  bool overlaps(std::string_view first, std::string_view last) const {
    return first <= record_.largest_key && last >= record_.smallest_key;
  }
  size_t memory_bytes() const { return memory_bytes_; }

  // Another edit of the manifest moved the table; its file stays the same.
  void set_level(uint8_t level) { record_.level = level; }
  // Something in it can't be read: no merge takes it (compaction_picker.hpp).
  void set_damaged(bool damaged) { damaged_ = damaged; }
  bool is_damaged() const { return damaged_; }
  // No manifest names the table any more.
  void mark_obsolete() { obsolete_ = true; }
  bool is_obsolete() const { return obsolete_; }

  // Puts the file's path, and what to do, around what a format function said.
  Error in_file(Error error, uint64_t offset) const;

 private:
  friend class TableCursor;
  TableFile(TableHost& host, File file, TableRecord record);

  LevelReadStats& level_stats() { return host_.level_stats(record_.level); }
  Task<Result<void>> read_metadata();
  Result<void> check_properties() const;
  // load_block, or past the cache.
  Task<Result<BlockPin>> load(BlockHandle handle, CacheHint hint, bool bypass_cache);
  // A read, checked and decoded into the cache, or loose if that is bypassed or has no room.
  Task<Result<BlockPin>> read_block(BlockHandle handle, CacheHint hint, bool bypass_cache);
  Result<BlockPin> decode(std::string_view stored, const BlockHandle& handle, CacheHint hint,
                          bool bypass_cache);

  TableHost& host_;
  TableRecord record_;
  TableProperties properties_;
  TopIndex top_index_;
  uint64_t data_end_ = 0;
  size_t memory_bytes_ = 0;
  bool obsolete_ = false;
  bool damaged_ = false;
};

}  // namespace gyre
