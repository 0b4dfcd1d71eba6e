// The cache of decoded blocks, data and partitions alike, of one shard. Single-threaded.
//
// Algorithm: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP '23),
// with the one access bit its authors found sufficient for block I/O:
//   - a new block enters the small queue (a tenth of the capacity)
//   - at the small queue's end a block that was hit moves to the main queue; one that was not
//     leaves, and the ghost remembers that it was there
//   - a block that the ghost remembers enters the main queue at once
//   - at the main queue's end a block that was hit goes round again, one that was not leaves
// Blocks that a scan brings enter the small queue only and are not remembered, and a scan's hits
// don't count: a scan over everything costs the others at most the small queue.
//
// Memory: used_bytes() counts every block from allocate() until its last reference is gone,
// resident or not, with its header, and the cache's own tables. It never passes the capacity;
// allocate() answers with an empty reference when referenced blocks leave no room, which is the
// caller's moment to wait or refuse. Only set_capacity() to less can leave it above, until
// references are given back.
//
// Blocks are immutable once inserted. A BlockRef keeps its block, not its place in the cache, and
// must not outlive the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ghost_fifo.hpp"

namespace gyre {

class BlockCache;

class CachedBlock {
 public:
  // Aligned to 64 bytes, so that filter lines are cache lines.
  char* data() { return reinterpret_cast<char*>(this) + header_bytes; }
  std::string_view bytes() const {
    return {reinterpret_cast<const char*>(this) + header_bytes, size_bytes_};
  }
  uint64_t file_number() const { return file_number_; }
  uint64_t offset() const { return offset_; }

 private:
  friend class BlockCache;
  friend class BlockRef;
  static constexpr size_t alignment_bytes = 64;
  static constexpr size_t header_bytes = 128;

  enum class Queue : uint8_t { none, small, main };

  // What a lookup and its release touch comes first: one cache line.
  CachedBlock* bucket_next_ = nullptr;
  uint64_t file_number_ = 0;
  uint64_t offset_ = 0;
  size_t size_bytes_ = 0;
  BlockCache* cache_ = nullptr;
  uint32_t references_ = 0;
  Queue queue_ = Queue::none;
  bool was_hit_ = false;
  bool from_scan_ = false;
  uint64_t hash_ = 0;
  CachedBlock* newer_ = nullptr;  // towards the queue's head
  CachedBlock* older_ = nullptr;
};

class BlockRef {
 public:
  BlockRef() = default;
  BlockRef(const BlockRef& other) : BlockRef(other.block_) {}
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~BlockRef() { reset(); }
  void reset();

  explicit operator bool() const { return block_ != nullptr; }
  CachedBlock* operator->() const { return block_; }
  CachedBlock& operator*() const { return *block_; }
  friend bool operator==(const BlockRef&, const BlockRef&) = default;

 private:
  friend class BlockCache;
  explicit BlockRef(CachedBlock* block);
  CachedBlock* block_ = nullptr;
};

enum class CacheHint : uint8_t {
  normal,
  scan,  // read once in passing: don't let it push out what is used
};

struct BlockCacheStats {
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t inserted_blocks = 0;
  uint64_t inserted_bytes = 0;
  uint64_t evicted_blocks = 0;
  uint64_t evicted_bytes = 0;
  uint64_t refused = 0;  // allocate() had no room
};

class BlockCache {
 public:
  explicit BlockCache(size_t capacity_bytes);
  ~BlockCache();  // no reference may be left
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  // Allocates nothing.
  BlockRef lookup(uint64_t file_number, uint64_t offset, CacheHint hint = CacheHint::normal);

  // A buffer to decode into; evicts to make room. Empty if there is none.
  BlockRef allocate(size_t size_bytes);
  // Makes the block findable. If somebody was faster, returns theirs.
  BlockRef insert(uint64_t file_number, uint64_t offset, BlockRef block,
                  CacheHint hint = CacheHint::normal);

  void set_capacity(size_t capacity_bytes);

  size_t capacity_bytes() const { return capacity_bytes_; }
  size_t used_bytes() const { return overhead_bytes_ + blocks_bytes_; }
  // What eviction could free at once.
  size_t evictable_bytes() const { return small_.evictable_bytes + main_.evictable_bytes; }
  size_t resident_blocks() const { return resident_count_; }
  const BlockCacheStats& stats() const { return stats_; }
  // What a block of `size_bytes` is charged.
  static size_t charge_bytes(size_t size_bytes);

 private:
  friend class BlockRef;

  struct Fifo {
    CachedBlock* newest = nullptr;
    CachedBlock* oldest = nullptr;
    size_t bytes = 0;
    size_t evictable_bytes = 0;  // of blocks without a reference
  };
  static uint64_t hash_of(uint64_t file_number, uint64_t offset);
  CachedBlock** bucket_of(uint64_t hash) { return &buckets_[hash & (buckets_.size() - 1)]; }
  CachedBlock* find(uint64_t hash, uint64_t file_number, uint64_t offset);
  void resize_tables();

  bool make_room(size_t bytes);
  void evict_one();
  void evict(CachedBlock* block);
  Fifo& fifo_of(CachedBlock::Queue queue) {
    return queue == CachedBlock::Queue::small ? small_ : main_;
  }
  void push(CachedBlock::Queue queue, CachedBlock* block);
  void unlink(CachedBlock* block);
  void add_reference(CachedBlock* block);
  void release(CachedBlock* block);
  void destroy(CachedBlock* block);

  size_t capacity_bytes_ = 0;
  size_t overhead_bytes_ = 0;
  size_t blocks_bytes_ = 0;  // all blocks alive
  size_t resident_count_ = 0;
  size_t alive_count_ = 0;
  Fifo small_;
  Fifo main_;
  std::vector<CachedBlock*> buckets_;
  GhostFifo ghost_;
  BlockCacheStats stats_;
};

inline BlockRef::BlockRef(CachedBlock* block) : block_(block) {
  if (block_ != nullptr) block_->cache_->add_reference(block_);
}
inline void BlockRef::reset() {
  if (block_ != nullptr) {
    CachedBlock* const block = std::exchange(block_, nullptr);
    block->cache_->release(block);
  }
}

}  // namespace gyre
