#include "cluster/handoff/unconfirmed.hpp"

#include <algorithm>
#include <bit>

namespace gyre::cluster {

UnconfirmedWrites::UnconfirmedWrites(uint32_t capacity)
    : entries_(capacity), buckets_(std::bit_ceil(std::max(capacity, 1u)) * 2, none) {
  for (uint32_t i = capacity; i-- > 0;) {
    entries_[i].newer = free_;
    free_ = i;
  }
}

uint32_t& UnconfirmedWrites::bucket_of(Version version) {
  const uint64_t mixed = (version.hlc ^ (version.origin * 0x9e3779b97f4a7c15)) * 0xff51afd7ed558ccd;
  return buckets_[(mixed >> 32) & (buckets_.size() - 1)];
}

uint32_t UnconfirmedWrites::find(Version version) {
  uint32_t i = bucket_of(version);
  while (i != none && entries_[i].write.version != version) i = entries_[i].next_in_bucket;
  return i;
}

bool UnconfirmedWrites::take(const UnconfirmedWrite& write, Nanos now) {
  if (find(write.version) != none) return true;
  if (free_ == none) return false;
  uint32_t& bucket = bucket_of(write.version);
  const uint32_t index = free_;
  Entry& entry = entries_[index];
  free_ = entry.newer;
  entry = {.write = write, .taken_at = now, .next_in_bucket = bucket, .older = newest_};
  bucket = index;
  (newest_ == none ? oldest_ : entries_[newest_].newer) = index;
  newest_ = index;
  ++size_;
  return true;
}

bool UnconfirmedWrites::written(Version version) {
  const uint32_t index = find(version);
  if (index != none) entries_[index].written = true;
  return index != none;
}

bool UnconfirmedWrites::confirm(Version version) {
  const uint32_t index = find(version);
  if (index != none) remove(index);
  return index != none;
}

void UnconfirmedWrites::remove(uint32_t index) {
  Entry& entry = entries_[index];
  uint32_t* link = &bucket_of(entry.write.version);
  while (*link != index) link = &entries_[*link].next_in_bucket;
  *link = entry.next_in_bucket;
  (entry.older == none ? oldest_ : entries_[entry.older].newer) = entry.newer;
  (entry.newer == none ? newest_ : entries_[entry.newer].older) = entry.older;
  entry.newer = free_;
  free_ = index;
  --size_;
}

bool UnconfirmedWrites::take_expired(Nanos before, UnconfirmedWrite& out) {
  for (uint32_t i = oldest_; i != none && entries_[i].taken_at < before; i = entries_[i].newer) {
    if (!entries_[i].written) continue;
    out = entries_[i].write;
    remove(i);
    return true;
  }
  return false;
}

bool UnconfirmedWrites::take_any(UnconfirmedWrite& out) {
  if (oldest_ == none) return false;
  out = entries_[oldest_].write;
  remove(oldest_);
  return true;
}

uint64_t UnconfirmedWrites::oldest_hlc() const {
  uint64_t oldest = ~uint64_t{0};
  for (uint32_t i = oldest_; i != none; i = entries_[i].newer) {
    oldest = std::min(oldest, entries_[i].write.version.hlc);
  }
  return oldest;
}

}  // namespace gyre::cluster
