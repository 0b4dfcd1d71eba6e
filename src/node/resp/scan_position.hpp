// Behind the cursors of SCAN in a cluster: a scan is one walk over the keys of all nodes, and a cursor
// names the node that gave it, in the place of a shard, and a number under which the first core of that
// node remembers the key. Any node takes it: it asks that one. What nobody remembers any more begins
// again, so that keys may come twice and none is missed.
#pragma once

#include <string>

#include <gyre/task.hpp>

#include "node/resp/scan_cursor.hpp"
#include "peer/inbound.hpp"

namespace gyre {

class Core;

// The stored key to go on behind; empty: from the beginning.
Task<std::string> find_scan_position(Core& core, ScanCursor cursor);
Task<ScanCursor> remember_scan_position(Core& core, std::string stored_key);

// A peer's question: number u64, answered by the key, or nothing. Ends the call's life.
void serve_scan_position(Core& core, peer::InboundCall& call);

}  // namespace gyre
