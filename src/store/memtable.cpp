#include "store/memtable.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "store/key_sort.hpp"

namespace gyre {

namespace {

uint64_t first_bytes(std::string_view key) {
  uint64_t prefix = 0;
  if (key.size() >= sizeof prefix) {
    std::memcpy(&prefix, key.data(), sizeof prefix);
  } else {
    std::memcpy(&prefix, key.data(), key.size());
  }
  return __builtin_bswap64(prefix);
}

// Orders two keys whose ranks are equal.
int compare_keys(const char* a, size_t a_bytes, const char* b, size_t b_bytes) {
  const int order = std::memcmp(a, b, std::min(a_bytes, b_bytes));
  if (order != 0) return order;
  return a_bytes < b_bytes ? -1 : (a_bytes > b_bytes ? 1 : 0);
}

constexpr size_t align_up(size_t size) {
  return (size + Arena::alignment_bytes - 1) & ~(Arena::alignment_bytes - 1);
}

}  // namespace

std::string_view Memtable::Node::value() const {
  GYRE_ASSERT(!large());
  return {bytes() + key_bytes_, value_bytes_};
}

const ValueBuffer& Memtable::Node::large_value() const {
  GYRE_ASSERT(large());
  return large_slot(const_cast<Node*>(this))->buffer;
}

Entry Memtable::Node::entry() const {
  return {key(), kind_, version_, expire_at_ms_, large() ? std::string_view() : value()};
}

// A large node keeps the pointer where a small one keeps its value, aligned.
Memtable::LargeValue*& Memtable::large_slot(Node* node) {
  return *reinterpret_cast<LargeValue**>(node->bytes() + align_up(node->key_bytes_));
}

struct Memtable::Deferred {
  std::vector<KeySort<Node>::Item> waiting;
  KeySort<Node> sort;  // of those who waited, while they are linked
  Node* path[height_max];
};

Memtable::Memtable(std::string_view expected_prefix) : expected_prefix_(expected_prefix) {
  head_ = allocate_node(1 + height_max, 0);
}

Memtable::~Memtable() {
  for (LargeValue* value = large_values_; value != nullptr;) {
    LargeValue* previous = value->previous;
    std::destroy_at(value);
    value = previous;
  }
}

Memtable::Node* Memtable::allocate_node(unsigned slots, size_t payload_bytes) {
  const size_t slots_bytes = slots * sizeof(Node*);
  char* memory = arena_.allocate(slots_bytes + sizeof(Node) + payload_bytes);
  for (unsigned slot = 0; slot < slots; ++slot) new (memory + slot * sizeof(Node*)) Node*(nullptr);
  return new (memory + slots_bytes) Node;
}

// Each level holds a quarter of the nodes of the one below. Drawn from a fixed seed: the shape
// of the list is the same in every run with the same writes.
unsigned Memtable::random_height() {
  random_state_ ^= random_state_ << 13;
  random_state_ ^= random_state_ >> 7;
  random_state_ ^= random_state_ << 17;
  const auto quarterings =
      static_cast<unsigned>(std::countr_zero(random_state_ >> 32 | uint64_t{1} << 32)) / 2;
  return std::min(quarterings + 1, height_max);
}

// Grows with the key, so that comparing ranks first never orders two keys wrongly, wherever they
// lie. Only keys with the expected prefix get ranks that tell them apart.
uint64_t Memtable::rank_of(std::string_view key) const {
  if (expected_prefix_.empty()) return first_bytes(key);
  if (key.starts_with(expected_prefix_)) return first_bytes(key.substr(expected_prefix_.size()));
  return key < expected_prefix_ ? 0 : std::numeric_limits<uint64_t>::max();
}

std::string Memtable::rank_prefix() const {
  Iterator first(*this);
  Iterator last(*this);
  first.seek_to_first();
  last.seek_to_last();
  if (!first.valid()) return {};
  const std::string_view a = first.node().key();
  const std::string_view b = last.node().key();
  const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  const auto shared = static_cast<size_t>(differ.first - a.begin());
  // Bytes that no key needs for its rank may still change in keys to come (counters do).
  const size_t needed =
      key_bytes_max_ > sizeof(Node::rank_) ? key_bytes_max_ - sizeof(Node::rank_) : 0;
  return std::string(a.substr(0, std::min(shared, needed)));
}

// Ranks of keys that all begin alike tell nothing: takes what the keys so far share for what the
// next ones will. Any prefix keeps the order, so ranks may be computed anew at any time.
void Memtable::learn_prefix() {
  std::string prefix = rank_prefix();
  if (prefix == expected_prefix_) return;
  expected_prefix_ = std::move(prefix);
  for (Node* node = list().head_->next(0); node != nullptr; node = node->next(0)) {
    node->rank_ = rank_of(node->key());
  }
}

// Searches are bound by cache misses: while a node's key is compared, the node to descend to if it
// lies behind is on its way (a fifth off a search among 200,000 entries).
Memtable::Node* Memtable::search(std::string_view key, Node** path) const {
  const uint64_t rank = rank_of(key);
  Node* node = head_;
  Node* known_after = nullptr;
  for (unsigned level = height_; level-- > 0;) {
    for (;;) {
      Node* next = node->next(level);
      if (next == known_after) break;
      if (level > 0) __builtin_prefetch(node->next(level - 1));
      if (next->rank_ > rank ||
          (next->rank_ == rank &&
           compare_keys(next->bytes(), next->key_bytes_, key.data(), key.size()) >= 0)) {
        known_after = next;
        break;
      }
      node = next;
    }
    if (path != nullptr) path[level] = node;
  }
  return known_after;
}

void Memtable::account(const Node& node) {
  if (count_ == 0) {
    seq_first_ = node.seq_;
    version_min_ = version_max_ = node.version_;
  }
  ++count_;
  seq_last_ = node.seq_;
  version_min_ = std::min(version_min_, node.version_);
  version_max_ = std::max(version_max_, node.version_);
  if (node.kind_ == Kind::tombstone) ++tombstones_;
  if (node.expire_at_ms_ != 0 &&
      (expire_at_ms_min_ == 0 || node.expire_at_ms_ < expire_at_ms_min_)) {
    expire_at_ms_min_ = node.expire_at_ms_;
  }
}

Memtable::Node* Memtable::add_key(std::string_view key, size_t payload_bytes) {
  const unsigned height = random_height();
  Node* node = allocate_node(1 + height, payload_bytes);
  node->flags_ = Node::flag_first;
  node->height_ = static_cast<uint8_t>(height);
  node->rank_ = rank_of(key);
  node->newest() = node;
  if (deferred_) {
    deferred_->waiting.push_back({node->rank_, node});
  } else {
    unlinked_[unlinked_count_] = node;
  }
  ++unlinked_count_;
  ++keys_;
  key_bytes_max_ = std::max(key_bytes_max_, key.size());
  return node;
}

// One search of several that take turns. `next` is on its way into the cache while the others have
// theirs.
struct Memtable::Search {
  const Node* wanted;
  Node* node;
  Node* next = nullptr;
  Node* known_after = nullptr;
  unsigned level;
  Node* path[height_max];

