// What a reader of a key may still be told, from the writes that this generator made and heard the
// answers of. It finds lost and stale values without assuming any order between writes that were
// under way at the same time.
//
// A write that was sent while no other write of its key was under way comes after all earlier
// ones. Once it is acknowledged, it is the key's barrier: whoever asks after that must be shown it
// or something newer; and if it is a value, "not found" is right only if a delete was sent later.
// A write with an unknown end (its connection broke, or it was refused) may still take effect at
// any time: nothing is claimed of its key any more.
//
// One thread must make all writes of a key, and nobody else may write it.
#pragma once

#include <cstdint>
#include <vector>

namespace gyre::load {

class Ledger {
 public:
  explicit Ledger(uint64_t keys) : keys_(keys) {}

  // Answers whether the write is alone; to be handed to write_ended.
  bool write_sent(uint64_t key, uint64_t sequence, bool deletes) {
    Key& state = keys_[key];
    if (deletes) state.newest_delete = sequence;
    return state.writes_under_way++ == 0;
  }
  void write_ended(uint64_t key, uint64_t sequence, bool acknowledged, bool alone) {
    Key& state = keys_[key];
    --state.writes_under_way;
    if (!acknowledged) state.doubtful = true;
    if (acknowledged && alone && sequence > state.barrier) state.barrier = sequence;
  }
  // What a read that is sent now must be shown at least; 0 if nothing is known.
  uint64_t barrier(uint64_t key) const { return keys_[key].doubtful ? 0 : keys_[key].barrier; }
  // Of a read that was sent when the barrier was `barrier`.
  bool may_be_absent(uint64_t key, uint64_t barrier) const {
    return barrier == 0 || keys_[key].doubtful || keys_[key].newest_delete >= barrier;
  }
  bool may_be(uint64_t key, uint64_t barrier, uint64_t sequence) const {
    return sequence >= barrier || keys_[key].doubtful;
  }

 private:
  struct Key {
    uint64_t barrier = 0;
    uint64_t newest_delete = 0;
    uint32_t writes_under_way = 0;
    bool doubtful = false;
  };
  std::vector<Key> keys_;
};

}  // namespace gyre::load
