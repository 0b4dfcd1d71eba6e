// Hashes: XXH3-64 for placement, filters and checksums. Functions are out of line so that
// the library's large header stays out of most translation units.
#pragma once

#include <cstdint>
#include <string_view>

namespace gyre {

uint64_t hash64(std::string_view bytes, uint64_t seed = 0) noexcept;

// Which storage shard of a node owns a key: independent of the placement hash over nodes.
uint32_t shard_of(std::string_view key, uint32_t shard_count) noexcept;
// The same in two steps, for whoever has only the hash: nodes differ in how many shards they have.
uint64_t shard_hash(std::string_view key) noexcept;
uint32_t shard_of_hash(uint64_t hash, uint32_t shard_count) noexcept;

// A checksum that is fed in pieces.
class StreamingHash {
 public:
  explicit StreamingHash(uint64_t seed = 0);
  ~StreamingHash();
  StreamingHash(const StreamingHash&) = delete;
  StreamingHash& operator=(const StreamingHash&) = delete;
  void update(std::string_view bytes) noexcept;
  uint64_t digest() const noexcept;

 private:
  void* state_;
};

}  // namespace gyre
