#include "placement.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/hash.hpp"

namespace gyre::threadpool {

namespace {

// Finalizer of MurmurHash3 (Appleby): every bit of the input changes half of the output's.
uint64_t mixed(uint64_t bits) {
  bits = (bits ^ (bits >> 33)) * 0xff51afd7ed558ccdu;
  bits = (bits ^ (bits >> 33)) * 0xc4ceb9fe1a85ec53u;
  return bits ^ (bits >> 33);
}

}  // namespace

Placement::Placement(const std::vector<std::string>& urls) {
  for (const std::string& url : urls) seeds_.push_back(hash64(url));
}

Placement::Replicas Placement::replicas_of(std::string_view key, size_t from) const {
  GYRE_ASSERT(from <= std::min(copies_max, seeds_.size()));
  const uint64_t hash = hash64(key);
  Replicas best{};
  std::array<uint64_t, copies_max> scores{};
  size_t held = 0;
  for (size_t node = 0; node < seeds_.size(); ++node) {
    uint64_t score = mixed(hash ^ seeds_[node]);
    size_t number = node;
    for (size_t rank = 0; rank < held; ++rank) {
      if (score <= scores[rank]) continue;
      std::swap(score, scores[rank]);
      std::swap(number, best[rank]);
    }
    if (held == from) continue;
    scores[held] = score;
    best[held++] = number;
  }
  return best;
}

}  // namespace gyre::threadpool
