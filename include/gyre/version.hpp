// The version of a value or tombstone: 16 bytes, unique and totally ordered (DESIGN D8).
//
//   hlc     64 bits   hybrid logical clock: microseconds since 1970 in the upper 52 bits,
//                     a logical counter in the lower 12
//   origin  64 bits   who made it, and for how many: node (32 bits) · copies (3) · core (9) ·
//                     counter (20). Copies is how many replicas a cluster's write was for, 1 to 5;
//                     0 where nobody said so
//
// On disk and on the wire: hlc little-endian, then origin little-endian.
// Source of the clock: Kulkarni et al., "Logical Physical Clocks" (2014).
#pragma once

#include <compare>
#include <cstdint>

namespace gyre {

struct Version {
  uint64_t hlc = 0;
  uint64_t origin = 0;

  friend auto operator<=>(const Version&, const Version&) = default;
  explicit operator bool() const { return hlc != 0 || origin != 0; }
  unsigned copies() const { return static_cast<unsigned>(origin >> 29) & 7; }
};

inline constexpr unsigned hlc_logical_bits = 12;
inline constexpr uint64_t hlc_from_us(uint64_t us) {
  return us << hlc_logical_bits;
}
inline constexpr uint64_t hlc_to_us(uint64_t hlc) {
  return hlc >> hlc_logical_bits;
}

// One per core. `next` never repeats and never goes back, whatever the wall clock does;
// `observe` merges a clock seen in a frame, a mailbox or a file.
class HybridClock {
 public:
  static constexpr unsigned cores_max = 512;

  HybridClock() = default;
  HybridClock(uint32_t node, uint16_t core)
      : node_core_((uint64_t{node} << 32) | (uint64_t{core & (cores_max - 1)} << 20)) {}

  Version next(uint64_t wall_us, unsigned copies = 0) {
    const uint64_t physical = hlc_from_us(wall_us);
    last_ = physical > last_ ? physical : last_ + 1;
    counter_ = (counter_ + 1) & 0xfffff;
    return {last_, node_core_ | uint64_t{copies & 7} << 29 | counter_};
  }
  void observe(uint64_t hlc) {
    if (hlc > last_) last_ = hlc;
  }
  uint64_t last() const { return last_; }

 private:
  uint64_t node_core_ = 0;
  uint64_t last_ = 0;
  uint64_t counter_ = 0;
};

}  // namespace gyre
