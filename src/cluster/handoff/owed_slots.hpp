// Slots of which a peer may lack writes, each with the stamp from which on: comparing what is newer
// than that is enough. 2 KiB once a slot is owed, and 512 bytes per 64 slots of which one is.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
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
    if (pages_.empty()) return never;
    const auto& page = pages_[slot / page_slots];
    return page == nullptr ? never : (*page)[slot % page_slots];
  }
  bool covers(uint32_t slot, uint64_t hlc) const { return !empty() && hlc >= since(slot); }
  // Of all slots. Costs O(slots).
  uint64_t since_min() const {
    uint64_t least = never;
    for_each([&least](uint32_t, uint64_t hlc) { least = std::min(least, hlc); });
    return least;
  }
  // False if that much is owed already.
  bool add(uint32_t slot, uint64_t hlc) {
    GYRE_ASSERT(slot < slot_count && hlc != never);
    if (pages_.empty()) pages_.resize(slot_count / page_slots);
    std::unique_ptr<Page>& page = pages_[slot / page_slots];
    if (page == nullptr) {
      page = std::make_unique<Page>();
      page->fill(never);
    }
    uint64_t& since = (*page)[slot % page_slots];
    if (hlc >= since) return false;
    if (since == never) ++count_;
    since = hlc;
    return true;
  }
  void add(const OwedSlots& other) {
    other.for_each([this](uint32_t slot, uint64_t hlc) { add(slot, hlc); });
  }
  void clear() {
    std::vector<std::unique_ptr<Page>>().swap(pages_);
    count_ = 0;
  }
  template <class Function>  // (slot, hlc)
  void for_each(Function function) const {
    for (uint32_t i = 0; i < pages_.size(); ++i) {
      for (uint32_t slot = 0; pages_[i] != nullptr && slot < page_slots; ++slot) {
        const uint64_t since = (*pages_[i])[slot];
        if (since != never) function(i * page_slots + slot, since);
      }
    }
  }

 private:
  static constexpr uint32_t page_slots = 64;
  using Page = std::array<uint64_t, page_slots>;

  std::vector<std::unique_ptr<Page>> pages_;
  uint32_t count_ = 0;
};

}  // namespace gyre::cluster
