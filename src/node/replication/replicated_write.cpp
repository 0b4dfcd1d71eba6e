#include "node/replication/replicated_write.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "node/core.hpp"
#include "node/replication/replica_call.hpp"
#include "node/replication/test_faults.hpp"

namespace gyre {

using cluster::PutReply;
using cluster::PutRequest;
using cluster::ReplicaReply;
using cluster::WriteOutcome;

struct ReplicatedWrite::Remote final : ReplicaCall {
  Remote(ReplicatedWrite& of, unsigned at) : write(of), rank(at) {}
  ReplicatedWrite& write;
  unsigned rank;
};

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
        ReplicatedWrite& write = static_cast<PatienceTimer&>(self).write;
        write.quorum_.expired();
        write.drive();
      }),
      write(of) {}

ReplicatedWrite::ReplicatedWrite(Coordinator& coordinator, WriteSpec spec, void* owner,
                                 Answered answered)
    : coordinator_(coordinator),
      spec_(std::move(spec)),
      owner_(owner),
      answered_(answered),
      quorum_(spec_.ack, spec_.from) {
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
  write->version_ = write->spec_.stamp ? write->spec_.stamp : write->new_version();
  write->deadline_ = reactor.now() + replica_patience;
  reactor.arm(write->timer_, write->deadline_);
  const auto nodes = coordinator.replicas(write->spec_.key, write->spec_.from);
  GYRE_ASSERT(nodes.size() == write->spec_.from);
  for (unsigned rank = 0; rank < nodes.size(); ++rank) write->replicas_[rank].node = nodes[rank];
  write->drive();
}

// What happens within a step is fed in, and seen by the next one.
void ReplicatedWrite::drive() {
  using Do = cluster::WriteQuorum::Do;
  if (driving_) return;
  driving_ = true;
  for (;;) {
    const cluster::WriteQuorum::Step step = quorum_.next();
    switch (step.what) {
      case Do::ask:
        ask(step.rank);
        break;
      case Do::restamp:
        restamp();
        break;
      case Do::answer_stored:
        answer(201, {});
        break;
      case Do::answer_failed:
        answer_failed();
        break;
      case Do::answer_refused:
        if (hidden_by_ != 0) {
          answer_failed();
        } else if (too_large_) {
          answer(413, "the value is larger than the memory for writes; raise --memory");
        } else if (future_stamp_) {
          answer(503,
                 "the key has a value that a clock far ahead has stamped: no write would be newer "
                 "until that time has come");
        } else {
          answer(503, "its replicas take no writes now; try again");
        }
        break;
      case Do::wait:
        driving_ = false;
        return;
      case Do::finished:
        end();
        delete this;
        return;
    }
  }
}

// It says for how many replicas the write is: that is how stores remember it.
Version ReplicatedWrite::new_version() const {
  return coordinator_.clock().next(Reactor::current().wall_us(),
                                   node_test_faults.copies_forgotten ? 0 : spec_.from);
}

PutRequest ReplicatedWrite::request() const {
  return {.tombstone = spec_.tombstone,
          .from = static_cast<uint8_t>(spec_.from),
          .coordinator = coordinator_.self(),
          .version = version_,
          .expire_at_ms = spec_.expire_at_ms,
          .key = spec_.key,
          .value = spec_.value};
}

void ReplicatedWrite::ask(unsigned rank) {
  Replica& replica = replicas_[rank];
  if (replica.node == coordinator_.self()) {
    replica.local = std::make_unique<Local>(coordinator_.core(), *this, rank);
    replica.local->start(request());
    return;
  }
  if (!replica.remote) replica.remote = std::make_unique<Remote>(*this, rank);
  Remote& remote = *replica.remote;
  remote.done = [](peer::Call& self) noexcept {
    auto& call = static_cast<Remote&>(self);
    ReplicatedWrite& write = call.write;
    write.coordinator_.call_ended(write.replicas_[call.rank].node, call);
    PutReply reply;
    if (call.status != peer::Status::ok || !PutReply::decode(call.reply, reply)) {
      return write.failed(call.rank);
    }
    write.replied(call.rank, reply);
  };
  remote.put(coordinator_.link(replica.node), request(), deadline_);
}

