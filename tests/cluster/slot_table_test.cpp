#include "cluster/slot_table.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/hash.hpp"

using namespace gyre;
using namespace gyre::cluster;

TEST_CASE("keys spread evenly over slots, and a slot's keys over the shards of a node") {
  constexpr uint32_t shards = 8;
  constexpr uint32_t keys = 1 << 20;
  std::vector<uint32_t> slots(slot_count);
  std::vector<uint32_t> both(64 * shards);  // by the first 6 bits of the slot, and shard
  for (uint32_t i = 0; i < keys; ++i) {
    const std::string key = "key" + std::to_string(i);
    const uint32_t slot = slot_of(key);
    REQUIRE(slot < slot_count);
    ++slots[slot];
    ++both[slot / 256 * shards + shard_of(key, shards)];
  }
  // 64 expected, 8 the standard deviation.
  for (const uint32_t count : slots) CHECK((count > 20 && count < 115));
  // 2048 expected, 45 the standard deviation. One hash for both would leave 448 of them empty.
  for (const uint32_t count : both) CHECK((count > 1800 && count < 2300));
}

TEST_CASE("the slot of a key is what nodes agree on: it never changes") {
  CHECK(slot_of("") == 13842);
  CHECK(slot_of("greeting") == 9792);
  CHECK(slot_of("key0000000001") == 1481);
}

TEST_CASE("entries are nodes that were not in the prefix before, in whatever order") {
  SlotTable before(3);
  SlotTable after(3);
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    for (unsigned rank = 0; rank < 3; ++rank) {
      before.set(slot, rank, static_cast<NodeIndex>(rank));
      after.set(slot, rank, static_cast<NodeIndex>(2 - rank));
    }
  }
  CHECK(entries(before, after, 3) == 0);
  CHECK(entries(before, after, 1) == slot_count);
  after.set(7, 0, 9);
  CHECK(entries(before, after, 3) == 1);
  CHECK(entries(SlotTable(), after, 2) == 2 * slot_count);
  CHECK(after.loads(3, 10)[9] == 1);
  CHECK(after.replicas(7, 2).size() == 2);
  CHECK(after.replicas(7, 5).size() == 3);
}
