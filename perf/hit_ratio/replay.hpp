// Plays a sequence of keys to a cache that takes in every key it misses, and counts its hits in the
// second half: the first half fills it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "proxy/cache.hpp"

namespace gyre::hit_ratio {

// Of the proxy's own cache with room for `keys_max` keys. 0 to 1.
double replay(std::span<const uint32_t> keys, size_t keys_max, proxy::Eviction eviction);

// The most that any policy could have that takes in what it misses: MIN (Belady, 1966), which drops
// the key that is wanted again last. A bound, as it knows the future.
double replay_min(std::span<const uint32_t> keys, size_t keys_max);

}  // namespace gyre::hit_ratio
