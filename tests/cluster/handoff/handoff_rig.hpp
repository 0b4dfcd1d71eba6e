// A replica's shard, its handoff and two peers, on a simulated machine that may lose its power at
// any write point. The shard and the peers are maps of what is durable there; the handoff is real.
//
// Writers play the coordinator: a write reaches some of the peers; then the notice comes, or it is
// lost, or what a peer lacks is recorded here, or nobody says anything any more. Whatever happens,
// each peer must end up with every write of the shard, or a newer one of its key; and what the
// handoff calls settled must be at every peer at any time.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../../store/sim_rig.hpp"
#include "cluster/handoff/handoff.hpp"
#include "cluster/handoff/replay.hpp"
#include "sim/prng.hpp"

namespace gyre::cluster::test {

using Contents = std::map<std::string, Version>;

struct HandoffRun {
  uint64_t seed = 1;
  unsigned writes = 40;  // of a life
  HandoffOptions options;
  sim::DiskOptions disk;

  // What outlasts lives.
  Contents shard;
  std::array<Contents, 2> peers;
  uint64_t next_origin = 1;
  std::string error;

  // Sums over all lives.
  uint64_t lives = 0;
  uint64_t stored = 0;
  uint64_t unconfirmed_ends = 0;
  uint64_t recorded = 0;
  uint64_t late = 0;
  uint64_t degraded = 0;
  uint64_t files = 0;
  uint64_t expired = 0;
  uint64_t doubtful_slots = 0;
  uint64_t sent = 0;
};

// Small bounds, so that everything happens in a few writes.
HandoffOptions small_handoff_options();

struct CrashPoint {
  uint64_t point = 0;  // 0: none
  sim::CrashPhase phase = sim::CrashPhase::before;
  sim::CrashMode mode = sim::CrashMode::random;
};

// Lives that end at the given points, and a last one in which the peers can be reached and what is
// owed is replayed. Sets run.error. Answers the write points of the first life, and whether all
// points were reached.
struct RunEnd {
  uint64_t write_points = 0;
  bool reached = true;
};
RunEnd run_handoff(HandoffRun& run, const std::vector<CrashPoint>& crashes);

// Every `stride`-th write point of a life of this seed, each phase and mode, each followed by the
// last life; and a crash in the recovery from that. "" or the first failure.
std::string sweep_handoff(uint64_t seed, uint64_t stride, uint64_t& cases,
                          HandoffRun* totals = nullptr);

}  // namespace gyre::cluster::test
