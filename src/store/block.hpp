// A data block: sorted entries, keys prefix-compressed, with restart points to search from.
//
//   entry     shared varint       bytes taken from the front of the previous key
//             unshared varint     bytes of key that follow
//             value size varint
//             kind u8             bits 0-3 Kind, bit 4: an expiry follows the version
//             version             hlc u64, origin u64
//             [expiry varint]     absolute milliseconds
//             key delta, value
//   ...
//   restarts  u32 each            offsets of entries that share nothing (the first is 0)
//   count     u32                 of restarts, at least 1
//
// Invariants: keys strictly increase; an entry at a restart has shared == 0; a tombstone has no
// value. The checksum and the codec are not here but beside the block's address (table_index).
//
// Readers trust nothing: every length is checked against the block's end, so arbitrary bytes
// give wrong entries or Errc::corrupt, never an access outside the block.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>

#include "store/entry.hpp"

namespace gyre {

class BlockBuilder {
 public:
  explicit BlockBuilder(uint32_t restart_interval) : restart_interval_(restart_interval) {}

  // Keys must strictly increase within the block.
  void add(const Entry& entry);
  // The whole block, valid until clear().
  std::string_view finish();
  void clear();

  bool empty() const { return entry_count_ == 0; }
  uint32_t entry_count() const { return entry_count_; }
  size_t size_bytes() const { return bytes_.size() + 4 * restarts_.size() + 4; }
  // The last key added; valid until the next add or clear.
  std::string_view last_key() const { return last_key_; }
  size_t memory_bytes() const {
    return bytes_.capacity() + 4 * restarts_.capacity() + last_key_.capacity();
  }

 private:
  std::string bytes_;
  std::vector<uint32_t> restarts_;
  std::string last_key_;
  uint32_t restart_interval_;
  uint32_t entry_count_ = 0;
};

// One entry as it lies in the block: its key is `shared` bytes of the previous key, then `delta`.
struct BlockRecord {
  uint64_t shared = 0;
  std::string_view delta;
  Kind kind = Kind::value;
  Version version;
  uint64_t expire_at_ms = 0;
  std::string_view value;
  const char* next = nullptr;
};

// A decoded block's bytes, which must outlive the view.
class BlockView {
 public:
  BlockView() = default;
  static Result<BlockView> open(std::string_view raw);

  // Point lookup. True: `out` holds the entry, out.key is the caller's `key`, out.value points
  // into the block. Allocates nothing.
  Result<bool> find(std::string_view key, Entry& out) const;

  uint32_t restart_count() const { return restart_count_; }
  size_t size_bytes() const { return raw_.size(); }

 private:
  friend class BlockCursor;
  const char* begin() const { return raw_.data(); }
  const char* end() const { return raw_.data() + entries_bytes_; }
  uint32_t restart_offset(uint32_t index) const;
  // The record at restart `index`; false if it is malformed.
  bool restart_record(uint32_t index, BlockRecord& out) const;
  // Index of the last restart whose key is <= `key`, or 0; false if a restart is malformed.
  bool restart_before(std::string_view key, uint32_t& index) const;
  Error corruption(const char* what, const char* at) const;

  std::string_view raw_;
  uint32_t entries_bytes_ = 0;
  uint32_t restart_count_ = 0;
};

// Walks a block in key order, or against it. The reassembled key lives in the cursor, the value in
// the block. A malformed entry ends the walk: valid() is false and failed() says so.
//
// Going back, a stretch between two restarts is read forwards once, and of each key the bytes are
// kept that the next one cuts off: what is kept is never more than the stretch, and each step back
// puts one such tail on again.
class BlockCursor {
 public:
  BlockCursor() = default;
  explicit BlockCursor(const BlockView& block) { reset(block); }
  BlockCursor(const BlockCursor&) = delete;  // the entry points into the cursor
  BlockCursor& operator=(const BlockCursor&) = delete;

  void reset(const BlockView& block);
  void seek_to_first();
  // The first entry whose key is >= `key`.
  void seek(std::string_view key);
  void next();

  // The same from behind; a walk goes one way until the next seek. To the last entry, to the last
  // one whose key is < `key`.
  void seek_to_last();
  void seek_before(std::string_view key);
  void prev();

  const BlockView& block() const { return block_; }
  bool valid() const { return valid_; }
  bool failed() const { return failed_; }
  // What failed and at which byte of the block. Only when failed().
  Error error() const;

  std::string_view key() const { return entry_.key; }
  // Valid until the cursor moves.
  const Entry& entry() const { return entry_; }
  size_t memory_bytes() const {
    return key_.capacity() + tails_.capacity() + steps_.capacity() * sizeof(StepBack);
  }

 private:
  // The way back from an entry of the stretch to the one before it.
  struct StepBack {
    const char* at;
    uint32_t shared;      // of the key that is left
    uint32_t tail_bytes;  // of the key before, at the end of tails_
  };

  void read_at(const char* at);
  void take(const char* at, const BlockRecord& record);
  // Stands on the last entry of a stretch, or on its last one before `bound`; not valid if it has
  // none.
  void read_stretch(uint32_t restart, const std::string_view* bound);
  void step_back();
  void fail_at(const char* at);

  BlockView block_;
  const char* at_ = nullptr;    // the entry's first byte
  const char* next_ = nullptr;  // the one behind it
  std::string key_;
  Entry entry_;
  bool valid_ = false;
  bool failed_ = false;
  uint32_t restart_ = 0;  // of the stretch that a walk back is in
  std::vector<StepBack> steps_;
  std::string tails_;
};

}  // namespace gyre
