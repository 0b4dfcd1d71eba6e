// The ghost queue of S3-FIFO (Yang et al., SOSP '23): remembers the hashes of what was evicted
// lately, without keys or values.
//
// Buckets of 8 slots of 8 bytes; the oldest slot of a bucket makes room. A hash counts as remembered
// until as many others as the caller says came after it, so the queue's length follows the cache's
// and needs no list.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gyre {

class GhostFifo {
 public:
  static constexpr size_t entries_min = 64;

  explicit GhostFifo(size_t entries = entries_min) { resize(entries); }

  // Room for as many hashes, rounded up to a power of two. Forgets all.
  void resize(size_t entries) {
    slots_.assign(std::bit_ceil(std::max(entries, entries_min)), Slot{});
    time_ = 0;
  }
  size_t bytes() const { return slots_.size() * sizeof(Slot); }

  void add(uint64_t hash) {
    Slot* const bucket = bucket_of(hash);
    Slot* oldest = bucket;
    ++time_;
    for (Slot* slot = bucket; slot != bucket + ways; ++slot) {
      if (slot->fingerprint == 0) {
        oldest = slot;
        break;
      }
      if (time_ - slot->time > time_ - oldest->time) oldest = slot;
    }
    *oldest = {fingerprint_of(hash), time_};
  }

  // Whether it was among the last `memory` that were added; it is forgotten then.
  bool take(uint64_t hash, size_t memory) {
    Slot* const bucket = bucket_of(hash);
    const uint32_t fingerprint = fingerprint_of(hash);
    for (Slot* slot = bucket; slot != bucket + ways; ++slot) {
      if (slot->fingerprint != fingerprint) continue;
      const bool remembered = time_ - slot->time <= memory;
      *slot = {};
      return remembered;
    }
    return false;
  }

 private:
  static constexpr size_t ways = 8;
  struct Slot {
    uint32_t fingerprint = 0;
    uint32_t time = 0;
  };

  static uint32_t fingerprint_of(uint64_t hash) {
    return static_cast<uint32_t>(hash) | 1;  // 0 is an empty slot
  }
  // The bucket comes from the hash's upper half, the fingerprint from the lower.
  Slot* bucket_of(uint64_t hash) { return &slots_[((hash >> 32) * ways) & (slots_.size() - 1)]; }

  std::vector<Slot> slots_;
  uint32_t time_ = 0;
};

}  // namespace gyre
