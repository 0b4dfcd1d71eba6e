#include "node/resp/write_task.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include <gyre/time.hpp>

#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replicated_write.hpp"
#include "node/resp/key_of.hpp"
#include "node/resp/resp_server.hpp"

namespace gyre {

namespace {

// How long a write waits for memory before the client is told to come back.
constexpr Nanos memory_patience = milliseconds(250);
// A longer value goes to the store in a buffer of its own.
constexpr size_t view_bytes_max = 16u << 10;
constexpr std::string_view no_memory = "OOM no memory for the value now; try again";

}  // namespace

std::string write_failure(Core& owner, uint32_t shard, Errc result) {
  switch (result) {
    case Errc::ok:
      return "";
    case Errc::too_large:
      return "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    case Errc::io:
      return "MISCONF the disk failed during this write; whether it is stored shows after a "
             "restart: " +
             owner.shard(shard).read_only_reason();
    case Errc::read_only:
      return "MISCONF " + owner.shard(shard).read_only_reason();
    default:
      return "TRYAGAIN " + owner.shard(shard).refusal_reason();
  }
}

WriteTask::WriteTask(RespServer& server, std::string_view stored_key, uint64_t key_hash)
    : StoreTask(server, stored_key), key_(stored_key) {
  write_.hash = key_hash;
  write_.task = this;
  write_.record.key = key_.view();
}

WriteTask::~WriteTask() {
  if (transit_bytes_ != 0) home().transit_memory().release(transit_bytes_);
}

void WriteTask::be_value(std::string_view value, uint64_t expire_at_ms) {
  write_.record.kind = Kind::value;
  write_.record.expire_at_ms = expire_at_ms;
  view_ = value;
}

void WriteTask::be_tombstone() {
  write_.record.kind = Kind::tombstone;
}

bool WriteTask::reserve_transit(uint64_t bytes) {
  bytes = std::min(bytes, home().transit_memory().capacity() - transit_bytes_);
  if (!home().transit_memory().try_acquire(bytes)) return false;
  transit_bytes_ += bytes;
  return true;
}

void WriteTask::detach() {
  if (view_.empty() || view_.data() == inline_) return;
  if (view_.size() <= sizeof inline_) {
    std::memcpy(inline_, view_.data(), view_.size());
    view_ = {inline_, view_.size()};
    return;
  }
  if (reserve_transit(view_.size())) {
    write_.buffer.expect(view_.size());
    write_.buffer.append(view_);
  } else {
    failure_ = no_memory;
  }
  view_ = {};
}

void WriteTask::start() {
  if (!failure_.empty()) return completed();
  if (home().has_coordinator()) return start_replicated();
  if (!at_home() || view_.size() > view_bytes_max) detach();
  if (!failure_.empty()) return completed();
  go();
}

void WriteTask::start_replicated() {
  Coordinator& coordinator = home().coordinator();
  if (const std::string reason = coordinator.clock_refusal(); !reason.empty()) {
    failure_ = "TRYAGAIN " + reason;
    return completed();
  }
  if (key_.view().empty()) {
    failure_ = empty_key_in_cluster;
    return completed();
  }
  const uint32_t from = coordinator.default_replicas();
  WriteSpec spec{.key = std::string(key_.view()),
                 .value = write_.buffer.empty() ? std::string(view_) : write_.buffer.to_string(),
                 .tombstone = write_.record.kind == Kind::tombstone,
                 .expire_at_ms = write_.record.expire_at_ms,
                 .ack = from / 2 + 1,
                 .from = from};
  write_.buffer.clear();
  const uint64_t needed = spec.key.size() + spec.value.size();
  if (transit_bytes_ < needed && !reserve_transit(needed - transit_bytes_)) {
    failure_ = "TRYAGAIN too many writes wait for slow replicas; try again";
    return completed();
  }
  spec.transit_bytes = std::exchange(transit_bytes_, 0);
  ReplicatedWrite::start(coordinator, std::move(spec), this,
                         [](void* self, const WriteAnswer& answer) noexcept {
                           static_cast<WriteTask*>(self)->take_replicated(answer);
                         });
}

void WriteTask::take_replicated(const WriteAnswer& answer) {
  if (answer.status == 504) {
    failure_ = "NOREPLICAS Not enough good replicas to write.";
  } else if (answer.status == 413) {
    failure_ = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
  } else if (answer.status != 201) {
    failure_ = "TRYAGAIN " + std::string(answer.reason);
  }
  completed();
}

void WriteTask::work(Core& owner) {
  // Nothing gives memory back any more: do not wait for it.
  if (owner.shard(shard_).read_only()) return ended(owner, Errc::read_only);
  const size_t value_bytes = write_.buffer.empty() ? view_.size() : write_.buffer.size();
  write_.charged_bytes = StoreWrite::charge_for(write_.record.key.size(), value_bytes);
  if (owner.write_memory().try_acquire(write_.charged_bytes)) return submit(owner);
  owner.shard(shard_).memory_wanted();
  if (write_.charged_bytes > owner.write_memory().capacity()) {
    write_.charged_bytes = 0;
    failure_ = "OOM the value is larger than the memory for writes; raise --memory";
    return done();
  }
  if (at_home()) detach();
  if (!failure_.empty()) {
    write_.charged_bytes = 0;
    return done();
  }
  owner.scope().spawn(work_with_patience(owner));
}

// Others that wait for memory have come before, so the order stays.
Task<void> WriteTask::work_with_patience(Core& owner) {
  Result<void> acquired = co_await with_timeout<void>(
      memory_patience, acquire(owner.write_memory(), write_.charged_bytes));
  if (!acquired) {
    write_.charged_bytes = 0;
    ended(owner, owner.shard(shard_).read_only() ? Errc::read_only : Errc::overloaded);
    co_return;
  }
  submit(owner);
}

void WriteTask::submit(Core& owner) {
  if (write_.buffer.empty()) {
    write_.record.value = view_;
  } else {
    write_.record.value_buffer = &write_.buffer;
  }
  write_.done = [](StoreWrite& self, Errc result) noexcept {
    WriteTask& task = *static_cast<Write&>(self).task;
    task.ended(task.server_.node().core(task.owner_), result);
  };
  const Errc verdict = owner.shard(shard_).write(write_);
  if (verdict == Errc::ok) return;
  owner.write_memory().release(std::exchange(write_.charged_bytes, 0));
  ended(owner, verdict);
}

// On the owner's core.
void WriteTask::ended(Core& owner, Errc result) {
  if (result != Errc::ok) failure_ = write_failure(owner, shard_, result);
  done();
}

}  // namespace gyre
