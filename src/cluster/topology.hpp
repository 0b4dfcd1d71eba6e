// The nodes of a cluster and the table of slots that places keys on them: what all nodes have to
// agree on. A plain value; topology_text.hpp writes and reads it, topology_plan.hpp changes it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>

#include "cluster/fair_share.hpp"
#include "cluster/slot_table.hpp"

namespace gyre::cluster {

struct NodeEntry {
  std::string url;      // http://HOST:PORT, its identity in the topology
  uint32_t weight = 1;  // 1 to limits::node_weight_max
  std::string zone;     // what fails together: a rack, a room. All nodes have one, or none
  std::string uuid;     // of its data directory, 32 hexadecimal digits; empty: not known
  uint32_t shards = 0;  // storage shards of its data directory, at most 256; 0: not known

  friend bool operator==(const NodeEntry&, const NodeEntry&) = default;
};

struct Topology {
  uint64_t epoch = 1;            // goes up by one with every change
  uint64_t previous_hash = 0;    // table_hash() of the epoch before; 0: this is the first
  std::vector<NodeEntry> nodes;  // by url; the table's numbers are positions in here
  SlotTable table;

  // XXH3-64 over all that decides where a key is: the nodes' urls, weights and zones, the table. Nodes with the same one send a key to the same places.
  uint64_t table_hash() const;

  friend bool operator==(const Topology&, const Topology&) = default;
};

// "URL[,weight=W][,zone=Z][,shards=N][,uuid=U]", and more nodes after further commas: as --peers
// and --add take them. A failure's detail is a sentence about what is wrong.
Result<std::vector<NodeEntry>> parse_node_list(std::string_view text);

// Whether a zone's name is 1 to 64 of A-Z a-z 0-9 . _ -
bool is_zone_name(std::string_view text);
bool is_uuid(std::string_view text);

// Sorts the nodes and checks what holds between them: 1 to 1024, each URL once, zones for all or
// for none.
Result<std::vector<NodeEntry>> checked_nodes(std::vector<NodeEntry> nodes);

// What placement needs to know of nodes. Zones are numbered by name.
Members members_of(const std::vector<NodeEntry>& nodes);

// The first topology of these nodes: the same on every node, whatever their order.
Result<Topology> make_topology(std::vector<NodeEntry> nodes);

}  // namespace gyre::cluster
