// What nodes ask each other about ranges: a scan names slots and a range of keys, and is answered by
// pages of entries in the order of their keys, dead ones included, and an empty reply behind the last
// one. Integers are little-endian, decoding is strict, as in replica_messages.hpp.
//
//   scan     start_bytes u32 · end_bytes u32 (+ 2^31: keys only) · now_ms u64 · slots 2048 bytes (SlotSet) · start · end
//   page     entries, one after the other:
//            kind u8 (ScanKind) · key_bytes u24 · value_bytes u32 · hlc u64 · origin u64 · key · value
//
// Whether something has expired is judged by the asker's clock, which is `now_ms`: all replicas judge
// alike. A value from 64 KiB on does not come with its entry, only its length does; with keys only none
// does, and its length is 0. Builds that don't know the latter find no sense in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/version.hpp>

#include "base/limits.hpp"
#include "cluster/slot_set.hpp"

namespace gyre::cluster {

struct ScanRequest {
  static constexpr size_t head_bytes = 16 + SlotSet::bytes;
  // What comes right behind the longest key.
  static constexpr size_t start_bytes_max = limits::stored_key_bytes_max + 1;

  std::string_view start;  // the first key, if it is there
  std::string_view end;    // behind the last one; empty: there is none
  uint64_t now_ms = 0;
  bool keys_only = false;
  SlotSet slots;

  // Writes the head; start and end follow it as they are.
  void encode_head(char (&out)[head_bytes]) const;
  static bool decode(std::string_view payload, ScanRequest& out);
};

enum class ScanKind : uint8_t {
  value = 1,
  dead = 2,        // a tombstone, or expired
  long_value = 3,  // value_bytes long, to be asked for
  passed = 4,      // no entry: whatever lies up to this key has come
};

struct ScanEntry {
  static constexpr size_t head_bytes = 24;

  ScanKind kind = ScanKind::passed;
  std::string_view key;
  Version version;  // zero of `passed`
  uint64_t value_bytes = 0;
  std::string_view value;  // empty unless kind is value

  size_t size_bytes() const { return head_bytes + key.size() + value.size(); }
  void append_to(std::string& page) const;
  // Takes one off the front of a page. False: it makes no sense.
  static bool take(std::string_view& page, ScanEntry& out);
};

}  // namespace gyre::cluster
