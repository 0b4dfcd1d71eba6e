#include "node/replication/replicated_read.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "node/core.hpp"
#include "node/replication/replica_call.hpp"
#include "node/replication/test_faults.hpp"

namespace gyre {

using cluster::GetReply;
using cluster::GetRequest;
using cluster::PutReply;
using cluster::PutRequest;
using cluster::ReadState;
using cluster::WriteOutcome;

namespace {
constexpr uint32_t value_bytes_at_once = 64u << 10;  // longer ones come from one replica only
// How long a reply may take before another replica is asked, whatever is usual.
constexpr Nanos hedge_delay_min = milliseconds(2);
constexpr Nanos hedge_delay_max = milliseconds(15);
}  // namespace

struct ReplicatedRead::Remote final : ReplicaCall {
  Remote(ReplicatedRead& of, unsigned at) : read(of), rank(at) {}
  ReplicatedRead& read;
  unsigned rank;
};

struct ReplicatedRead::LocalGet final : ReplicaGet {
  LocalGet(Core& core, ReplicatedRead& of, unsigned at)
      : ReplicaGet(core,
                   [](ReplicaAccess& self) noexcept {
                     auto& local = static_cast<LocalGet&>(self);
                     const std::unique_ptr<LocalGet> keep =
                         std::move(local.read.replicas_[local.rank].local_get);
                     if (local.reply().state == ReadState::failed) {
                       local.read.failed(local.rank);
                     } else {
                       local.read.came(local.rank, local.reply());
                     }
                   }),
        read(of),
        rank(at) {}
  ReplicatedRead& read;
  unsigned rank;
};

struct ReplicatedRead::LocalPut final : ReplicaPut {
  LocalPut(Core& core, ReplicatedRead& of, unsigned at)
      : ReplicaPut(core,
                   [](ReplicaAccess& self) noexcept {
                     auto& local = static_cast<LocalPut&>(self);
                     const std::unique_ptr<LocalPut> keep =
                         std::move(local.read.replicas_[local.rank].local_put);
                     local.read.written(local.rank, local.reply());
                   }),
        read(of),
        rank(at) {}
  ReplicatedRead& read;
  unsigned rank;
};

ReplicatedRead::ReadTimer::ReadTimer(ReplicatedRead& of, Struck then)
    : Timer([](Timer& self) noexcept {
        auto& timer = static_cast<ReadTimer&>(self);
        (timer.read.*timer.struck)();
      }),
      read(of),
      struck(then) {}

ReplicatedRead::ReplicatedRead(Coordinator& coordinator, std::string_view key, uint32_t ack,
                               uint32_t from, void* owner, Answered answered)
    : coordinator_(coordinator),
      key_(key),
      ack_(ack),
      from_(from),
      owner_(owner),
      answered_(answered),
      quorum_(ack, from),
      patience_(*this, &ReplicatedRead::expire),
      hedging_(*this, &ReplicatedRead::hedge) {
  coordinator_.operation_begun();
}

ReplicatedRead::~ReplicatedRead() {
  Reactor::current().disarm(patience_);
  Reactor::current().disarm(hedging_);
  coordinator_.operation_ended();
}

void ReplicatedRead::start(Coordinator& coordinator, std::string_view key, uint32_t ack,
                           uint32_t from, void* owner, Answered answered) {
  auto* read = new ReplicatedRead(coordinator, key, ack, from, owner, answered);
  Reactor& reactor = Reactor::current();
  ++coordinator.stats().reads;
  coordinator.hedges().earn();
  read->deadline_ = reactor.now() + replica_patience;
  read->order_replicas();
  if (ack < from) reactor.arm(read->hedging_, reactor.now() + read->hedge_delay());
  read->drive();
}

// This node costs no connection; one that is slow, or dead, or has yet to be given back what it lost,
// would only cost time.
void ReplicatedRead::order_replicas() {
  const auto nodes = coordinator_.replicas(key_, from_);
  GYRE_ASSERT(nodes.size() == from_);
  replicas_[0].node = nodes[0];
  if (from_ == 1) return;
  std::array<std::pair<unsigned, unsigned>, limits::cluster_replicas_max> order;
  for (unsigned i = 0; i < from_; ++i) order[i] = {coordinator_.read_rank(nodes[i]), i};
  std::sort(order.begin(), order.begin() + from_);
  for (unsigned rank = 0; rank < from_; ++rank) replicas_[rank].node = nodes[order[rank].second];
}

// As long as nearly all replies of the slowest replica asked take.
Nanos ReplicatedRead::hedge_delay() const {
  Nanos delay = hedge_delay_min;
  for (unsigned rank = 0; rank < ack_; ++rank) {
    const cluster::NodeIndex node = replicas_[rank].node;
    if (node == coordinator_.self()) continue;
    delay =
        std::max(delay, coordinator_.health(node).hedge_delay(hedge_delay_min, hedge_delay_max));
  }
  return delay;
}

// What happens within a step is fed in, and seen by the next one.
void ReplicatedRead::drive() {
  using Do = cluster::ReadQuorum::Do;
  if (driving_) return;
  driving_ = true;
  for (;;) {
    const cluster::ReadQuorum::Step step = quorum_.next();
    switch (step.what) {
      case Do::ask:
        ask(step.rank, value_bytes_at_once);
        break;
      case Do::fetch:
        ask(step.rank, UINT32_MAX);
        break;
      case Do::write:
        write_newest_to(step.rank);
        break;
      case Do::forget:
        newest_ = {.state = ReadState::never};
        kept_.reset();
        break;
      case Do::answer:
        answer();
        break;
      case Do::fail:
        answer_504();
        break;
      case Do::wait:
        driving_ = false;
        stop_borrowing();
        return;
      case Do::finished:
        delete this;
        return;
    }
  }
}

void ReplicatedRead::ask(unsigned rank, uint32_t value_bytes_max) {
  Replica& replica = replicas_[rank];
  if (!coordinator_.counts_in_reads(replica.node)) return failed(rank);
  if (replica.node == coordinator_.self()) return ask_local(rank, value_bytes_max);
  if (!replica.remote) replica.remote = std::make_unique<Remote>(*this, rank);
  Remote& remote = *replica.remote;
  remote.done = [](peer::Call& self) noexcept {
    auto& call = static_cast<Remote&>(self);
    ReplicatedRead& read = call.read;
    const cluster::NodeIndex node = read.replicas_[call.rank].node;
    read.coordinator_.call_ended(node, call);
    GetReply reply;
    if (call.status != peer::Status::ok || !GetReply::decode(call.reply, reply) ||
        reply.state == ReadState::failed || !read.coordinator_.counts_in_reads(node)) {
      return read.failed(call.rank);
    }
    read.came(call.rank, reply);
  };
  remote.get(coordinator_.link(replica.node), {.value_bytes_max = value_bytes_max, .key = key_},
             deadline_);
}

// Links watch the deadlines of their calls; only this node's own disk may take longer unseen.
void ReplicatedRead::ask_local(unsigned rank, uint32_t value_bytes_max) {
  GetReply reply;
  found_here_.emplace();
  if (ReplicaGet::try_now(coordinator_.core(), key_, value_bytes_max, *found_here_, reply)) {
    return took(rank, reply);
  }
  if (!patience_.armed()) Reactor::current().arm(patience_, deadline_);
  Replica& replica = replicas_[rank];
  replica.local_get = std::make_unique<LocalGet>(coordinator_.core(), *this, rank);
  replica.local_get->start(key_, value_bytes_max, true);
}

void ReplicatedRead::took(unsigned rank, const GetReply& reply) {
  if (reply.version && coordinator_.is_credible(reply.version.hlc)) {
    coordinator_.clock().observe(reply.version.hlc);
  }
  if (quorum_.found(rank, {.version = reply.version,
                           .live = reply.state == ReadState::live,
                           .has_value = reply.has_value()})) {
    newest_ = reply;
    kept_.reset();
  }
}

// Within a step `reply` lasts no longer than this call.
void ReplicatedRead::came(unsigned rank, const GetReply& reply) {
  took(rank, reply);
  if (driving_) stop_borrowing();
  drive();
}

void ReplicatedRead::stop_borrowing() {
  if (!newest_.value.empty()) keep_newest();
  found_here_.reset();
}

void ReplicatedRead::keep_newest() {
  if (kept_) return;
  kept_ = std::make_shared<const Entry>(
      Entry{newest_.state, newest_.version, newest_.expire_at_ms, std::string(newest_.value)});
  newest_.value = kept_->value;
}

void ReplicatedRead::failed(unsigned rank) {
  replicas_[rank].written.reset();
  quorum_.failed(rank);
  drive();
}

// --- writing back -------------------------------------------------------------------------------

void ReplicatedRead::write_newest_to(unsigned rank) {
  Replica& replica = replicas_[rank];
  const Nanos read_at = deadline_ - replica_patience;  // or later
  // It may have had and purged what hides this.
  if (Reactor::current().now() - read_at > repair_age_max) return failed(rank);
  ++coordinator_.stats().repairs;
  if (!quorum_.answered() && !patience_.armed()) Reactor::current().arm(patience_, deadline_);
  keep_newest();
  replica.written = kept_;
  const Entry& entry = *replica.written;
  const bool live = entry.state == ReadState::live;
  const PutRequest put{.tombstone = !live,
                       .repair = true,
                       .from = static_cast<uint8_t>(from_),
                       .coordinator = coordinator_.self(),
                       .version = node_test_faults.repair_with_new_stamp
                                      ? coordinator_.clock().next(Reactor::current().wall_us())
                                      : entry.version,
                       .expire_at_ms = live ? entry.expire_at_ms : 0,
                       .as_of = replica.node == coordinator_.self()
                                    ? 0
                                    : coordinator_.repair_as_of(replica.node, read_at),
                       .key = key_,
                       .value = live ? std::string_view(entry.value) : std::string_view()};
  if (replica.node == coordinator_.self()) {
    replica.local_put = std::make_unique<LocalPut>(coordinator_.core(), *this, rank);
    replica.local_put->start(put);
    return;
  }
  if (!replica.remote) replica.remote = std::make_unique<Remote>(*this, rank);
  Remote& remote = *replica.remote;
  remote.done = [](peer::Call& self) noexcept {
    auto& call = static_cast<Remote&>(self);
    ReplicatedRead& read = call.read;
    read.coordinator_.call_ended(read.replicas_[call.rank].node, call);
    PutReply reply;
    if (call.status != peer::Status::ok || !PutReply::decode(call.reply, reply)) {
      return read.failed(call.rank);
    }
    read.written(call.rank, reply);
  };
  remote.put(coordinator_.link(replica.node), put, Reactor::current().now() + replica_patience);
}

void ReplicatedRead::written(unsigned rank, const PutReply& reply) {
  replicas_[rank].written.reset();
  if (reply.outcome == WriteOutcome::stored || reply.outcome == WriteOutcome::superseded) {
    quorum_.written(rank, reply.newest);
  } else {
    quorum_.failed(rank);
  }
  drive();
}

// --- the end ------------------------------------------------------------------------------------

void ReplicatedRead::answer() {
  const bool live = newest_.state == ReadState::live;
  answered_(owner_, {.status = static_cast<uint16_t>(live ? 200 : 404),
                     .version = newest_.version,
                     .expire_at_ms = live ? newest_.expire_at_ms : 0,
                     .value = live ? newest_.value : std::string_view()});
}

void ReplicatedRead::answer_504() {
  ++coordinator_.stats().reads_failed;
  answered_(owner_, {.status = 504});
}

void ReplicatedRead::expire() {
  quorum_.expired();
  drive();
}

void ReplicatedRead::hedge() {
  if (quorum_.answered()) return;
  // Who does not answer is replaced at once; the budget is for those that are late now and then.
  bool replaces = false;
  for (unsigned rank = 0; rank < from_; ++rank) {
    replaces =
        replaces || (quorum_.waits_for(rank) && coordinator_.state_of(replicas_[rank].node) !=
                                                    cluster::FailureDetector::State::alive);
  }
  if (quorum_.can_hedge() && (replaces || coordinator_.hedges().spend())) {
    ++coordinator_.stats().reads_hedged;
    quorum_.hedge();
  }
  Reactor::current().arm(hedging_, Reactor::current().now() + hedge_delay());
  drive();
}

}  // namespace gyre
