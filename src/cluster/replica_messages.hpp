// What nodes ask each other about keys: the payloads of the requests and replies of the peer RPC.
// Integers are little-endian. Decoding is strict: bytes too few, too many or out of range are no
// message. Views of a decoded message point into its payload.
//
//   put      kind u8 (value, tombstone; + 128: a repair) · from u8 · coordinator u16 (its place in the
//            table) · key_bytes u32 · hlc u64 · origin u64 · expire_at_ms u64 · as_of u64 (0 unless
//            it is a repair) · key · value (to the end)
//   put's reply   status u8 (WriteOutcome) · 7 zeros · hlc u64 · origin u64 (of what superseded it)
//   get      4 zeros · value_bytes_max u32 · key (to the end)
//   get's reply   state u8 (ReadState) · 7 zeros · hlc u64 · origin u64 · expire_at_ms u64 ·
//            value_bytes u64 · value (to the end; left out where it is longer than value_bytes_max)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/version.hpp>

namespace gyre::cluster {

// No stamp that a clock can have made: the greatest ones mean "none" in places.
inline constexpr uint64_t hlc_max = UINT64_MAX - (uint64_t{1} << 32);

enum class Verb : uint8_t {
  put = 1,
  get = 2,
  scan = 3,
  notices = 4,
  offer = 5,
  join = 6,
  modify = 7,
  scan_position = 8,
};

struct PutRequest {
  static constexpr size_t head_bytes = 40;
  bool tombstone = false;
  bool repair = false;  // a copy of what other replicas hold: who sent it sees to the others
  uint8_t from = 1;     // its replicas are the first `from` of the slot's list
  uint16_t coordinator = 0;
  Version version;
  uint64_t expire_at_ms = 0;
  // Of a repair: what the receiver's clock had passed, when what it brings was read from another
  // replica. In time on its way the receiver may have purged a tombstone above it.
  uint64_t as_of = 0;
  std::string_view key;
  std::string_view value;

  // Writes the head; key and value follow it as they are.
  void encode_head(char (&out)[head_bytes]) const;
  static bool decode(std::string_view payload, PutRequest& out);
};

enum class WriteOutcome : uint8_t {
  stored = 1,
  superseded = 2,  // something newer is there; nothing was written
  refused = 3,     // too busy, or no memory; nothing was written
  read_only = 4,   // nothing was written
  too_large = 5,   // nothing was written
  failed = 6,      // whether it is there shows after a restart
};

struct PutReply {
  static constexpr size_t bytes = 24;
  WriteOutcome outcome = WriteOutcome::failed;
  Version newest;

  void encode(char (&out)[bytes]) const;
  static bool decode(std::string_view payload, PutReply& out);
};

struct GetRequest {
  static constexpr size_t head_bytes = 8;
  uint32_t value_bytes_max = 0;
  std::string_view key;

  void encode_head(char (&out)[head_bytes]) const;
  static bool decode(std::string_view payload, GetRequest& out);
};

enum class ReadState : uint8_t {
  never = 1,  // nothing is known of the key
  dead = 2,   // a tombstone, or expired
  live = 3,
  failed = 4,  // it could not be read
};

struct GetReply {
  static constexpr size_t head_bytes = 40;
  ReadState state = ReadState::failed;
  Version version;
  uint64_t expire_at_ms = 0;
  uint64_t value_bytes = 0;
  std::string_view value;
  bool has_value() const { return value.size() == value_bytes; }

  void encode_head(char (&out)[head_bytes]) const;
  static bool decode(std::string_view payload, GetReply& out);
};

}  // namespace gyre::cluster
