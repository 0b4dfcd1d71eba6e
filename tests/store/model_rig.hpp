// Random histories of one shard, checked step by step against a model (CrashOracle): puts with and
// without expiry, large values, removals, read-modify-writes, reads, scans while all of this goes on, flushes, merges,
// time that passes, clean restarts, kills and power cuts, under random and mostly tiny options.
#pragma once

#include <cstdint>
#include <string>

#include "shard_rig.hpp"

namespace gyre::test {

struct ModelOptions {
  ShardOptions shard;
  sim::DiskOptions disk;
  uint64_t write_memory_bytes = 8u << 20;
  uint64_t keys = 20;
  bool large_values = true;  // now and then some of more than 64 KiB
};
ModelOptions random_model_options(uint64_t seed);

struct ModelCounts {
  uint64_t operations = 0;
  uint64_t lives = 0;
  uint64_t power_cuts = 0;
  uint64_t kills = 0;
  uint64_t scans = 0;
  uint64_t modifies = 0;
  uint64_t modifies_left = 0;  // that wrote nothing
  uint64_t modifies_read = 0;  // that waited for the disk
  uint64_t flushes = 0;
  uint64_t compactions = 0;
  uint64_t recovered_records = 0;
};

// One history of at least `operations`; "" or what went wrong. Adds to `counts`.
std::string run_model(uint64_t seed, uint64_t operations, ModelCounts& counts);

// Bytes of a fixed random pool; half of the values compress instead.
std::string pool_value(sim::Prng& prng, size_t size_bytes);

}  // namespace gyre::test
