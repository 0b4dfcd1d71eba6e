// Read-modify-write for tests: a function from the newest value to the next one.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "../sim/crash_oracle.hpp"
#include "shard_rig.hpp"
#include "store/await_write.hpp"

namespace gyre::test {

struct Made {
  std::optional<std::string> value;  // nothing: a removal
  uint64_t expire_at_ms = 0;
};
// Answers nothing to leave the key as it is.
using Make = std::function<std::optional<Made>(const std::optional<std::string>& current)>;

// As of its last computation.
struct ModifyEnd {
  Errc status = Errc::ok;
  unsigned computed = 0;
  std::optional<std::string> seen;
  Version seen_version;
  uint64_t seen_seq = 0;
  uint64_t now_ms = 0;
  std::optional<Made> made;
  uint64_t seq = 0;
  Version version;
};

struct TestModify : AwaitModify {
  TestModify(Shard& to, std::string of, Make with)
      : AwaitModify(to), key(std::move(of)), make(std::move(with)) {
    record.key = key;
    compute = [](StoreModify& self, const StoreRead& current, bool present) noexcept {
      return static_cast<TestModify&>(self).make_value(current, present);
    };
  }

  Act make_value(const StoreRead& current, bool present) {
    ++end.computed;
    end.now_ms = Reactor::current().wall_ms();
    end.seen_version = current.version;
    end.seen_seq = current.seq;
    end.seen.reset();
    if (present) end.seen = current.large ? current.large_buffer.to_string() : current.value;
    end.made = make(end.seen);
    if (!end.made) return Act::leave;
    record.kind = end.made->value ? Kind::value : Kind::tombstone;
    record.expire_at_ms = end.made->expire_at_ms;
    record.value = {};
    record.value_buffer = nullptr;
    if (!end.made->value) return Act::write;
    if (end.made->value->size() < Memtable::large_value_bytes_min) {
      record.value = *end.made->value;
    } else {
      buffer = buffer_of(*end.made->value);
      record.value_buffer = &buffer;
    }
    return Act::write;
  }

  std::string key;
  Make make;
  ModifyEnd end;
};

// With `charge` bytes acquired before, as a caller does who doesn't know the value yet.
inline Task<ModifyEnd> modify(Shard& shard, Semaphore& memory, std::string key, Make make,
                              size_t charge = 512) {
  while (!memory.try_acquire(charge)) {
    if (shard.read_only()) co_return ModifyEnd{.status = Errc::read_only};
    shard.memory_wanted();
    static_cast<void>(co_await sleep_for(milliseconds(1)));
  }
  TestModify write(shard, std::move(key), std::move(make));
  write.charged_bytes = charge;
  write.end.status = co_await write;
  if (write.charged_bytes != 0) memory.release(write.charged_bytes);
  write.end.seq = write.seq;
  write.end.version = write.record.version;
  co_return std::move(write.end);
}

// One that the oracle knows of.
inline Task<ModifyEnd> modify(Shard& shard, Semaphore& memory, CrashOracle& oracle, std::string key,
                              Make make) {
  oracle.visible_through(shard.visible_seq());
  ModifyEnd end = co_await modify(shard, memory, key, std::move(make));
  if (end.seq != 0) {
    const uint64_t id = oracle.begin(std::move(key), end.made->value, end.made->expire_at_ms);
    oracle.end(id, end.seq, end.version, end.status == Errc::ok);
  } else if (end.status == Errc::ok) {
    oracle.visible_through(end.seen_seq);
  }
  co_return end;
}

inline std::optional<Made> incremented(const std::optional<std::string>& current) {
  return Made{.value = std::to_string((current ? std::stoll(*current) : 0) + 1)};
}

// Only if there is none.
inline Make set_if_absent(std::string value) {
  return [value = std::move(value)](const std::optional<std::string>& current) {
    return current ? std::nullopt : std::optional(Made{.value = value});
  };
}

inline Make appending(std::string more) {
  return [more = std::move(more)](const std::optional<std::string>& current) {
    return std::optional(Made{.value = current.value_or("") + more});
  };
}

}  // namespace gyre::test
