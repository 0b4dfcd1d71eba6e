#include "store/scan.hpp"

#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"

namespace gyre {

namespace {

// Windows of a scan are small: there may be many scans, each with a cursor per level.
TableCursorOptions scan_cursor_options(const ScanRange& range) {
  TableCursorOptions options = TableCursorOptions::for_scan();
  options.read_ahead_bytes_max = 128u << 10;
  const std::string& bound = range.direction == ScanDirection::forward ? range.end : range.start;
  if (!bound.empty()) options.read_ahead_until = bound;
  return options;
}

}  // namespace

ScanRange ScanRange::of_prefix(std::string prefix, ScanDirection direction) {
  ScanRange range{.start = std::move(prefix), .end = {}, .direction = direction};
  // Behind the prefix comes what its last byte that can grow has grown to; without one, nothing.
  range.end = range.start;
  while (!range.end.empty() && range.end.back() == '\xff') range.end.pop_back();
  if (!range.end.empty()) range.end.back() = static_cast<char>(range.end.back() + 1);
  return range;
}

Scan::Scan(ScanRange range, uint64_t now_ms)
    : range_(std::move(range)), now_ms_(now_ms), heap_(range_.direction) {}

Scan::~Scan() = default;

Task<Result<std::unique_ptr<Scan>>> Shard::scan(std::string start, std::string end,
                                                uint64_t now_ms) {
  return scan(ScanRange{.start = std::move(start), .end = std::move(end)}, now_ms);
}

Task<Result<std::unique_ptr<Scan>>> Shard::scan(ScanRange range, uint64_t now_ms) {
  const Call call(*this);
  std::unique_ptr<Scan> scan = pin_scan(std::move(range), now_ms);
  if (Result<void> sought = co_await scan->seek(); !sought) co_return fail(sought.error());
  co_return scan;
}

// Everything is pinned before the first wait: the view is that of this moment.
std::unique_ptr<Scan> Shard::pin_scan(ScanRange range, uint64_t now_ms) const {
  std::unique_ptr<Scan> scan(new Scan(std::move(range), now_ms));
  scan->add_sources(*this);
  return scan;
}

void Scan::add_sources(const Shard& shard) {
  const auto& [start, end, direction] = range_;
  const auto add_memtable = [&](const Shard::MemRef& mem) {
    if (mem->table.empty()) return;
    memtables_.push_back(mem);
    cursors_.push_back(std::make_unique<SourceCursor>(mem->table, shard.visible_seq_));
  };
  add_memtable(shard.active_);
  for (auto mem = shard.immutable_.rbegin(); mem != shard.immutable_.rend(); ++mem) {
    add_memtable(*mem);
  }
  levels_ = shard.levels_;
  const TableCursorOptions options = scan_cursor_options(range_);
  for (const TableRef& table : levels_->level(0)) {
    if (table->record().largest_key < start) continue;
    if (!end.empty() && table->record().smallest_key >= end) continue;
    cursors_.push_back(std::make_unique<SourceCursor>(std::vector<TableRef>{table}, options));
  }
  for (unsigned level = 1; level < limits::table_level_count; ++level) {
    const TableLevels::Level& tables = levels_->level(level);
    std::vector<TableRef> run;
    for (auto at = tables.lower_bound(start); at != tables.end(); ++at) {
      if (!end.empty() && (*at)->record().smallest_key >= end) break;
      run.push_back(*at);
    }
    if (!run.empty()) cursors_.push_back(std::make_unique<SourceCursor>(std::move(run), options));
  }
}

Task<Result<void>> Scan::seek() {
  heap_.reserve(cursors_.size());
  for (auto& cursor : cursors_) {
    std::optional<std::string> end;
    if (!range_.end.empty()) end = range_.end;
    Result<void> sought = range_.direction == ScanDirection::forward
                              ? co_await cursor->seek(range_.start)
                              : co_await cursor->seek_before(std::move(end));
    if (!sought) co_return sought;
    heap_.push(*cursor);
  }
  co_return Result<void>{};
}

bool Scan::step(SourceCursor& cursor) {
  if (!cursor.next()) {
    loading_ = &cursor;
    return false;
  }
  heap_.advanced(cursor);
  return true;
}

bool Scan::is_outside(std::string_view key) const {
  if (range_.direction == ScanDirection::reverse) return key < range_.start;
  return !range_.end.empty() && key >= range_.end;
}

Scan::Step Scan::try_next() {
  GYRE_ASSERT(loading_ == nullptr);
  if (std::exchange(on_record_, false) && !step(heap_.top())) return Step::wait;
  unsigned passed_over = 0;
  while (!heap_.empty()) {
    while (SourceCursor* loser = heap_.shadowed()) {
      if (!step(*loser)) return Step::wait;
    }
    SourceCursor& winner = heap_.top();
    const Entry& entry = winner.entry();
    if (is_outside(entry.key)) return Step::end;
    if (entry.is_tombstone() || entry.is_expired(now_ms_)) {
      if (!step(winner) || ++passed_over == passed_over_max) return Step::wait;
      continue;
    }
    on_record_ = true;
    return Step::record;
  }
  return Step::end;
}

Task<Result<void>> Scan::load() {
  if (loading_ == nullptr) {
    co_await maybe_yield();
    co_return Result<void>{};
  }
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
