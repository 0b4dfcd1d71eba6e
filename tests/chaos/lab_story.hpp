// A cluster under load to which something happens: before, meanwhile and after, and what must hold
// at the end.
//
// GYRE_TEST_FAULT_SECONDS is how long the fault lasts (default 3, 2 with a scale below 1); before and
// after take half of it, and at most 10 s.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "lab_cluster.hpp"
#include "quorum_load.hpp"

namespace gyre::chaos {

class LabStory {
 public:
  LabStory(std::string name, const LabClusterOptions& cluster, const QuorumLoadOptions& load);

  LabCluster& cluster() { return cluster_; }
  QuorumLoad& load() { return load_; }

  // Load, then `breaks`, load meanwhile, `repairs`, load again. Fails if the clients get no answers
  // at any of these times, if the victim does not answer again at the end, or if somebody is told
  // through one of the other nodes that two of three replicas can't be had. Prints the figures.
  void run(size_t victim, const std::function<void()>& breaks,
           const std::function<void()>& repairs);
  // With the load stopped: waits until all replicas hold the same, which half of the keys can't owe to
  // reads, reads all keys through all nodes, and checks everything that clients were ever told.
  void check();

  // Whether 504 through one of the other nodes is a failure.
  bool others_reach_quorum = true;

 private:
  void stretch(double seconds);
  void print(const std::string& line) const;

  std::string name_;
  LabCluster cluster_;
  QuorumLoad load_;
  int64_t repaired_ = 0;
};

}  // namespace gyre::chaos
