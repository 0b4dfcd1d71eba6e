// Walks through everything that can happen to a read: every replica replies or fails, takes a
// write-back, fails it or has got something newer meanwhile, in every order; the deadline strikes and
// others are asked beside slow ones at any moment. Every assignment of versions to replicas is tried.
#pragma once

#include <string>

namespace gyre::cluster {

struct ReadExploration {
  std::string violation;  // empty: none
  size_t states = 0;
};

struct ReadPossibilities {
  unsigned versions = 3;     // 0 … versions-1, 0 for "never written", among the replicas
  bool long_values = false;  // replies to `ask` come without the value
  unsigned hedges = 1;
};

ReadExploration explore_reads(unsigned ack, unsigned from, const ReadPossibilities& possible);

}  // namespace gyre::cluster
