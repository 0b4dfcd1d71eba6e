// Slots of which a peer may lack writes, each with the stamp from which on: comparing what is newer
// than that is enough. 128 KiB once a slot is owed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/assert.hpp"
#include "cluster/slot_table.hpp"

namespace gyre::cluster {

class OwedSlots {
 public:
  static constexpr uint64_t never = ~uint64_t{0};

  bool empty() const { return count_ == 0; }
  uint32_t count() const { return count_; }
  // The least stamp (Version::hlc) that is owed of the slot; `never` if none is.
  uint64_t since(uint32_t slot) const {
    GYRE_ASSERT(slot < slot_count);
    return since_.empty() ? never : since_[slot];
  }
  bool covers(uint32_t slot, uint64_t hlc) const { return hlc >= since(slot) && !empty(); }
  // Of all slots. Costs O(slots) after a change.
  uint64_t since_min() const {
    return since_.empty() ? never : *std::min_element(since_.begin(), since_.end());
  }
  // False if that much is owed already.
  bool add(uint32_t slot, uint64_t hlc) {
    GYRE_ASSERT(slot < slot_count && hlc != never);
    if (since_.empty()) since_.assign(slot_count, never);
    if (hlc >= since_[slot]) return false;
    if (since_[slot] == never) ++count_;
    since_[slot] = hlc;
    return true;
  }
  void add(const OwedSlots& other) {
    other.for_each([this](uint32_t slot, uint64_t hlc) { add(slot, hlc); });
  }
  void clear() {
    since_ = {};
    count_ = 0;
  }
  template <class Function>  // (slot, hlc)
  void for_each(Function function) const {
    for (uint32_t slot = 0; slot < since_.size(); ++slot) {
      if (since_[slot] != never) function(slot, since_[slot]);
    }
  }

 private:
  std::vector<uint64_t> since_;
  uint32_t count_ = 0;
};

}  // namespace gyre::cluster
