// Bugs that a test can plant in the cluster's decisions, to show that the suite would find them:
// tests/cluster/quorum_planted_bugs_test lists them with what catches each. All are off and nothing
// but a test sets them. They are asked a few times per request.
#pragma once

namespace gyre::cluster {

struct ClusterTestFaults {
  bool count_replies_twice = false;       // a replica that says "stored" twice counts twice
  bool write_quorum_off_by_one = false;   // a write is answered one replica early
  bool restamp_after_answer = false;      // an older acknowledged write overtakes a newer one
  bool restamp_at_once = false;           // above what the first replica says, not the ack-th
  bool restamp_for_ever = false;          // two writers can chase each other
  bool superseded_fails = false;          // the second time, instead of counting as stored
  bool fail_late = false;                 // 504 at the deadline instead of when it is certain
  bool forget_missed = false;             // a replica without the write is not reported
  bool read_quorum_off_by_one = false;    // a read is answered one replica early
  bool skip_write_back = false;           // a majority read shows what only one replica holds
  bool failed_write_back_counts = false;  // … or what a replica failed to take
  bool keep_first_version = false;        // the first reply wins instead of the newest
  bool forget_early = false;          // who could not give the newest counts as a reply without it
  bool skip_repair = false;           // replicas seen to be old stay old
  bool hedge_without_budget = false;  // slowness everywhere doubles the load

  bool scan_keeps_first_version = false;  // the first stream wins instead of the newest version
  bool scan_shows_dead = false;           // tombstones pass for values
  bool scan_drops_uncovered = false;      // nobody goes on for a stream that is given up
  bool scan_resumes_behind_what_came = false;  // … behind its last key instead of the last decided
  bool scan_covers_one_short = false;          // every slot is read from one node less
};

inline ClusterTestFaults cluster_test_faults;

}  // namespace gyre::cluster
