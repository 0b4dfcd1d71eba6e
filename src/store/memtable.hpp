// The newest writes of a shard, sorted: a skip list of keys in an arena, and with each key the
// chain of its entries.
//
// Order: key ascending, then seq descending, so that the newest entry of a key comes first. `seq`
// is the shard's own count of writes and serves snapshots; which write wins is decided by Version.
// Usually the two agree. A late repair or hint can bring an older version with a newer seq; its
// node is then marked `superseded`, and get() looks past marked nodes only. So the common read
// stops at the first hit and the rare one is still right, for every snapshot.
//
// The first entry of a key stands in the list for all of them; later ones hang before it, newest
// first. So a write of a key that is here already searches nothing: the index knows the newest
// entry, and that one its first. A new key is in the index at once, but waits for its place in the
// list until 32 do, or somebody looks at the list: the searches then go side by side, so that each
// one's cache misses pass while the others work. While a log is replayed nobody looks, and all new
// keys wait until they can be sorted and take their places one behind the other (key_sort.hpp).
//
//   list      first("a") ──────────> first("b") ──────────> first("c")
//   chains    newest ─> ... ─> first("a")      (newest first; the first entry ends its chain)
//
// A node, 8-byte aligned, found by the address of its middle:
//
//   first of its key   next[height-1] ... next[0] newest | rank seq version ... | key | value
//   later ones                              first older  | rank seq version ... | key | value
//                                                        ^ Node*
//
// The rank is 8 bytes of the key (big-endian, zero-padded), taken behind a prefix that most keys
// share; what they share is learnt from the first ones, or from the memtable before. It lies in one
// cache line with the lowest link; most comparisons touch nothing else. A value of
// large_value_bytes_min or more is not copied into the node but kept as the ValueBuffer it came in.
//
// Invariants: one writer, no other threads; seq strictly increases from add to add; nodes never
// move, change order or die before the memtable, so iterators survive suspension and inserts. Get
// and iteration allocate nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include <gyre/version.hpp>

#include "base/hash.hpp"
#include "store/arena.hpp"
#include "store/entry.hpp"
#include "store/memtable_index.hpp"
#include "store/value_buffer.hpp"

namespace gyre {

class Memtable {
 public:
  static constexpr size_t large_value_bytes_min = 64u << 10;
  static constexpr unsigned height_max = 12;
  static constexpr uint64_t seq_newest = std::numeric_limits<uint64_t>::max();

  class Node {
   public:
    std::string_view key() const { return {bytes(), key_bytes_}; }
    uint64_t seq() const { return seq_; }
    Kind kind() const { return kind_; }
    Version version() const { return version_; }
    uint64_t expire_at_ms() const { return expire_at_ms_; }
    size_t value_bytes() const { return value_bytes_; }

    // Whether the value is a ValueBuffer.
    bool large() const { return (flags_ & flag_large) != 0; }

    // The value of a node that is not large.
    std::string_view value() const;
    // The value of a node that is large. To keep it beyond the next suspension, share() it.
    const ValueBuffer& large_value() const;

    // Everything but a large value's bytes.
    Entry entry() const;

   private:
    friend class Memtable;
    static constexpr uint8_t flag_superseded = 1;
    static constexpr uint8_t flag_large = 2;
    static constexpr uint8_t flag_first = 4;  // of its key: stands in the list

    Node*& slot(unsigned index) {
      return *(reinterpret_cast<Node**>(this) - 1 - static_cast<ptrdiff_t>(index));
    }
    Node* slot(unsigned index) const {
      return *(reinterpret_cast<Node* const*>(this) - 1 - static_cast<ptrdiff_t>(index));
    }
    bool is_first() const { return (flags_ & flag_first) != 0; }
    // Of the first entry of a key.
    Node*& newest() { return slot(0); }
    Node* newest() const { return slot(0); }
    Node*& next(unsigned level) { return slot(1 + level); }
    Node* next(unsigned level) const { return slot(1 + level); }
    // Of any entry; the one before it of the same key, if there is one.
    const Node* older() const { return is_first() ? nullptr : slot(0); }
    const Node* first() const { return is_first() ? this : slot(1); }
    Node* first() { return is_first() ? this : slot(1); }

    const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }
    char* bytes() { return reinterpret_cast<char*>(this + 1); }

