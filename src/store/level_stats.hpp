// What happened to a level of a shard since it was opened, and what it holds. Plain counters.
#pragma once

#include <cstdint>

namespace gyre {

// Point lookups. A table is asked if its keys enclose the one that is looked for and nothing newer
// was found; one lookup counts once, however often it has to wait for the disk.
struct LevelReadStats {
  uint64_t asked = 0;
  uint64_t filtered = 0;         // the filter, or the index, said no
  uint64_t false_positives = 0;  // it did not, and the key was not there
  uint64_t block_reads = 0;      // of the disk, one by one: lookups, and where scans begin
};

// How a lookup in one table ended.
enum class LookupEnd : uint8_t { filtered, in_vain, found };

inline void count_lookup(LevelReadStats& stats, LookupEnd end) {
  ++stats.asked;
  stats.filtered += end == LookupEnd::filtered;
  stats.false_positives += end == LookupEnd::in_vain;
}

struct LevelWriteStats {
  uint64_t written_bytes = 0;  // tables that flushes and merges put here
  uint64_t merged_bytes = 0;   // tables that merges took from here
};

struct LevelReport {
  LevelReadStats reads;
  LevelWriteStats writes;
  uint64_t tables = 0;
  uint64_t bytes = 0;
  uint64_t entries = 0;
  uint64_t tombstones = 0;
  uint64_t expired_table_bytes = 0;  // of tables in which at least one value has expired
};

}  // namespace gyre
