#include "node/replication/replica_notices.hpp"

#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "cluster/replica_messages.hpp"
#include "node/core.hpp"
#include "node/node.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/shard_handoff.hpp"

namespace gyre {

using cluster::ConfirmedWrite;
using cluster::MissedBy;
using cluster::NodeIndex;

namespace {

// Notices may wait for company: what they end is only memory, and 2 s away from being owed.
constexpr Nanos flush_interval = milliseconds(20);
constexpr size_t batch_bytes = 16u << 10;       // then it goes at once
constexpr size_t pending_bytes_max = 4u << 20;  // per replica, while a batch is under way
constexpr Nanos notice_patience = seconds(1);

}  // namespace

ReplicaNotices::FlushTimer::FlushTimer(ReplicaNotices& of)
    : Timer([](Timer& self) noexcept { static_cast<FlushTimer&>(self).notices.flush(); }),
      notices(of) {}

ReplicaNotices::ReplicaNotices(Coordinator& coordinator)
    : coordinator_(coordinator), scope_(std::make_unique<Scope>(nullptr, "notices")) {
  const uint32_t nodes = coordinator.core().node().membership().node_count();
  for (NodeIndex node = 0; node < nodes; ++node) {
    auto lane = std::make_unique<Lane>();
    lane->notices = this;
    lane->node = node;
    lanes_.push_back(std::move(lane));
  }
}

ReplicaNotices::~ReplicaNotices() {
  GYRE_ASSERT(busy_ == 0 && !timer_.armed());
}

Task<void> ReplicaNotices::close() {
  // What is answered may lead to more for others.
  for (flush(); busy_ != 0; flush()) {
    idle_.reset();
    co_await gyre::detail::Uninterrupted{idle_};
  }
  Reactor::current().disarm(timer_);
  co_await scope_->join();
}

// Such a replica keeps it as unconfirmed, and owes it after a while.
bool ReplicaNotices::has_room(const Lane& lane) {
  if (lane.pending.bytes < pending_bytes_max) return true;
  ++stats_.dropped;
  return false;
}

void ReplicaNotices::added(Lane& lane, size_t bytes) {
  lane.pending.bytes += bytes;
  if (lane.pending.bytes >= batch_bytes) {
    send(lane);
  } else if (!timer_.armed()) {
    Reactor::current().arm(timer_, Reactor::current().now() + flush_interval);
  }
}

void ReplicaNotices::confirm(NodeIndex node, const ConfirmedWrite& write) {
  Lane& lane = *lanes_[node];
  if (!has_room(lane)) return;
  ++stats_.confirmed;
  lane.pending.notices.confirmed.push_back(write);
  added(lane, ConfirmedWrite::bytes);
}

void ReplicaNotices::ended(const EndedWrite& write) {
  const uint64_t hash = shard_hash(write.key);
  // The later stamp is all that counts by now.
  if (write.first_version) {
    for (const NodeIndex node : write.stored) confirm(node, {hash, write.first_version});
  }
  if (write.missed.empty()) {
    for (const NodeIndex node : write.stored) confirm(node, {hash, write.version});
    return;
  }
  if (write.stored.empty()) return;
  MissedBy missed{.key = std::string(write.key), .version = write.version};
  for (const NodeIndex node : write.missed) missed.nodes[missed.count++] = node;
  // This node, if it has the write, else one by chance.
  const NodeIndex self = coordinator_.self();
  size_t chosen = hash % write.stored.size();
  for (size_t i = 0; i < write.stored.size(); ++i) {
    if (write.stored[i] == self) chosen = i;
  }
  for (size_t i = 0; i < write.stored.size(); ++i) {
    if (i != chosen && !write.must_not_be_forgotten) continue;
    Lane& lane = *lanes_[write.stored[i]];
    if (!has_room(lane)) continue;
    ++stats_.missed;
    if (!write.must_not_be_forgotten) {
      Settled settled{{hash, write.version}, {}};
      for (const NodeIndex node : write.stored) {
        if (node != write.stored[chosen]) settled.others.push_back(node);
      }
      lane.pending.settled.push_back(std::move(settled));
    }
    lane.pending.notices.missed.push_back(missed);
    added(lane, missed.bytes());
  }
}

void ReplicaNotices::flush() {
  for (const auto& lane : lanes_) {
    if (!lane->pending.empty()) send(*lane);
  }
}

void ReplicaNotices::send(Lane& lane) {
  if (lane.busy) return;  // its end sends the next one
  lane.busy = true;
  ++busy_;
  ++stats_.batches;
  lane.sent = std::exchange(lane.pending, {});
  if (lane.node == coordinator_.self()) {
    scope_->spawn(tell_own(lane));
    return;
  }
  lane.payload = lane.sent.notices.encode();
  lane.piece = lane.payload;
  lane.verb = static_cast<uint8_t>(cluster::Verb::notices);
  lane.idempotent = true;
  lane.parts = {&lane.piece, 1};
  lane.deadline = Reactor::current().now() + notice_patience;
  lane.done = [](peer::Call& self) noexcept {
    auto& ended = static_cast<Lane&>(self);
    ended.notices->answered(ended, ended.status == peer::Status::ok);
  };
  if (!coordinator_.link(lane.node).start(lane)) answered(lane, false);
}

Task<void> ReplicaNotices::tell_own(Lane& lane) {
  const bool recorded = co_await take_notices(coordinator_.core(), std::move(lane.sent.notices));
  answered(lane, recorded);
}

void ReplicaNotices::answered(Lane& lane, bool recorded) {
  lane.busy = false;
  --busy_;
  const std::vector<Settled> settled = std::move(lane.sent.settled);
  lane.sent = {};
  lane.payload.clear();
  if (recorded) {
    for (const Settled& one : settled) {
      for (const NodeIndex node : one.others) confirm(node, one.write);
    }
  } else {
    ++stats_.failed;
  }
  // Not at once: a link that takes nothing would be asked in a circle.
  if (!lane.pending.empty() && !timer_.armed()) {
    Reactor::current().arm(timer_, Reactor::current().now() + flush_interval);
  }
  if (busy_ == 0) idle_.set();
}

}  // namespace gyre
