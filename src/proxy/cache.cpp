#include "proxy/cache.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/assert.hpp"
#include "base/hash.hpp"

namespace gyre::proxy {

namespace {

constexpr size_t small_queue_share = 10;  // of the capacity, one in so many
constexpr uint8_t hits_max = 3;           // two bits are enough, says the paper
constexpr size_t wheel_slots = 1024;      // one turn takes 16 s
constexpr size_t epoch_counters = 4096;
constexpr size_t allocation_bytes = 16;  // what an allocator rounds to, and adds

}  // namespace

// The key and the value follow it in the same allocation.
struct Cache::Entry {
  Entry* bucket_next = nullptr;
  Entry* newer = nullptr;
  Entry* older = nullptr;
  Entry* slot_next = nullptr;
  Entry* slot_previous = nullptr;
  uint64_t hash = 0;
  Lifetime lifetime;
  Nanos stored_at = 0;
  uint64_t generation = 0;
  uint32_t key_bytes = 0;
  uint32_t value_bytes = 0;
  uint8_t hits = 0;
  bool negative = false;
  uint16_t group = 0;
  QueueName queue = QueueName::small;

  char* bytes() { return reinterpret_cast<char*>(this + 1); }
  std::string_view key() const { return {reinterpret_cast<const char*>(this + 1), key_bytes}; }
  std::string_view value() const { return {key().data() + key_bytes, value_bytes}; }
  size_t charge() const { return charge_bytes(key_bytes, value_bytes); }
};

bool Cache::is_outdated(const Entry& entry) const {
  return entry.generation < all_.since ||
         (!groups_.empty() && entry.generation < groups_[entry.group].since);
}

bool Cache::is_kept(const Entry& entry) const {
  return entry.generation >= all_.kept_since &&
         (groups_.empty() || entry.generation >= groups_[entry.group].kept_since);
}

Freshness Cache::freshness_of(const Entry& entry, Nanos now) const {
  if (is_outdated(entry)) {
    const bool kept =
        is_kept(entry) && entry.lifetime.error_until > entry.lifetime.revalidate_until;
    return kept && now < entry.lifetime.error_until ? Freshness::on_error : Freshness::absent;
  }
  if (now < entry.lifetime.fresh_until) return Freshness::fresh;
  if (now < entry.lifetime.revalidate_until) return Freshness::revalidate;
  return now < entry.lifetime.error_until ? Freshness::on_error : Freshness::absent;
}

size_t Cache::charge_bytes(size_t key_bytes, size_t value_bytes) {
  const size_t size = sizeof(Entry) + key_bytes + value_bytes;
  return (size + 2 * allocation_bytes - 1) / allocation_bytes * allocation_bytes;
}

Cache::Cache(const CacheOptions& options)
    : options_(options),
      buckets_(64, nullptr),
      wheel_(wheel_slots),
      groups_(options.groups),
      epochs_(epoch_counters) {
  options_.keys_max = std::max<size_t>(options_.keys_max, 1);
}

Cache::~Cache() {
  while (count_ != 0) remove(small_.oldest != nullptr ? small_.oldest : main_.oldest);
}

uint64_t Cache::hash_of(std::string_view key) const {
  return hash64(key, options_.hash_seed);
}

Cache::Entry* Cache::find(std::string_view key, uint64_t hash) const {
  Entry* entry = buckets_[hash & (buckets_.size() - 1)];
  while (entry != nullptr && (entry->hash != hash || entry->key() != key))
    entry = entry->bucket_next;
  return entry;
}

Found Cache::lookup(std::string_view key, uint64_t hash, Nanos now) {
  Entry* const entry = find(key, hash);
  const Freshness freshness = entry == nullptr ? Freshness::absent : freshness_of(*entry, now);
  if (freshness == Freshness::absent || freshness == Freshness::on_error) {
    ++stats_.misses;
    if (entry != nullptr && freshness == Freshness::absent) {
      // Its successor is as wanted as it was.
      if (entry->queue == QueueName::main) ghost_.add(entry->hash);
      ++stats_.expired;
      remove(entry);
      return {};
    }
    if (entry == nullptr) return {};
  } else if (freshness == Freshness::fresh) {
    ++stats_.hits;
    stats_.negative_hits += entry->negative;
  } else {
    ++stats_.stale_hits;
  }
  if (entry->hits < hits_max) ++entry->hits;
  if (options_.eviction == Eviction::lru && main_.newest != entry) {
    unlink(entry);
    push(QueueName::main, entry);
  }
  return {freshness, entry->negative, entry->value(), entry->stored_at};
}

Found Cache::peek(std::string_view key, uint64_t hash, Nanos now) const {
  const Entry* const entry = find(key, hash);
  if (entry == nullptr) return {};
  return {freshness_of(*entry, now), entry->negative, entry->value(), entry->stored_at};
}

bool Cache::insert(std::string_view key, uint64_t hash, uint64_t epoch, std::string_view value,
                   bool negative, const Lifetime& lifetime, Nanos now, uint16_t group) {
  GYRE_ASSERT(lifetime.fresh_until <= lifetime.revalidate_until &&
              lifetime.revalidate_until <= lifetime.error_until);
  if (epoch != this->epoch(hash)) {
    ++stats_.outdated;
    return false;
  }
  Entry* const old = find(key, hash);
  uint8_t hits = 0;
  bool in_main = options_.eviction == Eviction::lru;
  if (old != nullptr) {
    hits = old->hits;
    in_main = in_main || old->queue == QueueName::main;
    remove(old);
  }
  const size_t charge = charge_bytes(key.size(), value.size());
  if (charge > options_.bytes_max / entry_share || key.size() > UINT32_MAX ||
      value.size() > UINT32_MAX) {
    ++stats_.too_large;
    return false;
  }
  if (lifetime.error_until <= now) return false;
  void* const memory = ::operator new(sizeof(Entry) + key.size() + value.size());
  auto* const entry = new (memory) Entry;
  entry->hash = hash;
  entry->lifetime = lifetime;
  entry->stored_at = now;
  entry->generation = generation_;
  entry->key_bytes = static_cast<uint32_t>(key.size());
  entry->value_bytes = static_cast<uint32_t>(value.size());
  entry->hits = hits;
  entry->negative = negative;
  entry->group = group;
  std::memcpy(entry->bytes(), key.data(), key.size());
  if (!value.empty()) std::memcpy(entry->bytes() + key.size(), value.data(), value.size());
  Entry** const bucket = bucket_of(hash);
  entry->bucket_next = *bucket;
  *bucket = entry;
  ++count_;
  bytes_ += charge;
  in_main = in_main || ghost_.take(hash, std::max(count_, GhostFifo::entries_min));
  push(in_main ? QueueName::main : QueueName::small, entry);
  wheel_add(entry);
  ++stats_.inserted;
  if (count_ > buckets_.size()) grow_table();
  make_room();
  return true;
}

bool Cache::invalidate(std::string_view key, uint64_t hash) {
  ++epochs_[hash % epochs_.size()];
  Entry* const entry = find(key, hash);
  if (entry == nullptr) return false;
  ++stats_.invalidated;
  remove(entry);
  return true;
}

void Cache::invalidate_all(bool keep_for_errors) {
  all_.since = ++generation_;
  if (!keep_for_errors) all_.kept_since = generation_;
}

void Cache::invalidate_groups(std::span<const uint16_t> groups, bool keep_for_errors) {
  ++generation_;
  for (const uint16_t group : groups) {
    groups_[group].since = generation_;
    if (!keep_for_errors) groups_[group].kept_since = generation_;
  }
}

// --- queues --------------------------------------------------------------------------------------

void Cache::push(QueueName name, Entry* entry) {
  Queue& queue = queue_of(name);
  entry->queue = name;
  entry->newer = nullptr;
  entry->older = queue.newest;
  (queue.newest != nullptr ? queue.newest->newer : queue.oldest) = entry;
  queue.newest = entry;
  queue.bytes += entry->charge();
  ++queue.count;
}

void Cache::unlink(Entry* entry) {
  Queue& queue = queue_of(entry->queue);
  (entry->newer != nullptr ? entry->newer->older : queue.newest) = entry->older;
  (entry->older != nullptr ? entry->older->newer : queue.oldest) = entry->newer;
  queue.bytes -= entry->charge();
  --queue.count;
}

void Cache::remove(Entry* entry) {
  Entry** link = bucket_of(entry->hash);
  while (*link != entry) link = &(*link)->bucket_next;
  *link = entry->bucket_next;
  unlink(entry);
  wheel_remove(entry);
  --count_;
  bytes_ -= entry->charge();
  entry->~Entry();
  ::operator delete(entry);
}

void Cache::make_room() {
  while (count_ > options_.keys_max || (bytes() > options_.bytes_max && count_ != 0)) evict_one();
}

// Ends because the small queue shrinks with every step, and the main queue forgets a hit.
void Cache::evict_one() {
  for (;;) {
    const bool from_small =
        main_.count == 0 ||
        (small_.count != 0 &&
         (small_.bytes > options_.bytes_max / small_queue_share ||
          small_.count > std::max<size_t>(options_.keys_max / small_queue_share, 1)));
    Entry* const entry = from_small ? small_.oldest : main_.oldest;
    const bool stays = from_small                               ? entry->hits > 1
                       : options_.eviction == Eviction::s3_fifo ? entry->hits > 0
                                                                : false;
    if (!stays) {
      if (from_small) ghost_.add(entry->hash);
      ++stats_.evicted;
      remove(entry);
      return;
    }
    entry->hits = from_small ? 0 : static_cast<uint8_t>(entry->hits - 1);
    unlink(entry);
    push(QueueName::main, entry);
  }
}

void Cache::grow_table() {
  std::vector<Entry*> larger(buckets_.size() * 2, nullptr);
  for (Entry* entry : buckets_) {
    while (entry != nullptr) {
      Entry* const next = entry->bucket_next;
      Entry*& bucket = larger[entry->hash & (larger.size() - 1)];
      entry->bucket_next = bucket;
      bucket = entry;
      entry = next;
    }
  }
  buckets_ = std::move(larger);
  ghost_.resize(buckets_.size());
}

// --- the wheel -----------------------------------------------------------------------------------

Cache::Slot& Cache::slot_of(Nanos at) {
  return wheel_[static_cast<size_t>(at / wheel_tick) % wheel_slots];
}

void Cache::wheel_add(Entry* entry) {
  Slot& slot = slot_of(entry->lifetime.error_until);
  entry->slot_next = nullptr;
  entry->slot_previous = slot.last;
  (slot.last != nullptr ? slot.last->slot_next : slot.first) = entry;
  slot.last = entry;
  ++slot.count;
}

void Cache::wheel_remove(Entry* entry) {
  Slot& slot = slot_of(entry->lifetime.error_until);
  (entry->slot_next != nullptr ? entry->slot_next->slot_previous : slot.last) =
      entry->slot_previous;
  (entry->slot_previous != nullptr ? entry->slot_previous->slot_next : slot.first) =
      entry->slot_next;
  --slot.count;
}

// An entry's slot is that of its end in some turn: what is not due yet waits for another one.
// Entries that come into the slot meanwhile, or leave it, make `slot_left_` a guess; then some are
// looked at twice, or a turn later.
bool Cache::expire(Nanos now, size_t most) {
  const int64_t last = now / wheel_tick;  // its slot isn't over yet
  wheel_turned_to_ = std::max(wheel_turned_to_, last - static_cast<int64_t>(wheel_slots));
  while (wheel_turned_to_ < last) {
    Slot& slot = wheel_[static_cast<size_t>(wheel_turned_to_) % wheel_slots];
    if (!slot_begun_) {
      slot_begun_ = true;
      slot_left_ = slot.count;
    }
    for (; slot_left_ != 0 && slot.first != nullptr; --slot_left_) {
      if (most-- == 0) return true;
      Entry* const entry = slot.first;
      if (freshness_of(*entry, now) == Freshness::absent) {
        if (entry->queue == QueueName::main) ghost_.add(entry->hash);
        ++stats_.expired;
        remove(entry);
      } else {
        wheel_remove(entry);
        wheel_add(entry);
      }
    }
    slot_begun_ = false;
    ++wheel_turned_to_;
  }
  return false;
}

}  // namespace gyre::proxy
