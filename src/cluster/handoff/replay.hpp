// Sends one peer what it lacks of one shard: missed writes by their keys, then the slots that are
// owed, by one walk over the shard for all of them. Both go the same way: a batch of (key, version)
// is offered, the peer says which it lacks, and of those the present values are sent. Everything is
// idempotent by version, so it may be cut off and repeated at any point.
//
// A value that can't be read or sent holds up nobody else's: it is set aside, and tried again behind all
// others, after a while that doubles. A walk leaves it behind as a missed write. Several failures in a
// row are taken to be the peer's: then everything waits a little.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gyre/backend.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "cluster/handoff/missed_log.hpp"
#include "cluster/handoff/token_bucket.hpp"

namespace gyre::cluster {

struct KeyVersion {
  std::string key;
  Version version;
};

struct WalkPage {
  std::vector<KeyVersion> entries;  // values and tombstones, in key order
  std::string next;                 // the walk goes on behind this key (which may not exist)
  bool at_end = false;
};

// The shard and the way to the peer, as the node has them.
class ReplayTarget {
 public:
  virtual ~ReplayTarget() = default;
  // Returns when the peer is believed to be up; false if the task was stopped.
  virtual Task<bool> reachable() = 0;
  // Of the shard's entries behind `after` ("" : from the start), those for which
  // `slots.covers(slot, hlc)`. A page may be empty before the end: it looks at a bounded number.
  virtual Task<Result<WalkPage>> scan(const OwedSlots& slots, std::string after) = 0;
  // For each entry, whether the peer lacks it: holds neither this version nor a newer one.
  virtual Task<Result<std::vector<bool>>> offer(const std::vector<KeyVersion>& entries) = 0;
  // Reads the key's present value or tombstone and sends it, stamp and expiry as they are. Succeeds
  // when the peer has it durably or has something newer. Answers the bytes sent; Errc::not_found if
  // the shard does not have the key (any more: expired or purged).
  virtual Task<Result<uint64_t>> send(const std::string& key) = 0;
};

struct ReplayOptions {
  size_t batch = 256;
  uint64_t bytes_per_second = 32u << 20;
  Nanos backoff_min = milliseconds(50);
  Nanos backoff_max = seconds(2);
  unsigned failures_in_row_max = 3;  // of single values, before the whole pass counts as failed
  Nanos set_aside_min = seconds(1);
  Nanos set_aside_max = seconds(30);
  size_t set_aside_count_max = 1024;
};

struct ReplayCounts {
  uint64_t offered = 0;
  uint64_t lacked = 0;  // of those
  uint64_t sent = 0;
  uint64_t gone = 0;  // not in the shard any more
  uint64_t sent_bytes = 0;
  uint64_t set_aside = 0;  // values that failed, each time
  uint64_t passes = 0;     // after which nothing was owed but what is set aside
  uint64_t failures = 0;
};

class Replay {
 public:
  Replay(MissedLog& log, PeerNumber peer, ReplayTarget& target, ReplayOptions options = {});

  // Until stopped: whenever the peer is owed something and can be reached.
  Task<void> run();
  // Once: everything that is owed now, but what is set aside and not due. What is done stays done after
  // an error, and a walk goes on where it was.
  Task<Result<void>> pass();

  const ReplayCounts& counts() const { return counts_; }

 private:
  struct SetAside {
    Nanos due = 0;
    Nanos wait = 0;
    Version version;
  };

  Task<Result<void>> replay_records();
  Task<Result<void>> walk_slots();
  Task<Result<void>> try_again();
  // Says of each entry whether the peer has it now; the others are set aside, unless the pass failed.
  Task<Result<void>> deliver(const std::vector<KeyVersion>& entries, std::vector<bool>& delivered);
  bool set_aside(const KeyVersion& entry);
  Nanos pause() const;

  MissedLog& log_;
  PeerNumber peer_;
  ReplayTarget& target_;
  ReplayOptions options_;
  TokenBucket bucket_;
  std::string cursor_;                                      // of the walk
  std::map<std::string, SetAside, std::less<>> set_aside_;  // by key
  ReplayCounts counts_;
};

}  // namespace gyre::cluster
