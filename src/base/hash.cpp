#include "base/hash.hpp"

#include <xxhash.h>

#include "base/assert.hpp"

namespace gyre {

uint64_t hash64(std::string_view bytes, uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

uint64_t shard_hash(std::string_view key) noexcept {
  constexpr uint64_t shard_seed = 0x73686172645f6f66;
  return hash64(key, shard_seed);
}

uint32_t shard_of(std::string_view key, uint32_t shard_count) noexcept {
  return shard_of_hash(shard_hash(key), shard_count);
}

uint32_t shard_of_hash(uint64_t hash, uint32_t shard_count) noexcept {
  return static_cast<uint32_t>((static_cast<unsigned __int128>(hash) * shard_count) >> 64);
}

StreamingHash::StreamingHash(uint64_t seed) : state_(XXH3_createState()) {
  GYRE_ASSERT(state_ != nullptr);
  XXH3_64bits_reset_withSeed(static_cast<XXH3_state_t*>(state_), seed);
}
StreamingHash::~StreamingHash() {
  XXH3_freeState(static_cast<XXH3_state_t*>(state_));
}
void StreamingHash::update(std::string_view bytes) noexcept {
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size());
}
uint64_t StreamingHash::digest() const noexcept {
  return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_));
}

}  // namespace gyre
