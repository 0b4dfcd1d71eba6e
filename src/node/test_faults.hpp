// Planted bugs of replication, for the tests that show that its checker finds such bugs. All off, and
// only tests turn them on.
#pragma once

namespace gyre {

struct NodeTestFaults {
  bool count_acks_twice = false;       // a replica that stored a write counts as two
  bool read_one_short = false;         // a read is content with one answer less
  bool no_read_repair = false;         // a majority read returns what too few replicas hold
  bool no_restamp = false;             // a write that something newer hides counts as stored
  bool restamp_late = false;           // … gets a new stamp even when its client has been answered
  bool repair_with_new_stamp = false;  // a repair passes for a new write
};
inline NodeTestFaults node_test_faults;

}  // namespace gyre
