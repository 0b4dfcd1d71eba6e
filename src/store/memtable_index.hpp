// A hash table beside a memtable's skip list: key to its newest entry. Most point reads end with
// one look here, also those for keys that the memtable does not have, which is most of them.
//
//   256 subtables, chosen by 8 bits of the key's hash; each an open-addressing table of
//   slot: 16 further bits of the hash | 48 bits of address        0: empty
//
// The 16 bits place a slot (so growing needs no key) and sort out other keys. Subtables grow one
// at a time, so no insert takes long. Nothing is ever removed. Linear probing, at most 3/4 full;
// a subtable that can't grow any more is marked full, and its keys are then searched in the list.
//
// Slots come in blocks for several subtables of one size, as these reach it at about the same time:
// a malloc per subtable and size would be one for every 10 to 100 keys. A block goes when the last
// of its subtables has grown out of it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "base/assert.hpp"

namespace gyre {

template <class Node>
class MemtableIndex {
 public:
  MemtableIndex() = default;
  ~MemtableIndex() {
    for (const Subtable& table : subtables_) release(table);
    for (Block* block : open_) std::free(block);
  }
  MemtableIndex(const MemtableIndex&) = delete;
  MemtableIndex& operator=(const MemtableIndex&) = delete;

  enum class Answer : uint8_t { found, absent, unknown };

  // `is_key(node)`: whether the node's key is the one that was hashed.
  template <class IsKey>
  Answer find(uint64_t hash, IsKey&& is_key, const Node*& out) const {
    const Subtable& table = subtables_[hash >> 56];
    if (table.full) return Answer::unknown;
    if (table.slots == nullptr) return Answer::absent;
    const uint64_t tag = tag_of(hash);
    for (uint64_t at = tag & table.mask;; at = (at + 1) & table.mask) {
      const uint64_t slot = table.slots[at];
      if (slot == 0) return Answer::absent;
      if ((slot >> address_bits) != tag) continue;
      const Node* node = node_of(slot);
      if (!is_key(*node)) continue;
      out = node;
      return Answer::found;
    }
  }

  // The two cache misses of an insert, begun ahead of it: the slot, then the node it points to.
  void prefetch_slot(uint64_t hash) const {
    const Subtable& table = subtables_[hash >> 56];
    if (table.slots != nullptr) __builtin_prefetch(&table.slots[tag_of(hash) & table.mask], 1);
  }
  void prefetch_node(uint64_t hash) const {
    const Subtable& table = subtables_[hash >> 56];
    if (table.slots == nullptr) return;
    const uint64_t tag = tag_of(hash);
    for (uint64_t at = tag & table.mask; table.slots[at] != 0; at = (at + 1) & table.mask) {
      if ((table.slots[at] >> address_bits) != tag) continue;
      const auto* node = reinterpret_cast<const char*>(node_of(table.slots[at]));
      __builtin_prefetch(node);
      __builtin_prefetch(node + 64);
      return;
    }
  }

  // Where a key's newest entry is noted, or will be: valid until the next put of any key.
  struct Place {
    uint64_t* slot = nullptr;  // nullptr: the subtable is full
    Node* node = nullptr;      // the newest so far, if the index knows one
    bool known = false;        // that there is no other than `node`
    uint64_t tag = 0;
    uint8_t subtable = 0;
  };

  template <class IsKey>
  Place place_for(uint64_t hash, IsKey&& is_key) {
    Place place{.tag = tag_of(hash), .subtable = static_cast<uint8_t>(hash >> 56)};
    Subtable& table = subtables_[place.subtable];
    if (table.full) return place;
    place.known = true;
    if (table.slots != nullptr) {
      for (uint64_t at = place.tag & table.mask;; at = (at + 1) & table.mask) {
        place.slot = &table.slots[at];
        if (*place.slot == 0) break;
        if ((*place.slot >> address_bits) != place.tag) continue;
        Node* node = const_cast<Node*>(node_of(*place.slot));
        if (!is_key(*node)) continue;
        place.node = node;
        return place;
      }
    }
    if (table.slots == nullptr || (table.count + 1) * 4 > (table.mask + 1) * 3) {
      if (grow(table)) {
        place.slot = &first_free(table.slots, table.mask, place.tag);
      } else {
        place.slot = nullptr;
      }
    }
    return place;
  }

