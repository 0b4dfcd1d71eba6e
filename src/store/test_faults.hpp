// Bugs that a test can plant, to show that the crash sweep and the model would find them. All are
// off and nothing but a test sets them. They are asked once per file operation, frame or dead entry
// of a merge, never per request.
#pragma once

namespace gyre {

struct StoreTestFaults {
  bool install_before_table_durable = false;  // the manifest names a table that is not synced
  bool skip_table_directory_sync = false;     // … or whose name is not
  bool skip_segment_directory_sync = false;   // frames go to a segment whose name is not durable
  bool forget_clock = false;                  // stamps of an earlier life don't move the clock
  bool drop_tombstones_early = false;         // though older data lies below
  bool acknowledge_before_written = false;    // a write is answered when its frame is submitted
  bool trust_replayed_frames = false;         // what a start replays is not synced
};

inline StoreTestFaults store_test_faults;

}  // namespace gyre
