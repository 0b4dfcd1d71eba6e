// One node of a cluster at a time whose disk fails: single reads, bits of what was read or of what is
// stored, writes, syncs, renames, room, pace, or the whole directory. Each lasts for some steps of a
// run and ends as ARCHITECTURE.md, "When the disk fails", says: by itself, by a restart where a shard
// has become read-only or a start was refused, by a new directory where data is damaged or gone.
//
// That is within what two of three replicas promise as long as one directory at most is lost in a
// run: what another node holds alone after that would go with the second one.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include <gyre/task.hpp>

#include "cluster_rig.hpp"

namespace gyre::test {

struct DiskKind;

class DiskTrouble {
 public:
  // `only`: the name of the one fault that there is.
  DiskTrouble(ClusterRig& rig, uint64_t seed, std::string_view only = "");

  // Between two disturbances of a run: begins something, lets it go on, or ends it.
  void step();
  // Ends what is under way, with what an operator would do then.
  void end();
  // On the machine of the clients: flushes and merges now and then, so that there are tables, and
  // they are read.
  Task<void> work_on_tables(const bool& stop);

  // How often each fault has struck while it was to.
  const std::map<std::string, uint64_t>& struck() const { return struck_; }
  // Adds what has never struck, of all there are.
  static void name_all(std::map<std::string, uint64_t>& struck);

 private:
  void begin();
  void corrupt_tables();
  void restart(ClusterRig::Disk disk);
  uint64_t count() const;

  ClusterRig& rig_;
  sim::Prng prng_;
  std::string_view only_;
  const DiskKind* kind_ = nullptr;  // under way
  unsigned node_ = 0;               // whose disk it is
  unsigned steps_left_ = 0;
  uint64_t count_before_ = 0;
  bool lost_one_ = false;
  std::map<std::string, uint64_t> struck_;
};

// "failed read 12, short read 3, …"
std::string to_text(const std::map<std::string, uint64_t>& struck);

// --- runs ---------------------------------------------------------------------------------------

struct DisturbedRun {
  bool disks_fail = true;
  std::string_view only_disk_fault;  // if not empty
  int steps = 0;
  Nanos pause_max = 0;            // before each, on top of 20 ms
  std::function<void()> disturb;  // one thing goes wrong, or is put right
};

// Starts all nodes and has `clients` work while things go wrong; puts everything right, lets
// them go on for a moment, and tells them to end by `stop`. Returns how often each disk fault struck.
std::map<std::string, uint64_t> run_disturbed(ClusterRig& rig, uint64_t seed, sim::Prng& prng,
                                              const DisturbedRun& run, Task<void> clients,
                                              bool& stop);

}  // namespace gyre::test
