#include "node/resp/key_steps.hpp"

#include <utility>

#include <gyre/call.hpp>
#include <gyre/time.hpp>

#include "base/hash.hpp"
#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/replication/await_replicated.hpp"
#include "node/resp/key_of.hpp"
#include "node/resp/modification.hpp"
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

// --- in a cluster ---------------------------------------------------------------------------------

Task<Result<KeyState>> look_at_replicas(Coordinator& coordinator, std::string key,
                                        WantsValue wants) {
  if (key.empty()) co_return KeyState{};
  const uint32_t from = coordinator.default_replicas();
  ReadCopy read = co_await read_replicas(coordinator, std::move(key), from / 2 + 1, from,
                                         wants == WantsValue::yes);
  if (read.status == 503) co_return fail(Errc::overloaded, "OOM no memory for the value now");
  if (read.status == 504) {
    co_return fail(Errc::io, "NOREPLICAS Not enough good replicas to read from.");
  }
  co_return KeyState{.present = read.status == 200,
                     .version = read.version,
                     .expire_at_ms = read.expire_at_ms,
                     .value = std::move(read.value)};
}

// `word` is all that is behind the key.
Task<Result<bool>> modify_at_replicas(RespServer& server, std::string key, ModifySpec spec,
                                      std::string word) {
  if (key.empty()) co_return fail(Errc::invalid, std::string(empty_key_in_cluster));
  const ModifyResult result = co_await modify_replicas(
      server.core().coordinator(), {.kind = static_cast<uint8_t>(spec.kind),
                                    .flags = spec.flags,
                                    .expire_at_ms = spec.expire_at_ms,
                                    .value_bytes_max = server.limits().command.bulk_bytes_max,
                                    .key = key,
                                    .words = {word}});
  if (!result.failure.empty()) co_return fail(Errc::io, result.failure);
  co_return result.changed;
}

}  // namespace

Task<Result<KeyState>> look_at_key(RespServer& server, std::string key, WantsValue wants) {
  if (server.core().has_coordinator()) {
    co_return co_await look_at_replicas(server.core().coordinator(), std::move(key), wants);
  }
  const auto [shard, owner] = place_of(server, key);
  Core* const core = &server.node().core(owner);
  const uint64_t most = server.limits().command.bulk_bytes_max;
  co_return co_await spawn_on(
      owner, [&, shard = shard]() { return look_here(core, shard, &key, wants, most); });
}

Task<Result<bool>> put_key(RespServer& server, std::string key, std::string value,
                           uint64_t expire_at_ms, bool only_if_absent) {
  if (server.core().has_coordinator()) {
    const ModifySpec spec{.kind = ModifyKind::set,
                          .expire_at_ms = expire_at_ms,
                          .flags = only_if_absent ? modify_flag::if_absent : 0u};
    co_return co_await modify_at_replicas(server, std::move(key), spec, std::move(value));
  }
  const auto [shard, owner] = place_of(server, key);
  Core* const core = &server.node().core(owner);
  co_return co_await spawn_on(owner, [&, shard = shard]() {
    return put_here(core, shard, &key, &value, expire_at_ms, only_if_absent);
  });
}

Task<Result<bool>> remove_key(RespServer& server, std::string key, Version version) {
  if (server.core().has_coordinator()) {
    co_return co_await modify_at_replicas(
        server, std::move(key), {.kind = ModifyKind::remove_version}, version_word(version));
  }
  const auto [shard, owner] = place_of(server, key);
  Core* const core = &server.node().core(owner);
  co_return co_await spawn_on(
      owner, [&, shard = shard]() { return remove_here(core, shard, &key, version); });
}

}  // namespace gyre
