#include "store/source_cursor.hpp"

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

namespace gyre {

// From the newest node of a key to the winner that a reader at visible_seq_ sees; keys of which it
// sees nothing are passed over. The iterator is left on the next key. False: there were so many of
// them that the core should have a look at others.
template <class Nodes>
bool SourceCursor::settle_on_key(Nodes& nodes) {
  node_ = nullptr;
  for (unsigned unseen = 0; nodes.valid(); ++unseen) {
    if (unseen == unseen_keys_max) return false;
    node_ = nodes.winner(visible_seq_);
    nodes.next_key();
    if (node_ == nullptr) continue;
    entry_ = node_->entry();
    return true;
  }
  return true;
}

bool SourceCursor::settle_on_key() {
  return back_ ? settle_on_key(*nodes_back_) : settle_on_key(*nodes_);
}

Task<Result<void>> SourceCursor::settle() {
  while (!settle_on_key()) co_await maybe_yield();
  co_return Result<void>{};
}

template <auto Key>
size_t SourceCursor::lower_bound(std::string_view key) const {
  size_t low = 0;
  size_t high = table_count_;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (table_at(middle)->record().*Key < key) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

Task<Result<void>> SourceCursor::seek(std::string key) {
  back_ = false;
  if (memtable_ != nullptr) {
    nodes_.emplace(*memtable_).seek(key);
    co_return co_await settle();
  }
  table_index_ = lower_bound<&TableRecord::largest_key>(key);
  cursor_.reset();
  if (table_index_ == table_count_) co_return Result<void>{};
  cursor_.emplace(table_at(table_index_), options_);
  co_return co_await cursor_->seek(std::move(key));
}

Task<Result<void>> SourceCursor::seek_before(std::optional<std::string> key) {
  back_ = true;
  if (memtable_ != nullptr) {
    nodes_back_.emplace(*memtable_);
    if (key) {
      nodes_back_->seek_before(*key);
    } else {
      nodes_back_->seek_to_last();
    }
    co_return co_await settle();
  }
  const size_t behind = key ? lower_bound<&TableRecord::smallest_key>(*key) : table_count_;
  cursor_.reset();
  if (behind == 0) co_return Result<void>{};
  table_index_ = behind - 1;
  cursor_.emplace(table_at(table_index_), options_);
  // Of all tables but the one that `key` lies in, everything is wanted.
  if (key && *key <= table_at(table_index_)->record().largest_key) {
    co_return co_await cursor_->seek_before(std::move(*key));
  }
  co_return co_await cursor_->seek_to_last();
}

bool SourceCursor::is_last_table() const {
  return back_ ? table_index_ == 0 : table_index_ + 1 == table_count_;
}

bool SourceCursor::next() {
  if (memtable_ != nullptr) return settle_on_key();
  if (!cursor_->next()) {
    load_needed_ = true;
    return false;
  }
  // Off the end of a table that is not the last: the next one has to be opened.
  return cursor_->valid() || is_last_table();
}

Task<Result<void>> SourceCursor::load_next() {
  if (memtable_ != nullptr) {
    co_await maybe_yield();
    co_return co_await settle();
  }
  if (std::exchange(load_needed_, false)) {
    if (Result<void> loaded = co_await cursor_->load_next(); !loaded) co_return loaded;
  }
  while (!cursor_->valid() && !is_last_table()) {
    table_index_ = back_ ? table_index_ - 1 : table_index_ + 1;
    cursor_.emplace(table_at(table_index_), options_);
    Result<void> loaded =
        back_ ? co_await cursor_->seek_to_last() : co_await cursor_->seek_to_first();
    if (!loaded) co_return loaded;
  }
  co_return Result<void>{};
}

}  // namespace gyre
