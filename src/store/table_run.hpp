// The tables of one level, immutable and cheap to change: chunks of up to 64 tables that versions
// share. An edit copies the chunks it touches and the list of chunks, never the whole level.
//
//   slots    { chunk, index of its first table, largest key }  …     in the order of the tables
//   chunk    up to 64 tables, at least 1
//
// Invariants: no chunk is empty. Of two neighbours, one of which has less than 16 tables, an edit
// of either makes one chunk if they fit into 48: a level of n tables has less than n/12 chunks.
//
// `Ref` is a counted pointer to something with record() as TableRecord: the keys must stay where
// they are as long as the Ref is held.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/assert.hpp"

namespace gyre {

template <class Ref>
class TableRun {
 public:
  static constexpr size_t chunk_tables_max = 64;
  static constexpr size_t chunk_tables_low = 16;
  static constexpr size_t chunk_tables_joined = 48;

  class Editor;
  class Iterator;
  using value_type = Ref;
  using const_iterator = Iterator;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const Ref& operator[](size_t index) const { return *iterator_at(index); }
  const Ref& front() const { return slots_.front().chunk->front(); }
  const Ref& back() const { return slots_.back().chunk->back(); }
  Iterator begin() const { return {this, 0, 0}; }
  Iterator end() const { return {this, slots_.size(), 0}; }

  // The first table whose largest key is not below `key`, where tables are disjoint and in key
  // order.
  Iterator lower_bound(std::string_view key) const {
    const auto slot = std::partition_point(slots_.begin(), slots_.end(),
                                           [key](const Slot& at) { return at.largest_key < key; });
    if (slot == slots_.end()) return end();
    const auto table =
        std::partition_point(slot->chunk->begin(), slot->chunk->end(),
                             [key](const Ref& at) { return at->record().largest_key < key; });
    return {this, static_cast<size_t>(slot - slots_.begin()),
            static_cast<size_t>(table - slot->chunk->begin())};
  }

  size_t chunk_count() const { return slots_.size(); }
  // Names a chunk: versions that share it say the same.
  const void* chunk_identity(size_t chunk) const { return slots_[chunk].chunk.get(); }

 private:
  using Chunk = std::vector<Ref>;
  struct Slot {
    std::shared_ptr<const Chunk> chunk;
    size_t first = 0;
    size_t count = 0;
    std::string_view largest_key;  // of the last table: its record has the bytes
  };

  Iterator iterator_at(size_t index) const {
    if (index == size_) return end();
    GYRE_ASSERT(index < size_);
    const auto behind = std::partition_point(slots_.begin(), slots_.end(),
                                             [index](const Slot& at) { return at.first <= index; });
    const auto slot = static_cast<size_t>(behind - slots_.begin()) - 1;
    return {this, slot, index - slots_[slot].first};
  }

  std::vector<Slot> slots_;
  size_t size_ = 0;
};

// Steps cost nothing; jumps cost a search among the chunks.
template <class Ref>
class TableRun<Ref>::Iterator {
 public:
  using iterator_category = std::random_access_iterator_tag;
  using value_type = Ref;
  using difference_type = std::ptrdiff_t;
  using pointer = const Ref*;
  using reference = const Ref&;

  Iterator() = default;
  Iterator(const TableRun* run, size_t slot, size_t at) : run_(run), slot_(slot), at_(at) {}

  reference operator*() const { return (*run_->slots_[slot_].chunk)[at_]; }
  pointer operator->() const { return &**this; }
  reference operator[](difference_type by) const { return *(*this + by); }
  size_t index() const {
    return slot_ == run_->slots_.size() ? run_->size_ : run_->slots_[slot_].first + at_;
  }

  Iterator& operator++() {
    if (++at_ == run_->slots_[slot_].chunk->size()) {
      ++slot_;
      at_ = 0;
    }
    return *this;
  }
  Iterator& operator--() {
    if (at_ == 0) at_ = run_->slots_[--slot_].chunk->size();
    --at_;
    return *this;
  }
  Iterator operator++(int) { return std::exchange(*this, std::next(*this)); }
  Iterator operator--(int) { return std::exchange(*this, std::prev(*this)); }
  Iterator& operator+=(difference_type by) {
    return *this =
               run_->iterator_at(static_cast<size_t>(static_cast<difference_type>(index()) + by));
  }
  Iterator& operator-=(difference_type by) { return *this += -by; }
  friend Iterator operator+(Iterator at, difference_type by) { return at += by; }
  friend Iterator operator+(difference_type by, Iterator at) { return at += by; }
  friend Iterator operator-(Iterator at, difference_type by) { return at -= by; }
  friend difference_type operator-(const Iterator& a, const Iterator& b) {
    return static_cast<difference_type>(a.index()) - static_cast<difference_type>(b.index());
  }
  friend bool operator==(const Iterator& a, const Iterator& b) {
    return a.slot_ == b.slot_ && a.at_ == b.at_;
  }
  friend std::strong_ordering operator<=>(const Iterator& a, const Iterator& b) {
    return std::pair(a.slot_, a.at_) <=> std::pair(b.slot_, b.at_);
  }

