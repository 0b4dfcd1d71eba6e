// Topologies in files, replaced whole: a crash leaves the old one or the new one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "cluster/topology_plan.hpp"

namespace gyre::cluster {

// Errors name the file, the line and what to do.
Task<Result<Topology>> load_topology(std::string path);

// Errc::already_exists if there is such a file.
Task<Result<void>> create_topology(std::string path, Topology topology);

struct Replaced {
  Topology before;
  Topology after;
};

// Both replace the file by the next epoch's topology, holding PATH.lock so that of two at a time the
// second sees what the first wrote. Nothing is written if they fail.

// Errc::invalid if the file is not of `expected_epoch`.
Task<Result<Replaced>> apply_changes(std::string path, TopologyChanges changes,
                                     std::optional<uint64_t> expected_epoch);
// `planned` was made from the file's topology by change_topology. Errc::invalid if the file has
// changed since.
Task<Result<Replaced>> apply_planned(std::string path, Topology planned,
                                     std::optional<uint64_t> expected_epoch);

}  // namespace gyre::cluster
