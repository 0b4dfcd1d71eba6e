// K-way merge that never waits: advancing a cursor may need a block from the disk, so the caller
// does that, and the heap only keeps order among cursors that stand on an entry.
//
// The loop, in a coroutine:
//
//   while (!heap.empty()) {
//     while (Cursor* loser = heap.shadowed()) {   // same key as top(), older: nobody may see it
//       co_await advance(*loser);
//       heap.advanced(*loser);
//     }
//     use(heap.top().entry());                    // the winner of its key
//     Cursor& winner = heap.top();
//     co_await advance(winner);
//     heap.advanced(winner);
//   }
//
// Losers move before the winner, so the winner's key stays where it is and nothing is copied. With
// ScanDirection::reverse cursors go back, and the greatest key comes first.
//
// Cursor: bool valid() const; std::string_view key() const; const Entry& entry() const. Cursors
// must not move in memory, nor be advanced without telling the heap. Of entries that are equal
// in everything the cursor pushed first wins, so that a merge has one result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <gyre/store_options.hpp>

#include "base/assert.hpp"
#include "store/entry.hpp"
#include "store/test_faults.hpp"

namespace gyre {

template <class Cursor>
class MergeHeap {
 public:
  explicit MergeHeap(ScanDirection direction = ScanDirection::forward)
      : back_(direction == ScanDirection::reverse) {}

  void reserve(size_t cursor_count) { slots_.reserve(cursor_count); }
  void clear() { slots_.clear(); }

  // A cursor that is not valid is ignored.
  void push(Cursor& cursor) {
    const uint32_t rank = next_rank_++;
    if (!cursor.valid()) return;
    slots_.push_back({&cursor, rank});
    sift_up(slots_.size() - 1);
  }

  bool empty() const { return slots_.empty(); }
  size_t size() const { return slots_.size(); }

  // The first key; among cursors on that key, the one whose entry wins.
  Cursor& top() const {
    GYRE_ASSERT(!slots_.empty());
    return *slots_[0].cursor;
  }

  // Another cursor on the key of top(), or nullptr. In a heap such a cursor is a child of the
  // root if there is one at all.
  Cursor* shadowed() const {
    for (size_t child = 1; child <= 2 && child < slots_.size(); ++child) {
      if (slots_[child].cursor->key() == slots_[0].cursor->key()) return slots_[child].cursor;
    }
    return nullptr;
  }

  // After `cursor` was moved on, perhaps off its end.
  void advanced(Cursor& cursor) {
    size_t at = 0;
    while (at < slots_.size() && slots_[at].cursor != &cursor) ++at;
    GYRE_ASSERT(at < slots_.size());
    if (cursor.valid()) {  // keys go one way
      sift_down(at);
      return;
    }
    slots_[at] = slots_.back();
    slots_.pop_back();
    if (at == slots_.size()) return;
    sift_down(at);
    sift_up(at);
  }

 private:
  struct Slot {
    Cursor* cursor;
    uint32_t rank;
  };

  bool before(const Slot& a, const Slot& b) const {
    const int order = a.cursor->key().compare(b.cursor->key());
    if (order != 0) return (order < 0) != back_;
    if (store_test_faults.merge_takes_older) return wins(b.cursor->entry(), a.cursor->entry());
    if (wins(a.cursor->entry(), b.cursor->entry())) return true;
    if (wins(b.cursor->entry(), a.cursor->entry())) return false;
    return a.rank < b.rank;
  }

  void sift_up(size_t at) {
    while (at > 0) {
      const size_t parent = (at - 1) / 2;
      if (!before(slots_[at], slots_[parent])) return;
      std::swap(slots_[at], slots_[parent]);
      at = parent;
    }
  }

  void sift_down(size_t at) {
    for (;;) {
      size_t least = at;
      for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < slots_.size(); ++child) {
        if (before(slots_[child], slots_[least])) least = child;
      }
      if (least == at) return;
      std::swap(slots_[at], slots_[least]);
      at = least;
    }
  }

  std::vector<Slot> slots_;
  uint32_t next_rank_ = 0;
  bool back_;
};

}  // namespace gyre
