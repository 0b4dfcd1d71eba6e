#include "node/replicated_read.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "node/core.hpp"
#include "node/test_faults.hpp"

namespace gyre {

using cluster::GetReply;
using cluster::GetRequest;
using cluster::PutReply;
using cluster::PutRequest;
using cluster::ReadState;
using cluster::WriteOutcome;

namespace {
constexpr uint32_t value_bytes_at_once = 64u << 10;  // longer ones come from one replica only
constexpr Nanos hedge_delay = milliseconds(15);
}  // namespace

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
      newest_(std::make_shared<const Entry>()),
      patience_(*this, &ReplicatedRead::answer_504),
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
  reactor.arm(read->patience_, read->deadline_);
  if (ack < from) reactor.arm(read->hedging_, reactor.now() + hedge_delay);
  read->order_replicas();
  ++read->asking_;
  for (unsigned rank = 0; rank < ack; ++rank) read->ask(rank, value_bytes_at_once);
  --read->asking_;
  read->settle();
}

// This node costs no connection; one that is down would only cost time.
void ReplicatedRead::order_replicas() {
  const auto nodes = coordinator_.replicas(key_, from_);
  GYRE_ASSERT(nodes.size() == from_);
  unsigned rank = 0;
  const auto take = [&](auto&& wanted) {
    for (const cluster::NodeIndex node : nodes) {
      if (wanted(node)) replicas_[rank++].node = node;
    }
  };
  const cluster::NodeIndex self = coordinator_.self();
  take([&](cluster::NodeIndex node) { return node == self; });
  take([&](cluster::NodeIndex node) { return node != self && !coordinator_.link(node).is_down(); });
  take([&](cluster::NodeIndex node) { return node != self && coordinator_.link(node).is_down(); });
  GYRE_ASSERT(rank == from_);
}

bool ReplicatedRead::ask_another() {
  for (unsigned rank = 0; rank < from_; ++rank) {
    if (replicas_[rank].state != State::unasked) continue;
    ask(rank, value_bytes_at_once);
    return true;
  }
  return false;
}

void ReplicatedRead::ask(unsigned rank, uint32_t value_bytes_max) {
  Replica& replica = replicas_[rank];
  replica.state = State::asked;
  ++under_way_;
  ++asking_;
  if (replica.node == coordinator_.self()) {
    replica.local_get = std::make_unique<LocalGet>(coordinator_.core(), *this, rank);
    replica.local_get->start(key_, value_bytes_max);
  } else {
    Remote& remote = replica.remote;
    remote.read = this;
    remote.rank = rank;
    remote.verb = static_cast<uint8_t>(cluster::Verb::get);
    remote.deadline = deadline_;
    char head[GetRequest::head_bytes];
    GetRequest{.value_bytes_max = value_bytes_max, .key = key_}.encode_head(head);
    std::copy_n(head, sizeof head, remote.head);
    remote.pieces[0] = {remote.head, sizeof head};
    remote.pieces[1] = key_;
    remote.parts = {remote.pieces, 2};
    remote.idempotent = true;
    remote.done = [](peer::Call& self) noexcept {
      auto& call = static_cast<Remote&>(self);
      GetReply reply;
      if (call.status != peer::Status::ok || !GetReply::decode(call.reply, reply) ||
          reply.state == ReadState::failed) {
        return call.read->failed(call.rank);
      }
      call.read->came(call.rank, reply);
    };
    if (!coordinator_.link(replica.node).start(remote)) remote.done(remote);
  }
  --asking_;
}

void ReplicatedRead::came(unsigned rank, const GetReply& reply) {
  Replica& replica = replicas_[rank];
  --under_way_;
  replica.state = State::known;
  replica.fetching = false;
  replica.version = reply.version;
  if (reply.version) coordinator_.clock().observe(reply.version.hlc);
  const bool newer = reply.version > newest_->version;
  // The value of the same; or its time came between the two answers.
  const bool completes =
      reply.version && reply.version == newest_->version &&
      (reply.state == ReadState::dead
           ? newest_->state != ReadState::dead
           : newest_->state == ReadState::live && reply.has_value() && !newest_->has_value());
  if (newer || completes) {
    newest_ = std::make_shared<const Entry>(Entry{reply.state, reply.version, reply.expire_at_ms,
                                                  reply.value_bytes, std::string(reply.value)});
  }
  settle();
}

void ReplicatedRead::failed(unsigned rank) {
  --under_way_;
  replicas_[rank].state = State::failed;
  replicas_[rank].fetching = false;
  settle();
}

// --- writing back -------------------------------------------------------------------------------

