// What both engines are fed with: the same keys, the same values, drawn in the same order from the
// same seed.
//
// A key is a number as sixteen digits, so that byte order is number order, and after a fill every
// number below the count is there: ten records from k on are k … k+9, which a scan can be checked
// against.
//
//   value   0 check u64 | 8 sequence u64 | 16 key number u64 | 24 filler
//
// check is the XXH3-64 of what is behind it. The first part of the filler is random, the rest
// repeats it, so that a block of such values compresses to about a half.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "load/keys.hpp"
#include "sim/prng.hpp"

namespace gyre::engine {

inline constexpr size_t key_bytes = 16;
inline constexpr size_t value_header_bytes = 24;

void write_key(char* to, uint64_t number);
// Nothing if it is no key of ours.
std::optional<uint64_t> read_key(std::string_view key);

// `size_bytes` is at least value_header_bytes.
void write_value(char* to, size_t size_bytes, uint64_t key_number, uint64_t sequence);
// Whether it is, to the last byte, a value that was once written under this key.
bool is_value_of(std::string_view value, size_t size_bytes, uint64_t key_number);

enum class KeyOrder : uint8_t {
  random,  // uniform, with repetition
  once,    // every key once, neighbours far apart
};

// The keys of one lane or thread out of `parts`.
class KeySequence {
 public:
  KeySequence(KeyOrder order, uint64_t keys, uint64_t seed, unsigned part, unsigned parts)
      : order_(order),
        keys_(keys),
        index_(part),
        parts_(parts),
        scatter_(keys),
        random_(seed * 0x9e3779b97f4a7c15 + part) {}

  // With `once`, false when this part has had all of its keys.
  bool next(uint64_t& number) {
    if (order_ == KeyOrder::random) {
      number = random_.below(keys_);
      return true;
    }
    if (index_ >= keys_) return false;
    number = scatter_(index_);
    index_ += parts_;
    return true;
  }

 private:
  KeyOrder order_;
  uint64_t keys_;
  uint64_t index_;
  unsigned parts_;
  load::Scatter scatter_;
  sim::Prng random_;
};

}  // namespace gyre::engine
