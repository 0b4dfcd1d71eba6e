// Coroutine frames from per-thread free lists of 64-byte size classes up to 4 KiB; larger ones
// go to malloc. What a peak of connections leaves behind goes back to malloc beyond two bounds
// (limits.hpp): of one class, so that none of them takes all, and of all together, which is part of
// the core's reservation in the memory plan. Under AddressSanitizer every frame goes to malloc, so
// that a use after a frame's end is seen. Both functions stay out of line so that profilers and
// counters see frames.
#include <cstdlib>

#include <gyre/task.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GYRE_POOL_FRAMES 0
#endif
#endif
#ifndef GYRE_POOL_FRAMES
#define GYRE_POOL_FRAMES 1
#endif

namespace gyre {

namespace {

constexpr size_t class_bytes = 64;
constexpr size_t class_count = 64;

struct FreeFrame {
  FreeFrame* next;
};

struct FramePool {
  FreeFrame* free[class_count] = {};
  size_t kept_bytes_of[class_count] = {};
  size_t kept_bytes = 0;
  int64_t live = 0;
  uint64_t misses = 0;

  ~FramePool() { release(); }
  void release() noexcept {
    kept_bytes = 0;
    for (size_t& bytes : kept_bytes_of) bytes = 0;
    for (FreeFrame*& list : free) {
      while (list != nullptr) std::free(std::exchange(list, list->next));
    }
  }
};

thread_local FramePool pool;

void* allocate_or_die(size_t size_bytes) {
  void* memory = std::malloc(size_bytes);
  GYRE_ASSERT(memory != nullptr);  // frames are the glue of everything: no way to go on without
  return memory;
}

}  // namespace

[[gnu::noinline]] void* allocate_frame(size_t size_bytes) {
  ++pool.live;
  const size_t index = (size_bytes + class_bytes - 1) / class_bytes;
  if (GYRE_POOL_FRAMES && index < class_count) {
    if (FreeFrame* frame = pool.free[index]; frame != nullptr) {
      pool.free[index] = frame->next;
      pool.kept_bytes_of[index] -= index * class_bytes;
      pool.kept_bytes -= index * class_bytes;
      return frame;
    }
    ++pool.misses;
    return allocate_or_die(index * class_bytes);
  }
  ++pool.misses;
  return allocate_or_die(size_bytes);
}

[[gnu::noinline]] void free_frame(void* frame, size_t size_bytes) noexcept {
  --pool.live;
  const size_t index = (size_bytes + class_bytes - 1) / class_bytes;
  const size_t bytes = index * class_bytes;
  if (GYRE_POOL_FRAMES && index < class_count &&
      pool.kept_bytes_of[index] + bytes <= limits::frame_class_kept_bytes_max &&
      pool.kept_bytes + bytes <= limits::frames_kept_bytes_max) {
    pool.kept_bytes_of[index] += bytes;
    pool.kept_bytes += bytes;
    auto* node = static_cast<FreeFrame*>(frame);
    node->next = pool.free[index];
    pool.free[index] = node;
    return;
  }
  std::free(frame);
}

int64_t frames_live() noexcept {
  return pool.live;
}
uint64_t frame_pool_misses() noexcept {
  return pool.misses;
}
size_t frame_pool_kept_bytes() noexcept {
  return pool.kept_bytes;
}
void release_frame_pool() noexcept {
  pool.release();
}

}  // namespace gyre
