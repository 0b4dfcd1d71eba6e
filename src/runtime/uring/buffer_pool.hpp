// The provided receive buffers of one ring. Each buffer is, at any time, either the kernel's (it
// may write into it) or a receiver's (from its completion until recycle); asserted both ways, and
// under AddressSanitizer the kernel's buffers are poisoned.
//
// Recycled buffers go back to the kernel together, with publish, once per tick.
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/uring/ring.hpp"

namespace gyre::uring {

class BufferPool {
 public:
  static constexpr uint16_t group = 0;

  // count is rounded up to a power of two. Throws std::runtime_error when the kernel refuses.
  BufferPool(Ring& ring, unsigned count, unsigned bytes);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // A completion gave this buffer to a receiver.
  void take(uint16_t id);
  void recycle(uint16_t id);
  void publish();

  std::span<char> bytes_of(uint16_t id) const { return {memory_ + size_t{id} * bytes_, bytes_}; }
  size_t count() const { return count_; }
  size_t buffer_bytes() const { return bytes_; }
  size_t free() const { return free_; }

 private:
  Ring& ring_;
  unsigned count_;
  unsigned bytes_;
  size_t free_ = 0;
  int recycled_ = 0;  // added to the kernel's ring, not yet published
  io_uring_buf_ring* kernel_ring_ = nullptr;
  char* memory_ = nullptr;
  std::vector<bool> with_kernel_;
};

}  // namespace gyre::uring
