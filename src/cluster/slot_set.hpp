// A set of slots: one bit for each of the 16384. A copyable value of 2 KiB.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "cluster/slot_table.hpp"

namespace gyre::cluster {

class SlotSet {
 public:
  static constexpr size_t bytes = slot_count / 8;

  bool contains(uint32_t slot) const { return (words_[slot / 64] >> slot % 64 & 1) != 0; }
  void add(uint32_t slot) { words_[slot / 64] |= uint64_t{1} << slot % 64; }
  bool empty() const { return words_ == decltype(words_){}; }
  uint32_t size() const {
    uint32_t count = 0;
    for (const uint64_t word : words_) count += static_cast<uint32_t>(std::popcount(word));
    return count;
  }
  // In ascending order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (uint32_t at = 0; at < words_.size(); ++at) {
      for (uint64_t left = words_[at]; left != 0; left &= left - 1) {
        visit(at * 64 + static_cast<uint32_t>(std::countr_zero(left)));
      }
    }
  }
  static SlotSet all() {
    SlotSet set;
    set.words_.fill(~uint64_t{0});
    return set;
  }

  // Slot i is bit i % 8 of byte i / 8.
  void encode(char* out) const { std::memcpy(out, words_.data(), bytes); }
  static SlotSet decode(const char* in) {
    SlotSet set;
    std::memcpy(set.words_.data(), in, bytes);
    return set;
  }

  friend bool operator==(const SlotSet&, const SlotSet&) = default;

 private:
  std::array<uint64_t, slot_count / 64> words_{};
};

}  // namespace gyre::cluster
