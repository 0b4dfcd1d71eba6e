#include "store/table_cursor.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/io_alignment.hpp"
#include "base/limits.hpp"

namespace gyre {

namespace {

// What may lie unused between two blocks of one window: cheaper to read than to seek over.
constexpr uint64_t gap_bytes_max = 16u << 10;

}  // namespace

TableCursor::TableCursor(TableRef table, TableCursorOptions options)
    : table_(std::move(table)), options_(std::move(options)) {
  GYRE_ASSERT(options_.read_ahead_bytes_min <= options_.read_ahead_bytes_max);
}

TableCursor::~TableCursor() = default;

size_t TableCursor::memory_bytes() const {
  return window_.buffer.size() + ahead_.memory_bytes() + block_bytes_.capacity() +
         block_pin_.uncached_bytes() + partition_pin_.uncached_bytes() +
         (valid_ ? block_cursor_.key().size() : 0);
}

unexpected<Error> TableCursor::broken(Error error) {
  clear_position();
  at_end_ = true;  // nothing moves it from here but another seek
  return fail(std::move(error));
}

void TableCursor::clear_position() {
  valid_ = false;
  has_partition_ = false;
  at_end_ = false;
}

// --- moving --------------------------------------------------------------------------------------

bool TableCursor::next() {
  if (at_end_) return true;
  GYRE_ASSERT(valid_);
  if (back_) {
    block_cursor_.prev();
  } else {
    block_cursor_.next();
  }
  valid_ = block_cursor_.valid();
  if (valid_) return true;
  // At the last block's end there is nothing to load; after a malformed entry load_next tells.
  const bool last_block = back_ ? block_index_ == 0 && partition_index_ == 0
                                : block_index_ + 1 == partition_.blocks().size() &&
                                      partition_index_ + 1 == table_->partition_count();
  at_end_ = !block_cursor_.failed() && last_block;
  return at_end_;
}

void TableCursor::begin_seek(bool back) {
  clear_position();
  back_ = back;
  window_bytes_ = options_.read_ahead_bytes_min;
  windows_since_seek_ = 0;
}

Task<Result<void>> TableCursor::seek_to_first() {
  return seek(std::string());
}

Task<Result<void>> TableCursor::seek(std::string key) {
  begin_seek(false);
  const Result<uint32_t> partition = table_->top_index().partitions().lower_bound(key);
  if (!partition) co_return broken(table_->in_file(partition.error(), table_->data_end()));
  Result<bool> entered = co_await enter_partition(*partition);
  if (!entered) co_return fail(entered.error());
  if (!*entered) co_return Result<void>{};
  const Result<uint32_t> block = partition_.blocks().lower_bound(key);
  if (!block) co_return broken(table_->in_file(block.error(), partition_offset_));
  // The partition's separator is the one of its last block.
  if (*block == partition_.blocks().size()) {
    co_return broken(table_->in_file(
        Error::of(Errc::corrupt, "a partition ends before its separator"), partition_offset_));
  }
  const Result<void> loaded = co_await load_block(*block);
  if (!loaded) co_return loaded;
  block_cursor_.seek(key);
  co_return co_await settle();
}

Task<Result<void>> TableCursor::seek_to_last() {
  return seek_back(std::nullopt);
}

Task<Result<void>> TableCursor::seek_before(std::string key) {
  return seek_back(std::move(key));
}

// What is smaller than `key` ends in the block that `key` itself would be in, or in the one before.
Task<Result<void>> TableCursor::seek_back(std::optional<std::string> key) {
  begin_seek(true);
  uint32_t partition = table_->partition_count() - 1;
  if (key) {
    const Result<uint32_t> found = table_->top_index().partitions().lower_bound(*key);
    if (!found) co_return broken(table_->in_file(found.error(), table_->data_end()));
    partition = std::min(partition, *found);
  }
  const Result<bool> entered = co_await enter_partition(partition);
  if (!entered) co_return fail(entered.error());
  uint32_t block = partition_.blocks().size() - 1;
  if (key) {
    const Result<uint32_t> found = partition_.blocks().lower_bound(*key);
    if (!found) co_return broken(table_->in_file(found.error(), partition_offset_));
    block = std::min(block, *found);
  }
  const Result<void> loaded = co_await load_block(block);
  if (!loaded) co_return loaded;
  if (key) {
    block_cursor_.seek_before(*key);
  } else {
    block_cursor_.seek_to_last();
  }
  co_return co_await settle();
}

Task<Result<void>> TableCursor::load_next() {
  if (at_end_) co_return Result<void>{};
  GYRE_ASSERT(has_partition_ && !valid_);
  co_return co_await settle();
}

// block_cursor_ was moved. If it went off the end of its block, goes on to the first entry behind.
Task<Result<void>> TableCursor::settle() {
  for (;;) {
    if (block_cursor_.failed()) {
      co_return broken(table_->in_file(block_cursor_.error(), block_handle_.offset));
    }
    valid_ = block_cursor_.valid();
    if (valid_) co_return Result<void>{};
    uint32_t block = back_ ? block_index_ - 1 : block_index_ + 1;
    if (back_ ? block_index_ == 0 : block == partition_.blocks().size()) {
      // 0 - 1 is behind the last one too.
      const Result<bool> entered =
          co_await enter_partition(back_ ? partition_index_ - 1 : partition_index_ + 1);
      if (!entered) co_return fail(entered.error());
      if (!*entered) co_return Result<void>{};
      block = back_ ? partition_.blocks().size() - 1 : 0;
    }
    const Result<void> loaded = co_await load_block(block);
    if (!loaded) co_return loaded;
    if (back_) {
      block_cursor_.seek_to_last();
    } else {
      block_cursor_.seek_to_first();
    }
  }
}

Task<Result<bool>> TableCursor::enter_partition(uint32_t index) {
  has_partition_ = false;
  if (index >= table_->partition_count()) {
    at_end_ = true;
    co_return false;
  }
  const Result<IndexEntry> entry = table_->top_index().partitions().entry(index);
  if (!entry) co_return broken(table_->in_file(entry.error(), table_->data_end()));
  const BlockHandle handle = entry->handle;
  BlockPin pin = table_->cached_block(handle, CacheHint::scan);
  if (!pin) {
    Result<BlockPin> loaded = co_await table_->load(handle, CacheHint::scan, options_.bypass_cache);
    if (!loaded) co_return broken(loaded.error());
    pin = std::move(*loaded);
  }
  const Result<PartitionView> view = PartitionView::open(pin.bytes(), handle.offset);
  if (!view) co_return broken(table_->in_file(view.error(), handle.offset));
  partition_pin_ = std::move(pin);
  partition_ = *view;
  partition_index_ = index;
  partition_offset_ = handle.offset;
  has_partition_ = true;
  co_return true;
}

// --- blocks --------------------------------------------------------------------------------------

Task<Result<void>> TableCursor::load_block(uint32_t index) {
  const Result<IndexEntry> entry = partition_.blocks().entry(index);
  if (!entry) co_return broken(table_->in_file(entry.error(), partition_offset_));
  const BlockHandle handle = entry->handle;
  block_index_ = index;
  block_handle_ = handle;
  block_pin_ = table_->cached_block(handle, CacheHint::scan);
  std::string_view raw;
  if (block_pin_) {
    raw = block_pin_.bytes();
  } else {
    if (!window_.covers(handle)) {
      const Result<void> filled = co_await fill_window(index, handle);
      if (!filled) co_return broken(filled.error());
    }
    const Result<std::string_view> decoded = decode(handle);
    if (!decoded) co_return broken(decoded.error());
    raw = *decoded;
  }
  const Result<BlockView> view = BlockView::open(raw);
  if (!view) co_return broken(table_->in_file(view.error(), handle.offset));
  block_cursor_.reset(*view);
  co_return Result<void>{};
}

Result<std::string_view> TableCursor::decode(const BlockHandle& handle) {
  const std::string_view stored = window_.bytes_of(handle);
  if (!options_.bypass_cache) {
    Result<BlockPin> pin = table_->decode(stored, handle, CacheHint::scan, false);
    if (!pin) return fail(pin.error());
    block_pin_ = std::move(*pin);
    return block_pin_.bytes();
  }
  block_bytes_.resize(handle.raw_bytes);
  const Result<void> decoded = decode_block(stored, handle, block_bytes_.data());
  if (!decoded) return fail(table_->in_file(decoded.error(), handle.offset));
  return std::string_view(block_bytes_);
}

// --- windows -------------------------------------------------------------------------------------

// Whether the walk, within its bound, gets from block `index` to the next one.
bool TableCursor::is_wanted_behind(uint32_t index) const {
  const IndexView& blocks = partition_.blocks();
  if (back_ ? index == 0 : index + 1 == blocks.size()) return false;
  if (!options_.read_ahead_until) return true;
  // What lies between two blocks is the separator of the first.
  const Result<IndexEntry> first = blocks.entry(back_ ? index - 1 : index);
  if (!first) return false;  // whoever gets there says so
  return back_ ? first->separator >= *options_.read_ahead_until
               : first->separator < *options_.read_ahead_until;
}

// The stretch from block `index` on that one read of at most `size_bytes_max` covers; at least that
// block, even if it is larger.
TableCursor::Range TableCursor::plan_window(uint32_t index, size_t size_bytes_max) const {
  Range range;
  uint64_t first_offset = 0;  // of the block before, without what alignment adds
  for (;;) {
    const Result<IndexEntry> entry = partition_.blocks().entry(index);
    if (!entry) break;  // whoever gets there says so
    const BlockHandle& handle = entry->handle;
    if (range.empty()) {
      range = {io_align_down(handle.offset), handle.end(), index, index + 1};
    } else if (back_) {
      if (handle.end() > first_offset || first_offset - handle.end() > gap_bytes_max) break;
      if (io_align_up(range.end) - io_align_down(handle.offset) > size_bytes_max) break;
      range.begin = io_align_down(handle.offset);
      range.block_first = index;
    } else {
      if (handle.offset < range.end || handle.offset - range.end > gap_bytes_max) break;
      if (io_align_up(handle.end()) - range.begin > size_bytes_max) break;
      range.end = handle.end();
      range.block_last = index + 1;
    }
    first_offset = handle.offset;
    if (!is_wanted_behind(index)) break;
    index = back_ ? index - 1 : index + 1;
  }
  return range;
}

// Starts to read the stretch behind `range`, if the walk gets there.
void TableCursor::start_read_ahead(const Range& range) {
  const uint32_t edge = back_ ? range.block_first : range.block_last - 1;
  if (!is_wanted_behind(edge)) return;
  const Range next = plan_window(back_ ? edge - 1 : edge + 1, window_bytes_);
  if (!next.empty()) start_read(next);
}

void TableCursor::start_read(const Range& range) {
  const size_t size_bytes = io_align_up(range.end) - range.begin;
  ahead_.start_read(table_, range.begin, size_bytes);
  ahead_range_ = range;
  table_->host().count_window_read(size_bytes);
  window_bytes_ = std::min(2 * window_bytes_, options_.read_ahead_bytes_max);
}

// Makes window_ cover block `index`, from what was read ahead or by a read, and starts to read what
// follows.
Task<Result<void>> TableCursor::fill_window(uint32_t index, BlockHandle handle) {
  const bool was_read_ahead =
      ahead_.started() && handle.offset >= ahead_range_.begin && handle.end() <= ahead_range_.end;
  if (!was_read_ahead) {
    ahead_.abandon();
    window_ = Window();  // before the next one is allocated
    const Range range = plan_window(index, window_bytes_);
    GYRE_ASSERT(handle.end() <= range.end);
    start_read(range);
  }
  const Range range = ahead_range_;
  Result<OverlappedIo::Done> done = co_await ahead_.finish();
  if (!done) co_return fail(table_->in_file(done.error(), range.begin));
  const uint64_t read_end = range.begin + done->size_bytes;
  if (read_end < range.end) {
    co_return fail(table_->in_file(Error::of(Errc::corrupt, "the file ends early"), read_end));
  }
  window_ = {std::move(done->buffer), range.begin, range.end};
  // The first window after a seek may be all that is wanted; the second shows that the walk goes
  // on. A compaction walks to the end anyway.
  const bool walks = ++windows_since_seek_ > 1 || options_.bypass_cache;
  if (walks) start_read_ahead(range);
  co_return Result<void>{};
}

}  // namespace gyre
