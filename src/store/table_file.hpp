// An open table: its file, its top index, and lookups in it through the block cache.
//
//   try_get   plain code, from memory only: answers, or says that a block has to be read
//   get       the same with reads; two reads of one block at a time become one
//
// It is a BlockFile, counted and closed as such, and keeps the value files open that its entries
// name, so that these live as long as anybody can ask for one of their values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/block_file.hpp"
#include "store/bloom.hpp"
#include "store/entry.hpp"
#include "store/level_stats.hpp"
#include "store/manifest_edit.hpp"
#include "store/table_format.hpp"
#include "store/table_index.hpp"
#include "store/value_file.hpp"

namespace gyre {

using TableRef = Ref<TableFile>;

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

class TableFile : public BlockFile {
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

  // Partition `index`, < partition_count(), as bytes for PartitionView::open(…, offset).
  Task<Result<BlockPin>> load_partition(uint32_t index, CacheHint hint = CacheHint::normal);
  // Where the bytes of a value are that isn't in a block of the table: the file, and the handle in
  // it (of a block if entry.kind is Kind::separate, else of an extent), a part of entry.value.
  // Errc::corrupt if the table doesn't name the file.
  struct ValuePlace {
    Ref<BlockFile> file;
    std::string_view handle;
  };
  Result<ValuePlace> place_of(const Entry& entry);
  // Makes an entry of Kind::separate that get or try_get found, or a cursor stands on, one of
  // Kind::value whose bytes `found.pin` keeps; leaves all others as they are. try_resolve is plain
  // code: false if the value has to be read from the disk.
  bool try_resolve(TableEntry& found, CacheHint hint = CacheHint::normal);
  Task<Result<void>> resolve(TableEntry& found, CacheHint hint = CacheHint::normal);
  // Those that entries of the table name, in the order of properties().value_references.
  const std::vector<ValueFileRef>& value_files() const { return value_files_; }
  // The table has come into use, or gone out of it: what of its value files is live.
  void use_values();
  void disuse_values();

  const TableRecord& record() const { return record_; }
  // Without the smallest and largest key, which are in the record.
  const TableProperties& properties() const { return properties_; }
  const TopIndex& top_index() const { return top_index_; }
  uint32_t partition_count() const { return top_index_.partitions().size(); }
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

 private:
  TableFile(TableHost& host, File file, TableRecord record);

  LevelReadStats& level_stats() { return host().level_stats(record_.level); }
  void count_block_read() override { ++level_stats().block_reads; }
  Task<Result<void>> read_metadata();
  Task<Result<void>> open_value_files();
  Result<void> check_properties() const;

  TableRecord record_;
  TableProperties properties_;
  TopIndex top_index_;
  std::vector<ValueFileRef> value_files_;
  size_t memory_bytes_ = 0;
  bool damaged_ = false;
};

}  // namespace gyre
