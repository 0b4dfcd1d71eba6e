// Which nodes hold a key: rendezvous hashing. Each node has a score for each key, and the highest ones
// hold it, so the nodes for fewer copies are among those for more, and the order in which nodes are
// listed doesn't matter.
//
// Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gyre::threadpool {

inline constexpr size_t copies_max = 5;

class Placement {
 public:
  // URLs of all nodes, in any order; a node's number is its place among them.
  explicit Placement(const std::vector<std::string>& urls);

  using Replicas = std::array<size_t, copies_max>;
  // The first `from` of the result: the numbers of the nodes that hold `from` copies, the best first.
  // At most the number of nodes, and copies_max.
  Replicas replicas_of(std::string_view key, size_t from) const;

 private:
  std::vector<uint64_t> seeds_;
};

}  // namespace gyre::threadpool
