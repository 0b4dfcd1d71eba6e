// Bump allocation for things that all die together.
//
// Memory comes in chunks that double from 64 KiB to 1 MiB; a request larger than a quarter of the
// next chunk gets a chunk of its own, so that it can't waste the rest of the current one.
// Invariant: allocated_bytes() is exactly what was taken from the heap, chunk headers included, so
// that a memory budget can be charged with it; nothing is given back before the arena dies.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gyre {

class Arena {
 public:
  static constexpr size_t chunk_bytes_min = 64u << 10;
  static constexpr size_t chunk_bytes_max = 1u << 20;
  static constexpr size_t alignment_bytes = 8;

  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Aligned to alignment_bytes, uninitialised.
  char* allocate(size_t size_bytes) {
    const size_t size = (size_bytes + alignment_bytes - 1) & ~(alignment_bytes - 1);
    if (size > left_bytes_) return allocate_slow(size);
    char* result = next_;
    next_ += size;
    left_bytes_ -= size;
    used_bytes_ += size;
    return result;
  }

  // The memory of a small allocation to come.
  void prefetch_next() const {
    for (size_t at = 0; at < 256 && at < left_bytes_; at += 64) __builtin_prefetch(next_ + at, 1);
  }

  size_t allocated_bytes() const { return allocated_bytes_; }
  size_t used_bytes() const { return used_bytes_; }

 private:
  struct Chunk {
    Chunk* previous;
    uint64_t size_bytes;
  };

  char* allocate_slow(size_t size_bytes);
  char* add_chunk(size_t payload_bytes);

  char* next_ = nullptr;
  size_t left_bytes_ = 0;
  size_t next_chunk_bytes_ = chunk_bytes_min;
  size_t allocated_bytes_ = 0;
  size_t used_bytes_ = 0;
  Chunk* chunks_ = nullptr;
};

}  // namespace gyre
