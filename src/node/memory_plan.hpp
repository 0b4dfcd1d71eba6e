// How the one memory budget of a node (--memory) is divided, and whether it can be (DESIGN D7).
// Pure arithmetic.
//
// reservation  how much                    why
// -----------  --------------------------  --------------------------------------------------
// process      process_bytes               code, stacks, allocator slack, logging
// core         core_bytes per core         rings and receive buffers (4.3 MiB), output chunks and
//                                          frames kept for reuse (1 MiB each), mailboxes
// connection   connection_bytes each       parser, frames, pipeline slots, output bookkeeping
// shard        shard_bytes per shard       two and a half log frames, a segment's zeroes, the
//                                          buffers of one flush, two merges and one check of a
//                                          table
// transit      1 largest value per core    bodies that arrive and values that leave
// memtables    per shard the larger of     what is written and not yet in a table; a value of
//              memtable_bytes_min and      the largest size must fit
//              9/8 of the largest value
//
// What is left is shared out: a quarter to transit, a quarter to memtables, half to the block
// cache. The plan exists only if the reservations fit; else the refusal names the flags to change.
#pragma once

#include <cstdint>

#include <gyre/result.hpp>

namespace gyre {

struct MemoryDemand {
  uint64_t budget_bytes = 0;
  unsigned cores = 1;
  unsigned shards = 1;
  uint64_t value_bytes_max = 0;
  uint64_t connections_max = 0;
};

struct MemoryPlan {
  uint64_t reserved_bytes = 0;                // process, cores, connections, shards
  uint64_t transit_bytes_per_core = 0;        // request bodies and responses together
  uint64_t memtable_bytes_per_shard = 0;      // active and immutable together
  uint64_t flush_credit_bytes_per_shard = 0;  // of these, for what is flushed but still read
  uint64_t cache_bytes_per_shard = 0;         // blocks, indexes and filters
};

namespace memory_reservation {
inline constexpr uint64_t process_bytes = 12ull << 20;
inline constexpr uint64_t core_bytes = 7ull << 20;
inline constexpr uint64_t connection_bytes = 2ull << 10;
inline constexpr uint64_t shard_bytes = 11ull << 19;
inline constexpr uint64_t memtable_bytes_min = 4ull << 20;
}  // namespace memory_reservation

// The least budget that the demand can live in.
uint64_t memory_needed_bytes(const MemoryDemand& demand);

// The plan, or Errc::invalid with a sentence that says what is needed and which flag changes it.
Result<MemoryPlan> plan_memory(const MemoryDemand& demand);

// The default of --max-connections: a twelfth of the budget, within sensible bounds.
uint64_t default_connections_max(uint64_t budget_bytes);

}  // namespace gyre
