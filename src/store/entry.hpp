// One key's record as every part of the store passes it around: memtable, table, merge, scan.
//
// A key has one winner: the entry with the greatest version. Two entries of one version come
// only from replaying the same write, but the order is still total, so that every merge and
// every replica picks the same one: a tombstone beats a value, then the later expiry wins, then
// the greater value bytes.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

#include <gyre/version.hpp>

namespace gyre {

enum class Kind : uint8_t {
  value = 1,
  tombstone = 2,
  // Instead of the value the entry has a handle: where its bytes lie outside the table's blocks.
  large = 3,           // in the table's file, as an extent (LargeHandle, table_format.hpp)
  separate = 4,        // in a value file, as a block (value_file.hpp)
  separate_large = 5,  // in a value file, as an extent
};

inline constexpr bool is_known_kind(uint8_t kind) {
  return kind >= 1 && kind <= 5;
}
// In a value file.
inline constexpr bool is_separate(Kind kind) {
  return kind == Kind::separate || kind == Kind::separate_large;
}
// As an extent: read with a LargeReader.
inline constexpr bool is_streamed(Kind kind) {
  return kind == Kind::large || kind == Kind::separate_large;
}

// Views only: whoever hands out an Entry says how long its bytes live.
struct Entry {
  std::string_view key;
  Kind kind = Kind::value;
  Version version;
  uint64_t expire_at_ms = 0;  // 0: never
  std::string_view value;

  bool is_tombstone() const { return kind == Kind::tombstone; }
  bool is_expired(uint64_t now_ms) const { return expire_at_ms != 0 && expire_at_ms <= now_ms; }

  friend bool operator==(const Entry&, const Entry&) = default;
};

// Whether `a` replaces `b`, both entries of one key. Irreflexive, total up to equal content.
// A value outside blocks is not compared by its bytes: handles of one version name equal values.
inline bool wins(const Entry& a, const Entry& b) {
  if (a.version != b.version) return a.version > b.version;
  if (a.is_tombstone() != b.is_tombstone()) return a.is_tombstone();
  const uint64_t never = std::numeric_limits<uint64_t>::max();
  const uint64_t a_expiry = a.expire_at_ms == 0 ? never : a.expire_at_ms;
  const uint64_t b_expiry = b.expire_at_ms == 0 ? never : b.expire_at_ms;
  if (a_expiry != b_expiry) return a_expiry > b_expiry;
  if (a.kind != b.kind) return a.kind > b.kind;
  return a.value > b.value;
}

}  // namespace gyre
