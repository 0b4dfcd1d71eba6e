// Bugs that a test can plant, to show that the suite would find them: tests/store/planted_bugs_test
// lists them all with what catches them. All are off and nothing but a test sets them. They are
// asked once per file operation, frame, read-modify-write, or dead or shadowed entry of a merge, never
// per plain request.
#pragma once

namespace gyre {

struct StoreTestFaults {
  bool install_before_table_durable = false;  // the manifest names a table that is not synced
  bool skip_table_directory_sync = false;     // … or whose name is not
  bool skip_segment_directory_sync = false;   // frames go to a segment whose name is not durable
  bool forget_clock = false;                  // stamps of an earlier life don't move the clock
  bool drop_tombstones_early = false;         // though older data lies below
  bool acknowledge_before_written = false;    // a write is answered when its frame is submitted
  bool trust_later_frame = false;             // one on the disk stands for those before it
  bool trust_replayed_frames = false;         // what a start replays is not synced
  bool skip_log_sync = false;                 // frames are written without DSYNC
  bool show_before_durable = false;           // readers see a write once it is in a frame
  bool skip_manifest_sync = false;            // edits are written without DSYNC
  bool reuse_file_numbers = false;            // a start counts tables from 1 again
  bool flush_claims_log = false;              // of the next memtable, as being in the table
  bool remove_inputs_early = false;           // before the edit that replaces them is durable
  bool merge_takes_older = false;             // of a key's versions
  bool drop_expired_early = false;            // though older data lies below
  bool scan_sees_later_writes = false;        // instead of those of its start
  bool trust_blocks = false;                  // their checksums are not looked at
  bool drop_values_early = false;     // a value file goes with the first table that names it
  bool cut_linked_files = false;      // what is removed here loses its bytes in checkpoints, too
  bool ignore_promises = false;       // damage to acknowledged frames is a torn tail
  bool read_behind_gap = false;       // a start goes on with what is whole behind a torn frame
  bool modify_sees_visible = false;   // instead of the newest state
  bool modify_holds_nobody = false;   // while it waits for the disk
  bool leave_before_durable = false;  // a modify that writes nothing doesn't wait for what it saw
};

inline StoreTestFaults store_test_faults;

}  // namespace gyre
