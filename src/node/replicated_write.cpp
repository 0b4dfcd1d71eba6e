#include "node/replicated_write.hpp"

#include <utility>

#include "base/assert.hpp"
#include "node/core.hpp"
#include "node/test_faults.hpp"

namespace gyre {

using cluster::PutReply;
using cluster::PutRequest;
using cluster::WriteOutcome;

struct ReplicatedWrite::Local final : ReplicaPut {
  Local(Core& core, ReplicatedWrite& of, unsigned at)
      : ReplicaPut(core,
                   [](ReplicaAccess& self) noexcept {
                     auto& local = static_cast<Local&>(self);
                     ReplicatedWrite& write = local.write;
                     const PutReply reply = local.reply();
                     const unsigned rank = local.rank;
                     write.replicas_[rank].local.reset();
                     write.replied(rank, reply);
                   }),
        write(of),
        rank(at) {}
  ReplicatedWrite& write;
  unsigned rank;
};

ReplicatedWrite::PatienceTimer::PatienceTimer(ReplicatedWrite& of)
    : Timer([](Timer& self) noexcept {
        static_cast<PatienceTimer&>(self).write.answer(504, "Not Enough Replicas");
      }),
      write(of) {}

ReplicatedWrite::ReplicatedWrite(Coordinator& coordinator, WriteSpec spec, void* owner,
                                 Answered answered)
    : coordinator_(coordinator), spec_(std::move(spec)), owner_(owner), answered_(answered) {
  coordinator_.operation_begun();
}

ReplicatedWrite::~ReplicatedWrite() {
  Reactor::current().disarm(timer_);
  if (spec_.transit_bytes != 0) coordinator_.core().transit_memory().release(spec_.transit_bytes);
  coordinator_.operation_ended();
}

void ReplicatedWrite::start(Coordinator& coordinator, WriteSpec spec, void* owner,
                            Answered answered) {
  auto* write = new ReplicatedWrite(coordinator, std::move(spec), owner, answered);
  Reactor& reactor = Reactor::current();
  ++coordinator.stats().writes;
  write->version_ = coordinator.clock().next(reactor.wall_us());
  write->deadline_ = reactor.now() + replica_patience;
  reactor.arm(write->timer_, write->deadline_);
  const auto nodes = coordinator.replicas(write->spec_.key, write->spec_.from);
  GYRE_ASSERT(nodes.size() == write->spec_.from && write->spec_.ack >= 1 &&
              write->spec_.ack <= write->spec_.from);
  ++write->asking_;
  for (unsigned rank = 0; rank < nodes.size(); ++rank) {
    write->replicas_[rank].node = nodes[rank];
    write->ask(rank);
  }
  --write->asking_;
  write->settle();
}

PutRequest ReplicatedWrite::request() const {
  return {.tombstone = spec_.tombstone,
          .from = static_cast<uint8_t>(spec_.from),
          .version = version_,
          .expire_at_ms = spec_.expire_at_ms,
          .key = spec_.key,
          .value = spec_.value};
}

void ReplicatedWrite::ask(unsigned rank) {
  Replica& replica = replicas_[rank];
  replica.state = State::asked;
  replica.round = round_;
  replica.under_way = true;
  ++asking_;  // it may answer at once
  if (replica.node == coordinator_.self()) {
    replica.local = std::make_unique<Local>(coordinator_.core(), *this, rank);
    replica.local->start(request());
  } else {
    Remote& remote = replica.remote;
    remote.write = this;
    remote.rank = rank;
    remote.verb = static_cast<uint8_t>(cluster::Verb::put);
    remote.deadline = deadline_;
    request().encode_head(remote.head);
    remote.pieces[0] = {remote.head, sizeof remote.head};
    remote.pieces[1] = spec_.key;
    remote.pieces[2] = spec_.value;
    remote.parts = remote.pieces;
    remote.idempotent = true;
    remote.done = [](peer::Call& self) noexcept {
      auto& call = static_cast<Remote&>(self);
      // Asked twice, it may have been stored by the first.
      if (call.retried()) call.write->nothing_stored_ = false;
      PutReply reply;
      if (call.status != peer::Status::ok || !PutReply::decode(call.reply, reply)) {
        return call.write->failed(call.rank);
      }
      call.write->replied(call.rank, reply);
    };
    if (!coordinator_.link(replica.node).start(remote)) remote.done(remote);
  }
  --asking_;
}

void ReplicatedWrite::replied(unsigned rank, const PutReply& reply) {
  Replica& replica = replicas_[rank];
  replica.under_way = false;
  if (reply.newest) coordinator_.clock().observe(reply.newest.hlc);
  switch (reply.outcome) {
    case WriteOutcome::stored:
      replica.state = State::stored;
      nothing_stored_ = false;
      break;
    case WriteOutcome::superseded:
      if (replica.round == round_ && round_ == 1 && may_restamp()) return restamp(reply.newest);
      replica.state = State::stored;
      break;
    case WriteOutcome::too_large:
      too_large_ = true;
      replica.refused = true;
      replica.state = State::failed;
      break;
    case WriteOutcome::read_only:
    case WriteOutcome::refused:
      replica.refused = true;
      replica.state = State::failed;
      break;
    case WriteOutcome::failed:
      nothing_stored_ = false;  // it may be
      replica.state = State::failed;
      break;
  }
  // Its answer was about the stamp before.
  if (replica.round != round_) ask(rank);
  settle();
}

void ReplicatedWrite::failed(unsigned rank) {
  Replica& replica = replicas_[rank];
  replica.under_way = false;
  replica.state = State::failed;
  if (replica.remote.sent_at != 0) nothing_stored_ = false;  // it may be
  settle();
}

bool ReplicatedWrite::may_restamp() const {
  if (node_test_faults.no_restamp) return false;
  return !is_answered_ || node_test_faults.restamp_late;
}

// Those whose answer has not come are asked when it has.
void ReplicatedWrite::restamp(const Version& above) {
  ++coordinator_.stats().writes_restamped;
  coordinator_.clock().observe(above.hlc);
  version_ = coordinator_.clock().next(Reactor::current().wall_us());
  round_ = 2;
  ++asking_;
  for (unsigned rank = 0; rank < spec_.from; ++rank) {
    if (!replicas_[rank].under_way) ask(rank);
  }
  --asking_;
  settle();
}

void ReplicatedWrite::settle() {
  if (asking_ != 0) return;
  unsigned stored = 0;
  unsigned open = 0;
  bool under_way = false;
  for (unsigned rank = 0; rank < spec_.from; ++rank) {
    const Replica& replica = replicas_[rank];
    under_way = under_way || replica.under_way;
    if (replica.under_way) {
      ++open;
    } else if (replica.state == State::stored) {
      stored += node_test_faults.count_acks_twice ? 2 : 1;
    }
  }
  if (!is_answered_ && stored >= spec_.ack) {
    answer(201, {});
  } else if (!is_answered_ && stored + open < spec_.ack) {
    answer_failure();
  }
  if (under_way) return;
  if (stored < spec_.from) coordinator_.stats().replicas_missed += spec_.from - stored;
  delete this;
}

// Who is only refused may come back: nothing was stored, and everybody who could has said so.
void ReplicatedWrite::answer_failure() {
  bool all_refused = nothing_stored_;
  for (unsigned rank = 0; rank < spec_.from; ++rank) {
    const Replica& replica = replicas_[rank];
    all_refused = all_refused && !replica.under_way && replica.refused;
  }
  if (!all_refused) return answer(504, "Not Enough Replicas");
  if (too_large_)
    return answer(413, "the value is larger than the memory for writes; raise --memory");
  answer(503, "its replicas take no writes now; try again");
}

void ReplicatedWrite::answer(uint16_t status, std::string_view reason) {
  if (std::exchange(is_answered_, true)) return;
  if (status != 201) ++coordinator_.stats().writes_failed;
  answered_(owner_, {.status = status, .version = version_, .reason = reason});
}

}  // namespace gyre
