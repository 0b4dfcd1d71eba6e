#include "proxy/hot_keys.hpp"

#include <algorithm>
#include <utility>

namespace gyre::proxy {

void HotKeys::place(size_t at, Counted item) {
  place_of_[item.hash] = at;
  heap_[at] = std::move(item);
}

void HotKeys::sift_down(size_t at) {
  Counted item = std::move(heap_[at]);
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1].count < heap_[child].count) ++child;
    if (heap_[child].count >= item.count) break;
    place(at, std::move(heap_[child]));
    at = child;
  }
  place(at, std::move(item));
}

void HotKeys::add(std::string_view key, uint64_t hash, uint64_t weight) {
  if (const auto found = place_of_.find(hash); found != place_of_.end()) {
    heap_[found->second].count += weight;
    sift_down(found->second);
    return;
  }
  key = key.substr(0, key_bytes_max);
  if (heap_.size() < capacity_) {
    size_t at = heap_.size();
    heap_.emplace_back();
    for (; at != 0 && heap_[(at - 1) / 2].count > weight; at = (at - 1) / 2) {
      place(at, std::move(heap_[(at - 1) / 2]));
    }
    place(at, {std::string(key), hash, weight, 0});
    return;
  }
  Counted& least = heap_.front();
  place_of_.erase(least.hash);
  least.key.assign(key);
  least.hash = hash;
  least.over = std::exchange(least.count, least.count + weight);
  sift_down(0);
}

std::vector<HotKeys::Counted> HotKeys::top(size_t most) const {
  std::vector<Counted> sorted = heap_;
  std::ranges::sort(sorted, [](const Counted& a, const Counted& b) { return a.count > b.count; });
  if (sorted.size() > most) sorted.resize(most);
  return sorted;
}

// Order among the counts stays, so the heap does.
void HotKeys::age() {
  for (Counted& item : heap_) {
    item.count /= 2;
    item.over /= 2;
  }
}

}  // namespace gyre::proxy
