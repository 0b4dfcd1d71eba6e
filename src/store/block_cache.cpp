#include "store/block_cache.hpp"

#include <algorithm>
#include <bit>
#include <new>

#include "base/assert.hpp"

namespace gyre {

namespace {

constexpr size_t small_queue_share = 10;       // of the capacity, one in so many bytes
constexpr size_t block_bytes_expected = 4096;  // sizes the tables
constexpr size_t table_entries_min = GhostFifo::entries_min;

}  // namespace

size_t BlockCache::charge_bytes(size_t size_bytes) {
  constexpr size_t mask = CachedBlock::alignment_bytes - 1;
  return CachedBlock::header_bytes + ((size_bytes + mask) & ~mask);
}

// A finalizer in the manner of MurmurHash3: file numbers and offsets are far from random.
uint64_t BlockCache::hash_of(uint64_t file_number, uint64_t offset) {
  uint64_t hash = file_number * 0x9e3779b97f4a7c15 + offset;
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccd;
  hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53;
  return hash ^ (hash >> 33);
}

BlockCache::BlockCache(size_t capacity_bytes) {
  set_capacity(capacity_bytes);
}

BlockCache::~BlockCache() {
  while (resident_count_ != 0) evict(small_.oldest != nullptr ? small_.oldest : main_.oldest);
  GYRE_ASSERT(alive_count_ == 0);
}

void BlockCache::set_capacity(size_t capacity_bytes) {
  capacity_bytes_ = capacity_bytes;
  resize_tables();
  make_room(0);
}

void BlockCache::resize_tables() {
  const size_t entries =
      std::bit_ceil(std::max(capacity_bytes_ / block_bytes_expected, table_entries_min));
  if (entries == buckets_.size()) return;
  std::vector<CachedBlock*> buckets(entries, nullptr);
  for (CachedBlock* block : buckets_) {
    while (block != nullptr) {
      CachedBlock* const next = block->bucket_next_;
      CachedBlock*& bucket = buckets[block->hash_ & (entries - 1)];
      block->bucket_next_ = bucket;
      bucket = block;
      block = next;
    }
  }
  buckets_ = std::move(buckets);
  ghost_.resize(entries);
  overhead_bytes_ = entries * sizeof(CachedBlock*) + ghost_.bytes();
}

// --- references ----------------------------------------------------------------------------------

void BlockCache::add_reference(CachedBlock* block) {
  if (block->references_++ == 0 && block->queue_ != CachedBlock::Queue::none) {
    fifo_of(block->queue_).evictable_bytes -= charge_bytes(block->size_bytes_);
  }
}

void BlockCache::release(CachedBlock* block) {
  GYRE_ASSERT(block->references_ != 0);
  if (--block->references_ != 0) return;
  if (block->queue_ == CachedBlock::Queue::none) {
    destroy(block);
    return;
  }
  fifo_of(block->queue_).evictable_bytes += charge_bytes(block->size_bytes_);
  if (used_bytes() > capacity_bytes_) make_room(0);
}

void BlockCache::destroy(CachedBlock* block) {
  blocks_bytes_ -= charge_bytes(block->size_bytes_);
  --alive_count_;
  block->~CachedBlock();
  ::operator delete(block, std::align_val_t{CachedBlock::alignment_bytes});
}

// --- the caller's side ---------------------------------------------------------------------------

CachedBlock* BlockCache::find(uint64_t hash, uint64_t file_number, uint64_t offset) {
  CachedBlock* block = *bucket_of(hash);
  while (block != nullptr && (block->offset_ != offset || block->file_number_ != file_number)) {
    block = block->bucket_next_;
  }
  return block;
}

BlockRef BlockCache::lookup(uint64_t file_number, uint64_t offset, CacheHint hint) {
  CachedBlock* const block = find(hash_of(file_number, offset), file_number, offset);
  if (block == nullptr) {
    ++stats_.misses;
    return {};
  }
  ++stats_.hits;
  // A search of the block begins at its end, where the restarts are.
  __builtin_prefetch(block->data() + block->size_bytes_ - 1);
  if (hint == CacheHint::normal) {
    // The reader that takes over what a scan brought is its first use; only the next one is a hit.
    block->was_hit_ = !block->from_scan_;
    block->from_scan_ = false;
  }
  return BlockRef(block);
}

BlockRef BlockCache::allocate(size_t size_bytes) {
  const size_t charge = charge_bytes(size_bytes);
  if (!make_room(charge)) {
    ++stats_.refused;
    return {};
  }
  void* const memory = ::operator new(CachedBlock::header_bytes + size_bytes,
                                      std::align_val_t{CachedBlock::alignment_bytes});
  static_assert(sizeof(CachedBlock) <= CachedBlock::header_bytes);
  auto* const block = new (memory) CachedBlock;
  block->cache_ = this;
  block->size_bytes_ = size_bytes;
  blocks_bytes_ += charge;
  ++alive_count_;
  return BlockRef(block);
}

BlockRef BlockCache::insert(uint64_t file_number, uint64_t offset, BlockRef ref, CacheHint hint) {
  GYRE_ASSERT(ref && ref->cache_ == this && ref->queue_ == CachedBlock::Queue::none);
  const uint64_t hash = hash_of(file_number, offset);
  if (CachedBlock* const present = find(hash, file_number, offset)) return BlockRef(present);
  CachedBlock* const block = &*ref;
  block->file_number_ = file_number;
  block->offset_ = offset;
  block->hash_ = hash;
  block->from_scan_ = hint == CacheHint::scan;
  CachedBlock** const bucket = bucket_of(hash);
  block->bucket_next_ = *bucket;
  *bucket = block;
  if (!block->from_scan_ && ghost_.take(hash, std::max(resident_count_, table_entries_min))) {
    push(CachedBlock::Queue::main, block);
  } else {
    push(CachedBlock::Queue::small, block);
  }
  ++resident_count_;
  ++stats_.inserted_blocks;
  stats_.inserted_bytes += charge_bytes(block->size_bytes_);
  return ref;
}

// --- eviction ------------------------------------------------------------------------------------

// Refuses before it evicts anything if all of it would not suffice.
bool BlockCache::make_room(size_t bytes) {
  const bool suffices =
      bytes <= capacity_bytes_ && used_bytes() - evictable_bytes() <= capacity_bytes_ - bytes;
  if (!suffices && bytes != 0) return false;
  while (evictable_bytes() != 0 && used_bytes() > capacity_bytes_ - bytes) evict_one();
  return suffices;
}

// Ends because the queue it looks at holds a block that may go: the small queue shrinks with
// every step, and the main queue forgets a hit with every step.
void BlockCache::evict_one() {
  for (;;) {
    const bool from_small =
        main_.evictable_bytes == 0 ||
        (small_.evictable_bytes != 0 && small_.bytes > capacity_bytes_ / small_queue_share);
    CachedBlock* const block = from_small ? small_.oldest : main_.oldest;
    if (block->references_ == 0 && !block->was_hit_) {
      if (from_small && !block->from_scan_) ghost_.add(block->hash_);
      evict(block);
      return;
    }
    block->was_hit_ = false;
    unlink(block);
    push(CachedBlock::Queue::main, block);
  }
}

void BlockCache::evict(CachedBlock* block) {
  CachedBlock** link = bucket_of(block->hash_);
  while (*link != block) link = &(*link)->bucket_next_;
  *link = block->bucket_next_;
  unlink(block);
  --resident_count_;
  ++stats_.evicted_blocks;
  stats_.evicted_bytes += charge_bytes(block->size_bytes_);
  if (block->references_ == 0) destroy(block);  // else with its last reference
}

void BlockCache::push(CachedBlock::Queue queue, CachedBlock* block) {
  Fifo& fifo = fifo_of(queue);
  block->queue_ = queue;
  block->newer_ = nullptr;
  block->older_ = fifo.newest;
  (fifo.newest != nullptr ? fifo.newest->newer_ : fifo.oldest) = block;
  fifo.newest = block;
  const size_t charge = charge_bytes(block->size_bytes_);
  fifo.bytes += charge;
  if (block->references_ == 0) fifo.evictable_bytes += charge;
}

void BlockCache::unlink(CachedBlock* block) {
  Fifo& fifo = fifo_of(block->queue_);
  (block->newer_ != nullptr ? block->newer_->older_ : fifo.newest) = block->older_;
  (block->older_ != nullptr ? block->older_->newer_ : fifo.oldest) = block->newer_;
  const size_t charge = charge_bytes(block->size_bytes_);
  fifo.bytes -= charge;
  if (block->references_ == 0) fifo.evictable_bytes -= charge;
  block->queue_ = CachedBlock::Queue::none;
}

}  // namespace gyre
