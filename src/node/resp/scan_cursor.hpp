// Where a SCAN goes on: cursors, as numbers that a client brings back whenever it likes, to whichever
// connection.
//
// A scan walks one storage shard after the other, each in key order. The cursor names the shard, and
// a number under which the core of that shard remembers the key to go on from. So a key that was
// there all the time is shown whatever is written meanwhile. What the core has forgotten (a restart,
// too many cursors since) goes on at the beginning of the shard: some keys come twice then, which
// SCAN allows; none is missed. In a cluster the number of the node that gave the cursor stands in the
// place of the shard.
//
//   bit 52: 1 · shard: 12 bits · number: 40 bits
//
// Below 2^53, so that clients who take cursors for floating-point numbers get them right. 0 is the
// beginning and the end.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace gyre {

struct ScanCursor {
  static constexpr unsigned number_bits = 40;
  static constexpr unsigned shard_bits = 12;
  static constexpr uint64_t numbers = uint64_t{1} << number_bits;
  static constexpr uint32_t shards = uint32_t{1} << shard_bits;

  uint32_t shard = 0;
  uint64_t number = 0;  // 0: the shard's first key

  uint64_t encode() const;
  // Nothing for what encode() never gives.
  static std::optional<ScanCursor> decode(uint64_t cursor);
};

// A cursor as a client writes it, by strtoul's rules as far as they make sense: digits. Nothing: no
// number.
std::optional<uint64_t> parse_cursor(std::string_view text);

// Of one core: the keys behind the cursors of its shards, the latest ones.
class ScanPositions {
 public:
  static constexpr size_t count_max = 1u << 16;
  static constexpr size_t bytes_max = 4u << 20;

  // Numbers begin somewhere else in every life of the program.
  explicit ScanPositions(uint64_t random) : next_(random % (ScanCursor::numbers - 1) + 1) {}

  // The number for a cursor that goes on behind `key`, a stored one.
  uint64_t remember(std::string_view key);
  // nullptr: forgotten, or never given.
  const std::string* find(uint64_t number) const;
  size_t size() const { return order_.size(); }
  size_t bytes() const { return bytes_; }

 private:
  static constexpr size_t entry_bytes = 128;  // beside the key

  std::unordered_map<uint64_t, std::string> keys_;
  std::deque<uint64_t> order_;  // oldest first
  size_t bytes_ = 0;
  uint64_t next_;
};

}  // namespace gyre
