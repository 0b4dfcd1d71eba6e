// Makes the table of slots from the nodes, their weights and zones, and the table there was before.
//
// Same input, same table, on every machine: integers only, no randomness. The order of the nodes is
// part of the input.
#pragma once

#include "cluster/fair_share.hpp"
#include "cluster/slot_table.hpp"

namespace gyre::cluster {

// The nodes of each list, min(5, nodes) of them, so that for every prefix
//  - each node has its fair share of the slots, rounded down or up to a whole one,
//  - no zone has more than zone_copies_max copies of a slot,
// and as little as possible has to be sent from where it was in `before`. That has its nodes
// numbered as `members`, with no_node for those that are gone; an empty table for a new cluster.
// 1 to limits::cluster_nodes_max members.
SlotTable place(const Members& members, const SlotTable& before);

}  // namespace gyre::cluster