  // Makes `node` the newest of the key that `place` is for.
  void put(const Place& place, const Node* node) {
    if (place.slot == nullptr) return;
    if (*place.slot == 0) ++subtables_[place.subtable].count;
    *place.slot = slot_of(place.tag, node);
  }

  size_t allocated_bytes() const { return allocated_bytes_; }

 private:
  static constexpr unsigned address_bits = 48;
  static constexpr uint64_t slots_min = 16;
  static constexpr uint64_t slots_max = 1u << 16;
  static constexpr uint64_t block_subtables_max = 32;
  static constexpr uint64_t block_slots_max = (64u << 10) / sizeof(uint64_t);

  // Before the slots of its subtables.
  struct Block {
    uint32_t left = 0;   // that no subtable has had yet
    uint32_t users = 0;  // subtables
    uint64_t bytes = 0;
    uint64_t* slots() { return reinterpret_cast<uint64_t*>(this + 1); }
  };
  struct Subtable {
    uint64_t* slots = nullptr;
    Block* block = nullptr;
    uint64_t mask = 0;
    uint64_t count = 0;
    bool full = false;
  };

  static uint64_t tag_of(uint64_t hash) { return (hash >> 32) & 0xffff; }
  static const Node* node_of(uint64_t slot) {
    return reinterpret_cast<const Node*>(slot & ((uint64_t{1} << address_bits) - 1));
  }
  static uint64_t slot_of(uint64_t tag, const Node* node) {
    const auto address = reinterpret_cast<uint64_t>(node);
    GYRE_ASSERT(address >> address_bits == 0);
    return tag << address_bits | address;
  }

  static uint64_t& first_free(uint64_t* slots, uint64_t mask, uint64_t tag) {
    uint64_t at = tag & mask;
    while (slots[at] != 0) at = (at + 1) & mask;
    return slots[at];
  }

  bool grow(Subtable& table) {
    const uint64_t size = table.slots == nullptr ? slots_min : 2 * (table.mask + 1);
    if (size > slots_max) {
      table.full = true;
      return false;
    }
    Subtable larger{.count = table.count};
    take_slots(larger, size);
    for (uint64_t old = 0; table.slots != nullptr && old <= table.mask; ++old) {
      const uint64_t slot = table.slots[old];
      if (slot == 0) continue;
      first_free(larger.slots, larger.mask, slot >> address_bits) = slot;
    }
    release(std::exchange(table, larger));
    return true;
  }

  void take_slots(Subtable& table, uint64_t size) {
    Block*& block = open_[std::countr_zero(size / slots_min)];
    if (block == nullptr) {
      const uint64_t subtables =
          std::clamp<uint64_t>(block_slots_max / size, 1, block_subtables_max);
      const uint64_t bytes = sizeof(Block) + subtables * size * sizeof(uint64_t);
      void* memory = std::calloc(1, bytes);
      GYRE_ASSERT(memory != nullptr);
      block = new (memory) Block{.left = static_cast<uint32_t>(subtables), .bytes = bytes};
      allocated_bytes_ += bytes;
    }
    --block->left;
    ++block->users;
    table.slots = block->slots() + block->left * size;
    table.mask = size - 1;
    table.block = block;
    if (block->left == 0) block = nullptr;
  }

  void release(const Subtable& table) {
    if (table.block == nullptr || --table.block->users > 0 || table.block->left > 0) return;
    allocated_bytes_ -= table.block->bytes;
    std::free(table.block);
  }

  static constexpr size_t sizes = std::countr_zero(slots_max / slots_min) + 1;

  Subtable subtables_[256];
  Block* open_[sizes] = {};  // by size; with slots left
  size_t allocated_bytes_ = sizeof(subtables_);
};

}  // namespace gyre
