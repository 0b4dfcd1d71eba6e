#include "base/ghost_fifo.hpp"

#include <doctest/doctest.h>

#include "base/hash.hpp"

using namespace gyre;

namespace {
uint64_t hash_of(uint64_t number) {
  return hash64({reinterpret_cast<const char*>(&number), sizeof number});
}
}  // namespace

TEST_CASE("a hash is remembered once, until as many others as the memory came after it") {
  GhostFifo ghost(4096);
  ghost.add(hash_of(1));
  CHECK_FALSE(ghost.take(hash_of(2), 100));
  CHECK(ghost.take(hash_of(1), 100));
  CHECK_FALSE(ghost.take(hash_of(1), 100));
  ghost.add(hash_of(1));
  for (uint64_t number = 1000; number < 1100; ++number) ghost.add(hash_of(number));
  CHECK_FALSE(ghost.take(hash_of(1), 99));  // and forgotten with that
  CHECK(ghost.take(hash_of(1001), 99));
}

TEST_CASE("more hashes than slots leave mostly the newest") {
  GhostFifo ghost(256);
  for (uint64_t number = 0; number < 10'000; ++number) ghost.add(hash_of(number));
  int recent = 0;
  for (uint64_t number = 9'900; number < 10'000; ++number)
    recent += ghost.take(hash_of(number), 256);
  CHECK(recent > 90);
  CHECK(ghost.bytes() == 256 * 8);
}
