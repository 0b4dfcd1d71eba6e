// Planted bugs of replication in the node (those of its decisions are in cluster/test_faults.hpp), for the tests that show that its checker finds such bugs. All off, and
// only tests turn them on.
#pragma once

namespace gyre {

struct NodeTestFaults {
  bool no_restamp = false;            // a write that something newer hides counts as stored
  bool stamp_not_merged = false;      // a new stamp ignores what superseded the one before
  bool clock_unbounded = false;       // stamps of any future are taken
  bool other_table_accepted = false;  // a peer with another topology is talked to
  bool join_answer_lost = false;    // the next one that tells a node of its loss (no bug: bad luck)
  bool purge_at_once = false;       // tombstones go though a replica may lack them
  bool purge_when_settled = false;  // … or had it only a moment ago
  bool wiped_node_votes = false;    // reads count what a node has that has lost its data
  bool repair_with_new_stamp = false;  // a repair passes for a new write
  bool late_repairs_taken = false;     // however long they, or writes, were on their way
  bool copies_forgotten = false;       // versions don't say for how many replicas they are
  bool walk_gives_to_all = false;      // … or nobody asks when replicas are compared
  bool failed_write_counts = false;    // a write whose log frame failed counts as stored
  bool modify_reads_one = false;       // a command reads and writes one replica's state of its key
  bool modify_writes_one = false;      // … or is answered when one replica has what it made
  bool modifies_not_queued = false;    // those of one key don't wait for each other
  bool modify_stamped_late = false;    // plain writes since its read are lost under it
  bool failed_read_finds_nothing = false;  // a key whose block can't be read counts as absent
};
inline NodeTestFaults node_test_faults;

}  // namespace gyre
