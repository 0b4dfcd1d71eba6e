// Which cluster a node belongs to: the topology out of --peers or --topology, this node's place in
// it, and the copy of it that the data directory keeps.
//
// The directory's copy (DIR/TOPOLOGY, the text of cluster/topology_text.hpp) says which nodes its data
// was spread over. A start with other nodes, or another table, is refused: the keys would be looked
// for where they are not.
#pragma once

#include <string>
#include <string_view>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "cluster/topology.hpp"
#include "node/config.hpp"
#include "store/data_directory.hpp"

namespace gyre {

class Membership {
 public:
  static constexpr std::string_view file_name = "TOPOLOGY";

  // A single node, without peers.
  Membership() = default;

  // Errc::invalid says which of --peers, --topology and --advertise doesn't fit, and what to do.
  static Task<Result<Membership>> open(const ServeConfig& config, std::string directory);

  const cluster::Topology& topology() const { return topology_; }
  // At least 1.
  uint32_t node_count() const {
    return topology_.nodes.empty() ? 1 : static_cast<uint32_t>(topology_.nodes.size());
  }
  bool has_peers() const { return topology_.nodes.size() > 1; }
  cluster::NodeIndex self() const { return self_; }
  uint64_t table_hash() const { return table_hash_; }

 private:
  Result<void> find_self(const ServeConfig& config);

  cluster::Topology topology_;
  cluster::NodeIndex self_ = 0;
  uint64_t table_hash_ = 0;
};

}  // namespace gyre