void ReplicatedWrite::replied(unsigned rank, const PutReply& reply) {
  ReplicaReply said = ReplicaReply::unknown;
  switch (reply.outcome) {
    case WriteOutcome::stored:
      said = ReplicaReply::stored;
      break;
    case WriteOutcome::superseded:
      // No stamp that others would take is above one of a far future.
      if (!coordinator_.is_credible(reply.newest.hlc) && !node_test_faults.clock_unbounded) {
        future_stamp_ = true;
        said = ReplicaReply::refused;
        break;
      }
      superseded_by_ = std::max(superseded_by_, reply.newest);
      if (spec_.stamp) {
        ++hidden_by_;
        said = ReplicaReply::refused;
        break;
      }
      said = node_test_faults.no_restamp ? ReplicaReply::stored : ReplicaReply::superseded;
      break;
    case WriteOutcome::too_large:
      too_large_ = true;
      said = ReplicaReply::refused;
      break;
    case WriteOutcome::read_only:
    case WriteOutcome::refused:
      said = ReplicaReply::refused;
      break;
    case WriteOutcome::failed:
      break;  // it may be there
  }
  // Asked twice, it may have been stored by the first.
  const Remote* remote = replicas_[rank].remote.get();
  if (said == ReplicaReply::refused && remote != nullptr && remote->retried())
    said = ReplicaReply::unknown;
  if (said == ReplicaReply::stored) ++stored_by_;
  if (said == ReplicaReply::refused) ++lacked_by_;
  quorum_.replied(rank, said);
  drive();
}

void ReplicatedWrite::failed(unsigned rank) {
  const peer::Call& call = *replicas_[rank].remote;
  const bool refused =
      (call.status == peer::Status::busy || call.status == peer::Status::closing ||
       call.status == peer::Status::clock_ahead || call.status == peer::Status::overloaded) &&
      !call.retried();
  if (refused) {
    ++lacked_by_;
    quorum_.replied(rank, ReplicaReply::refused);
  } else {
    if (call.sent_at == 0) ++lacked_by_;
    quorum_.replied(rank, call.sent_at == 0 ? ReplicaReply::unsent : ReplicaReply::unknown);
  }
  drive();
}

void ReplicatedWrite::restamp() {
  ++coordinator_.stats().writes_restamped;
  if (!node_test_faults.stamp_not_merged) coordinator_.clock().observe(superseded_by_.hlc);
  first_version_ = version_;
  version_ = new_version();
}

void ReplicatedWrite::end() {
  EndedWrite write{.key = spec_.key,
                   .version = version_,
                   .first_version = first_version_,
                   .must_not_be_forgotten = spec_.tombstone || spec_.expire_at_ms != 0};
  const cluster::RankSet stored = quorum_.stored();
  const cluster::RankSet missed = quorum_.missed();
  for (unsigned rank = 0; rank < spec_.from; ++rank) {
    if ((stored >> rank & 1) != 0) write.stored.push_back(replicas_[rank].node);
    if ((missed >> rank & 1) != 0) write.missed.push_back(replicas_[rank].node);
  }
  coordinator_.stats().replicas_missed += write.missed.size();
  if (spec_.from > 1) coordinator_.notices().ended(write);
}

void ReplicatedWrite::answer_failed() {
  constexpr std::string_view hidden = "something newer was written meanwhile";
  if (hidden_by_ >= spec_.ack && lacked_by_ == spec_.from) return answer(409, hidden);
  if (hidden_by_ != 0 && hidden_by_ + stored_by_ >= spec_.ack) return answer(410, hidden);
  answer(504, "Not Enough Replicas");
}

void ReplicatedWrite::answer(uint16_t status, std::string_view reason) {
  if (status != 201) ++coordinator_.stats().writes_failed;
  answered_(owner_, {.status = status, .version = version_, .reason = reason});
}

}  // namespace gyre
