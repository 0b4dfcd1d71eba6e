// Walks over the keys of one database in one shard, on the shard's core, or in the whole cluster: for
// KEYS, SCAN, DBSIZE, RANDOMKEY, FLUSHDB. Each gives the core back often; none reads values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/store_options.hpp>
#include <gyre/task.hpp>

#include "node/replication/cluster_cursor.hpp"
#include "node/resp/glob.hpp"

namespace gyre {

class Core;

inline constexpr unsigned all_databases = ~0u;

// The stored keys of a database whose names begin with `prefix`; of all_databases everything.
ScanRange range_of(unsigned database, std::string_view prefix = {});

// Keys behind `after`, a stored one; the first ones if it is empty.
struct KeyPage {
  std::vector<std::string> keys;  // as clients name them
  std::string last;               // the last one looked at, stored
  uint64_t looked_at = 0;
  bool at_end = false;
  GlobMatch match = GlobMatch::yes;  // too_long: the pattern took too long
};
struct KeyPageQuery {
  unsigned database = 0;
  std::string_view after;
  std::string_view pattern;  // of keys; "*": all
  uint64_t looked_at_max = 0;
  uint64_t key_bytes_max = 0;
};
Task<Result<KeyPage>> find_keys(Core& owner, uint32_t shard, KeyPageQuery query);

struct KeyCount {
  uint64_t count = 0;
  std::string sample;  // one of them, each as likely, stored
};
Task<Result<KeyCount>> count_keys(Core& owner, uint32_t shard, unsigned database);

// Those that are there at the call, each by a tombstone of its own.
Task<Result<void>> remove_keys(Core& owner, uint32_t shard, unsigned database);

// --- in a cluster -----------------------------------------------------------------------------------

// Keys as majorities of their replicas hold them, in order. One walk costs every node of a covering set
// a walk over its shards, and these send each key with its version. An error's detail is what the
// client is told: "CODE reason".
class ClusterWalk {
 public:
  // The keys behind `after`, a stored one, if it isn't empty; `prefix`: of what clients name.
  ClusterWalk(Core& core, Scope& scope, unsigned database, std::string_view prefix = {},
              std::string_view after = {});

  // False: there is none.
  Task<Result<bool>> next();
  std::string_view key() const { return cursor_.record().key; }  // stored

 private:
  ClusterCursor cursor_;
  unsigned count_ = 0;
};

// The next ones; `query.after` says only what `last` is if there are none.
Task<Result<KeyPage>> find_keys(ClusterWalk& walk, KeyPageQuery query);
Task<Result<KeyCount>> count_keys_of_cluster(Core& core, Scope& scope, unsigned database);
// Each by a replicated write. What fails leaves some of them.
Task<Result<void>> remove_keys_of_cluster(Core& core, Scope& scope, unsigned database);

}  // namespace gyre
