// Which tables to merge next. Pure functions of the table set: when and how fast is decided
// elsewhere (shard_merge.cpp, write_controller.hpp).
//
// Leveled: level 0 holds flushed memtables that overlap; every deeper level is one sorted run,
// `fanout` times the size of the one above. A level's score is its size over its target (level 0:
// tables over the trigger); a score above 1 is to be worked on. Below level 0 a job takes the one
// table that overlaps least with the next level (source: TigerBeetle's manifest, RocksDB's
// kMinOverlappingRatio), so that no job is large.
//
// Level targets are computed upwards from the deepest level in use, so that the deepest holds
// nearly everything and space amplification stays near 1 + 1/fanout (source: RocksDB's dynamic
// level sizes).
//
// A damaged table is never merged: what can be read of it would get lost with what can't. It moves to
// level 0, where merges go around it (below, one table would bar every merge into its range) and
// where it counts for nothing, until it is sound again or its file is replaced.
//
// Two jobs may run at a time, one out of level 0 and one below, if they don't conflict: they share
// no table, and what they make does not overlap in one level.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/limits.hpp"
#include "store/table_levels.hpp"

namespace gyre {

struct CompactionOptions {
  unsigned l0_trigger = 4;
  unsigned l0_stop = 24;  // no write is taken while level 0 has this many tables
  unsigned fanout = 8;
  uint64_t base_bytes_min = 16u << 20;  // the smallest level below 0
  uint64_t table_bytes_target = 16u << 20;
  // Merges that nothing waits for go on at a pace (WriteController::merge_bytes_per_second), so that
  // the log finds a free disk. Off: as fast as they can.
  bool paced = true;
  // A table as old as this is written anew for what in it is dead alone.
  uint64_t reclaim_age_ms = 60'000;
};

struct CompactionJob {
  unsigned level = 0;  // inputs come from here
  unsigned output_level = 1;
  std::vector<TableRef> inputs;
  std::vector<TableRef> overlapping;  // of output_level
  // Of value files with a smaller number it moves values out of those that are merely wasteful, too.
  uint64_t empties_values_below = 0;
  bool trivial_move = false;  // one input, nothing overlaps: only the manifest changes
  std::string smallest_key;   // of all that is merged
  std::string largest_key;

  uint64_t input_bytes() const;
};

bool conflict(const CompactionJob& a, const CompactionJob& b);

// Target sizes of levels 1..; levels above the base level are 0 and stay empty.
struct LevelTargets {
  unsigned base_level = 1;  // where level 0 is merged into
  std::array<uint64_t, limits::table_level_count> bytes{};
};
// Of level 0 what can be merged.
size_t level0_runs(const TableLevels& levels);
LevelTargets level_targets(const TableLevels& levels, const CompactionOptions& options);

// How much is to be done. A score of 1 is the target.
struct CompactionNeed {
  unsigned base_level = 1;  // as in LevelTargets
  double level0_score = 0;
  double deeper_score = 0;  // the highest below level 0
  // Estimate of the bytes that have to be read until every level is within its target: each level's
  // excess, which the next one takes over, with what it overlaps there (source: RocksDB's
  // EstimateCompactionBytesNeeded).
  uint64_t debt_bytes = 0;
};
CompactionNeed compaction_need(const TableLevels& levels, const CompactionOptions& options);

// Out of level 0, if it has reached its trigger: a table that overlaps nothing moves, else all are
// merged. Nothing if that conflicts with `running`, unless that is nullptr.
std::optional<CompactionJob> pick_level0(const TableLevels& levels,
                                         const CompactionOptions& options,
                                         const CompactionJob* running = nullptr);

// Below level 0: out of the level with the highest score above 1 that has a table whose job does not
// conflict with `running`. `round` moves the window of tables looked at (a pick costs the same in a
// level of any size).
std::optional<CompactionJob> pick_deeper(const TableLevels& levels,
                                         const CompactionOptions& options,
                                         const CompactionJob* running = nullptr,
                                         uint64_t round = 0);

// A damaged table below level 0, to be moved there.
std::optional<CompactionJob> pick_damaged(const TableLevels& levels,
                                          const CompactionJob* running = nullptr);

// The next job of a full compaction: every table whose file number is below `file_number_end` goes
// to the deepest level, and those there that hold tombstones or expiries are written anew, so that
// what may go goes. Nothing if it is done; each job removes or moves such tables, so it ends.
std::optional<CompactionJob> pick_full_compaction(const TableLevels& levels,
                                                  uint64_t file_number_end,
                                                  const CompactionJob* running = nullptr);

// What share of a table's entries is dead at `now_ms`, as far as it knows by itself: tombstones, and
// expired values, whose expiries are taken to be spread evenly over the table's span.
double dead_share(const TableFile& table, uint64_t now_ms);

// Rewrites tables that name values in sparse value files, which moves those values; looks at no more
// than `tables_max` tables.
std::optional<CompactionJob> pick_sparse_values(const TableLevels& levels,
                                                const CompactionOptions& options,
                                                const CompactionJob* running, uint64_t round,
                                                size_t tables_max = 256);

// Whether tombstones lie so densely in a part of the table that a scan passes over many at a stretch,
// however few they are in the whole: at least a tenth of its data blocks are
// dense, and at least 4. Of a tenth a merge writes ten bytes at most for each byte of dead blocks;
// fewer than 4 are some hundred tombstones, and many small tables would be merged for them. (The
// idea and the shares, a half of a block and a tenth of the blocks: Pebble.)
bool is_tombstone_dense(const TableFile& table);

// The lowest-priority work: a table of which at least half is dead, or that is tombstone-dense, is
// merged into the next level, the deepest into itself (and one of level 0 with all of level 0). `tables_max` are looked at, from
// `round` on. What was written anew and is dead still (other replicas may need its tombstones) waits
// for a quarter of the time that it has been dead, so that this costs ever less.
std::optional<CompactionJob> pick_reclaim(const TableLevels& levels,
                                          const CompactionOptions& options, uint64_t now_ms,
                                          const CompactionJob* running = nullptr,
                                          uint64_t round = 0, size_t tables_max = 256);

}  // namespace gyre
