// Puts what a source of a flush or a merge stands on into a table, and its value where it belongs:
// into a block, into an extent of the table, or into a value file. Values that lie in a value file
// already stay there, and are only named, unless that file is sparse.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/source_cursor.hpp"
#include "store/table_writer.hpp"
#include "store/value_writer.hpp"

namespace gyre {

class EntryWriter {
 public:
  // Values from `separate_bytes_min` on, but no empty ones, go to `values`, which outlives this.
  // Besides sparse files, wasteful ones with a number below `empties_below` are emptied.
  EntryWriter(ValueWriter& values, uint64_t separate_bytes_min, const TableOptions& options,
              uint64_t empties_below = 0)
      : values_(values),
        empties_below_(empties_below),
        separate_bytes_min_(std::max<uint64_t>(separate_bytes_min, 1)),
        small_bytes_max_(std::min(separate_bytes_min_, options.large_value_bytes_min)) {}

  // Whether TableWriter::add does it, without a wait.
  bool is_plain(const SourceCursor& cursor) const {
    const Entry& entry = cursor.entry();
    if (cursor.node() != nullptr && cursor.node()->large()) return false;
    return entry.is_tombstone() ||
           (entry.kind == Kind::value && entry.value.size() < small_bytes_max_);
  }
  // Anything. The cursor must stay where it is until the task has ended.
  Task<Result<void>> add(TableWriter& table, const SourceCursor& cursor);

  // Of sparse value files.
  uint64_t moved_bytes() const { return moved_bytes_; }

 private:
  Task<Result<void>> add_node(TableWriter& table, Entry entry, const Memtable::Node& node);
  Task<Result<void>> add_separate(TableWriter& table, Entry entry, const TableRef& from);
  static Task<Result<void>> add_written(TableWriter& table, Entry entry,
                                        Result<WrittenValue> written);

  bool is_to_be_emptied(const ValueFile& file) const {
    return file.is_sparse() || (file.file_number() < empties_below_ && file.is_wasteful());
  }

  ValueWriter& values_;
  uint64_t empties_below_;
  uint64_t separate_bytes_min_;
  uint64_t small_bytes_max_;
  uint64_t moved_bytes_ = 0;
};

}  // namespace gyre
