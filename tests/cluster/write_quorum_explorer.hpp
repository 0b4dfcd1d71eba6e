// Walks through everything that can happen to a write: every reply of every replica in every order,
// with the deadline striking and replies repeating at any moment. What the replicas really hold is
// kept beside the machine, and what it does is judged by that.
#pragma once

#include <string>

namespace gyre::cluster {

struct WriteExploration {
  std::string violation;  // empty: none
  size_t states = 0;
};

WriteExploration explore_writes(unsigned ack, unsigned from);

}  // namespace gyre::cluster
