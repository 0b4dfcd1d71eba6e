// Nodes that hold what writes left on them, streams that come late, break, hang or bring nonsense, and
// a ScanMerge that reads a range from them: one run from a seed, judged by all that was written.
#pragma once

#include <cstdint>
#include <string>

#include "cluster/slot_table.hpp"

namespace gyre::cluster {

struct ScanRun {
  std::string violation;  // empty: there is none
  bool complete = false;
  bool could_complete = false;  // every slot had enough nodes that did not hang
  uint64_t records = 0;
  uint64_t replaced = 0;
};

// Lists of `width` of the nodes, at random.
SlotTable random_slot_table(uint64_t seed, unsigned node_count, unsigned width);

ScanRun run_scan_world(uint64_t seed);

}  // namespace gyre::cluster
