// What a shard may hold after a crash: the writes in seq order up to some seq that is not below
// any acknowledged one, and nothing else.
#pragma once

#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "../store/shard_rig.hpp"
#include "store/await_write.hpp"

namespace gyre::test {

// The writes of each key that may still matter, and what readers have to see of them. A write whose
// number is unknown (it is under way, or it was refused) is not seen.
class CrashOracle {
 public:
  struct Write {
    uint64_t seq = 0;
    std::shared_ptr<const std::string> value;  // nothing: a removal
    uint64_t expire_at_ms = 0;
    Version version;

    bool live(uint64_t now_ms) const {
      return value != nullptr && (expire_at_ms == 0 || expire_at_ms > now_ms);
    }
  };
  // Keys and values of one moment, without copies of the values.
  using View = std::map<std::string, std::shared_ptr<const std::string>>;

  uint64_t begin(std::string key, std::optional<std::string> value, uint64_t expire_at_ms = 0) {
    Begun begun{.key = std::move(key)};
    if (value) begun.write.value = std::make_shared<const std::string>(std::move(*value));
    begun.write.expire_at_ms = expire_at_ms;
    begun_.emplace(++last_id_, std::move(begun));
    return last_id_;
  }
  void end(uint64_t id, uint64_t seq, Version version, bool acknowledged) {
    auto begun = begun_.extract(id);
    if (seq == 0) return;  // it never got one, so it may not be found
    Write& write = begun.mapped().write;
    write.seq = seq;
    write.version = version;
    if (acknowledged) visible_through(seq);
    std::vector<Write>& writes = keys_[begun.mapped().key];
    writes.push_back(std::move(write));
    if (!keeps_all_ && writes.size() > 8) prune(writes);
  }
  // Acknowledged writes may be lost from now on (other durabilities than group), the last first.
  void acknowledgements_promise_nothing() { durable_ = false; }
  bool acknowledgements_promise() const { return durable_; }
  // The past will be asked for.
  void keep_all(bool keeps = true) { keeps_all_ = keeps; }
  // Whoever could read a write relies on it.
  void visible_through(uint64_t seq) {
    if (durable_) durable_through(seq);
  }
  void durable_through(uint64_t seq) { acknowledged_seq_ = std::max(acknowledged_seq_, seq); }

  uint64_t acknowledged_seq() const { return acknowledged_seq_; }
  // What a read of `key` has to find when writes are visible up to `seq`; nullptr: nothing.
  std::shared_ptr<const std::string> get_at(uint64_t seq, const std::string& key,
                                            uint64_t now_ms) const {
    const Write* write = winner_at(seq, key);
    return write != nullptr && write->live(now_ms) ? write->value : nullptr;
  }

  const Write* winner_at(uint64_t seq, const std::string& key) const {
    const auto at = keys_.find(key);
    return at == keys_.end() ? nullptr : winner(at->second, seq);
  }

  // The winners among the writes up to `seq` in [start, end), as far as they are not expired.
  View view_at(uint64_t seq, uint64_t now_ms, const std::string& start = "",
               const std::string& end = "") const {
    View view;
    for (auto at = keys_.lower_bound(start); at != keys_.end(); ++at) {
      if (!end.empty() && at->first >= end) break;
      const Write* write = winner(at->second, seq);
      if (write != nullptr && write->live(now_ms))
        view.emplace_hint(view.end(), at->first, write->value);
    }
    return view;
  }

  // "" if a recovery may show `found` with `visible_seq` as the end of the log.
  std::string check(const Contents& found, uint64_t visible_seq, uint64_t now_ms = 0) const {
    if (visible_seq < acknowledged_seq_) {
      return fmt::format("recovered through seq {}, but {} was acknowledged", visible_seq,
                         acknowledged_seq_);
    }
    const std::string wrong = differences(view_at(visible_seq, now_ms), found);
    return wrong.empty() ? "" : fmt::format("not the writes through seq {}:{}", visible_seq, wrong);
  }