 private:
  const TableRun* run_ = nullptr;
  size_t slot_ = 0;
  size_t at_ = 0;
};

// Makes the next version of a run. `Before` orders tables; what it calls equal is the same table.
template <class Ref>
class TableRun<Ref>::Editor {
 public:
  using Before = bool (*)(const Ref& a, const Ref& b);

  Editor(const TableRun& run, Before before) : run_(run), before_(before) {
    owned_.resize(run_.slots_.size());
  }

  // The run has the table.
  void remove(const Ref& table) {
    const size_t slot = slot_for(table);
    GYRE_ASSERT(slot < run_.slots_.size());
    Chunk& chunk = own(slot);
    const auto at = place_in(chunk, table);
    GYRE_ASSERT(at != chunk.end() && !before_(table, *at));
    chunk.erase(at);
    if (chunk.empty()) drop(slot);
  }

  // The run does not have the table.
  void insert(const Ref& table) {
    if (run_.slots_.empty()) return append(table);
    const size_t found = slot_for(table);
    const size_t slot = std::min(found, run_.slots_.size() - 1);
    if (run_.slots_[slot].chunk->size() == chunk_tables_max) {
      if (found != slot) return append(table);  // a level that is loaded in order gets full chunks
      split(slot);
      return insert(table);
    }
    Chunk& chunk = own(slot);
    const auto at = place_in(chunk, table);
    GYRE_ASSERT(at == chunk.end() || before_(table, *at));
    chunk.insert(at, table);
  }

  TableRun finish() {
    join_small_chunks();
    run_.size_ = 0;
    for (size_t at = 0; at < run_.slots_.size(); ++at) {
      Slot& slot = run_.slots_[at];
      if (owned_[at] != nullptr) {
        slot.count = owned_[at]->size();
        slot.largest_key = owned_[at]->back()->record().largest_key;
      }
      slot.first = run_.size_;
      run_.size_ += slot.count;
    }
    return std::move(run_);
  }

 private:
  static ptrdiff_t offset(size_t slot) { return static_cast<ptrdiff_t>(slot); }

  // The first chunk that does not end before `table`.
  size_t slot_for(const Ref& table) const {
    const auto at =
        std::partition_point(run_.slots_.begin(), run_.slots_.end(),
                             [&](const Slot& slot) { return before_(slot.chunk->back(), table); });
    return static_cast<size_t>(at - run_.slots_.begin());
  }
  auto place_in(Chunk& chunk, const Ref& table) const {
    return std::lower_bound(chunk.begin(), chunk.end(), table, before_);
  }
  Chunk& own(size_t slot) {
    if (owned_[slot] == nullptr) put(slot, std::make_shared<Chunk>(*run_.slots_[slot].chunk));
    return *owned_[slot];
  }
  void put(size_t slot, std::shared_ptr<Chunk> chunk) {
    owned_[slot] = chunk.get();
    run_.slots_[slot].chunk = std::move(chunk);
  }
  void add_slot(size_t slot, std::shared_ptr<Chunk> chunk) {
    owned_.insert(owned_.begin() + offset(slot), nullptr);
    run_.slots_.insert(run_.slots_.begin() + offset(slot), Slot{});
    put(slot, std::move(chunk));
  }
  void drop(size_t slot) {
    owned_.erase(owned_.begin() + offset(slot));
    run_.slots_.erase(run_.slots_.begin() + offset(slot));
  }
  void append(const Ref& table) { add_slot(run_.slots_.size(), std::make_shared<Chunk>(1, table)); }
  void split(size_t slot) {
    Chunk& chunk = own(slot);
    const auto middle = chunk.begin() + offset(chunk.size() / 2);
    auto behind = std::make_shared<Chunk>(std::make_move_iterator(middle),
                                          std::make_move_iterator(chunk.end()));
    chunk.erase(middle, chunk.end());
    add_slot(slot + 1, std::move(behind));
  }
  void join_small_chunks() {
    for (size_t slot = 0; slot < run_.slots_.size();) {
      if (owned_[slot] == nullptr) {
        ++slot;
      } else if (slot != 0 && joins(slot - 1)) {
        --slot;
      } else if (slot + 1 == run_.slots_.size() || !joins(slot)) {
        ++slot;
      }
    }
  }
  // Chunk `slot` takes over the next one if they are small.
  bool joins(size_t slot) {
    const Chunk& next = *run_.slots_[slot + 1].chunk;
    const size_t count = run_.slots_[slot].chunk->size();
    if (std::min(count, next.size()) >= chunk_tables_low) return false;
    if (count + next.size() > chunk_tables_joined) return false;
    Chunk& chunk = own(slot);
    chunk.insert(chunk.end(), next.begin(), next.end());
    drop(slot + 1);
    return true;
  }

  TableRun run_;
  Before before_;
  std::vector<Chunk*> owned_;  // by slot: the chunk if this edit has made it
};

}  // namespace gyre
