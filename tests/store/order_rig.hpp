// Reads of one shard that are under way while everything else happens to it: long scans, and
// lookups that wait for a slow disk, across writes, removals, expiries, flushes, compactions and
// the removal of tables. Each has to answer with the shard as it was when the read began, exactly.
// Seeds decide latencies, pauses and which of several ready tasks comes first.
#pragma once

#include <cstdint>
#include <string>

#include "shard_rig.hpp"

namespace gyre::test {

struct OrderCounts {
  uint64_t scans = 0;
  uint64_t scans_across_installs = 0;  // a flush or compaction changed the tables meanwhile
  uint64_t lookups = 0;                // that waited for the disk
  uint64_t lookups_across_installs = 0;
  uint64_t writes = 0;
};

// "" or what went wrong. Adds to `counts`.
std::string run_order(uint64_t seed, OrderCounts& counts);

}  // namespace gyre::test
