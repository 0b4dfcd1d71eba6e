// The keys of the cluster simulations, and whether the replicas of each hold the same.
#pragma once

#include <string>
#include <string_view>

#include "cluster_rig.hpp"

namespace gyre::test {

inline constexpr int keys = 6;
// Beyond these are some that nobody reads before the end.
inline constexpr int unread_keys = 40;

// How long after a cut the replicas may differ.
inline constexpr Nanos converge_patience = seconds(60);

// A key is written for as many at all times: where there are five nodes, some for all of them.
unsigned from_of(const ClusterRig& rig, int key);
// The path of a request for key number `key`.
std::string target_of(int key, std::string_view replicas);
// … to a majority of its replicas, or to all of them.
std::string target_of(const ClusterRig& rig, int key, bool all);
// Until the replicas of every key hold the same. Empty: they do; else what they hold.
std::string await_equal(ClusterRig& rig, Nanos limit);

}  // namespace gyre::test
