#include "store/arena.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

using namespace gyre;

TEST_CASE("allocations are aligned and don't overlap") {
  Arena arena;
  char* previous = nullptr;
  size_t previous_bytes = 0;
  for (size_t size = 1; size < 600; ++size) {
    char* memory = arena.allocate(size);
    CHECK(reinterpret_cast<uintptr_t>(memory) % Arena::alignment_bytes == 0);
    std::memset(memory, static_cast<int>(size), size);
    if (previous != nullptr) {
      CHECK(static_cast<unsigned char>(previous[previous_bytes - 1]) == previous_bytes % 256);
    }
    previous = memory;
    previous_bytes = size;
  }
}

TEST_CASE("an empty arena holds nothing") {
  Arena arena;
  CHECK(arena.allocated_bytes() == 0);
  CHECK(arena.used_bytes() == 0);
}

TEST_CASE("chunks grow to their limit, and what is taken from the heap is counted") {
  Arena arena;
  arena.allocate(8);
  CHECK(arena.allocated_bytes() == Arena::chunk_bytes_min);
  size_t before = arena.allocated_bytes();
  size_t longest_step = 0;
  for (size_t i = 0; i < 100'000; ++i) {
    arena.allocate(64);
    longest_step = std::max(longest_step, arena.allocated_bytes() - before);
    before = arena.allocated_bytes();
  }
  CHECK(longest_step == Arena::chunk_bytes_max);
  CHECK(arena.used_bytes() == 8 + 100'000 * 64);
  CHECK(arena.allocated_bytes() >= arena.used_bytes());
  CHECK(arena.allocated_bytes() < arena.used_bytes() + 2 * Arena::chunk_bytes_max);
}

TEST_CASE("a big allocation gets a chunk of its own and leaves the current one usable") {
  Arena arena;
  char* first = arena.allocate(8);
  const size_t before = arena.allocated_bytes();
  char* big = arena.allocate(3u << 20);
  std::memset(big, 1, 3u << 20);
  CHECK(arena.allocated_bytes() - before >= 3u << 20);
  CHECK(arena.allocated_bytes() - before < (3u << 20) + 64);
  CHECK(arena.allocate(8) == first + 8);
}
