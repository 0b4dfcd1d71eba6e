// Walks a table in key order, or against it: the seek decides. The loop, in a coroutine:
//
//   co_await cursor.seek(start)
//   while (cursor.valid()) {
//     use(cursor.entry());
//     if (!cursor.next()) co_await cursor.load_next();
//   }
//
// next() is plain code and does almost all moves; load_next() is needed where a block ends. Has
// what MergeHeap asks for; does not move in memory.
//
// Blocks that are not in the cache are read in windows: one aligned read that covers neighbouring
// blocks, growing from one block to read_ahead_bytes_max as the walk goes on, the next window being
// read while the current one is used. Extents of large values between the blocks are skipped.
//
// An error ends the walk: valid() is false, and seek or load_next answers it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/block.hpp"
#include "store/table_file.hpp"

namespace gyre {

struct TableCursorOptions {
  // Compaction: takes blocks from the cache if they are there, but never puts one in.
  bool bypass_cache = false;
  size_t read_ahead_bytes_min = 8u << 10;
  size_t read_ahead_bytes_max = 256u << 10;  // of one window; there are up to two
  // Blocks that lie wholly behind this key (of a walk back: before it) are not read ahead. The walk
  // itself does not end there.
  std::optional<std::string> read_ahead_until;

  static TableCursorOptions for_scan() { return {}; }
  static TableCursorOptions for_compaction() {
    TableCursorOptions options;
    options.bypass_cache = true;
    options.read_ahead_bytes_min = options.read_ahead_bytes_max;
    return options;
  }
};

class TableCursor {
 public:
  explicit TableCursor(TableRef table, TableCursorOptions options = {});
  ~TableCursor();
  TableCursor(const TableCursor&) = delete;
  TableCursor& operator=(const TableCursor&) = delete;

  // Stands on the first entry whose key is >= `key` afterwards, or is not valid.
  Task<Result<void>> seek(std::string key);
  Task<Result<void>> seek_to_first();
  // The last entry whose key is < `key`, the last of all: from there next() goes back.
  Task<Result<void>> seek_before(std::string key);
  Task<Result<void>> seek_to_last();
  // False: load_next() has to be awaited before anything else; the cursor is not valid until then.
  // True: moved, to the next entry or off the end.
  bool next();
  Task<Result<void>> load_next();

  bool valid() const { return valid_; }
  std::string_view key() const { return block_cursor_.key(); }
  // Valid until the cursor moves. A Kind::large entry's value is read with a LargeReader.
  const Entry& entry() const { return block_cursor_.entry(); }

  // Calls `use` with the entries behind the present one in its block, in the order of the walk, until
  // it answers false. Costs what decoding them costs, from the nearest restart point on.
  template <class Use>
  void peek(Use use) const {
    BlockCursor ahead(block_cursor_.block());
    if (back_) {
      ahead.seek_before(key());
    } else {
      ahead.seek(key());
      if (ahead.valid()) ahead.next();
    }
    while (ahead.valid() && use(ahead.entry())) back_ ? ahead.prev() : ahead.next();
  }

  const TableRef& table() const { return table_; }
  // Windows, the decoded block if the cache does not carry it, the key.
  size_t memory_bytes() const;
  // What it will hold at most, large blocks aside: to be reserved before the walk.
  static size_t memory_bytes_expected(const TableCursorOptions& options) {
    return 2 * options.read_ahead_bytes_max + (64u << 10);
  }

 private:
  // A stretch of the file in memory.
  struct Window {
    AlignedBuffer buffer;
    uint64_t begin = 0;
    uint64_t end = 0;
    bool covers(const BlockHandle& handle) const {
      return handle.offset >= begin && handle.end() <= end;
    }
    std::string_view bytes_of(const BlockHandle& handle) const {
      return {buffer.data() + (handle.offset - begin), handle.stored_bytes};
    }
  };
  struct Range {
    uint64_t begin = 0;  // aligned
    uint64_t end = 0;
    // Of the partition, [first, last) are covered.
    uint32_t block_first = 0;
    uint32_t block_last = 0;
    bool empty() const { return begin == end; }
  };

  void begin_seek(bool back);
  Task<Result<void>> seek_back(std::optional<std::string> key);
  // Makes partition `index` the current one; false behind the last.
  Task<Result<bool>> enter_partition(uint32_t index);
  // Loads data block `index` of the current partition into block_cursor_, not positioned yet.
  Task<Result<void>> load_block(uint32_t index);
  Result<std::string_view> decode(const BlockHandle& handle);
  Task<Result<void>> fill_window(uint32_t index, BlockHandle handle);
  Range plan_window(uint32_t index, size_t size_bytes_max) const;
  bool is_wanted_behind(uint32_t index) const;
  void start_read(const Range& range);
  void start_read_ahead(const Range& range);
  Task<Result<void>> settle();
  unexpected<Error> broken(Error error);
  void clear_position();

  TableRef table_;
  TableCursorOptions options_;
  BlockPin partition_pin_;
  PartitionView partition_;
  uint64_t partition_offset_ = 0;
  uint32_t partition_index_ = 0;
  uint32_t block_index_ = 0;
  bool has_partition_ = false;
  BlockHandle block_handle_;
  BlockPin block_pin_;
  std::string block_bytes_;  // the decoded block, if the cache is bypassed
  BlockCursor block_cursor_;
  bool valid_ = false;
  bool at_end_ = false;
  bool back_ = false;  // the walk goes against the key order

  Window window_;
  OverlappedIo ahead_;
  Range ahead_range_;
  size_t window_bytes_ = 0;  // of the next window
  uint32_t windows_since_seek_ = 0;
};

}  // namespace gyre
