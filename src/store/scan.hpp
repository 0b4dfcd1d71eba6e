// A consistent, ordered walk over one shard: what was visible when it was opened, nothing later.
//
//   for (;;) {
//     switch (scan.try_next()) {
//       case Scan::Step::record: use(scan.entry()); break;
//       case Scan::Step::wait:   co_await scan.load(); break;     // a block has to be read
//       case Scan::Step::end:    return;
//     }
//   }
//
// `wait`: a block has to be read, or so many dead entries were passed over that others on the core
// should have a turn; so a call of try_next is short, whatever lies in the range.
//
// Holds the memtables and tables it started with, so they stay in memory and on the disk until
// it is gone: whoever owns a scan bounds how long it may live.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/large_reader.hpp"
#include "store/merge.hpp"
#include "store/shard.hpp"
#include "store/source_cursor.hpp"
#include "store/value_prefetch.hpp"

namespace gyre {

// The bytes of a large value, piece by piece, wherever they lie.
class LargeValueStream {
 public:
  explicit LargeValueStream(ValueBuffer buffer)
      : buffer_(std::make_unique<ValueBuffer>(std::move(buffer))), pieces_(*buffer_) {}
  explicit LargeValueStream(LargeReader reader) : reader_(std::move(reader)) {}

  // For what Shard::get or try_get found.
  static Result<LargeValueStream> open(StoreRead&& read);

  // The next piece, at most 256 KiB, valid until the next call; empty at the end.
  Task<Result<std::string_view>> next();

 private:
  std::unique_ptr<ValueBuffer> buffer_;  // does not move: pieces_ points into it
  ValueBuffer::Reader pieces_;
  std::optional<LargeReader> reader_;
};

class Scan {
 public:
  enum class Step : uint8_t { record, wait, end };

  ~Scan();
  Scan(const Scan&) = delete;
  Scan& operator=(const Scan&) = delete;

  // To be reserved before: the windows of a cursor, and values read ahead.
  static size_t memory_bytes_expected() {
    return TableCursor::memory_bytes_expected(TableCursorOptions::for_scan()) +
           ValuePrefetch::bytes_ahead_max;
  }

  // Once, before anything else; Shard::scan has done it.
  Task<Result<void>> seek();
  Step try_next();
  Task<Result<void>> load();
  // Before the first try_next: tombstones and expired values are records, too.
  void include_dead() { include_dead_ = true; }
  // Before the first try_next: the values of records are not read, and what entry() says of them
  // means nothing.
  void keys_only() { keys_only_ = true; }

  // Before the first try_next: keys in [start, end) are no records. They are jumped over, not passed.
  void leave_out(std::string start, std::string end) {
    gap_start_ = std::move(start);
    gap_end_ = std::move(end);
  }

  // The present record; valid until the next try_next. If large(), entry().value is not the value.
  const Entry& entry() const { return has_value_ ? value_.entry : heap_.top().entry(); }
  bool large() const;
  uint64_t value_bytes() const;
  Result<LargeValueStream> large_value() const;

 private:
  friend class Shard;
  static constexpr unsigned passed_over_max = 256;  // by one call
  Scan(ScanRange range, uint64_t now_ms);
  void add_sources(const Shard& shard, uint64_t hlc_min);
  bool step(SourceCursor& cursor);
  bool is_outside(std::string_view key) const;
  bool is_in_gap(std::string_view key) const {
    return !gap_start_.empty() && key >= gap_start_ && key < gap_end_;
  }
  bool find_value(const SourceCursor& cursor);
  Task<Result<void>> seek_to(std::string start, std::optional<std::string> end);

  ScanRange range_;
  std::string gap_start_;  // until it was jumped over
  std::string gap_end_;
  uint64_t now_ms_ = 0;
  std::vector<std::shared_ptr<const void>> memtables_;
  std::shared_ptr<const TableLevels> levels_;
  std::vector<std::unique_ptr<SourceCursor>> cursors_;
  MergeHeap<SourceCursor> heap_;
  SourceCursor* loading_ = nullptr;
  TableEntry value_;  // the present record, if its value lies in a value file
  bool has_value_ = false;
  bool value_wanted_ = false;
  bool jump_wanted_ = false;
  ValuePrefetch values_;
  bool on_record_ = false;
  bool include_dead_ = false;
  bool keys_only_ = false;
};

}  // namespace gyre
