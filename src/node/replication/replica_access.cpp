#include "node/replication/replica_access.hpp"

#include <utility>

#include <gyre/call.hpp>
#include <gyre/time.hpp>

#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/replication/shard_handoff.hpp"
#include "node/replication/test_faults.hpp"
#include "store/scan.hpp"

namespace gyre {

using cluster::ReadState;
using cluster::WriteOutcome;

namespace {

// How long a write waits for memory before it is refused.
constexpr Nanos memory_patience = milliseconds(250);

WriteOutcome outcome_of(Errc result) {
  switch (result) {
    case Errc::ok:
      return WriteOutcome::stored;
    case Errc::too_large:
      return WriteOutcome::too_large;
    case Errc::read_only:
      return WriteOutcome::read_only;
    case Errc::io:
      return node_test_faults.failed_write_counts ? WriteOutcome::stored : WriteOutcome::failed;
    default:
      return WriteOutcome::refused;
  }
}

}  // namespace

void ReplicaAccess::go(std::string_view key) {
  Node& node = home_.node();
  shard_ = node.shard_for(key);
  owner_ = node.owner_of(shard_);
  if (owner_ == home_.index()) {
    work(home_);
    return;
  }
  deliver = [](Message& self, Reactor&) noexcept {
    auto& access = static_cast<ReplicaAccess&>(self);
    access.work(access.home_.node().core(access.owner_));
  };
  Reactor::current().send(owner_, *this);
}

void ReplicaAccess::go_back() {
  if (owner_ == home_.index()) {
    finished_(*this);
    return;
  }
  deliver = [](Message& self, Reactor&) noexcept {
    auto& access = static_cast<ReplicaAccess&>(self);
    access.finished_(access);
  };
  Reactor::current().send(home_.index(), *this);
}

// --- writing ------------------------------------------------------------------------------------

void ReplicaPut::start(const cluster::PutRequest& request) {
  key_.assign(request.key);
  repair_ = request.repair;
  from_ = request.from;
  coordinator_ = request.coordinator;
  record.kind = request.tombstone ? Kind::tombstone : Kind::value;
  record.version = request.version;
  record.expire_at_ms = request.expire_at_ms;
  record.key = key_;
  buffer.append(request.value);
  if (!buffer.empty()) record.value_buffer = &buffer;
  StoreWrite::done = [](StoreWrite& self, Errc result) noexcept {
    static_cast<ReplicaPut&>(self).ended(outcome_of(result));
  };
  go(key_);
}

void ReplicaPut::work(Core& owner) {
  Shard& shard = owner.shard(shard_);
  switch (shard.try_find_newer(key_, record.version, reply_.newest)) {
    case ReadOutcome::found:
      return ended(WriteOutcome::superseded);
    case ReadOutcome::absent:
      return reserve(owner);
    case ReadOutcome::wait:
      owner.scope().spawn(look_for_newer(owner));
  }
}

Task<void> ReplicaPut::look_for_newer(Core& owner) {
  const Result<bool> newer =
      co_await owner.shard(shard_).find_newer(key_, record.version, reply_.newest);
  if (!newer) {
    // What can't be read may be newer: a write that might be hidden by it is no success.
    ended(WriteOutcome::refused);
  } else if (*newer) {
    ended(WriteOutcome::superseded);
  } else {
    reserve(owner);
  }
}

void ReplicaPut::reserve(Core& owner) {
  Shard& shard = owner.shard(shard_);
  if (shard.read_only()) return ended(WriteOutcome::read_only);
  charged_bytes = charge_for(key_.size(), buffer.size());
  if (owner.write_memory().try_acquire(charged_bytes)) return hold(owner);
  shard.memory_wanted();
  if (charged_bytes > owner.write_memory().capacity()) {
    charged_bytes = 0;
    return ended(WriteOutcome::too_large);
  }
  owner.scope().spawn(reserve_with_patience(owner));
}

Task<void> ReplicaPut::reserve_with_patience(Core& owner) {
  const Result<void> acquired =
      co_await with_timeout<void>(memory_patience, acquire(owner.write_memory(), charged_bytes));
  if (acquired) {
    hold(owner);
    co_return;
  }
  charged_bytes = 0;
  ended(owner.shard(shard_).read_only() ? WriteOutcome::read_only : WriteOutcome::refused);
}

// From here on the write counts as unconfirmed: it is not forgotten, whatever becomes of its
// coordinator. Who sends a repair sees to the other replicas himself; but nothing that hides older
// values may be purged here before all of them have it.
void ReplicaPut::hold(Core& owner) {
  const bool hides = record.kind == Kind::tombstone || record.expire_at_ms != 0;
  ShardHandoff* const handoff = owner.handoff(shard_);
  cluster::Taken taken{};
  if (handoff == nullptr || (repair_ && !hides) ||
      !handoff->take(key_, record.version, from_, coordinator_, taken)) {
    return submit(owner);
  }
  if (taken == cluster::Taken::refused) {
    owner.write_memory().release(std::exchange(charged_bytes, 0));
    return ended(WriteOutcome::refused);
  }
  holder_ = handoff;
  if (taken == cluster::Taken::held) return submit(owner);
  owner.scope().spawn(hold_durably(owner));
}

Task<void> ReplicaPut::hold_durably(Core& owner) {
  if (co_await holder_->commit()) {
    submit(owner);
    co_return;
  }
  owner.write_memory().release(std::exchange(charged_bytes, 0));
  ended(WriteOutcome::refused);
}

void ReplicaPut::submit(Core& owner) {
  const Errc verdict = owner.shard(shard_).write(*this);
  if (verdict == Errc::ok) return;
  owner.write_memory().release(std::exchange(charged_bytes, 0));
  ended(outcome_of(verdict));
}

void ReplicaPut::ended(WriteOutcome outcome) {
  if (holder_ != nullptr && outcome == WriteOutcome::stored) {
    holder_->written(record.version);
  } else if (holder_ != nullptr && outcome != WriteOutcome::failed) {
    holder_->confirm(record.version);  // it is not here; one that failed may be
  }
  reply_.outcome = outcome;
  if (outcome != WriteOutcome::superseded) reply_.newest = {};
  go_back();
}

// --- reading ------------------------------------------------------------------------------------

void ReplicaGet::start(std::string_view key, uint32_t value_bytes_max, bool tried) {
  key_.assign(key);
  tried_ = tried;
  value_bytes_max_ = value_bytes_max;
  go(key_);
}

void ReplicaGet::work(Core& owner) {
  if (tried_ && &owner == &home_) {
    owner.scope().spawn(work_slowly(owner));
    return;
  }
  StoreRead read;
  const ReadOutcome outcome = owner.shard(shard_).try_get(key_, Reactor::current().wall_ms(), read);
  if (outcome == ReadOutcome::wait || !take_now(read, outcome == ReadOutcome::found)) {
    owner.scope().spawn(work_slowly(owner));
    return;
  }
  go_back();
}

Task<void> ReplicaGet::work_slowly(Core& owner) {
  StoreRead read;
  const Result<bool> found =
      co_await owner.shard(shard_).get(key_, Reactor::current().wall_ms(), read);
  Result<void> taken = found ? Result<void>{} : Result<void>(fail(found.error()));
  if (taken) taken = co_await take(std::move(read), *found);
  if (!taken) {
    Reactor::current().log("error", "event=read_failed " + taken.error().message());
    reply_ = {};
    if (node_test_faults.failed_read_finds_nothing) reply_.state = ReadState::never;
    value_.clear();
  }
  go_back();
}

bool ReplicaGet::try_now(Core& home, std::string_view key, uint32_t value_bytes_max,
                         StoreRead& read, cluster::GetReply& reply) {
  const Node& node = home.node();
  const uint32_t shard = node.shard_for(key);
  if (node.owner_of(shard) != home.index()) return false;
  const ReadOutcome outcome = home.shard(shard).try_get(key, Reactor::current().wall_ms(), read);
  return outcome != ReadOutcome::wait &&
         describe(read, outcome == ReadOutcome::found, value_bytes_max, reply);
}

// False: the value has to be read from the disk.
bool ReplicaGet::describe(const StoreRead& read, bool found, uint32_t value_bytes_max,
                          cluster::GetReply& reply) {
  reply.version = read.version;
  if (!found) {
    reply.state = read.version ? ReadState::dead : ReadState::never;
    return true;
  }
  reply.state = ReadState::live;
  reply.expire_at_ms = read.expire_at_ms;
  reply.value_bytes = read.size_bytes;
  if (read.size_bytes > value_bytes_max) return true;
  if (read.large) return false;
  reply.value = read.value;
  return true;
}

bool ReplicaGet::take_now(const StoreRead& read, bool found) {
  if (!describe(read, found, value_bytes_max_, reply_)) return false;
  value_.assign(reply_.value);
  reply_.value = value_;
  return true;
}

Task<Result<void>> ReplicaGet::take(StoreRead read, bool found) {
  if (take_now(read, found)) co_return Result<void>{};
  value_.reserve(read.size_bytes);
  Result<LargeValueStream> stream = LargeValueStream::open(std::move(read));
  if (!stream) co_return fail(stream.error());
  for (;;) {
    const Result<std::string_view> piece = co_await stream->next();
    if (!piece) co_return fail(piece.error());
    if (piece->empty()) break;
    value_.append(*piece);
  }
  reply_.value = value_;
  co_return Result<void>{};
}

}  // namespace gyre
