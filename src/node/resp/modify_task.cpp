#include "node/resp/modify_task.hpp"

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

#include "cluster/modify_messages.hpp"
#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replicated_modify.hpp"
#include "node/resp/error_texts.hpp"
#include "node/resp/key_of.hpp"
#include "node/resp/resp_server.hpp"
#include "node/resp/write_task.hpp"

namespace gyre {

namespace {

constexpr Nanos memory_patience = milliseconds(250);

}  // namespace

ModifyTask::ModifyTask(RespServer& server, std::string_view stored_key, uint64_t key_hash,
                       const ModifySpec& spec, resp::Protocol protocol)
    : StoreTask(server, stored_key),
      key_(stored_key),
      modification_(spec, protocol, server.limits().command.bulk_bytes_max, record, buffer) {
  record.key = key_.view();
  hash = key_hash;
  wants_value = spec.wants_value();
  value_bytes_max = modification_.value_bytes_max();
  compute = [](StoreModify& self, const StoreRead& current, bool present) noexcept {
    return static_cast<ModifyTask&>(self).modification_.apply(current, present);
  };
  StoreWrite::done = [](StoreWrite& self, Errc result) noexcept {
    auto& task = static_cast<ModifyTask&>(self);
    task.ended(task.server_.node().core(task.owner_), result);
  };
}

ModifyTask::~ModifyTask() {
  if (transit_bytes_ != 0) home().transit_memory().release(transit_bytes_);
}

void ModifyTask::start() {
  if (home().has_coordinator()) return start_replicated();
  go();
}

void ModifyTask::start_replicated() {
  is_replicated_ = true;
  const ModifySpec& spec = modification_.spec();
  cluster::ModifyRequest request{.kind = static_cast<uint8_t>(spec.kind),
                                 .protocol = static_cast<uint8_t>(modification_.protocol()),
                                 .flags = spec.flags,
                                 .number = spec.number,
                                 .expire_at_ms = spec.expire_at_ms,
                                 .value_bytes_max = modification_.value_bytes_max(),
                                 .key = key_.view(),
                                 .words = {}};
  const Modification::Words words = modification_.words();
  if (words.size() > 2) {
    const Modification::Words behind = words.subspan(2);
    const auto sent = behind.first(std::min(behind.size(), spec.words_max()));
    request.words.assign(sent.begin(), sent.end());
  }
  if (request.key.empty()) {
    failure_text_ = empty_key_in_cluster;
  } else if (request.words.size() > cluster::ModifyRequest::word_count_max) {
    failure_text_ = error_text::syntax;  // options that are repeated again and again
  }
  if (!failure_text_.empty()) return completed();
  std::string payload = request.encode();
  if (!home().transit_memory().try_acquire(payload.size())) {
    failure_text_ = "TRYAGAIN too many writes wait for slow replicas; try again";
    return completed();
  }
  transit_bytes_ = payload.size();
  ReplicatedModify::start(home().coordinator(), std::move(payload), this,
                          [](void* self, const ModifyAnswer& answer) noexcept {
                            static_cast<ModifyTask*>(self)->take_replicated(answer);
                          });
}

void ModifyTask::take_replicated(const ModifyAnswer& answer) {
  changed_ = answer.changed;
  (answer.failed ? failure_text_ : answer_).assign(answer.text);
  completed();
}

// What a value takes that grows, the shard looks for itself.
void ModifyTask::work(Core& owner) {
  Shard& shard = owner.shard(shard_);
  if (shard.read_only()) return ended(owner, Errc::read_only);
  charged_bytes = charge_for(record.key.size(), modification_.spec().value_bytes);
  if (owner.write_memory().try_acquire(charged_bytes)) return submit(owner);
  shard.memory_wanted();
  if (charged_bytes > owner.write_memory().capacity()) {
    charged_bytes = 0;
    return ended(owner, Errc::too_large);
  }
  owner.scope().spawn(work_with_patience(owner));
}

// Others that wait for memory have come before, so the order stays.
Task<void> ModifyTask::work_with_patience(Core& owner) {
  Result<void> acquired =
      co_await with_timeout<void>(memory_patience, acquire(owner.write_memory(), charged_bytes));
  if (!acquired) {
    charged_bytes = 0;
    ended(owner, owner.shard(shard_).read_only() ? Errc::read_only : Errc::overloaded);
    co_return;
  }
  submit(owner);
}

void ModifyTask::submit(Core& owner) {
  const Errc verdict = owner.shard(shard_).write(*this);
  if (verdict == Errc::ok) return;
  owner.write_memory().release(std::exchange(charged_bytes, 0));
  ended(owner, verdict);
}

// On the owner's core.
void ModifyTask::ended(Core& owner, Errc result) {
  if (result == Errc::corrupt) {
    failure_text_ = "ERR " + failure;
  } else if (result != Errc::ok) {
    failure_text_ = write_failure(owner, shard_, result);
  }
  StoreTask::done();
}

}  // namespace gyre
