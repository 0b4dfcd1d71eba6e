#include "node/replication/await_replicated.hpp"

#include <utility>

#include <gyre/sync.hpp>

#include "node/core.hpp"
#include "node/replication/replicated_modify.hpp"
#include "node/replication/replicated_read.hpp"

namespace gyre {

ReadCopy::ReadCopy(ReadCopy&& other) noexcept {
  *this = std::move(other);
}

ReadCopy& ReadCopy::operator=(ReadCopy&& other) noexcept {
  std::swap(status, other.status);
  std::swap(version, other.version);
  std::swap(expire_at_ms, other.expire_at_ms);
  std::swap(value_bytes, other.value_bytes);
  std::swap(value, other.value);
  std::swap(core_, other.core_);
  std::swap(transit_bytes_, other.transit_bytes_);
  return *this;
}

ReadCopy::~ReadCopy() {
  if (transit_bytes_ != 0) core_->transit_memory().release(transit_bytes_);
}

struct ReadWait {
  ReadWait(Core& core, bool wants) : wants_value(wants) { copy.core_ = &core; }

  void take(const ReadAnswer& answer) {
    copy.status = answer.status;
    copy.version = answer.version;
    copy.expire_at_ms = answer.expire_at_ms;
    copy.value_bytes = answer.value.size();
    if (wants_value && !answer.value.empty()) {
      if (copy.core_->transit_memory().try_acquire(answer.value.size())) {
        copy.transit_bytes_ = answer.value.size();
        copy.value.assign(answer.value);
      } else {
        copy.status = 503;
      }
    }
    came.set();
  }

  ReadCopy copy;
  bool wants_value;
  Event came;
};

Task<ReadCopy> read_replicas(Coordinator& coordinator, std::string key, uint32_t ack, uint32_t from,
                             bool wants_value) {
  ReadWait wait(coordinator.core(), wants_value);
  ReplicatedRead::start(coordinator, key, ack, from, &wait,
                        [](void* self, const ReadAnswer& answer) noexcept {
                          static_cast<ReadWait*>(self)->take(answer);
                        });
  co_await detail::Uninterrupted{wait.came};
  co_return std::move(wait.copy);
}

namespace {
struct WriteWait {
  WriteResult result;
  Event came;
};
}  // namespace

Task<WriteResult> write_replicas(Coordinator& coordinator, WriteSpec spec) {
  WriteWait wait;
  const uint64_t bytes = spec.key.size() + spec.value.size();
  if (!coordinator.core().transit_memory().try_acquire(bytes)) {
    co_return WriteResult{503, "too many writes wait for slow replicas; try again"};
  }
  spec.transit_bytes = bytes;
  ReplicatedWrite::start(coordinator, std::move(spec), &wait,
                         [](void* self, const WriteAnswer& answer) noexcept {
                           auto& write = *static_cast<WriteWait*>(self);
                           write.result.status = answer.status;
                           write.result.reason = answer.reason;
                           write.came.set();
                         });
  co_await detail::Uninterrupted{wait.came};
  co_return std::move(wait.result);
}

namespace {
struct ModifyWait {
  ModifyResult result;
  Event came;
};
}  // namespace

Task<ModifyResult> modify_replicas(Coordinator& coordinator, cluster::ModifyRequest request) {
  ModifyWait wait;
  std::string payload = request.encode();
  const uint64_t bytes = payload.size();
  Semaphore& memory = coordinator.core().transit_memory();
  if (!memory.try_acquire(bytes)) {
    co_return ModifyResult{.answer = {},
                           .failure = "TRYAGAIN too many writes wait for slow replicas; try again"};
  }
  ReplicatedModify::start(
      coordinator, std::move(payload), &wait, [](void* self, const ModifyAnswer& answer) noexcept {
        auto& modify = *static_cast<ModifyWait*>(self);
        modify.result.changed = answer.changed;
        (answer.failed ? modify.result.failure : modify.result.answer) = answer.text;
        modify.came.set();
      });
  co_await detail::Uninterrupted{wait.came};
  memory.release(bytes);
  co_return std::move(wait.result);
}

}  // namespace gyre
