// xoshiro256** (Blackman and Vigna), seeded by the kernel. For jitter and choices, not secrets.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace gyre::uring {

class Random {
 public:
  explicit Random(const std::array<uint64_t, 4>& seed) : state_(seed) {
    if ((seed[0] | seed[1] | seed[2] | seed[3]) == 0) state_[0] = 1;  // zero maps to itself
  }

  uint64_t next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

 private:
  std::array<uint64_t, 4> state_;
};

}  // namespace gyre::uring
