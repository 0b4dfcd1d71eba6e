// Writes that this replica took and of which it does not know yet whether every other replica has
// them. The coordinator's all-acked notice ends that; what no notice comes for is owed.
//
// A write is known by its version, which is unique. Entries are kept in the order they came, in
// memory that is taken once; finding one costs a hash.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <gyre/backend.hpp>
#include <gyre/version.hpp>

#include "cluster/handoff/peer_set.hpp"

namespace gyre::cluster {

struct UnconfirmedWrite {
  Version version;
  uint32_t slot = 0;
  PeerNumber coordinator = no_peer;  // no_peer: this node
  PeerSet others;
};

class UnconfirmedWrites {
 public:
  // At most `capacity` writes: 72 bytes each, and 8 for the index.
  explicit UnconfirmedWrites(uint32_t capacity);

  // False if there is no room. A version that is held already is left as it is.
  bool take(const UnconfirmedWrite& write, Nanos now);
  // The shard has it, visibly: from now on it may be owed. False if it is not held (any more).
  bool written(Version version);
  // False if it is not held (any more).
  bool confirm(Version version);

  // Takes out the oldest written one that came before `before`.
  bool take_expired(Nanos before, UnconfirmedWrite& out);
  // Takes out the written ones of this coordinator, oldest first: one pass, however many there are.
  template <class Function>  // (const UnconfirmedWrite&)
  void take_of(PeerNumber coordinator, Function function) {
    for (uint32_t i = oldest_; i != none;) {
      const Entry& entry = entries_[i];
      const uint32_t newer = entry.newer;
      if (entry.write.coordinator == coordinator && entry.written) {
        function(entry.write);
        remove(i);
      }
      i = newer;
    }
  }
  // The oldest of all, written or not.
  bool take_any(UnconfirmedWrite& out);

  uint32_t size() const { return size_; }
  uint32_t capacity() const { return static_cast<uint32_t>(entries_.size()); }
  // No held write has a smaller stamp; all ones if none is held. Costs O(writes).
  uint64_t oldest_hlc() const;

 private:
  static constexpr uint32_t none = ~uint32_t{0};
  struct Entry {
    UnconfirmedWrite write;
    Nanos taken_at = 0;
    bool written = false;
    uint32_t next_in_bucket = none;
    uint32_t newer = none;  // in order of arrival; of free entries, the next free one
    uint32_t older = none;
  };

  uint32_t& bucket_of(Version version);
  uint32_t find(Version version);
  void remove(uint32_t index);

  std::vector<Entry> entries_;
  std::vector<uint32_t> buckets_;
  uint32_t free_ = none;
  uint32_t oldest_ = none;
  uint32_t newest_ = none;
  uint32_t size_ = 0;
};

}  // namespace gyre::cluster
