// The two kinds of sorted input that scans, flushes and compactions merge, behind one interface:
// a memtable as of a seq, and a sorted run of tables (one table of level 0, or any stretch of a
// deeper level).
//
// The seek decides which way it goes. next() is plain code; where it answers false a block has to be
// read, or there was much to pass over: co_await load_next().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/memtable.hpp"
#include "store/table_cursor.hpp"
#include "store/table_levels.hpp"

namespace gyre {

class SourceCursor {
 public:
  // One entry per key: the winner among those with seq <= visible_seq.
  SourceCursor(const Memtable& memtable, uint64_t visible_seq)
      : memtable_(&memtable), visible_seq_(visible_seq) {}
  // `tables` in key order, disjoint.
  SourceCursor(std::vector<TableRef> tables, TableCursorOptions options)
      : owned_(std::move(tables)), table_count_(owned_.size()), options_(std::move(options)) {}
  // `count` tables of `level` from `first` on, which are the same; the level must stay.
  SourceCursor(const TableLevels::Level& level, size_t first, size_t count,
               TableCursorOptions options)
      : level_(&level), first_(first), table_count_(count), options_(std::move(options)) {}
  SourceCursor(const SourceCursor&) = delete;
  SourceCursor& operator=(const SourceCursor&) = delete;
  // Scans come and go: their cursors too are kept for reuse.
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* memory, size_t size_bytes) { free_frame(memory, size_bytes); }

  // To the first key at or after `key`; then next() goes forwards.
  Task<Result<void>> seek(std::string key);
  // To the last key before `key`, or the last of all; then next() goes back.
  Task<Result<void>> seek_before(std::optional<std::string> key);

  bool valid() const {
    return memtable_ != nullptr ? node_ != nullptr : cursor_ && cursor_->valid();
  }
  std::string_view key() const { return memtable_ != nullptr ? node_->key() : cursor_->key(); }
  const Entry& entry() const { return memtable_ != nullptr ? entry_ : cursor_->entry(); }

  // Of a memtable that is read as of its newest seq always true.
  bool next();
  Task<Result<void>> load_next();

  // Where a large value's bytes are: the node (if it is not nullptr), or the table.
  const Memtable::Node* node() const { return node_; }
  const TableRef& table() const { return cursor_->table(); }
  // TableCursor::peek; not of a memtable.
  template <class Use>
  void peek(Use use) const {
    cursor_->peek(use);
  }

 private:
  static constexpr unsigned unseen_keys_max = 256;  // that one call passes over
  bool settle_on_key();
  template <class Nodes>
  bool settle_on_key(Nodes& nodes);
  Task<Result<void>> settle();
  bool is_last_table() const;
  const TableRef& table_at(size_t index) const {
    return level_ != nullptr ? (*level_)[first_ + index] : owned_[index];
  }
  // The first of the tables whose largest (smallest) key is not below `key`.
  template <auto Key>
  size_t lower_bound(std::string_view key) const;

  // memtable
  const Memtable* memtable_ = nullptr;
  std::optional<Memtable::Iterator> nodes_;
  std::optional<Memtable::ReverseIterator> nodes_back_;  // instead, going back
  uint64_t visible_seq_ = 0;
  const Memtable::Node* node_ = nullptr;
  Entry entry_;

  // tables
  std::vector<TableRef> owned_;
  const TableLevels::Level* level_ = nullptr;  // or a stretch of it
  size_t first_ = 0;
  size_t table_count_ = 0;
  size_t table_index_ = 0;
  TableCursorOptions options_;
  std::optional<TableCursor> cursor_;
  bool back_ = false;
  bool load_needed_ = false;  // the cursor stands at the end of a block
};

}  // namespace gyre
