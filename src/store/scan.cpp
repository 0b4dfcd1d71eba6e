#include "store/scan.hpp"

#include "base/assert.hpp"

namespace gyre {

namespace {

// Windows of a scan are small: there may be many scans, each with a cursor per level.
TableCursorOptions scan_cursor_options(const std::string& end) {
  TableCursorOptions options = TableCursorOptions::for_scan();
  options.read_ahead_bytes_max = 128u << 10;
  if (!end.empty()) options.read_ahead_until = end;
  return options;
}

}  // namespace

Scan::~Scan() = default;

Task<Result<std::unique_ptr<Scan>>> Shard::scan(std::string start, std::string end,
                                                uint64_t now_ms) {
  const Call call(*this);
  std::unique_ptr<Scan> scan(new Scan);
  scan->end_ = end;
  scan->now_ms_ = now_ms;
  scan->levels_ = levels_;
  // Everything is pinned before the first wait: the view is that of this moment.
  const auto add_memtable = [&](const MemRef& mem) {
    if (mem->table.empty()) return;
    scan->memtables_.push_back(mem);
    scan->cursors_.push_back(std::make_unique<SourceCursor>(mem->table, visible_seq_));
  };
  add_memtable(active_);
  for (auto mem = immutable_.rbegin(); mem != immutable_.rend(); ++mem) add_memtable(*mem);
  const TableCursorOptions options = scan_cursor_options(end);
  for (const TableRef& table : levels_->level(0)) {
    if (table->record().largest_key < start) continue;
    if (!end.empty() && table->record().smallest_key >= end) continue;
    scan->cursors_.push_back(std::make_unique<SourceCursor>(std::vector<TableRef>{table}, options));
  }
  for (unsigned level = 1; level < limits::table_level_count; ++level) {
    const TableLevels::Level& tables = levels_->level(level);
    std::vector<TableRef> run;
    for (size_t i = levels_->lower_bound(level, start); i < tables.size(); ++i) {
      if (!end.empty() && tables[i]->record().smallest_key >= end) break;
      run.push_back(tables[i]);
    }
    if (!run.empty()) {
      scan->cursors_.push_back(std::make_unique<SourceCursor>(std::move(run), options));
    }
  }
  scan->heap_.reserve(scan->cursors_.size());
  for (auto& cursor : scan->cursors_) {
    if (Result<void> sought = co_await cursor->seek(start); !sought) co_return fail(sought.error());
    scan->heap_.push(*cursor);
  }
  co_return scan;
}

bool Scan::step(SourceCursor& cursor) {
  if (!cursor.next()) {
    loading_ = &cursor;
    return false;
  }
  heap_.advanced(cursor);
  return true;
}

Scan::Step Scan::try_next() {
  GYRE_ASSERT(loading_ == nullptr);
  if (std::exchange(on_record_, false) && !step(heap_.top())) return Step::wait;
  while (!heap_.empty()) {
    while (SourceCursor* loser = heap_.shadowed()) {
      if (!step(*loser)) return Step::wait;
    }
    SourceCursor& winner = heap_.top();
    const Entry& entry = winner.entry();
    if (!end_.empty() && entry.key >= end_) return Step::end;
    if (entry.is_tombstone() || entry.is_expired(now_ms_)) {
      if (!step(winner)) return Step::wait;
      continue;
    }
    on_record_ = true;
    return Step::record;
  }
  return Step::end;
}

Task<Result<void>> Scan::load() {
  SourceCursor& cursor = *std::exchange(loading_, nullptr);
  if (Result<void> loaded = co_await cursor.load_next(); !loaded) co_return loaded;
  heap_.advanced(cursor);
  co_return Result<void>{};
}

bool Scan::large() const {
  const SourceCursor& cursor = heap_.top();
  return cursor.node() != nullptr ? cursor.node()->large() : cursor.entry().kind == Kind::large;
}

uint64_t Scan::value_bytes() const {
  const SourceCursor& cursor = heap_.top();
  if (cursor.node() != nullptr) return cursor.node()->value_bytes();
  if (cursor.entry().kind != Kind::large) return cursor.entry().value.size();
  return LargeReader::size_of(*cursor.table(), cursor.entry().value).value_or(0);
}

Result<LargeValueStream> Scan::large_value() const {
  const SourceCursor& cursor = heap_.top();
  if (cursor.node() != nullptr) return LargeValueStream(cursor.node()->large_value().share());
  Result<LargeReader> reader = LargeReader::open(cursor.table(), cursor.entry().value);
  if (!reader) return fail(reader.error());
  return LargeValueStream(std::move(*reader));
}

Result<LargeValueStream> LargeValueStream::open(StoreRead&& read) {
  if (!read.large_table) return LargeValueStream(std::move(read.large_buffer));
  Result<LargeReader> reader = LargeReader::open(read.large_table, read.large_encoded);
  if (!reader) return fail(reader.error());
  return LargeValueStream(std::move(*reader));
}

Task<Result<std::string_view>> LargeValueStream::next() {
  if (reader_) co_return co_await reader_->next();
  co_return pieces_.next(LargeReader::piece_bytes_max);
}

}  // namespace gyre