    uint64_t rank_;
    uint64_t seq_;
    Version version_;
    uint64_t expire_at_ms_;
    uint32_t key_bytes_;
    uint32_t value_bytes_;
    Kind kind_;
    uint8_t flags_;
    uint8_t height_;  // of the first entry of a key
  };

  // Walks all entries in order, superseded and invisible ones too. Stays valid while entries are
  // added and sees them if they lie ahead.
  class Iterator {
   public:
    explicit Iterator(const Memtable& table) : table_(&table) {}
    bool valid() const { return node_ != nullptr; }
    const Node& node() const { return *node_; }
    // To the first entry, the last, the newest of the first key at or after `key`.
    void seek_to_first() { node_ = newest_of(table_->list().head_->next(0)); }
    void seek_to_last();
    void seek(std::string_view key) { node_ = newest_of(table_->list().search(key, nullptr)); }
    void next() {
      if (node_->is_first()) return next_key();
      node_ = node_->older();
    }
    // To the newest entry of the next key; the key behind it is on its way into the cache then,
    // with a value of usual size: a walk was bound by such misses.
    void next_key() {
      static_cast<void>(table_->list());
      const Node* first = node_->first()->next(0);
      node_ = newest_of(first);
      if (first == nullptr) return;
      const auto* after = reinterpret_cast<const char*>(first->next(0));
      if (after == nullptr) return;
      for (int line = -1; line < 4; ++line) __builtin_prefetch(after + line * 64);
    }
    // The entry of the present key that a reader at `visible_seq` sees, as get() does. Only from
    // the newest entry of the key.
    const Node* winner(uint64_t visible_seq) const { return Memtable::winner(node_, visible_seq); }
    void prev();

   private:
    static const Node* newest_of(const Node* first) {
      return first == nullptr ? nullptr : first->newest();
    }
    const Memtable* table_;
    const Node* node_ = nullptr;
  };

  // Walks the keys from behind: stands on the newest entry of each. There are no links back, so a
  // search finds a batch of keys at a time, and walks over them forwards. Stays valid while entries
  // are added; new keys between those of a batch are passed over, so it is for readers who could
  // not see them anyway.
  class ReverseIterator {
   public:
    explicit ReverseIterator(const Memtable& table) : table_(&table) {}
    bool valid() const { return count_ != 0; }
    const Node& node() const { return *first()->newest(); }
    // To the last key, the last one before `key`.
    void seek_to_last() { refill(nullptr); }
    void seek_before(std::string_view key) { refill(&key); }
    void next_key() {
      if (count_ > 1) {
        --count_;
        return;
      }
      const std::string_view key = first()->key();
      refill(&key);
    }
    const Node* winner(uint64_t visible_seq) const {
      return Memtable::winner(first()->newest(), visible_seq);
    }

   private:
    static constexpr size_t batch_max = 32;
    const Node* first() const { return batch_[(start_ + count_ - 1) % batch_max]; }
    void refill(const std::string_view* bound);

    const Memtable* table_;
    const Node* batch_[batch_max];  // a ring of first entries, in key order
    size_t start_ = 0;
    size_t count_ = 0;
  };

  // `expected_prefix`: what most keys will begin with, usually the rank_prefix() of the memtable
  // before. Any keys may come; those with the prefix are found faster.
  explicit Memtable(std::string_view expected_prefix = {});
  ~Memtable();
  Memtable(const Memtable&) = delete;
  Memtable& operator=(const Memtable&) = delete;

  // `seq` must be greater than that of every entry before. `key_hash` is the key's hash64, as far as
  // the caller has it; 0: it has not. The second form takes a large value over.
  const Node* add(uint64_t seq, Kind kind, Version version, uint64_t expire_at_ms,
                  std::string_view key, std::string_view value, uint64_t key_hash = 0);
  const Node* add(uint64_t seq, Kind kind, Version version, uint64_t expire_at_ms,
                  std::string_view key, ValueBuffer&& value, uint64_t key_hash = 0);

  // From now on new keys wait for their places in the list until somebody looks at it, or asks for
  // them with link_some(): for many adds at once, of which a list is needed only in the end.
  void defer_links();
  // Sorts the waiting keys a little further, or gives some of them their places. False: none is left,
  // and those to come no longer wait so. Waiting takes 48 bytes per key at most, which is less than
  // what entry_bytes_max() reserves for the links that most of them don't have.
  bool link_some();

