// RocksDB as a session: threads that ask and wait, as many as a load says, beside its own
// background threads on the same CPUs.
//
// Options that both engines have are set alike; where RocksDB has a choice that ours does not, it
// gets what is fastest for it: log files are recycled (a synced write then changes no metadata),
// indexes and filters lie outside the cache unless the cache is to be small, threads wait with the
// finest timer. Level sizes follow its tuning guide: the base level as large as level 0 at its
// trigger.
#pragma once

#include <memory>

#include "engine/session.hpp"

namespace gyre::engine {

Result<std::unique_ptr<Session>> open_rocksdb(const Settings& settings);

}  // namespace gyre::engine
