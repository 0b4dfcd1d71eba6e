// The two levels of a table's index.
//
//   index       entry   separator size varint, separator,
//                       offset varint, stored bytes varint, raw bytes varint, codec u8,
//                       checksum u64 (XXH3-64 of the stored bytes)
//               …
//               offsets u32 each, of the entries
//               count   u32
//   partition   Bloom lines · index over its data blocks · line count u32
//   top index   index over the partitions
//
// A separator is >= every key of the block it stands for and < every key of the next one, and
// as short as that allows. A partition is a block like any other: checked by the top index, read
// on demand, cached, evicted. Only the top index stays in memory with an open table: one entry
// per 2 MiB. Filter lines come first, so that they are aligned wherever the block is.
//
// Lookups allocate nothing and trust nothing: as in block.hpp, arbitrary bytes give
// Errc::corrupt or an answer that the next checksum refutes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>

#include "store/bloom.hpp"
#include "store/table_format.hpp"

namespace gyre {

// A short key s with a <= s < b, for a < b.
void append_separator(std::string& out, std::string_view a, std::string_view b);

// --- writing -------------------------------------------------------------------------------------

class IndexBuilder {
 public:
  // Separators must strictly increase.
  void add(std::string_view separator, const BlockHandle& handle);
  // Appends the index to `out` and starts anew.
  void finish(std::string& out);

  uint32_t count() const { return static_cast<uint32_t>(offsets_.size()); }
  size_t size_bytes() const { return bytes_.size() + 4 * offsets_.size() + 4; }
  size_t memory_bytes() const { return bytes_.capacity() + 4 * offsets_.capacity(); }

 private:
  std::string bytes_;
  std::vector<uint32_t> offsets_;
};

// Empties both builders into one partition block.
void append_partition(std::string& out, BloomBuilder& bloom, IndexBuilder& index);

// --- reading -------------------------------------------------------------------------------------

struct IndexEntry {
  std::string_view separator;
  BlockHandle handle;
};

class IndexView {
 public:
  IndexView() = default;
  // `limit`: every block must end at or before this offset of the file.
  static Result<IndexView> open(std::string_view bytes, uint64_t limit);

  uint32_t size() const { return count_; }
  // The first entry whose separator is >= `key`; size() if the key lies behind the last.
  Result<uint32_t> lower_bound(std::string_view key) const;
  Result<IndexEntry> entry(uint32_t index) const;
  // All entries well-formed, separators increasing, blocks in file order without overlap.
  Result<void> check() const;

 private:
  // Only the separator; false if malformed. `rest` is what follows it.
  bool separator_at(uint32_t index, std::string_view& separator, const char*& rest) const;
  Error corruption(uint32_t index) const;

  std::string_view bytes_;
  uint64_t limit_ = 0;
  uint32_t entries_bytes_ = 0;
  uint32_t count_ = 0;
};

class PartitionView {
 public:
  PartitionView() = default;
  // `raw` must outlive the view. `offset` is the partition's own: its data blocks lie before it.
  static Result<PartitionView> open(std::string_view raw, uint64_t offset);

  bool may_contain(uint64_t hash) const { return bloom_may_contain(filter_, hash); }
  // Data blocks in key order: the one for `key` is lower_bound(key), if that is < size().
  const IndexView& blocks() const { return index_; }
  // The only data block that may hold `key`; false if none does.
  Result<bool> find_block(std::string_view key, BlockHandle& out) const;

 private:
  std::string_view filter_;
  IndexView index_;
};

// Owns its bytes. Checked whole when it is opened.
class TopIndex {
 public:
  TopIndex() = default;
  TopIndex(TopIndex&& other) noexcept { *this = std::move(other); }
  TopIndex& operator=(TopIndex&& other) noexcept;

  // `raw` is the decoded block of footer.top_index.
  static Result<TopIndex> open(std::string raw, const TableFooter& footer);

  const IndexView& partitions() const { return index_; }
  // The only partition that may hold `key`; false if none does.
  Result<bool> find_partition(std::string_view key, BlockHandle& out) const;
  size_t memory_bytes() const { return bytes_.capacity(); }

 private:
  std::string bytes_;
  uint64_t limit_ = 0;
  IndexView index_;
};

}  // namespace gyre
