#include "store/arena.hpp"

#include <algorithm>
#include <cstdlib>

#include "base/assert.hpp"

namespace gyre {

Arena::~Arena() {
  while (chunks_ != nullptr) {
    Chunk* previous = chunks_->previous;
    std::free(chunks_);
    chunks_ = previous;
  }
}

char* Arena::add_chunk(size_t payload_bytes) {
  const size_t size = sizeof(Chunk) + payload_bytes;
  auto* chunk = static_cast<Chunk*>(std::malloc(size));
  GYRE_ASSERT(chunk != nullptr);
  chunk->previous = chunks_;
  chunk->size_bytes = size;
  chunks_ = chunk;
  allocated_bytes_ += size;
  return reinterpret_cast<char*>(chunk + 1);
}

char* Arena::allocate_slow(size_t size_bytes) {
  used_bytes_ += size_bytes;
  if (size_bytes > next_chunk_bytes_ / 4) return add_chunk(size_bytes);
  const size_t payload = next_chunk_bytes_ - sizeof(Chunk);
  char* result = add_chunk(payload);
  next_ = result + size_bytes;
  left_bytes_ = payload - size_bytes;
  next_chunk_bytes_ = std::min(next_chunk_bytes_ * 2, chunk_bytes_max);
  return result;
}

}  // namespace gyre
