#include "runtime/uring/buffer_pool.hpp"

#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <stdexcept>

#include "base/assert.hpp"
#include "runtime/uring/probe.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace gyre::uring {

namespace {
// Page-aligned, and absent in a child: a fork must never share memory that the kernel fills.
void* map_pages(size_t bytes) {
  void* pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  ::madvise(pages, bytes, MADV_DONTFORK);
  return pages;
}
}  // namespace

BufferPool::BufferPool(Ring& ring, unsigned count, unsigned bytes)
    : ring_(ring), count_(std::bit_ceil(count)), bytes_(bytes), with_kernel_(count_, false) {
  GYRE_ASSERT(count_ <= 32768 && bytes_ > 0);
  kernel_ring_ = static_cast<io_uring_buf_ring*>(map_pages(count_ * sizeof(io_uring_buf)));
  memory_ = static_cast<char*>(map_pages(size_t{count_} * bytes_));
  io_uring_buf_ring_init(kernel_ring_);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<uint64_t>(kernel_ring_);
  registration.ring_entries = count_;
  registration.bgid = group;
  const int rc = io_uring_register_buf_ring(&ring_.raw(), &registration, 0);
  if (rc < 0) {
    ::munmap(memory_, size_t{count_} * bytes_);
    ::munmap(kernel_ring_, count_ * sizeof(io_uring_buf));
    throw std::runtime_error(explain(-rc, gather_facts(1)));
  }
  for (unsigned id = 0; id < count_; ++id) recycle(static_cast<uint16_t>(id));
  publish();
}

BufferPool::~BufferPool() {
  io_uring_unregister_buf_ring(&ring_.raw(), group);
  ASAN_UNPOISON_MEMORY_REGION(memory_, size_t{count_} * bytes_);
  ::munmap(memory_, size_t{count_} * bytes_);
  ::munmap(kernel_ring_, count_ * sizeof(io_uring_buf));
}

void BufferPool::take(uint16_t id) {
  GYRE_ASSERT(id < count_ && with_kernel_[id]);
  with_kernel_[id] = false;
  --free_;
  ASAN_UNPOISON_MEMORY_REGION(memory_ + size_t{id} * bytes_, bytes_);
}

void BufferPool::recycle(uint16_t id) {
  GYRE_ASSERT(id < count_ && !with_kernel_[id]);
  with_kernel_[id] = true;
  ++free_;
  char* start = memory_ + size_t{id} * bytes_;
  ASAN_POISON_MEMORY_REGION(start, bytes_);
  io_uring_buf_ring_add(kernel_ring_, start, bytes_, id, io_uring_buf_ring_mask(count_),
                        recycled_++);
}

void BufferPool::publish() {
  if (recycled_ == 0) return;
  io_uring_buf_ring_advance(kernel_ring_, recycled_);
  recycled_ = 0;
}

}  // namespace gyre::uring
