#include "node/resp/key_steps.hpp"

#include <utility>

#include <gyre/call.hpp>
#include <gyre/time.hpp>

#include "base/hash.hpp"
#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/resp/resp_server.hpp"
#include "node/resp/write_task.hpp"
#include "store/await_write.hpp"

namespace gyre {

namespace {

constexpr Nanos memory_patience = milliseconds(250);

// One look at a key, which may change it.
struct Step : AwaitModify {
  Step(Shard& shard, std::string_view key) : AwaitModify(shard) {
    record.key = key;
    compute = [](StoreModify& self, const StoreRead& current, bool present) noexcept {
      return static_cast<Step&>(self).apply(current, present);
    };
  }

  Act apply(const StoreRead& current, bool present) {
    state.present = present;
    state.version = current.version;
    state.expire_at_ms = present ? current.expire_at_ms : 0;
    if (present && wants_value) {
      state.value = current.large ? current.large_buffer.to_string() : current.value;
    }
    changes = (put != nullptr && !(only_if_absent && present)) ||
              (removes && present && current.version == if_version);
    if (!changes) return Act::leave;
    record.kind = removes ? Kind::tombstone : Kind::value;
    record.expire_at_ms = expire_at_ms;
    if (!removes && put->size() < Memtable::large_value_bytes_min) {
      record.value = *put;
    } else if (!removes) {
      buffer = ValueBuffer(*put);
      record.value_buffer = &buffer;
    }
    return Act::write;
  }

  KeyState state;
  const std::string* put = nullptr;
  uint64_t expire_at_ms = 0;
  bool only_if_absent = false;
  bool removes = false;
  Version if_version;
  bool changes = false;
};

Task<Result<void>> take_step(Core& owner, uint32_t shard_number, Step& step, size_t value_bytes) {
  Shard& shard = owner.shard(shard_number);
  const auto failed = [&](Errc code) {
    return fail(Errc::io, write_failure(owner, shard_number, code));
  };
  if (shard.read_only()) co_return failed(Errc::read_only);
  const size_t bytes = StoreWrite::charge_for(step.record.key.size(), value_bytes);
  if (bytes > owner.write_memory().capacity()) co_return failed(Errc::too_large);
  if (!owner.write_memory().try_acquire(bytes)) {
    shard.memory_wanted();
    if (!co_await with_timeout<void>(memory_patience, acquire(owner.write_memory(), bytes))) {
      co_return failed(Errc::overloaded);
    }
  }
  step.charged_bytes = bytes;
  const Errc status = co_await step;
  if (step.charged_bytes != 0) owner.write_memory().release(step.charged_bytes);
  if (status == Errc::ok) co_return Result<void>{};
  if (status == Errc::corrupt) co_return fail(Errc::corrupt, "ERR " + step.failure);
  co_return failed(status);
}

struct Place {
  uint32_t shard;
  unsigned owner;
};
Place place_of(RespServer& server, std::string_view key) {
  const uint32_t shard = server.node().shard_for(key);
  return {shard, server.node().owner_of(shard)};
}

// On the owner's core; what they are given outlives them.
Task<Result<KeyState>> look_here(Core* owner, uint32_t shard, const std::string* key,
                                 WantsValue wants, uint64_t value_bytes_max) {
  Step step(owner->shard(shard), *key);
  step.wants_value = wants == WantsValue::yes;
  step.value_bytes_max = value_bytes_max;
  if (Result<void> done = co_await take_step(*owner, shard, step, 0); !done) {
    co_return fail(done.error());
  }
  co_return std::move(step.state);
}

Task<Result<bool>> put_here(Core* owner, uint32_t shard, const std::string* key,
                            const std::string* value, uint64_t expire_at_ms, bool only_if_absent) {
  Step step(owner->shard(shard), *key);
  step.wants_value = false;
  step.put = value;
  step.expire_at_ms = expire_at_ms;
  step.only_if_absent = only_if_absent;
  if (Result<void> done = co_await take_step(*owner, shard, step, value->size()); !done) {
    co_return fail(done.error());
  }
  co_return step.changes;
}

Task<Result<bool>> remove_here(Core* owner, uint32_t shard, const std::string* key,
                               Version version) {
  Step step(owner->shard(shard), *key);
  step.wants_value = false;
  step.removes = true;
  step.if_version = version;
  if (Result<void> done = co_await take_step(*owner, shard, step, 0); !done) {
    co_return fail(done.error());
  }
  co_return step.changes;
}

}  // namespace

Task<Result<KeyState>> look_at_key(RespServer& server, std::string key, WantsValue wants) {
  const auto [shard, owner] = place_of(server, key);
  Core* const core = &server.node().core(owner);
  const uint64_t most = server.limits().command.bulk_bytes_max;
  co_return co_await spawn_on(
      owner, [&, shard = shard]() { return look_here(core, shard, &key, wants, most); });
}

Task<Result<bool>> put_key(RespServer& server, std::string key, std::string value,
                           uint64_t expire_at_ms, bool only_if_absent) {
  const auto [shard, owner] = place_of(server, key);
  Core* const core = &server.node().core(owner);
  co_return co_await spawn_on(owner, [&, shard = shard]() {
    return put_here(core, shard, &key, &value, expire_at_ms, only_if_absent);
  });
}

Task<Result<bool>> remove_key(RespServer& server, std::string key, Version version) {
  const auto [shard, owner] = place_of(server, key);
  Core* const core = &server.node().core(owner);
  co_return co_await spawn_on(
      owner, [&, shard = shard]() { return remove_here(core, shard, &key, version); });
}

}  // namespace gyre