  // An add of a key of this hash is about to come, or to come at once: lets its cache misses begin.
  void prefetch_slot(uint64_t hash) const { index_.prefetch_slot(hash); }
  void prefetch_entry(uint64_t hash) const {
    prefetch_node(hash);
    arena_.prefetch_next();
  }
  // A look for a key of this hash is: after prefetch_slot().
  void prefetch_node(uint64_t hash) const { index_.prefetch_node(hash); }

  // Of the entries of `key` with seq <= visible_seq the one with the greatest version, or nullptr.
  const Node* get(std::string_view key, uint64_t visible_seq) const {
    return get(key, hash64(key), visible_seq);
  }
  // The same with hash64(key) at hand.
  const Node* get(std::string_view key, uint64_t hash, uint64_t visible_seq) const;

  // What to reserve before an add: the most that used_bytes() then grows by, for a large value
  // whose size was expected. allocated_bytes() runs ahead by less than one chunk of the arena.
  static size_t entry_bytes_max(size_t key_bytes, size_t value_bytes);

  // Heap bytes held: chunks of the arena and large values.
  size_t allocated_bytes() const {
    return arena_.allocated_bytes() + large_bytes_ + index_.allocated_bytes();
  }
  // Bytes of the entries themselves, without unused rests of chunks.
  size_t used_bytes() const { return arena_.used_bytes() + large_bytes_; }

  bool empty() const { return count_ == 0; }
  // The prefix that tells the present keys apart best by rank: one that they share, and short
  // enough for the eight bytes behind it to reach the end of most.
  std::string rank_prefix() const;
  size_t count() const { return count_; }
  size_t tombstones() const { return tombstones_; }
  uint64_t seq_first() const { return seq_first_; }
  uint64_t seq_last() const { return seq_last_; }
  // Meaningful unless empty().
  Version version_min() const { return version_min_; }
  Version version_max() const { return version_max_; }
  // The earliest expiry of an entry that has one, else 0.
  uint64_t expire_at_ms_min() const { return expire_at_ms_min_; }
  // Whether for every key the newer seq has the newer version.
  bool seq_order_is_version_order() const { return superseded_ == 0; }

 private:
  static constexpr size_t unlinked_max = 32;
  struct Search;
  struct Deferred;
  struct LargeValue {
    ValueBuffer buffer;
    size_t charged_bytes;
    LargeValue* previous;
  };

  uint64_t rank_of(std::string_view key) const;
  // The first entry of the first key at or after `key`; with `path`, for each level the last node
  // before it.
  Node* search(std::string_view key, Node** path) const;
  void path_to_end(Node** path) const;
  static const Node* winner(const Node* newest, uint64_t visible_seq);
  Node* add_key(std::string_view key, size_t payload_bytes);
  // This, with every key in the list.
  const Memtable& list() const {
    if (unlinked_count_ != 0) link();
    return *this;
  }
  void link() const;
  void link(Node& node, Node** path) const;
  void link_behind(Node& node, Node** path) const;
  bool link_deferred() const;
  Node* add_version(Node& newest, Version version, size_t payload_bytes);
  void learn_prefix();
  Node* allocate_node(unsigned slots, size_t payload_bytes);
  Node* insert(uint64_t seq, Kind kind, Version version, uint64_t expire_at_ms,
               std::string_view key, size_t inline_value_bytes, uint64_t key_hash);
  void account(const Node& node);
  unsigned random_height();
  static LargeValue*& large_slot(Node* node);

  Arena arena_;
  MemtableIndex<Node> index_;  // key -> its newest entry
  std::string expected_prefix_;
  Node* head_;
  LargeValue* large_values_ = nullptr;
  // Keys without a place in the list are no difference that a reader could see: it gets them one.
  mutable Node* unlinked_[unlinked_max];  // unless deferred_ has them
  mutable size_t unlinked_count_ = 0;
  std::unique_ptr<Deferred> deferred_;
  mutable unsigned height_ = 1;
  uint64_t random_state_ = 0x9e3779b97f4a7c15;

  size_t large_bytes_ = 0;
  size_t key_bytes_max_ = 0;
  size_t keys_ = 0;
  size_t count_ = 0;
  size_t tombstones_ = 0;
  size_t superseded_ = 0;
  uint64_t seq_first_ = 0;
  uint64_t seq_last_ = 0;
  Version version_min_;
  Version version_max_;
  uint64_t expire_at_ms_min_ = 0;
};

}  // namespace gyre
