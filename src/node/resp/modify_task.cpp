#include "node/resp/modify_task.hpp"

#include <utility>

#include <gyre/time.hpp>

#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/resp/resp_server.hpp"
#include "node/resp/write_task.hpp"

namespace gyre {

namespace {

constexpr Nanos memory_patience = milliseconds(250);

}  // namespace

ModifyTask::ModifyTask(RespServer& server, std::string_view stored_key, uint64_t key_hash,
                       size_t value_bytes)
    : StoreTask(server, stored_key), key_(stored_key), value_bytes_(value_bytes) {
  record.key = key_.view();
  hash = key_hash;
  value_bytes_max = server.limits().command.bulk_bytes_max;
  compute = [](StoreModify& self, const StoreRead& current, bool present) noexcept {
    return static_cast<ModifyTask&>(self).apply(current, present);
  };
  StoreWrite::done = [](StoreWrite& self, Errc result) noexcept {
    auto& task = static_cast<ModifyTask&>(self);
    task.ended(task.server_.node().core(task.owner_), result);
  };
}

// What a value takes that grows, the shard looks for itself.
void ModifyTask::work(Core& owner) {
  Shard& shard = owner.shard(shard_);
  if (shard.read_only()) return ended(owner, Errc::read_only);
  charged_bytes = charge_for(record.key.size(), value_bytes_);
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

// --- what is made --------------------------------------------------------------------------------

StoreModify::Act ModifyTask::set(std::string_view value, uint64_t expire_at_ms) {
  if (value.size() >= Memtable::large_value_bytes_min) {
    return set_made(ValueBuffer(value), expire_at_ms);
  }
  record.kind = Kind::value;
  record.expire_at_ms = expire_at_ms;
  record.value = value;
  record.value_buffer = nullptr;
  return Act::write;
}

StoreModify::Act ModifyTask::set_made(std::string&& value, uint64_t expire_at_ms) {
  made_ = std::move(value);
  return set(made_, expire_at_ms);
}

StoreModify::Act ModifyTask::set_made(ValueBuffer&& value, uint64_t expire_at_ms) {
  buffer = std::move(value);
  record.kind = Kind::value;
  record.expire_at_ms = expire_at_ms;
  record.value = {};
  record.value_buffer = &buffer;
  return Act::write;
}

StoreModify::Act ModifyTask::keep(const StoreRead& current, uint64_t expire_at_ms) {
  if (current.large) return set_made(current.large_buffer.share(), expire_at_ms);
  return set_made(std::string(current.value), expire_at_ms);
}

StoreModify::Act ModifyTask::remove() {
  record.kind = Kind::tombstone;
  record.expire_at_ms = 0;
  record.value = {};
  record.value_buffer = nullptr;
  return Act::write;
}

}  // namespace gyre