void ReplicatedRead::write_newest_to(unsigned rank) {
  Replica& replica = replicas_[rank];
  replica.state = State::writing;
  ++under_way_;
  ++asking_;
  ++coordinator_.stats().repairs;
  replica.written = newest_;
  const Entry& entry = *replica.written;
  const bool live = entry.state == ReadState::live;
  const PutRequest put{.tombstone = !live,
                       .from = 0,
                       .version = node_test_faults.repair_with_new_stamp
                                      ? coordinator_.clock().next(Reactor::current().wall_us())
                                      : entry.version,
                       .expire_at_ms = live ? entry.expire_at_ms : 0,
                       .key = key_,
                       .value = live ? std::string_view(entry.value) : std::string_view()};
  if (replica.node == coordinator_.self()) {
    replica.local_put = std::make_unique<LocalPut>(coordinator_.core(), *this, rank);
    replica.local_put->start(put);
  } else {
    Remote& remote = replica.remote;
    remote.verb = static_cast<uint8_t>(cluster::Verb::put);
    remote.deadline = Reactor::current().now() + replica_patience;
    put.encode_head(remote.head);
    remote.pieces[0] = {remote.head, sizeof remote.head};
    remote.pieces[1] = put.key;
    remote.pieces[2] = put.value;
    remote.parts = remote.pieces;
    remote.idempotent = true;
    remote.done = [](peer::Call& self) noexcept {
      auto& call = static_cast<Remote&>(self);
      PutReply reply;
      if (call.status != peer::Status::ok || !PutReply::decode(call.reply, reply)) {
        return call.read->failed(call.rank);
      }
      call.read->written(call.rank, reply);
    };
    if (!coordinator_.link(replica.node).start(remote)) remote.done(remote);
  }
  --asking_;
}

void ReplicatedRead::written(unsigned rank, const PutReply& reply) {
  --under_way_;
  Replica& replica = replicas_[rank];
  const bool holds =
      reply.outcome == WriteOutcome::stored || reply.outcome == WriteOutcome::superseded;
  replica.state = holds ? State::known : State::failed;
  if (holds) replica.version = std::max(replica.written->version, reply.newest);
  replica.written.reset();
  settle();
}

// Starts to write to those that are known to be old. True if any is being written.
bool ReplicatedRead::write_back() {
  if (node_test_faults.no_read_repair) return false;
  bool any = false;
  for (unsigned rank = 0; rank < from_; ++rank) {
    const Replica& replica = replicas_[rank];
    any = any || replica.state == State::writing;
    if (replica.state != State::known || replica.version >= newest_->version) continue;
    write_newest_to(rank);
    any = true;
  }
  return any;
}

// Asks a replica that has the newest for its value. False: none is left to ask.
bool ReplicatedRead::fetch_value() {
  for (unsigned rank = 0; rank < from_; ++rank) {
    const Replica& replica = replicas_[rank];
    if (replica.state != State::known || replica.version < newest_->version) continue;
    replicas_[rank].fetching = true;
    ask(rank, UINT32_MAX);
    return true;
  }
  return false;
}

// --- deciding -----------------------------------------------------------------------------------

void ReplicatedRead::settle() {
  if (asking_ != 0) return;
  ++asking_;
  if (is_answered_) {
    if (newest_->has_value()) static_cast<void>(write_back());
  } else {
    decide();
  }
  --asking_;
  if (is_answered_ && under_way_ == 0) {
    // What was written or asked within this call may have ended at once.
    const bool stale = std::ranges::any_of(replicas_, [&](const Replica& replica) {
      return replica.state == State::known && replica.version < newest_->version;
    });
    if (stale && newest_->has_value() && !node_test_faults.no_read_repair) return settle();
    delete this;
  }
}

void ReplicatedRead::decide() {
  const unsigned wanted = ack_ > 1 && node_test_faults.read_one_short ? ack_ - 1 : ack_;
  for (;;) {
    unsigned known = 0;
    unsigned asked = 0;
    unsigned writing = 0;
    unsigned holders = 0;
    bool fetching = false;
    for (unsigned rank = 0; rank < from_; ++rank) {
      const Replica& replica = replicas_[rank];
      fetching = fetching || replica.fetching;
      known += replica.state == State::known || replica.state == State::writing;
      asked += replica.state == State::asked;
      writing += replica.state == State::writing;
      holders += replica.state == State::known && replica.version >= newest_->version;
    }
    if (known < wanted) {
      if (known + asked >= wanted) return;
      if (!ask_another()) return answer_504();
      continue;
    }
    const bool majority = 2 * ack_ > from_ && !node_test_faults.no_read_repair;
    if (!newest_->has_value()) {
      if (fetching) return;
      if (fetch_value()) continue;
      if (asked != 0) return;
      return answer_504();
    }
    if (holders >= wanted || !majority) return answer();
    if (write_back()) {
      // One that is written may fail: the next call sees that.
      if (holders + writing + asked >= wanted || writing != 0) return;
      continue;
    }
    if (holders + asked >= wanted) return;
    if (!ask_another()) return answer_504();
  }
}

void ReplicatedRead::answer() {
  if (std::exchange(is_answered_, true)) return;
  const std::shared_ptr<const Entry> entry = newest_;
  const bool live = entry->state == ReadState::live;
  answered_(owner_, {.status = static_cast<uint16_t>(live ? 200 : 404),
                     .version = entry->version,
                     .value = live ? std::string_view(entry->value) : std::string_view()});
  static_cast<void>(write_back());
}

void ReplicatedRead::answer_504() {
  if (std::exchange(is_answered_, true)) return;
  ++coordinator_.stats().reads_failed;
  answered_(owner_, {.status = 504});
}

void ReplicatedRead::hedge() {
  if (is_answered_) return;
  bool waits = false;
  for (const Replica& replica : replicas_) waits = waits || replica.state == State::asked;
  ++asking_;
  if (waits && coordinator_.hedges().spend()) {
    ++coordinator_.stats().reads_hedged;
    static_cast<void>(ask_another());
  }
  --asking_;
  Reactor::current().arm(hedging_, Reactor::current().now() + hedge_delay);
  settle();
}

}  // namespace gyre
