// Values that say whether they are right:
//
//   0        8          16
//   | check  | sequence | filler …
//
// check is the XXH3-64 of everything behind it, seeded with the hash of the key; sequence (little
// endian, like check) tells the writes of a run apart. A value shorter than 16 bytes is all filler
// and can't be checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sim/prng.hpp"

namespace gyre::load {

constexpr uint64_t value_header_bytes = 16;

// Sizes of values: all alike, uniform between two bounds, or exponential with a mean.
struct ValueSizes {
  enum class Kind : uint8_t { fixed, uniform, exponential };
  Kind kind = Kind::fixed;
  uint64_t low = 100;   // the size, the smallest, or the mean
  uint64_t high = 100;  // the largest

  uint64_t draw(sim::Prng& random) const;
  uint64_t smallest() const { return kind == Kind::exponential ? value_header_bytes : low; }
};

// Writes a value of size_bytes.
void write_value(char* to, uint64_t size_bytes, std::string_view key, uint64_t sequence);

struct ValueCheck {
  bool right = false;
  uint64_t sequence = 0;
};
ValueCheck check_value(std::string_view key, std::string_view value);

}  // namespace gyre::load
