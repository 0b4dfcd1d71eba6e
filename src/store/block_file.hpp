// Files of checksummed blocks, read through the block cache: tables (table_file.hpp) and value
// files (value_file.hpp), and what those of one shard share.
//
// A BlockFile is counted (Ref), without atomics. Whoever awaits one of its tasks holds a reference
// meanwhile. When the last reference goes, the file is closed in the background; if it was marked
// obsolete its host is told, who then removes it.
//
// Blocks are addressed in the cache by (file number, offset): a shard never uses a file number
// twice, not even one whose file was never finished. Two reads of one block at a time become one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "base/limits.hpp"
#include "store/block_cache.hpp"
#include "store/file_names.hpp"
#include "store/level_stats.hpp"
#include "store/shared_file.hpp"
#include "store/table_format.hpp"

namespace gyre {

class BlockFile;
class TableFile;
class ValueFile;

// Of tables and values that live in it, in bytes of value files.
struct ValueFileTotals {
  uint64_t files = 0;
  uint64_t bytes = 0;              // values stored in them
  uint64_t live_bytes = 0;         // of these, named by a table in use
  uint64_t sparse_files = 0;       // of which so little is live that merges empty them
  uint64_t sparse_live_bytes = 0;  // what they have to move for that
};

// A file that nobody uses any more. It is to be closed before its name is removed: the kernel frees
// the blocks of a file without a name when it is closed, in whoever closes it, which is the core
// (1 ms for a table of 16 MiB), and otherwise in the worker that removes the name.
struct DroppedFile {
  uint64_t file_number = 0;
  uint64_t size_bytes = 0;
  FileKind kind = FileKind::table;
  File file;
};

struct BlockReadStats {
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

// What the files of one shard share. Outlives them, their blocks and their reads: drain() first.
class TableHost {
 public:
  // Called when the last reference to an obsolete file has gone: it is to be removed, and nothing
  // reads it any more.
  using DroppedHandler = void (*)(void* context, DroppedFile file) noexcept;

  TableHost(std::string directory, BlockCache& cache, DroppedHandler on_dropped = nullptr,
            void* context = nullptr)
      : directory_(std::move(directory)),
        cache_(cache),
        on_dropped_(on_dropped),
        context_(context) {}
  ~TableHost();  // no file may be left
  TableHost(const TableHost&) = delete;
  TableHost& operator=(const TableHost&) = delete;

  const std::string& directory() const { return directory_; }
  BlockCache& cache() { return cache_; }
  const BlockReadStats& stats() const { return stats_; }
  LevelReadStats& level_stats(unsigned level) { return level_stats_[level]; }
  size_t tables_open() const { return tables_.size(); }
  size_t value_files_open() const { return value_files_.size(); }
  const ValueFileTotals& value_totals() const { return value_totals_; }
  // An open table or value file by its number, or an empty Ref.
  Ref<TableFile> open_table(uint64_t file_number) const;
  Ref<ValueFile> open_value_file(uint64_t file_number) const;
  // The open table or value file in use with the smallest number from this one on.
  Ref<BlockFile> next_file(uint64_t file_number) const;
  // Of blocks that the cache had no room for, as long as somebody holds them.
  size_t uncached_bytes() const { return uncached_bytes_; }
  // Of open tables: top indexes, keys, which value files they name.
  size_t table_memory_bytes() const { return table_memory_bytes_; }
  void count_window_read(size_t size_bytes) {
    ++stats_.window_reads;
    stats_.window_read_bytes += size_bytes;
  }
  // Resumes when the last file is gone. Reads ahead that nobody waits for keep a file for as long
  // as they take.
  Task<void> drain();

 private:
  friend class BlockFile;
  friend class TableFile;
  friend class ValueFile;
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
  Event no_files_;
  size_t files_open_ = 0;
  std::map<uint64_t, TableFile*> tables_;  // that are open, by number
  std::map<uint64_t, ValueFile*> value_files_;
  ValueFileTotals value_totals_;
  size_t uncached_bytes_ = 0;
  size_t table_memory_bytes_ = 0;
  BlockReadStats stats_;
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
  friend class BlockFile;
  explicit BlockPin(LooseBlock* loose);
  BlockRef cached_;
  LooseBlock* loose_ = nullptr;
};

class BlockFile : public SharedFile {
 public:
  ~BlockFile() override;

  uint64_t file_number() const { return file_number_; }
  uint64_t size_bytes() const { return file_size_bytes_; }
  TableHost& host() const { return host_; }
  std::string path() const;
  // Everything that is read block by block lies before this offset.
  uint64_t data_end() const { return data_end_; }

  // A block, from the cache or from the disk into the cache. If the cache has no room the block is
  // returned all the same, uncached. Errc::corrupt names file and offset; other errors are those
  // of the disk.
  Task<Result<BlockPin>> load_block(BlockHandle handle, CacheHint hint = CacheHint::normal);
  // load_block, or past the cache.
  Task<Result<BlockPin>> load(BlockHandle handle, CacheHint hint, bool bypass_cache);
  // From the cache only; empty if it is not there.
  BlockPin cached_block(const BlockHandle& handle, CacheHint hint = CacheHint::normal);
  // Checks and decodes what was read, into the cache, or loose if that is bypassed or has no room.
  Result<BlockPin> decode(std::string_view stored, const BlockHandle& handle, CacheHint hint,
                          bool bypass_cache);

  // Nothing durable names the file any more.
  void mark_obsolete() { obsolete_ = true; }
  bool is_obsolete() const { return obsolete_; }

  // Puts the file's path, and what to do, around what a format function said.
  Error in_file(Error error, uint64_t offset) const;

 protected:
  BlockFile(TableHost& host, File file, FileKind kind, uint64_t file_number, uint64_t size_bytes);
  void set_data_end(uint64_t offset) { data_end_ = offset; }
  // A block was read for somebody who looks for a key.
  virtual void count_block_read() {}

 private:
  Task<Result<BlockPin>> read_block(BlockHandle handle, CacheHint hint, bool bypass_cache);

  TableHost& host_;
  FileKind kind_;
  uint64_t file_number_;
  uint64_t file_size_bytes_;
  uint64_t data_end_ = 0;
  bool obsolete_ = false;
};

// What a format function said of what lies at a place, with that and what to do.
Error error_at(std::string_view place, Error error);
// What a start says of a file that is not there, or not as long as it has to be.
Error missing_file(std::string_view path, std::string_view named_by);
Error short_file(std::string_view path, uint64_t size_bytes, std::string_view expected);

}  // namespace gyre
