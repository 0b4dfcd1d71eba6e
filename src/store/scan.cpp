#include "store/scan.hpp"

#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "store/test_faults.hpp"

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
    : range_(std::move(range)),
      now_ms_(now_ms),
      heap_(range_.direction),
      values_(range_.direction == ScanDirection::forward ? range_.end : range_.start,
              range_.direction == ScanDirection::reverse) {}

Scan::~Scan() = default;

Task<Result<std::unique_ptr<Scan>>> Shard::scan(std::string start, std::string end,
                                                uint64_t now_ms) {
  return scan(ScanRange{.start = std::move(start), .end = std::move(end)}, now_ms);
}

Task<Result<std::unique_ptr<Scan>>> Shard::scan(ScanRange range, uint64_t now_ms,
                                                uint64_t hlc_min) {
  const Call call(*this);
  std::unique_ptr<Scan> scan = pin_scan(std::move(range), now_ms, hlc_min);
  if (Result<void> sought = co_await scan->seek(); !sought) co_return fail(sought.error());
  co_return scan;
}

// Everything is pinned before the first wait: the view is that of this moment.
std::unique_ptr<Scan> Shard::pin_scan(ScanRange range, uint64_t now_ms, uint64_t hlc_min) const {
  std::unique_ptr<Scan> scan(new Scan(std::move(range), now_ms));
  scan->add_sources(*this, hlc_min);
  return scan;
}

void Scan::add_sources(const Shard& shard, uint64_t hlc_min) {
  const auto& [start, end, direction] = range_;
  const bool sees_later = store_test_faults.scan_sees_later_writes;
  const uint64_t seq = sees_later ? Memtable::seq_newest : shard.visible_seq_;
  const auto add_memtable = [&](const Shard::MemRef& mem) {
    if (mem->table.empty() || mem->table.version_max().hlc < hlc_min) return;
    memtables_.push_back(mem);
    cursors_.push_back(std::make_unique<SourceCursor>(mem->table, seq));
  };
  add_memtable(shard.active_);
  for (auto mem = shard.immutable_.rbegin(); mem != shard.immutable_.rend(); ++mem) {
    add_memtable(*mem);
  }
  levels_ = shard.levels_;
  const TableCursorOptions options = scan_cursor_options(range_);
  const auto add_tables = [&](const TableLevels::Level& level, size_t first, size_t count) {
    // One cursor for each run of tables that are new enough: mostly all of them, or a few.
    for (const size_t behind = first + count; first < behind;) {
      size_t next = first;
      while (next < behind && level[next]->record().version_max.hlc >= hlc_min) ++next;
      if (next != first) {
        cursors_.push_back(std::make_unique<SourceCursor>(level, first, next - first, options));
      }
      first = next + 1;
    }
  };
  const TableLevels::Level& level0 = levels_->level(0);
  size_t index = 0;
  for (const TableRef& table : level0) {
    const TableRecord& record = table->record();
    const bool overlaps = record.largest_key >= start && (end.empty() || record.smallest_key < end);
    add_tables(level0, index++, overlaps ? 1 : 0);
  }
  for (unsigned number = 1; number < limits::table_level_count; ++number) {
    const TableLevels::Level& level = levels_->level(number);
    const size_t first = level.lower_bound(start).index();
    size_t behind = level.size();
    if (!end.empty()) {
      const auto last = level.lower_bound(end);
      behind = last.index();
      if (last != level.end() && (*last)->record().smallest_key < end) ++behind;
    }
    add_tables(level, first, behind > first ? behind - first : 0);
  }
}

Task<Result<void>> Scan::seek() {
  heap_.reserve(cursors_.size());
  std::optional<std::string> end;
  if (!range_.end.empty()) end = range_.end;
  return seek_to(range_.start, std::move(end));
}

// All cursors: to the first key at or after `start`, or going back to the last one before `end`.
Task<Result<void>> Scan::seek_to(std::string start, std::optional<std::string> end) {
  heap_.clear();
  for (auto& cursor : cursors_) {
    Result<void> sought = range_.direction == ScanDirection::forward
                              ? co_await cursor->seek(start)
                              : co_await cursor->seek_before(end);
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
  GYRE_ASSERT(loading_ == nullptr && !value_wanted_ && !jump_wanted_);
  if (std::exchange(on_record_, false)) {
    value_ = {};
    has_value_ = false;
    if (!step(heap_.top())) return Step::wait;
  }
  unsigned passed_over = 0;
  while (!heap_.empty()) {
    while (SourceCursor* loser = heap_.shadowed()) {
      if (!step(*loser)) return Step::wait;
    }
    SourceCursor& winner = heap_.top();
    const Entry& entry = winner.entry();
    if (is_outside(entry.key)) return Step::end;
    if (is_in_gap(entry.key)) {
      jump_wanted_ = true;
      return Step::wait;
    }
    if (!include_dead_ && (entry.is_tombstone() || entry.is_expired(now_ms_))) {
      if (!step(winner) || ++passed_over == passed_over_max) return Step::wait;
      continue;
    }
    if (entry.kind == Kind::separate && !keys_only_ && !has_value_ && !find_value(winner))
      return Step::wait;
    on_record_ = true;
    return Step::record;
  }
  return Step::end;
}

// From the cache; otherwise load() has to read it.
bool Scan::find_value(const SourceCursor& cursor) {
  value_ = {.entry = cursor.entry()};
  has_value_ = cursor.table()->try_resolve(value_, CacheHint::scan);
  value_wanted_ = !has_value_;
  return has_value_;
}

Task<Result<void>> Scan::load() {
  if (std::exchange(value_wanted_, false)) {
    Result<void> read = co_await values_.load(heap_.top(), value_);
    has_value_ = read.has_value();
    co_return read;
  }
  if (std::exchange(jump_wanted_, false)) {
    const std::string from = std::exchange(gap_start_, {});
    co_return co_await seek_to(std::move(gap_end_), from);
  }
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
  return cursor.node() != nullptr ? cursor.node()->large() : is_streamed(cursor.entry().kind);
}

uint64_t Scan::value_bytes() const {
  const SourceCursor& cursor = heap_.top();
  if (cursor.node() != nullptr) return cursor.node()->value_bytes();
  if (!is_streamed(cursor.entry().kind)) return entry().value.size();
  const Result<TableFile::ValuePlace> place = cursor.table()->place_of(cursor.entry());
  return place ? LargeReader::size_of(*place->file, place->handle).value_or(0) : 0;
}

Result<LargeValueStream> Scan::large_value() const {
  const SourceCursor& cursor = heap_.top();
  if (cursor.node() != nullptr) return LargeValueStream(cursor.node()->large_value().share());
  const Result<TableFile::ValuePlace> place = cursor.table()->place_of(cursor.entry());
  if (!place) return fail(place.error());
  Result<LargeReader> reader = LargeReader::open(place->file, place->handle);
  if (!reader) return fail(reader.error());
  return LargeValueStream(std::move(*reader));
}

Result<LargeValueStream> LargeValueStream::open(StoreRead&& read) {
  if (!read.large_file) return LargeValueStream(std::move(read.large_buffer));
  Result<LargeReader> reader = LargeReader::open(read.large_file, read.large_encoded);
  if (!reader) return fail(reader.error());
  return LargeValueStream(std::move(*reader));
}

Task<Result<std::string_view>> LargeValueStream::next() {
  if (reader_) co_return co_await reader_->next();
  co_return pieces_.next(LargeReader::piece_bytes_max);
}

}  // namespace gyre
