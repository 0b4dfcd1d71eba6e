#include "store/value_buffer.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/assert.hpp"

namespace gyre {

ValueBuffer::Chunk* ValueBuffer::allocate(size_t capacity_bytes) {
  auto* chunk = static_cast<Chunk*>(std::malloc(sizeof(Chunk) + capacity_bytes));
  GYRE_ASSERT(chunk != nullptr);
  *chunk = {nullptr, 0, static_cast<uint32_t>(capacity_bytes), 1, 0};
  return chunk;
}

// Makes room at the end, for `more_bytes` or at least for a part of them. While the value still
// fits one piece the piece grows by doubling; later a chunk is added.
void ValueBuffer::grow(size_t more_bytes) {
  const size_t wanted = size_bytes_ + more_bytes;
  const size_t total = std::max(wanted, expected_bytes_);
  if (wanted <= contiguous_bytes_max) {
    size_t capacity = wanted;
    if (total <= contiguous_bytes_max && expected_bytes_ >= wanted) {
      capacity = expected_bytes_;
    } else if (first_ != nullptr || total > contiguous_bytes_max) {
      const size_t doubled =
          first_ == nullptr ? contiguous_bytes_max : 2 * size_t{first_->capacity_bytes};
      capacity = std::clamp(doubled, wanted, contiguous_bytes_max);
    }
    Chunk* chunk = allocate(capacity);
    if (first_ != nullptr) {
      std::memcpy(chunk->data(), first_->data(), size_bytes_);
      chunk->size_bytes = first_->size_bytes;
      std::free(first_);
    }
    first_ = last_ = chunk;
    return;
  }
  size_t capacity = size_bytes_ >= long_value_bytes_min ? long_chunk_bytes : contiguous_bytes_max;
  if (expected_bytes_ >= wanted) capacity = std::min(capacity, expected_bytes_ - size_bytes_);
  Chunk* chunk = allocate(capacity);
  (first_ == nullptr ? first_ : last_->next) = chunk;
  last_ = chunk;
}

void ValueBuffer::append(std::string_view bytes) {
  GYRE_ASSERT(first_ == nullptr || first_->handles == 1);
  while (!bytes.empty()) {
    if (last_ == nullptr || last_->size_bytes == last_->capacity_bytes ||
        (first_ == last_ && size_bytes_ + bytes.size() <= contiguous_bytes_max &&
         last_->size_bytes + bytes.size() > last_->capacity_bytes)) {
      grow(bytes.size());
    }
    const size_t room = last_->capacity_bytes - last_->size_bytes;
    const size_t count = std::min(room, bytes.size());
    std::memcpy(last_->data() + last_->size_bytes, bytes.data(), count);
    last_->size_bytes += static_cast<uint32_t>(count);
    size_bytes_ += count;
    bytes.remove_prefix(count);
  }
}

void ValueBuffer::clear() {
  if (first_ != nullptr && --first_->handles == 0) {
    for (Chunk* chunk = first_; chunk != nullptr;) {
      Chunk* next = chunk->next;
      std::free(chunk);
      chunk = next;
    }
  }
  first_ = last_ = nullptr;
  size_bytes_ = expected_bytes_ = 0;
}

ValueBuffer ValueBuffer::share() const {
  ValueBuffer other;
  other.first_ = first_;
  other.last_ = last_;
  other.size_bytes_ = size_bytes_;
  if (first_ != nullptr) ++first_->handles;
  return other;
}

size_t ValueBuffer::allocated_bytes() const {
  size_t total = 0;
  for (const Chunk* chunk = first_; chunk != nullptr; chunk = chunk->next) {
    total += sizeof(Chunk) + chunk->capacity_bytes;
  }
  return total;
}

std::string_view ValueBuffer::view() const {
  GYRE_ASSERT(contiguous());
  return first_ == nullptr ? std::string_view() : std::string_view(first_->data(), size_bytes_);
}

std::string ValueBuffer::to_string() const {
  std::string text;
  text.reserve(size_bytes_);
  for_each_piece([&](std::string_view piece) { text.append(piece); });
  return text;
}

std::string_view ValueBuffer::Reader::next(size_t size_bytes_max) {
  if (chunk_ != nullptr && offset_bytes_ == chunk_->size_bytes) {
    chunk_ = chunk_->next;
    offset_bytes_ = 0;
  }
  if (chunk_ == nullptr) return {};
  const size_t count = std::min(chunk_->size_bytes - offset_bytes_, size_bytes_max);
  const std::string_view piece(chunk_->data() + offset_bytes_, count);
  offset_bytes_ += count;
  return piece;
}

void ValueBuffer::Reader::read(char* out, size_t size_bytes) {
  while (size_bytes > 0) {
    const std::string_view piece = next(size_bytes);
    GYRE_ASSERT(!piece.empty());
    std::memcpy(out, piece.data(), piece.size());
    out += piece.size();
    size_bytes -= piece.size();
  }
}

}  // namespace gyre
