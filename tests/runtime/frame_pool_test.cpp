#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <gyre/task.hpp>

#include "base/limits.hpp"

using namespace gyre;

namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool pooled = false;  // every frame comes from malloc
#else
constexpr bool pooled = true;
#endif
#else
constexpr bool pooled = true;
#endif

// `count` frames at once, then none.
void peak(size_t size_bytes, int count) {
  std::vector<void*> frames;
  for (int i = 0; i < count; ++i) frames.push_back(allocate_frame(size_bytes));
  for (void* frame : frames) free_frame(frame, size_bytes);
}

struct EmptyPool {
  EmptyPool() { release_frame_pool(); }
  ~EmptyPool() { release_frame_pool(); }
};

}  // namespace

TEST_CASE("frames that come and go ask malloc once") {
  const EmptyPool empty;
  peak(900, 100);
  const uint64_t misses = frame_pool_misses();
  for (int round = 0; round < 10; ++round) peak(900, 100);
  if (pooled) CHECK(frame_pool_misses() == misses);
  CHECK(frame_pool_kept_bytes() == (pooled ? 100 * 960 : 0));
}

TEST_CASE("after a peak of one size, its bound is kept and the rest given back") {
  const EmptyPool empty;
  peak(1200, 5000);
  const size_t kept = frame_pool_kept_bytes();
  CHECK(kept <= limits::frame_class_kept_bytes_max);
  if (pooled) CHECK(kept > limits::frame_class_kept_bytes_max - 1216);
  // They still serve.
  const uint64_t misses = frame_pool_misses();
  peak(1200, 100);
  if (pooled) CHECK(frame_pool_misses() == misses);
}

TEST_CASE("after peaks of all sizes, no more is kept than a core has reserved") {
  const EmptyPool empty;
  for (size_t size_bytes = 64; size_bytes <= 8192; size_bytes += 64) peak(size_bytes, 3000);
  CHECK(frame_pool_kept_bytes() <= limits::frames_kept_bytes_max);
  if (pooled) CHECK(frame_pool_kept_bytes() > limits::frames_kept_bytes_max / 2);
  release_frame_pool();
  CHECK(frame_pool_kept_bytes() == 0);
}
