// The keys that are asked for most often, in bounded memory: Space-Saving (Metwally, Agrawal,
// El Abbadi, "Efficient computation of frequent and top-k elements in data streams", ICDT 2005).
// A key that is not among the counted ones takes the place of the least counted one, with its count;
// so a count is too large by `over` at most, and whoever makes up more than one in `capacity`
// requests is among them.
//
// Single-threaded. Keys are told apart by a hash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gyre::proxy {

class HotKeys {
 public:
  static constexpr size_t key_bytes_max = 128;  // longer ones are shown cut

  explicit HotKeys(size_t capacity = 128) : capacity_(capacity) {}

  struct Counted {
    std::string key;
    uint64_t hash = 0;
    uint64_t count = 0;
    uint64_t over = 0;
  };

  // `weight`: what one that was looked at stands for, where not all are.
  void add(std::string_view key, uint64_t hash, uint64_t weight = 1);
  // The most counted first, at most `most`.
  std::vector<Counted> top(size_t most) const;
  // Halves all counts: what was hot is forgotten, what is hot stays in front.
  void age();

 private:
  void place(size_t at, Counted item);
  void sift_down(size_t at);

  size_t capacity_;
  std::vector<Counted> heap_;  // the least counted first
  std::unordered_map<uint64_t, size_t> place_of_;
};

}  // namespace gyre::proxy
