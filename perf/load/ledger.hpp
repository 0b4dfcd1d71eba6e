// What a reader of a key may still be told, from the writes that this generator made and heard the
// answers of. It finds lost and stale values without assuming any order between writes that were
// under way at the same time.
//
// A write that was sent while no other write of its key was under way comes after all earlier
// ones. Once it is acknowledged, it is the key's barrier: whoever asks after that must be shown it
// or something newer; and if it is a value, "not found" is right only if a delete was sent later.
// A write that was not acknowledged is no barrier. One that was refused (503, 4xx) was not done, so a
// refused delete doesn't explain that a key is absent. One with an unknown end (no answer, or 500)
// may have been done: it is newer than the key's barrier, so its value or its absence is right until
// the next barrier. By then it is settled: a server must not take effect of a write that it has
// given up after a later one was acknowledged.
//
// Keys that an earlier run has stored have a barrier that every value is newer than, and that no
// delete is older than: something must be there.
//
// All threads share one ledger, so it does not matter who writes which key; sequences are given out
// under the key's lock, so that their order is the order of sending. Nobody else may write the
// keys. A slot is for one key at a time: where new keys are written all the time, the oldest are
// forgotten, and nothing is claimed of them.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace gyre::load {

class Ledger {
 public:
  // Remembers the last `slots` keys in number order; the first write gets `first_sequence`. The
  // keys below `stored` are known to be there.
  Ledger(uint64_t slots, uint64_t first_sequence, uint64_t stored = 0)
      : slots_(slots), sequences_(first_sequence) {
    for (uint64_t key = 0; key < std::min(stored, slots); ++key) {
      slots_[key] = {.key = key, .barrier = barrier_of_stored};
    }
  }

  struct Sent {
    uint64_t sequence;
    bool alone;                // to be handed to write_ended
    uint64_t previous_delete;  // of the key
  };
  enum class End : uint8_t { acknowledged, refused, unknown };
  Sent write_sent(uint64_t key, bool deletes) {
    const std::lock_guard lock(mutex_of(key));
    Slot& slot = slots_[key % slots_.size()];
    if (slot.key != key) slot = {.key = key};
    const uint64_t sequence = sequences_.fetch_add(1, std::memory_order_relaxed);
    const uint64_t previous =
        deletes ? std::exchange(slot.newest_delete, sequence) : slot.newest_delete;
    return {
        .sequence = sequence, .alone = slot.writes_under_way++ == 0, .previous_delete = previous};
  }
  void write_ended(uint64_t key, const Sent& sent, End end) {
    const std::lock_guard lock(mutex_of(key));
    Slot& slot = slots_[key % slots_.size()];
    if (slot.key != key) return;
    --slot.writes_under_way;
    if (end == End::acknowledged && sent.alone && sent.sequence > slot.barrier) {
      slot.barrier = sent.sequence;
    }
    if (end == End::refused && slot.newest_delete == sent.sequence) {
      slot.newest_delete = sent.previous_delete;
    }
  }
  // What a read that is sent now must be shown at least; 0 if nothing is known.
  uint64_t barrier(uint64_t key) {
    const std::lock_guard lock(mutex_of(key));
    const Slot& slot = slots_[key % slots_.size()];
    return slot.key != key ? 0 : slot.barrier;
  }
  // Of a read that was sent when the barrier was `barrier`.
  bool may_be_absent(uint64_t key, uint64_t barrier) {
    const std::lock_guard lock(mutex_of(key));
    const Slot& slot = slots_[key % slots_.size()];
    return barrier == 0 || slot.key != key || slot.newest_delete >= barrier;
  }
  bool may_be(uint64_t key, uint64_t barrier, uint64_t sequence) {
    const std::lock_guard lock(mutex_of(key));
    const Slot& slot = slots_[key % slots_.size()];
    return sequence >= barrier || slot.key != key;
  }

 private:
  static constexpr uint64_t barrier_of_stored = 1;
  struct Slot {
    uint64_t key = UINT64_MAX;
    uint64_t barrier = 0;
    uint64_t newest_delete = 0;
    uint32_t writes_under_way = 0;
  };
  struct alignas(64) Stripe {
    std::mutex mutex;
  };
  std::mutex& mutex_of(uint64_t key) { return stripes_[key % slots_.size() % 256].mutex; }

  std::vector<Slot> slots_;
  std::array<Stripe, 256> stripes_;
  std::atomic<uint64_t> sequences_;
};

}  // namespace gyre::load
