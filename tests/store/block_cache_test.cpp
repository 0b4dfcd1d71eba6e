#include "store/block_cache.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "table_support.hpp"

namespace gyre {
using namespace test;

namespace {

constexpr size_t block_bytes = 4000;

size_t capacity_for(size_t blocks) {
  return blocks * BlockCache::charge_bytes(block_bytes) + 64 * 1024;
}

// What a reader does: look, else load. True if it was a hit.
bool read(BlockCache& cache, uint64_t file, uint64_t offset, CacheHint hint = CacheHint::normal) {
  if (cache.lookup(file, offset, hint)) return true;
  BlockRef block = cache.allocate(block_bytes);
  REQUIRE(block);
  std::memset(block->data(), static_cast<int>(offset & 0xff), block_bytes);
  cache.insert(file, offset, std::move(block), hint);
  return false;
}

}  // namespace

TEST_CASE("a block that was inserted is found, another is not") {
  BlockCache cache(capacity_for(10));
  CHECK_FALSE(read(cache, 1, 100));
  CHECK(read(cache, 1, 100));
  CHECK_FALSE(cache.lookup(1, 101));
  CHECK_FALSE(cache.lookup(2, 100));
  CHECK(cache.lookup(1, 100)->bytes() == std::string(block_bytes, 100));
  CHECK(reinterpret_cast<uintptr_t>(cache.lookup(1, 100)->data()) % 64 == 0);
  CHECK(cache.stats().hits == 3);
  CHECK(cache.stats().misses == 3);
}

TEST_CASE("the second of two loads of one block gets the first one's") {
  BlockCache cache(capacity_for(10));
  BlockRef first = cache.allocate(10);
  BlockRef second = cache.allocate(10);
  CHECK(cache.insert(1, 1, first) == first);
  CHECK(cache.insert(1, 1, std::move(second)) == first);
  CHECK(cache.resident_blocks() == 1);
}

TEST_CASE("the capacity is never passed, whatever comes, stays referenced or is shrunk") {
  TestRandom random(30);
  BlockCache cache(capacity_for(50));
  std::vector<BlockRef> held;
  uint64_t refused = 0;
  for (int step = 0; step < 60000; ++step) {
    const uint64_t offset = random.below(300);
    const CacheHint hint = random.below(3) == 0 ? CacheHint::scan : CacheHint::normal;
    BlockRef block = cache.lookup(1, offset, hint);
    if (!block) {
      block = cache.allocate(random.below(2 * block_bytes));
      if (block) {
        block = cache.insert(1, offset, std::move(block), hint);
      } else {
        ++refused;
      }
    }
    REQUIRE(cache.used_bytes() <= cache.capacity_bytes());
    const bool hoard = (step / 2000) % 2 == 0;
    if (block && hoard && held.size() < 80) held.push_back(std::move(block));
    if (!held.empty() && random.below(hoard ? 20 : 2) == 0) {
      held.erase(held.begin() + static_cast<ptrdiff_t>(random.below(held.size())));
    }
  }
  CHECK(refused > 0);
  CHECK(cache.stats().refused == refused);
  held.clear();
  CHECK(cache.evictable_bytes() <= cache.used_bytes());
  cache.set_capacity(capacity_for(5));
  CHECK(cache.used_bytes() <= cache.capacity_bytes());
  cache.set_capacity(capacity_for(500));
  for (uint64_t offset = 0; offset < 400; ++offset) read(cache, 2, offset);
  CHECK(cache.used_bytes() <= cache.capacity_bytes());
  CHECK(cache.resident_blocks() >= 400);
}

TEST_CASE("a referenced block outlives its eviction and is counted until it is released") {
  BlockCache cache(capacity_for(4));
  REQUIRE_FALSE(read(cache, 1, 1));
  BlockRef held = cache.lookup(1, 1);
  cache.set_capacity(0);
  CHECK(held->bytes() == std::string(block_bytes, 1));
  CHECK(cache.used_bytes() >= BlockCache::charge_bytes(block_bytes));
  const size_t before = cache.used_bytes();
  held.reset();
  CHECK(cache.used_bytes() == before - BlockCache::charge_bytes(block_bytes));
  CHECK(cache.resident_blocks() == 0);
}

TEST_CASE("a buffer that is never inserted is given back") {
  BlockCache cache(capacity_for(4));
  const size_t before = cache.used_bytes();
  {
    BlockRef block = cache.allocate(1000);
    CHECK(cache.used_bytes() == before + BlockCache::charge_bytes(1000));
    BlockRef copy = block;
    block.reset();
    CHECK(cache.used_bytes() == before + BlockCache::charge_bytes(1000));
  }
  CHECK(cache.used_bytes() == before);
}

TEST_CASE("what can't fit is refused without evicting what is there") {
  BlockCache cache(capacity_for(4));
  for (uint64_t offset = 0; offset < 4; ++offset) read(cache, 1, offset);
  CHECK_FALSE(cache.allocate(1 << 20));
  CHECK(cache.resident_blocks() == 4);
  CHECK(cache.stats().evicted_blocks == 0);
}

TEST_CASE("a scan over a thousand blocks leaves the working set alone") {
  for (const CacheHint hint : {CacheHint::scan, CacheHint::normal}) {
    BlockCache cache(capacity_for(100));
    for (int round = 0; round < 4; ++round) {
      for (uint64_t offset = 0; offset < 80; ++offset) read(cache, 1, offset);
    }
    for (uint64_t offset = 0; offset < 1000; ++offset) read(cache, 2, offset, hint);
    size_t kept = 0;
    for (uint64_t offset = 0; offset < 80; ++offset) kept += read(cache, 1, offset);
    CHECK(kept >= 75);
  }
}

TEST_CASE("repeated scans never take more than the small queue") {
  BlockCache cache(capacity_for(100));
  for (int round = 0; round < 4; ++round) {
    for (uint64_t offset = 0; offset < 80; ++offset) read(cache, 1, offset);
  }
  for (int round = 0; round < 10; ++round) {
    for (uint64_t offset = 0; offset < 200; ++offset) read(cache, 2, offset, CacheHint::scan);
  }
  size_t kept = 0;
  for (uint64_t offset = 0; offset < 80; ++offset) kept += read(cache, 1, offset);
  CHECK(kept >= 75);
}

TEST_CASE("a block that comes back soon after it left is kept") {
  BlockCache cache(capacity_for(50));
  for (uint64_t offset = 0; offset < 45; ++offset) read(cache, 1, offset);
  for (uint64_t offset = 0; offset < 45; ++offset) read(cache, 1, offset);
  read(cache, 2, 1);
  for (uint64_t offset = 100; offset < 140; ++offset) read(cache, 3, offset);  // pushes it out
  REQUIRE_FALSE(read(cache, 2, 1));                                            // remembered
  for (uint64_t offset = 200; offset < 230; ++offset) read(cache, 3, offset);
  CHECK(read(cache, 2, 1));
}

TEST_CASE("hot blocks are found far more often than in a cache that forgets at random") {
  // A skewed workload over ten times the capacity: two thirds of reads go to one tenth.
  TestRandom random(31);
  BlockCache cache(capacity_for(100));
  uint64_t hits = 0;
  constexpr int reads = 50000;
  for (int i = 0; i < reads; ++i) {
    const bool hot = random.below(3) != 0;
    hits += read(cache, 1, hot ? random.below(100) : 100 + random.below(900));
  }
  CHECK(hits > reads * 55 / 100);
}

TEST_CASE("references can be copied, moved and assigned to themselves") {
  BlockCache cache(capacity_for(4));
  BlockRef a = cache.allocate(8);
  BlockRef b = a;
  BlockRef& alias = b;
  b = alias;
  BlockRef c = std::move(a);
  CHECK_FALSE(a);  // NOLINT: a moved-from reference is empty
  CHECK(b == c);
  b.reset();
  b.reset();
  CHECK(c);
}

}  // namespace gyre
