// Bugs that a test can plant in the handoff, to show that the suite would find them:
// tests/cluster/handoff/planted_bugs_test lists them with what catches them. All are off and
// nothing but a test sets them.
#pragma once

namespace gyre::cluster {

struct HandoffTestFaults {
  bool drop_missed_record = false;     // a missed write is acknowledged, but not kept
  bool forget_unconfirmed = false;     // what no notice came for is dropped, not owed
  bool watermark_passes_held = false;  // though unconfirmed writes are older
  bool skip_sync = false;              // frames are written without DSYNC
  bool walk_hides_new_writes = false;  // a write missed behind the cursor of a walk is not kept
  bool late_write_unmarked = false;    // a write older than the watermark does not lower it
  bool trust_crashed = false;          // after a crash nothing is in doubt
  bool drop_on_failed_send = false;    // a record goes though its value could not be sent
  bool forget_degraded = false;        // records that don't fit are dropped without owing a slot
};

inline HandoffTestFaults handoff_test_faults;

}  // namespace gyre::cluster
