// Runs a script on a shard, ends the machine or the process at a chosen moment, and looks at what
// the next life finds: a prefix of the writes with everything acknowledged in it, which takes
// writes, merges and restarts as if nothing had happened.
//
// Moments are write points (before, during, after) or events. The disk changes at write points
// only, and just before one of them as much is acknowledged as ever will be on that state of the
// disk; so all write points are all states with what they must hold. Events add every moment
// between, in which other operations are under way.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "crash_oracle.hpp"

namespace gyre::test {

// What the lives of one crashed run share.
struct CrashRun {
  CrashOracle oracle;
  std::string error;  // of a life that nothing disturbed
  uint64_t salt = 0;  // makes values of different lives differ
  // Increments of count0, count1 …
  struct Counter {
    uint64_t begun = 0;
    uint64_t acknowledged = 0;
  };
  std::array<Counter, 2> counters;
};

struct CrashScript {
  const char* name;
  void (*adjust)(ShardOptions& options);
  Task<Result<void>> (*work)(Shard& shard, ShardHome& home, CrashRun& run);
  bool flushes_at_close;
  // An hour, while the node is down: not where expiries are a matter of the wall clock.
  bool steps_wall_back;
};
// Log, segments, large records in pieces, flushes, merges, the promise of an idle log.
extern const CrashScript log_script;
// Frames of the log in flight together, as many as may be: every write has one of its own if it can.
extern const CrashScript overlap_script;
// Merges with several outputs, moves of whole tables, expired values and tombstones that go, large
// values of tables, a close that flushes.
extern const CrashScript merge_script;
// The same with values in value files, which become sparse, are emptied and go.
extern const CrashScript value_script;
// Counters, values that grow, keys set if absent: read-modify-writes that find what they need in
// memory, in a frame under way and in tables.
extern const CrashScript modify_script;

struct CrashSweep {
  const CrashScript* script = &log_script;
  uint64_t seed = 1;
  Durability durability = Durability::group;
  sim::DiskOptions disk;
  bool ends_at_first = false;  // the first failure is enough
  uint64_t cases = 0;
  std::vector<std::string> failures;

  bool enough() const { return ends_at_first ? !failures.empty() : failures.size() >= 10; }
};

inline constexpr sim::CrashPhase crash_phases[] = {sim::CrashPhase::before, sim::CrashPhase::during,
                                                   sim::CrashPhase::after};
inline constexpr sim::CrashMode crash_modes[] = {sim::CrashMode::lost, sim::CrashMode::torn,
                                                 sim::CrashMode::garbled};

struct CrashMoment {
  uint64_t point = 0;  // of the disk, counted from the start of this life
  sim::CrashPhase phase = sim::CrashPhase::before;
  uint64_t event = 0;  // or this one
};
struct ScriptLength {
  uint64_t write_points = 0;
  uint64_t events = 0;
  Nanos time = 0;
};
// The script with nothing that disturbs it, which is a case too.
ScriptLength measure(CrashSweep& sweep);
// Ends the script at the first moment, the recovery at the second and so on, then looks and goes
// on. False if a life ended before its moment came.
bool crash_at(CrashSweep& sweep, const std::vector<CrashMoment>& moments, sim::CrashMode mode);

// Every `stride`-th write point, in each phase and mode.
void sweep_points(CrashSweep& sweep, uint64_t stride = 1);
// Every `stride`-th event: a power cut in a mode that goes round, and a kill.
void sweep_events(CrashSweep& sweep, uint64_t stride = 1);
// Kills at evenly spread moments. After each kill, what the next life shows and writes must also
// survive a power cut right after it.
void sweep_kills(CrashSweep& sweep, uint64_t kills);

}  // namespace gyre::test
