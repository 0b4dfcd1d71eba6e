#include "store/source_cursor.hpp"

#include <algorithm>
#include <utility>

namespace gyre {

// From the newest node of a key to the winner that a reader at visible_seq_ sees; keys of which it
// sees nothing are passed over. The iterator is left on the newest node of the next key.
void SourceCursor::settle_on_key() {
  node_ = nullptr;
  while (nodes_->valid() && node_ == nullptr) {
    node_ = nodes_->winner(visible_seq_);
    nodes_->next_key();
  }
  if (node_ != nullptr) entry_ = node_->entry();
}

Task<Result<void>> SourceCursor::seek(std::string key) {
  if (memtable_ != nullptr) {
    nodes_->seek(key);
    settle_on_key();
    co_return Result<void>{};
  }
  const auto at = std::partition_point(tables_.begin(), tables_.end(), [&](const TableRef& table) {
    return table->record().largest_key < key;
  });
  table_index_ = static_cast<size_t>(at - tables_.begin());
  cursor_.reset();
  if (at == tables_.end()) co_return Result<void>{};
  cursor_.emplace(tables_[table_index_], options_);
  co_return co_await cursor_->seek(std::move(key));
}

bool SourceCursor::next() {
  if (memtable_ != nullptr) {
    settle_on_key();
    return true;
  }
  if (!cursor_->next()) {
    load_needed_ = true;
    return false;
  }
  // Off the end of a table that is not the last: the next one has to be opened.
  return cursor_->valid() || table_index_ + 1 == tables_.size();
}

Task<Result<void>> SourceCursor::load_next() {
  if (std::exchange(load_needed_, false)) {
    if (Result<void> loaded = co_await cursor_->load_next(); !loaded) co_return loaded;
  }
  while (!cursor_->valid() && table_index_ + 1 < tables_.size()) {
    ++table_index_;
    cursor_.emplace(tables_[table_index_], options_);
    if (Result<void> loaded = co_await cursor_->seek_to_first(); !loaded) co_return loaded;
  }
  co_return Result<void>{};
}

}  // namespace gyre