  // To the next node that has to be looked at; false: the search has ended.
  bool descend() {
    for (;;) {
      next = node->next(level);
      if (next != known_after) {
        __builtin_prefetch(next);
        __builtin_prefetch(&next->next(level));
        return true;
      }
      path[level] = node;
      if (level-- == 0) return false;
    }
  }
  bool step() {
    if (is_before(*next, *wanted)) {
      node = next;
    } else {
      known_after = next;
    }
    return descend();
  }
  static bool is_before(const Node& a, const Node& b) {
    if (a.rank_ != b.rank_) return a.rank_ < b.rank_;
    return compare_keys(a.bytes(), a.key_bytes_, b.bytes(), b.key_bytes_) < 0;
  }
};

void Memtable::link() const {
  if (deferred_) {
    while (unlinked_count_ != 0) link_deferred();
    return;
  }
  Search searches[unlinked_max];
  Search* under_way[unlinked_max];
  size_t left = 0;
  const size_t count = std::exchange(unlinked_count_, 0);
  for (size_t i = 0; i < count; ++i) {
    Search& search = searches[i];
    search.wanted = unlinked_[i];
    search.node = head_;
    search.next = search.known_after = nullptr;
    search.level = height_ - 1;
    std::fill(search.path + height_, search.path + height_max, head_);
    if (search.descend()) under_way[left++] = &search;
  }
  while (left > 0) {
    for (size_t i = 0; i < left;) {
      if (under_way[i]->step()) {
        ++i;
      } else {
        under_way[i] = under_way[--left];
      }
    }
  }
  for (size_t i = 0; i < count; ++i) link(*unlinked_[i], searches[i].path);
}

// `path` may be from before others were linked: from its nodes on, the place is not far.
void Memtable::link(Node& node, Node** path) const {
  for (unsigned level = 0; level < node.height_; ++level) {
    Node* before = path[level];
    while (before->next(level) != nullptr && Search::is_before(*before->next(level), node)) {
      before = before->next(level);
    }
    node.next(level) = before->next(level);
    before->next(level) = &node;
  }
  height_ = std::max<unsigned>(height_, node.height_);
}

// `path` leads to a place before that of `node`, and then to the node itself. What the two places
// are apart is what it costs: first up as far as needed, then down (finger search, Pugh 1990).
void Memtable::link_behind(Node& node, Node** path) const {
  unsigned level = 0;
  const auto goes_on = [&node](const Node& from, unsigned at) {
    return from.next(at) != nullptr && Search::is_before(*from.next(at), node);
  };
  while (level < height_ && goes_on(*path[level], level)) ++level;
  if (level > 0) {
    Node* before = path[level - 1];
    while (level-- > 0) {
      while (goes_on(*before, level)) before = before->next(level);
      path[level] = before;
    }
  }
  link(node, path);
  std::fill(path, path + node.height_, &node);
}

void Memtable::defer_links() {
  static_cast<void>(list());
  deferred_ = std::make_unique<Deferred>();
}

bool Memtable::link_some() {
  if (deferred_ && unlinked_count_ != 0 && link_deferred()) return true;
  deferred_.reset();
  return false;
}

// False: none waits any more.
bool Memtable::link_deferred() const {
  constexpr size_t links_ahead = 8;
  Deferred& deferred = *deferred_;
  if (deferred.sort.done()) {
    deferred.sort = KeySort<Node>(std::exchange(deferred.waiting, {}));
    std::fill(deferred.path, deferred.path + height_max, head_);
  }
  const auto part = deferred.sort.next();
  for (size_t i = 0; i < part.size(); ++i) {
    if (i + links_ahead < part.size()) {
      Node* ahead = part[i + links_ahead].node;
      __builtin_prefetch(&ahead->rank_, 1);
      __builtin_prefetch(&ahead->next(0), 1);
    }
    link_behind(*part[i].node, deferred.path);
  }
  unlinked_count_ -= part.size();
  if (unlinked_count_ == 0) deferred.sort = {};
  return unlinked_count_ != 0;
}

// The newest entry of a key is marked if any before it has a greater version; that one is itself
// unmarked, so the first unmarked entry of the key has the greatest version so far.
Memtable::Node* Memtable::add_version(Node& newest, Version version, size_t payload_bytes) {
  Node* first = newest.first();
  Node* node = allocate_node(2, payload_bytes);
  node->flags_ = 0;
  // Only those in the list are searched by rank. The first's must not be asked for: it is rarely in
  // the cache, and nothing else here waits for it.
  node->rank_ = 0;
  node->slot(0) = &newest;
  node->slot(1) = first;
  first->newest() = node;
  const Node* greatest = winner(&newest, seq_newest);
  if (greatest->version_ > version) {
    node->flags_ |= Node::flag_superseded;
    ++superseded_;
  }
  return node;
}

Memtable::Node* Memtable::insert(uint64_t seq, Kind kind, Version version, uint64_t expire_at_ms,
                                 std::string_view key, size_t inline_value_bytes,
                                 uint64_t key_hash) {
  GYRE_ASSERT(count_ == 0 || seq > seq_last_);
  GYRE_ASSERT(key.size() <= limits::key_bytes_max);
  const size_t payload_bytes = key.size() + inline_value_bytes;
  const auto is_key = [key](const Node& other) { return other.key() == key; };
  const auto place = index_.place_for(key_hash != 0 ? key_hash : hash64(key), is_key);
  Node* newest = place.node;
  if (!place.known) {
    Node* at = list().search(key, nullptr);
    if (at != nullptr && at->key() == key) newest = at->newest();
  }
  Node* node = newest != nullptr ? add_version(*newest, version, payload_bytes)
                                 : add_key(key, payload_bytes);
  index_.put(place, node);
  node->seq_ = seq;
  node->version_ = version;
  node->expire_at_ms_ = expire_at_ms;
  node->key_bytes_ = static_cast<uint32_t>(key.size());
  node->value_bytes_ = 0;
  node->kind_ = kind;
  std::memcpy(node->bytes(), key.data(), key.size());
  account(*node);
  if (unlinked_count_ == unlinked_max && !deferred_) link();
  if (newest == nullptr && (keys_ == 64 || keys_ == 1024 || keys_ == 8192)) learn_prefix();
  return node;
}

const Memtable::Node* Memtable::add(uint64_t seq, Kind kind, Version version, uint64_t expire_at_ms,
                                    std::string_view key, std::string_view value,
                                    uint64_t key_hash) {
  if (value.size() >= large_value_bytes_min) {
    return add(seq, kind, version, expire_at_ms, key, ValueBuffer(value), key_hash);
  }
  Node* node = insert(seq, kind, version, expire_at_ms, key, value.size(), key_hash);
  node->value_bytes_ = static_cast<uint32_t>(value.size());
  if (!value.empty()) std::memcpy(node->bytes() + key.size(), value.data(), value.size());
  return node;
}

const Memtable::Node* Memtable::add(uint64_t seq, Kind kind, Version version, uint64_t expire_at_ms,
                                    std::string_view key, ValueBuffer&& value, uint64_t key_hash) {
  GYRE_ASSERT(value.size() <= limits::value_bytes_max_hard);
  if (value.size() < large_value_bytes_min) {
    Node* node = insert(seq, kind, version, expire_at_ms, key, value.size(), key_hash);
    node->value_bytes_ = static_cast<uint32_t>(value.size());
    char* out = node->bytes() + key.size();
    value.for_each_piece([&](std::string_view piece) {
      std::memcpy(out, piece.data(), piece.size());
      out += piece.size();
    });
    value.clear();
    return node;
  }
  const size_t slot_bytes = align_up(key.size()) - key.size() + sizeof(LargeValue*);
  Node* node = insert(seq, kind, version, expire_at_ms, key, slot_bytes, key_hash);
  node->value_bytes_ = static_cast<uint32_t>(value.size());
  node->flags_ |= Node::flag_large;
  const size_t charged = value.allocated_bytes();
  auto* large = new (arena_.allocate(sizeof(LargeValue)))
      LargeValue{std::move(value), charged, large_values_};
  large_values_ = large;
  new (&large_slot(node)) LargeValue*(large);
  large_bytes_ += charged;
  return node;
}

// The first unmarked entry has the greatest version of all entries with a lower seq. A marked one
// before it may be visible alone or together with it, and does not win. The first of a key is never
// marked.
const Memtable::Node* Memtable::winner(const Node* newest, uint64_t visible_seq) {
  const Node* node = newest;
  while (node != nullptr && node->seq_ > visible_seq) node = node->older();
  while (node != nullptr && (node->flags_ & Node::flag_superseded) != 0) node = node->older();
  return node;
}

const Memtable::Node* Memtable::get(std::string_view key, uint64_t hash,
                                    uint64_t visible_seq) const {
  const Node* node = nullptr;
  const auto is_key = [key](const Node& other) { return other.key() == key; };
  switch (index_.find(hash, is_key, node)) {
    case MemtableIndex<Node>::Answer::absent:
      return nullptr;
    case MemtableIndex<Node>::Answer::found:
      break;
    case MemtableIndex<Node>::Answer::unknown:
      node = list().search(key, nullptr);
      if (node == nullptr || node->key() != key) return nullptr;
      node = node->newest();
  }
  return winner(node, visible_seq);
}

size_t Memtable::entry_bytes_max(size_t key_bytes, size_t value_bytes) {
  const size_t node = (1 + height_max) * sizeof(Node*) + sizeof(Node) + align_up(key_bytes) + 16;
  if (value_bytes < large_value_bytes_min) return node + align_up(value_bytes);
  const size_t pieces = value_bytes / ValueBuffer::contiguous_bytes_max + 1;
  return node + sizeof(LargeValue) + value_bytes + pieces * ValueBuffer::piece_overhead_bytes;
}

// For each level the last node of the list.
void Memtable::path_to_end(Node** path) const {
  Node* node = head_;
  for (unsigned level = height_; level-- > 0;) {
    while (Node* next = node->next(level)) node = next;
    path[level] = node;
  }
}

void Memtable::Iterator::seek_to_last() {
  Node* path[height_max];
  table_->list().path_to_end(path);
  node_ = path[0] == table_->head_ ? nullptr : path[0];
}

// There are no links back: looks again, for the entry of the key that came after this one, or for
// the key before.
void Memtable::Iterator::prev() {
  const Node* target = node_;
  const Node* first = target->first();
  if (first->newest() != target) {
    node_ = first->newest();
    while (node_->older() != target) node_ = node_->older();
    return;
  }
  Node* path[height_max];
  table_->list().search(target->key(), path);
  node_ = path[0] == table_->head_ ? nullptr : path[0];
}

// The last keys before `bound`: from the node two levels up, 16 keys before it on average.
void Memtable::ReverseIterator::refill(const std::string_view* bound) {
  const Memtable& list = table_->list();
  Node* path[height_max];
  if (bound != nullptr) {
    list.search(*bound, path);
  } else {
    list.path_to_end(path);
  }
  start_ = count_ = 0;
  const Node* const last = path[0];
  if (last == list.head_) return;
  const Node* node = path[std::min(2u, list.height_ - 1)];
  if (node == list.head_) node = node->next(0);
  for (;; node = node->next(0)) {
    batch_[(start_ + count_) % batch_max] = node;
    if (count_ < batch_max) {
      ++count_;
    } else {
      start_ = (start_ + 1) % batch_max;
    }
    if (node == last) return;
  }
}

}  // namespace gyre
