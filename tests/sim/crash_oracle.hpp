// What a shard may hold after a crash: the writes in seq order up to some seq that is not below
// any acknowledged one, and nothing else.
#pragma once

#include <fmt/format.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../store/shard_rig.hpp"
#include "store/await_write.hpp"

namespace gyre::test {

class CrashOracle {
 public:
  struct Write {
    uint64_t seq = 0;  // 0: it never got one, so it may not be found
    std::string key;
    std::optional<std::string> value;  // nothing: a removal
    uint64_t expire_at_ms = 0;
    Version version;
    bool acknowledged = false;
  };

  size_t begin(std::string key, std::optional<std::string> value, uint64_t expire_at_ms = 0) {
    writes_.push_back(
        {.key = std::move(key), .value = std::move(value), .expire_at_ms = expire_at_ms});
    return writes_.size() - 1;
  }
  void end(size_t index, uint64_t seq, Version version, bool acknowledged) {
    Write& write = writes_[index];
    write.seq = seq;
    write.version = version;
    write.acknowledged = acknowledged;
    if (acknowledged && durable_) acknowledged_seq_ = std::max(acknowledged_seq_, seq);
  }
  // Acknowledged writes may be lost from now on (other durabilities than group), the last first.
  void acknowledgements_promise_nothing() { durable_ = false; }

  uint64_t acknowledged_seq() const { return acknowledged_seq_; }

  // The winners among the writes up to `seq`, as far as they are not expired.
  Contents contents_at(uint64_t seq, uint64_t now_ms = 0) const {
    std::map<std::string, const Write*> winners;
    for (const Write& write : writes_) {
      if (write.seq == 0 || write.seq > seq) continue;
      const Write*& winner = winners[write.key];
      if (winner == nullptr || write.version > winner->version) winner = &write;
    }
    Contents contents;
    for (const auto& [key, write] : winners) {
      const bool expired = write->expire_at_ms != 0 && write->expire_at_ms <= now_ms;
      if (write->value && !expired) contents[key] = *write->value;
    }
    return contents;
  }
  Contents contents(uint64_t now_ms = 0) const { return contents_at(UINT64_MAX, now_ms); }

  // "" if a recovery may show `found` with `visible_seq` as the end of the log.
  std::string check(const Contents& found, uint64_t visible_seq, uint64_t now_ms = 0) const {
    if (visible_seq < acknowledged_seq_) {
      return fmt::format("recovered through seq {}, but {} was acknowledged", visible_seq,
                         acknowledged_seq_);
    }
    const Contents expected = contents_at(visible_seq, now_ms);
    if (found == expected) return "";
    return fmt::format("not the writes through seq {}:{}", visible_seq,
                       differences(expected, found));
  }

  static std::string differences(const Contents& expected, const Contents& found) {
    std::string text;
    for (const auto& [key, value] : expected) {
      const auto at = found.find(key);
      if (at == found.end()) {
        text += fmt::format(" {} is missing;", key);
      } else if (at->second != value) {
        text += fmt::format(" {} has {} bytes that are not its {};", key, at->second.size(),
                            value.size());
      }
    }
    for (const auto& [key, value] : found) {
      if (!expected.contains(key)) text += fmt::format(" {} is there;", key);
    }
    return text;
  }

  // After a recovery through `visible_seq` was seen: what is in it stays, the rest never was.
  void adopt(uint64_t visible_seq) {
    std::erase_if(writes_,
                  [&](const Write& write) { return write.seq == 0 || write.seq > visible_seq; });
    for (Write& write : writes_) write.acknowledged = true;
    acknowledged_seq_ = visible_seq;
  }

 private:
  std::vector<Write> writes_;
  uint64_t acknowledged_seq_ = 0;
  bool durable_ = true;
};

// A write whose caller's bytes are nobody's business once the shard has it.
struct SequencedWrite : AwaitWrite {
  using AwaitWrite::AwaitWrite;
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> handle) {
    const bool waits = AwaitWrite::await_suspend(handle);
    key_bytes.assign(key_bytes.size(), '#');
    value_bytes.assign(value_bytes.size(), '#');
    return waits;
  }

  std::string key_bytes;
  std::string value_bytes;
};

// One write that the oracle knows of; small values are handed over now as a view, now as a buffer,
// as the server does.
inline Task<Errc> write(Shard& shard, Semaphore& memory, CrashOracle& oracle, std::string key,
                        std::optional<std::string> value, uint64_t expire_at_ms = 0) {
  const size_t index = oracle.begin(key, value, expire_at_ms);
  const size_t charge = StoreWrite::charge_for(key.size(), value ? value->size() : 0);
  const Nanos patience_end = Reactor::current().now() + seconds(10);
  while (!memory.try_acquire(charge)) {
    if (shard.read_only()) co_return Errc::read_only;
    if (Reactor::current().now() > patience_end) {
      oracle.end(index, 0, {}, false);
      co_return Errc::overloaded;
    }
    shard.memory_wanted();
    static_cast<void>(co_await sleep_for(milliseconds(1)));
  }
  SequencedWrite write(shard);
  write.charged_bytes = charge;
  write.record.kind = value ? Kind::value : Kind::tombstone;
  write.record.expire_at_ms = expire_at_ms;
  write.key_bytes = std::move(key);
  write.record.key = write.key_bytes;
  if (value && index % 2 == 0 && value->size() < Memtable::large_value_bytes_min) {
    write.value_bytes = std::move(*value);
    write.record.value = write.value_bytes;
  } else if (value) {
    write.buffer = buffer_of(*value);
    write.record.value_buffer = &write.buffer;
  }
  const Errc status = co_await write;
  if (write.charged_bytes != 0) memory.release(write.charged_bytes);
  oracle.end(index, write.seq, write.record.version, status == Errc::ok);
  co_return status;
}

}  // namespace gyre::test
