// What happened in a world, as a running hash and the last events in words.
//
// Two runs of a seed must give the same hash: it is fed with numbers and bytes that the program
// and the faults decided, never with addresses.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/backend.hpp>

#include "base/hash.hpp"

namespace gyre::sim {

class Trace {
 public:
  // `what` must be a string literal: it is kept by address for `recent`, hashed by content.
  void note(Nanos at, unsigned node, unsigned core, const char* what, int64_t a = 0, int64_t b = 0,
            int64_t c = 0) {
    mix(static_cast<uint64_t>(at));
    mix((uint64_t{node} << 32) | core);
    mix(hash64(what));
    mix(static_cast<uint64_t>(a));
    mix(static_cast<uint64_t>(b));
    mix(static_cast<uint64_t>(c));
    entries_[count_++ % entries_.size()] = {at, node, core, what, a, b, c};
  }
  void bytes(std::string_view content) { mix(hash64(content)); }

  uint64_t hash() const { return hash_; }
  uint64_t count() const { return count_; }
  std::string recent() const;

 private:
  struct Entry {
    Nanos at = 0;
    unsigned node = 0;
    unsigned core = 0;
    const char* what = "";
    int64_t a = 0, b = 0, c = 0;
  };

  void mix(uint64_t value) {
    hash_ = std::rotl((hash_ ^ value) * 0x9e3779b97f4a7c15, 29) * 0xbf58476d1ce4e5b9;
  }

  uint64_t hash_ = 0x6779726573696d00;
  uint64_t count_ = 0;
  std::array<Entry, 128> entries_;
};

}  // namespace gyre::sim
