// Sorts many keys part by part, so that the core can be given back in between.
//
// An incremental quicksort (Paredes, Navarro 2006): the array is split around its middle until the
// first part is small, which is then sorted and handed out; the later parts wait, split as far as
// was needed. What is compared is eight bytes that stand in the array beside the address of the
// key's owner: at first its rank, and among equal ones seven bytes of the key, behind what they all
// share, and how many there are (after Bentley, Sedgewick 1997). So the keys themselves, each a cache
// miss away, are looked at once per eight bytes that they have in common and not in each comparison.
//
// Memory: 16 bytes per key.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace gyre {

// Node: key(), unlike every other's.
template <class Node>
class KeySort {
 public:
  // `digits`: orders keys as far as it tells them apart.
  struct Item {
    uint64_t digits;
    Node* node;
  };
  static constexpr size_t part_max = 4096;

  KeySort() = default;
  explicit KeySort(std::vector<Item> items) : items_(std::move(items)), ends_{items_.size()} {}

  // Whether all were handed out.
  bool done() const { return at_ == items_.size(); }

  // Works for a while. The keys that follow, in order, or none yet. More than part_max only if so
  // many have equal ranks. The view lives as long as the sort.
  std::span<const Item> next() {
    const size_t end = ends_.back();
    if (end - at_ > part_max) {
      if (const size_t middle = split(at_, end); middle != end) {
        ends_.push_back(middle);
        return {};
      }
    }
    ends_.pop_back();
    const std::span<Item> part(&items_[at_], end - at_);
    at_ = end;
    sort(part, 0);
    return part;
  }

 private:
  static constexpr size_t compared_whole_max = 16;

  // Everything before the place returned has lower digits than everything behind it; `end` if all
  // are equal.
  size_t split(size_t begin, size_t end) {
    const auto first = items_.begin() + static_cast<ptrdiff_t>(begin);
    const auto last = items_.begin() + static_cast<ptrdiff_t>(end);
    const auto middle = first + (last - first) / 2;
    std::ranges::nth_element(first, middle, last, {}, &Item::digits);
    const uint64_t digits = middle->digits;
    auto place = std::partition(first, middle, [&](const Item& i) { return i.digits < digits; });
    if (place == first)
      place = std::partition(middle, last, [&](const Item& i) { return i.digits == digits; });
    return static_cast<size_t>(place - items_.begin());
  }

  // `shared`: how many bytes all keys are known to have in common.
  static void sort(std::span<Item> items, size_t shared) {
    std::ranges::sort(items, {}, &Item::digits);
    for (size_t begin = 0, end = 0; begin < items.size(); begin = end) {
      while (end < items.size() && items[end].digits == items[begin].digits) ++end;
      if (end - begin > 1) sort_equal(items.subspan(begin, end - begin), shared);
    }
  }

  // Some of the new digits differ, so this ends.
  static void sort_equal(std::span<Item> items, size_t shared) {
    if (items.size() <= compared_whole_max) {
      std::ranges::sort(items, {}, [](const Item& item) { return item.node->key(); });
      return;
    }
    const std::string_view some = items[0].node->key();
    size_t common = some.size();
    for (const Item& item : items) common = shared_bytes(some, item.node->key(), shared, common);
    for (Item& item : items) item.digits = digits_of(item.node->key().substr(common));
    sort(items, common);
  }

  static size_t shared_bytes(std::string_view a, std::string_view b, size_t from, size_t to) {
    to = std::min(to, b.size());
    const auto* begin = a.data();
    return static_cast<size_t>(std::mismatch(begin + from, begin + to, b.data() + from).first -
                               begin);
  }

  // Of keys with the same seven bytes, zeros behind the end included, the shorter comes first.
  static uint64_t digits_of(std::string_view rest) {
    constexpr size_t bytes_max = sizeof(uint64_t) - 1;
    uint64_t bytes = 0;
    std::memcpy(&bytes, rest.data(), std::min(rest.size(), bytes_max));
    return __builtin_bswap64(bytes) | std::min(rest.size(), bytes_max + 1);
  }

  std::vector<Item> items_;
  std::vector<size_t> ends_;  // of the parts to come, the next one last
  size_t at_ = 0;
};

}  // namespace gyre
