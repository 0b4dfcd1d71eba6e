// What one core of the proxy remembers of the origin: values, and keys that have none.
//
// Eviction: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP '23),
// after the paper: a new entry enters the small queue (a tenth of the capacity); at its end one
// that was hit more than once moves to the main queue, another leaves and the ghost remembers its
// hash; one that the ghost remembers enters the main queue at once; at the main queue's end one
// that was hit goes round again with one hit less. LRU instead, for comparison, is the main queue
// alone, in which a hit moves an entry to the front. Limits are in bytes and in keys, both hold.
//
// Time: an entry is fresh, then it may be served while it is fetched anew, then only if the origin
// does not answer, then it is gone: removed when it is asked for, and by a timing wheel (Varghese
// and Lauck, SOSP '87, scheme 6) that `expire` turns, so that what nobody asks for holds no memory.
//
// Epochs: who fetches a key takes epoch() first; insert() refuses if the key was invalidated since,
// so an answer that is older than an invalidation never lands. Keys share 4096 counters: a
// neighbour's invalidation may refuse a fill, which costs a fetch and never a wrong value. So may
// the invalidation of a group of keys (the slots of a cluster), whichever.
//
// Single-threaded. Views of entries are valid until the next call that changes the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <gyre/backend.hpp>

#include "base/ghost_fifo.hpp"

namespace gyre::proxy {

enum class Eviction : uint8_t { s3_fifo, lru };

struct CacheOptions {
  size_t bytes_max = 64u << 20;  // entries as charge_bytes() counts them, and the tables
  size_t keys_max = 1000;
  Eviction eviction = Eviction::s3_fifo;
  uint64_t hash_seed = 0;  // random: then nobody can choose keys that share a bucket
  size_t groups = 0;       // of keys, that can be invalidated together; 0 is as one
};

// The ends of an entry's phases, each not before the one above it.
struct Lifetime {
  Nanos fresh_until = 0;
  Nanos revalidate_until = 0;  // may be served if somebody fetches it anew
  Nanos error_until = 0;       // may be served if the origin does not answer; then it is removed
};

enum class Freshness : uint8_t { absent, fresh, revalidate, on_error };

struct Found {
  Freshness freshness = Freshness::absent;
  bool negative = false;  // the origin has no such key
  std::string_view value;
  Nanos stored_at = 0;
};

struct CacheStats {
  uint64_t hits = 0;           // fresh ones
  uint64_t negative_hits = 0;  // of these, keys without a value
  uint64_t stale_hits = 0;     // in the phase `revalidate`
  uint64_t misses = 0;
  uint64_t inserted = 0;
  uint64_t outdated = 0;   // not inserted: invalidated since they were fetched
  uint64_t too_large = 0;  // not inserted
  uint64_t evicted = 0;
  uint64_t expired = 0;
  uint64_t invalidated = 0;
};

class Cache {
 public:
  // Of the capacity: what one entry may take, so that none pushes out all others.
  static constexpr size_t entry_share = 8;

  explicit Cache(const CacheOptions& options);
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  uint64_t hash_of(std::string_view key) const;

  // Lookups of keys of these hashes are about to come: their cache misses begin, first for where all
  // of them are noted, then for what that leads to.
  void expect(uint64_t hash) const { __builtin_prefetch(&buckets_[hash & (buckets_.size() - 1)]); }
  void at_hand(uint64_t hash) const {
    const Entry* const entry = buckets_[hash & (buckets_.size() - 1)];
    if (entry == nullptr) return;
    __builtin_prefetch(entry, 1);
    __builtin_prefetch(reinterpret_cast<const char*>(entry) + 64);
    __builtin_prefetch(reinterpret_cast<const char*>(entry) + 128);
  }

  // Counts as a use. Removes what is past its last phase.
  Found lookup(std::string_view key, uint64_t hash, Nanos now);
  // As it is, without counting: what can be served when the origin does not answer.
  Found peek(std::string_view key, uint64_t hash, Nanos now) const;

  uint64_t epoch(uint64_t hash) const { return generation_ + epochs_[hash % epochs_.size()]; }
  // False if the key was invalidated since `epoch` was taken, or is too large. `group`: of the key.
  bool insert(std::string_view key, uint64_t hash, uint64_t epoch, std::string_view value,
              bool negative, const Lifetime& lifetime, Nanos now, uint16_t group = 0);

  // The origin's value changed, or is about to. True if there was an entry.
  bool invalidate(std::string_view key, uint64_t hash);
  // Anything may have changed. With `keep_for_errors`, entries that may be served while the origin
  // does not answer stay for that, and only for that. Takes no time: what is outdated goes as what
  // has expired does.
  void invalidate_all(bool keep_for_errors);
  // The same for the keys of some groups.
  void invalidate_groups(std::span<const uint16_t> groups, bool keep_for_errors);

  // Removes entries that are past their last phase, looking at no more than `most`; returns
  // true if there is more to look at now.
  bool expire(Nanos now, size_t most);

  size_t keys() const { return count_; }
  size_t bytes() const { return bytes_ + table_bytes(); }
  const CacheOptions& options() const { return options_; }
  const CacheStats& stats() const { return stats_; }
  static size_t charge_bytes(size_t key_bytes, size_t value_bytes);

  static constexpr Nanos wheel_tick = milliseconds(16);

 private:
  struct Entry;
  enum class QueueName : uint8_t { small, main };
  struct Queue {
    Entry* newest = nullptr;
    Entry* oldest = nullptr;
    size_t bytes = 0;
    size_t count = 0;
  };
  struct Slot {
    Entry* first = nullptr;
    Entry* last = nullptr;
    size_t count = 0;
  };

  Entry* find(std::string_view key, uint64_t hash) const;
  Freshness freshness_of(const Entry& entry, Nanos now) const;
  Entry** bucket_of(uint64_t hash) { return &buckets_[hash & (buckets_.size() - 1)]; }
  Queue& queue_of(QueueName name) { return name == QueueName::small ? small_ : main_; }
  void push(QueueName name, Entry* entry);
  void unlink(Entry* entry);
  void wheel_add(Entry* entry);
  void wheel_remove(Entry* entry);
  void remove(Entry* entry);
  void evict_one();
  void make_room();
  void grow_table();
  size_t table_bytes() const { return buckets_.size() * sizeof(Entry*) + ghost_.bytes(); }
  Slot& slot_of(Nanos at);
  bool is_outdated(const Entry& entry) const;
  bool is_kept(const Entry& entry) const;

  CacheOptions options_;
  std::vector<Entry*> buckets_;
  GhostFifo ghost_;
  Queue small_;
  Queue main_;
  size_t count_ = 0;
  size_t bytes_ = 0;  // of entries
  std::vector<Slot> wheel_;
  int64_t wheel_turned_to_ = 0;  // ticks before this one have been looked at
  size_t slot_left_ = 0;         // entries of that tick's slot not looked at yet
  bool slot_begun_ = false;
  uint64_t generation_ = 0;  // of what is inserted
  struct Validity {
    uint64_t since = 0;       // what is of an earlier generation is outdated
    uint64_t kept_since = 0;  // those from this one on may be served on errors
  };
  Validity all_;
  std::vector<Validity> groups_;
  std::vector<uint64_t> epochs_;
  CacheStats stats_;
};

}  // namespace gyre::proxy
