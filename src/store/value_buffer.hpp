// The bytes of one value on their way from a request body to the log, the memtable and an answer,
// without being copied in between.
//
//   first_ -> [header | 64 KiB] -> [header | 64 KiB] -> ... -> [header | 256 KiB] -> nullptr
//
// A value that stays within `contiguous_bytes_max` is one contiguous piece. A longer one is a chain
// of separately allocated chunks (64 KiB, from 1 MiB on 256 KiB), so that a value of 1 GiB never
// asks the heap for 1 GiB, and moving one costs three words.
//
// Invariants: pieces are never empty; appending is allowed only while the handle is the only one.
// share() makes a second handle to the same bytes, which a slow reader keeps while the memtable
// gives up its own; the count is not atomic, so handles stay on one core.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace gyre {

class ValueBuffer {
  struct Chunk;

 public:
  static constexpr size_t contiguous_bytes_max = 64u << 10;
  static constexpr size_t long_value_bytes_min = 1u << 20;
  static constexpr size_t long_chunk_bytes = 256u << 10;
  static constexpr size_t piece_overhead_bytes = 24;

  ValueBuffer() = default;
  explicit ValueBuffer(std::string_view bytes) {
    expect(bytes.size());
    append(bytes);
  }
  ValueBuffer(ValueBuffer&& other) noexcept
      : first_(std::exchange(other.first_, nullptr)),
        last_(std::exchange(other.last_, nullptr)),
        size_bytes_(std::exchange(other.size_bytes_, 0)),
        expected_bytes_(std::exchange(other.expected_bytes_, 0)) {}
  ValueBuffer& operator=(ValueBuffer&& other) noexcept {
    if (this != &other) {
      clear();
      first_ = std::exchange(other.first_, nullptr);
      last_ = std::exchange(other.last_, nullptr);
      size_bytes_ = std::exchange(other.size_bytes_, 0);
      expected_bytes_ = std::exchange(other.expected_bytes_, 0);
    }
    return *this;
  }
  ~ValueBuffer() { clear(); }

  // Says how long the value will become (a Content-Length): chunks are then cut to fit. Allocates
  // nothing, so that a client that promises much and sends nothing costs nothing.
  void expect(size_t total_bytes) { expected_bytes_ = total_bytes; }

  void append(std::string_view bytes);
  void clear();
  ValueBuffer share() const;

  size_t size() const { return size_bytes_; }
  bool empty() const { return size_bytes_ == 0; }
  // What the chain takes from the heap.
  size_t allocated_bytes() const;

  bool contiguous() const { return first_ == last_; }
  // The whole value; only if contiguous().
  std::string_view view() const;
  std::string to_string() const;

  // Calls `visit(std::string_view piece)` for each piece in order.
  template <class Visit>
  void for_each_piece(Visit&& visit) const {
    for (const Chunk* chunk = first_; chunk != nullptr; chunk = chunk->next) {
      visit(std::string_view(chunk->data(), chunk->size_bytes));
    }
  }

  // Copies the value out from front to back; the buffer must not change meanwhile.
  class Reader {
   public:
    Reader() = default;
    explicit Reader(const ValueBuffer& buffer) : chunk_(buffer.first_) {}
    // Copies `size_bytes` bytes, of which there must be so many left.
    void read(char* out, size_t size_bytes);
    // The longest piece that is left, at most `size_bytes_max` bytes; empty at the end.
    std::string_view next(size_t size_bytes_max);

   private:
    const Chunk* chunk_ = nullptr;
    size_t offset_bytes_ = 0;
  };

 private:
  struct Chunk {
    Chunk* next;
    uint32_t size_bytes;
    uint32_t capacity_bytes;
    uint32_t handles;  // of the chain; counted in its first chunk only
    uint32_t unused;
    char* data() { return reinterpret_cast<char*>(this + 1); }
    const char* data() const { return reinterpret_cast<const char*>(this + 1); }
  };

  static_assert(sizeof(Chunk) == piece_overhead_bytes);

  static Chunk* allocate(size_t capacity_bytes);
  void grow(size_t more_bytes);

  Chunk* first_ = nullptr;
  Chunk* last_ = nullptr;
  size_t size_bytes_ = 0;
  size_t expected_bytes_ = 0;
};

}  // namespace gyre