  // "" if they are the same.
  static std::string differences(const View& expected, const Contents& found) {
    std::string text;
    for (const auto& [key, value] : expected) {
      const auto at = found.find(key);
      if (at == found.end()) {
        text += fmt::format(" {} is missing;", key);
      } else if (at->second != *value) {
        text += fmt::format(" {} has {} bytes that are not its {};", key, at->second.size(),
                            value->size());
      }
    }
    for (const auto& [key, value] : found) {
      if (!expected.contains(key)) text += fmt::format(" {} is there;", key);
    }
    return text;
  }

  // After a recovery through `visible_seq` was seen: what is in it stays, the rest never was.
  void adopt(uint64_t visible_seq) {
    begun_.clear();
    acknowledged_seq_ = visible_seq;
    for (auto at = keys_.begin(); at != keys_.end();) {
      std::erase_if(at->second, [&](const Write& write) { return write.seq > visible_seq; });
      if (!keeps_all_) prune(at->second);
      at = at->second.empty() ? keys_.erase(at) : std::next(at);
    }
  }

 private:
  struct Begun {
    std::string key;
    Write write;
  };

  static const Write* winner(const std::vector<Write>& writes, uint64_t seq) {
    const Write* best = nullptr;
    for (const Write& write : writes) {
      if (write.seq <= seq && (best == nullptr || write.version > best->version)) best = &write;
    }
    return best;
  }
  // Of what no crash takes back only the winner can be seen again.
  void prune(std::vector<Write>& writes) const {
    const Write* best = winner(writes, acknowledged_seq_);
    if (best == nullptr) return;
    const uint64_t kept = best->seq;
    std::erase_if(writes, [&](const Write& write) {
      return write.seq <= acknowledged_seq_ && write.seq != kept;
    });
  }

  std::map<std::string, std::vector<Write>> keys_;
  std::unordered_map<uint64_t, Begun> begun_;
  uint64_t last_id_ = 0;
  uint64_t acknowledged_seq_ = 0;
  bool durable_ = true;
  bool keeps_all_ = false;
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

// One write that the oracle knows of, with a version of another node if one is given; small values are handed over now as a view, now as a buffer,
// as the server does.
inline Task<Errc> write(Shard& shard, Semaphore& memory, CrashOracle& oracle, std::string key,
                        std::optional<std::string> value, uint64_t expire_at_ms = 0,
                        Version version = {}) {
  const uint64_t id = oracle.begin(key, value, expire_at_ms);
  const size_t charge = StoreWrite::charge_for(key.size(), value ? value->size() : 0);
  const Nanos patience_end = Reactor::current().now() + seconds(10);
  while (!memory.try_acquire(charge)) {
    if (shard.read_only()) co_return Errc::read_only;
    if (Reactor::current().now() > patience_end) {
      oracle.end(id, 0, {}, false);
      co_return Errc::overloaded;
    }
    shard.memory_wanted();
    static_cast<void>(co_await sleep_for(milliseconds(1)));
  }
  oracle.visible_through(shard.visible_seq());
  SequencedWrite write(shard);
  write.record.version = version;
  write.charged_bytes = charge;
  write.record.kind = value ? Kind::value : Kind::tombstone;
  write.record.expire_at_ms = expire_at_ms;
  write.key_bytes = std::move(key);
  write.record.key = write.key_bytes;
  if (value && id % 2 == 0 && value->size() < Memtable::large_value_bytes_min) {
    write.value_bytes = std::move(*value);
    write.record.value = write.value_bytes;
  } else if (value) {
    write.buffer = buffer_of(*value);
    write.record.value_buffer = &write.buffer;
  }
  const Errc status = co_await write;
  if (write.charged_bytes != 0) memory.release(write.charged_bytes);
  oracle.end(id, write.seq, write.record.version, status == Errc::ok);
  co_return status;
}

}  // namespace gyre::test
