// Which tables to merge next. A pure function of the table set: the scheduler that decides when
// and how fast stands elsewhere, and can be replaced without touching the merge.
//
// Leveled: level 0 holds flushed memtables that overlap; every deeper level is one sorted run,
// `fanout` times the size of the one above. A level's score is its size over its target (level 0:
// tables over the trigger); the highest score above 1 is worked on. Below level 0 a job takes the
// one table that overlaps least with the next level (source: TigerBeetle's manifest, RocksDB's
// kMinOverlappingRatio), so that no job is large.
//
// Level targets are computed upwards from the deepest level in use, so that the deepest holds
// nearly everything and space amplification stays near 1 + 1/fanout (source: RocksDB's dynamic
// level sizes).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/limits.hpp"
#include "store/table_levels.hpp"

namespace gyre {

struct CompactionOptions {
  unsigned l0_trigger = 4;
  unsigned l0_stop = 24;  // writes wait while level 0 has this many tables
  unsigned fanout = 8;
  uint64_t base_bytes_min = 16u << 20;  // the smallest level below 0
  uint64_t table_bytes_target = 16u << 20;
};

struct CompactionJob {
  unsigned level = 0;  // inputs come from here
  unsigned output_level = 1;
  std::vector<TableRef> inputs;
  std::vector<TableRef> overlapping;  // of output_level
  bool trivial_move = false;          // one input, nothing overlaps: only the manifest changes
};

// Target sizes of levels 1..; levels above the base level are 0 and stay empty.
struct LevelTargets {
  unsigned base_level = 1;  // where level 0 is merged into
  std::array<uint64_t, limits::table_level_count> bytes{};
};
LevelTargets level_targets(const TableLevels& levels, const CompactionOptions& options);

// Nothing if no level is over its target.
std::optional<CompactionJob> pick_compaction(const TableLevels& levels,
                                             const CompactionOptions& options);

// The next job of a full compaction: every table whose file number is below `file_number_end` goes
// to the deepest level, and those there that hold tombstones or expiries are written anew, so that
// what may go goes. Nothing if it is done; each job removes or moves such tables, so it ends.
std::optional<CompactionJob> pick_full_compaction(const TableLevels& levels,
                                                  uint64_t file_number_end);

}  // namespace gyre
