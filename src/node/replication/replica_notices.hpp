// What a core's coordinator tells replicas about writes that have ended: that all of them have a
// write, or who lacks it. Told in batches, one under way per replica; this node's own shards get
// theirs the same way, without a connection.
//
// A write that some replica lacks is recorded at one replica that has it, and when that says that it
// is durable, the others are told that the write is settled. Where forgetting it too early would let
// older values come back (tombstones, values that expire: DESIGN D11) every replica that has it
// records it by itself. Nothing here is ever tried again: what no notice reaches is owed after a
// while (cluster/handoff).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "cluster/handoff_messages.hpp"
#include "cluster/slot_table.hpp"
#include "peer/link.hpp"

namespace gyre {

class Coordinator;

struct NoticeStats {
  uint64_t confirmed = 0;  // writes, times replicas that were told
  uint64_t missed = 0;     // writes, times replicas that were to record them
  uint64_t batches = 0;
  uint64_t failed = 0;   // batches that didn't come through, or were not made durable
  uint64_t dropped = 0;  // notices for which there was no room
};

// A write that has ended, with the nodes that have it and those that may not.
struct EndedWrite {
  std::string_view key;
  Version version;
  Version first_version;  // before it was stamped again; zero if it was not
  bool must_not_be_forgotten = false;
  std::vector<cluster::NodeIndex> stored;
  std::vector<cluster::NodeIndex> missed;
};

class ReplicaNotices {
 public:
  explicit ReplicaNotices(Coordinator& coordinator);
  ~ReplicaNotices();

  void ended(const EndedWrite& write);
  // Sends what is left and waits for the answers.
  Task<void> close();
  const NoticeStats& stats() const { return stats_; }

 private:
  struct Settled {
    cluster::ConfirmedWrite write;
    std::vector<cluster::NodeIndex> others;  // to be told when it is recorded
  };
  struct Batch {
    cluster::Notices notices;
    std::vector<Settled> settled;
    size_t bytes = 0;
    bool empty() const { return notices.empty(); }
  };
  struct Lane : peer::Call {
    ReplicaNotices* notices = nullptr;
    cluster::NodeIndex node = 0;
    bool busy = false;
    Batch pending;
    Batch sent;
    std::string payload;
    std::string_view piece;
  };
  struct FlushTimer : Timer {
    explicit FlushTimer(ReplicaNotices& of);
    ReplicaNotices& notices;
  };

  void confirm(cluster::NodeIndex node, const cluster::ConfirmedWrite& write);
  void added(Lane& lane, size_t bytes);
  bool has_room(const Lane& lane);
  void flush();
  void send(Lane& lane);
  Task<void> tell_own(Lane& lane);
  void answered(Lane& lane, bool recorded);

  Coordinator& coordinator_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // by node
  std::unique_ptr<Scope> scope_;
  FlushTimer timer_{*this};
  unsigned busy_ = 0;
  Event idle_;
  NoticeStats stats_;
};

}  // namespace gyre
