// The simulation's random numbers: xoshiro256** (Blackman and Vigna), seeded through splitmix64.
// One seed gives a stream per subsystem, told apart by a label, so that a change in how often one
// subsystem draws leaves the others' decisions alone.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/assert.hpp"
#include "base/hash.hpp"

namespace gyre::sim {

class Prng {
 public:
  explicit Prng(uint64_t seed) {
    for (uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15;
      uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
      word = z ^ (z >> 31);
    }
  }
  Prng(uint64_t seed, std::string_view label) : Prng(hash64(label, seed)) {}

  uint64_t next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  // Uniform in [0, bound).
  uint64_t below(uint64_t bound) {
    GYRE_ASSERT(bound != 0);
    return static_cast<uint64_t>((static_cast<__uint128_t>(next()) * bound) >> 64);
  }
  // Uniform in [low, high], both included.
  int64_t between(int64_t low, int64_t high) {
    GYRE_ASSERT(low <= high);
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low) + 1));
  }
  // True with a probability in parts per million; draws nothing for 0, so that a fault that is
  // switched off leaves the stream as it was.
  bool chance_ppm(uint32_t parts) { return parts != 0 && below(1'000'000) < parts; }
  bool one_in(uint64_t n) { return below(n) == 0; }

  void fill(char* out, size_t bytes) {
    while (bytes != 0) {
      const uint64_t word = next();
      const size_t n = bytes < sizeof word ? bytes : sizeof word;
      std::memcpy(out, &word, n);
      out += n;
      bytes -= n;
    }
  }

 private:
  uint64_t state_[4];
};

}  // namespace gyre::sim
