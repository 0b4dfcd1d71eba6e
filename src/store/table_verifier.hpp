// Reads all of a table and checks it: every checksum, the order of the keys, the bounds that the
// index promises, that no filter denies a key that is there, and that the entries add up to what
// the table says about itself and what the manifest remembers. One implementation for `gyre
// inspect`, `gyre admin verify` and the scrub.
//
// Damage is no error: it is told to the observer, place by place, and the check goes on where the
// rest can still be read. An error means that the table could not be checked to its end.
//
// Data blocks are read in aligned windows of window_bytes, past the block cache, so that what is
// checked is what the disk has. Works on direct files and others.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/entry.hpp"
#include "store/manifest_edit.hpp"
#include "store/table_format.hpp"
#include "store/table_index.hpp"

namespace gyre {

class TableVerifier {
 public:
  static constexpr size_t window_bytes = 128u << 10;

  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void damaged(uint64_t offset, std::string_view what) = 0;
    // Every entry in key order; of values outside blocks the size only.
    virtual void visit(const Entry& entry, uint64_t value_bytes) {
      static_cast<void>(entry), static_cast<void>(value_bytes);
    }
    // A value file that the table names. Without an answer its values are not looked at; with
    // `read` each is checked, else only that it lies within the file.
    struct ValueSource {
      const File* file = nullptr;
      uint64_t content_bytes = 0;
      bool read = false;
    };
    virtual std::optional<ValueSource> value_source(uint64_t file_number) {
      static_cast<void>(file_number);
      return std::nullopt;
    }
    // After each block and chunk, of which so many bytes were read. An error ends the check.
    virtual Task<Result<void>> after_block(uint64_t bytes_read);
  };

  // `file` and `observer` outlive the verifier.
  TableVerifier(const File& file, Observer& observer) : file_(file), observer_(observer) {}

  // Footer, properties and top index of a table of that size and number. False if damage prevents
  // the rest. Errc::unsupported for a format version of the future.
  Task<Result<bool>> open(uint64_t table_bytes, uint64_t file_number);
  // Everything else. `record`: what the manifest says, if there is one.
  Task<Result<void>> check(const TableRecord* record = nullptr);

  // What the table says, if that could be read, and what was found in it.
  const std::optional<TableProperties>& said() const { return said_; }
  const TableProperties& found() const { return found_; }
  uint64_t stored_bytes() const { return stored_bytes_; }  // of data blocks
  uint64_t raw_bytes() const { return raw_bytes_; }
  uint64_t large_bytes() const { return large_bytes_; }
  uint64_t separate_count() const { return separate_count_; }

 private:
  Task<Result<std::string_view>> window(uint64_t offset, uint64_t size);
  Task<Result<std::string>> read(uint64_t offset, uint64_t size);
  Task<Result<void>> check_separate_value(Entry entry, uint64_t block_offset);
  Task<Result<std::string>> check_block_value(const File& file, std::string_view encoded);
  Task<Result<std::string>> check_extent(const File& file, std::string_view encoded);
  Task<Result<std::optional<std::string>>> block(BlockHandle handle, const char* what,
                                                 bool through_window = false);
  Task<Result<void>> check_partition(IndexEntry entry);
  Task<Result<void>> check_data_block(IndexEntry entry, const PartitionView& partition);
  Task<Result<void>> check_large_value(Entry entry, uint64_t block_offset);
  void count(const Entry& entry, uint64_t block_offset, const PartitionView& partition);
  void compare();
  void compare_record(const TableRecord& record);

  const File& file_;
  Observer& observer_;
  AlignedBuffer buffer_;
  uint64_t window_begin_ = 0;
  uint64_t window_end_ = 0;
  uint64_t table_bytes_ = 0;
  TableFooter footer_;
  TopIndex top_index_;
  std::optional<TableProperties> said_;
  TableProperties found_;
  std::map<uint64_t, ValueReference> references_;  // as the entries name them
  std::string last_key_;
  uint64_t stored_bytes_ = 0;
  uint64_t raw_bytes_ = 0;
  uint64_t large_bytes_ = 0;
  uint64_t separate_count_ = 0;
  bool complete_ = true;  // nothing was left out because of damage
};

}  // namespace gyre
