// The file of a missed log: frames on 4096-byte boundaries, each padded with zeros to the next.
//
//      0  magic "GyMi" · format version u16 · 0 u16
//      8  payload bytes u32 · 0 u32
//     16  salt u64: of the file, so that what a reused block held before is not part of it
//     24  frame number u64, counting up from 0
//     32  checksum u64: XXH3-64 of the payload, seeded with XXH3-64 of bytes 0..32
//     40  payload: entries, each a kind u8 and
//          1 peer       id (16 bytes)                         numbered from 0 in order
//          2 missed     peer · slot · key (length-prefixed) · hlc u64 · origin u64
//          3 replayed   the same
//          4 owed       peer · slot · hlc u64
//          5 walk       peer                                  all that is owed is walked
//          6 walked     peer                                  what was walked is owed no more
//          7 forgotten  peer
//          8 watermark  hlc u64                               the last one counts
//          9 clean      –                                     the last of a clean stop
//         10 complete   –                                     the last of the state the file began with
//        (peer, slot and lengths are varints)
//
// A file begins with the whole state, in as many frames as that takes, and gets its name when they
// are durable. After that one frame is written at a time, and the next only when it is durable:
//   - zeros or nothing behind the last frame: a clean end
//   - a bad frame with no good, later one of this file behind it: the torn tail of one that nobody
//     was told about; it is dropped
//   - a bad frame with a good, later one behind it, or a state that is not complete: damage
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/result.hpp>
#include <gyre/version.hpp>

#include "cluster/handoff/peer_set.hpp"

namespace gyre::cluster {

inline constexpr std::string_view missed_magic = "GyMi";
inline constexpr uint16_t missed_format_version = 1;
inline constexpr size_t missed_frame_header_bytes = 40;
inline constexpr size_t missed_frame_alignment_bytes = 4096;
inline constexpr size_t missed_frame_bytes_max = 16u << 20;

enum class MissedEntryKind : uint8_t {
  peer = 1,
  missed,
  replayed,
  owed,
  walk,
  walked,
  forgotten,
  watermark,
  clean,
  complete,
};

struct MissedEntry {
  MissedEntryKind kind = MissedEntryKind::peer;
  PeerNumber peer = 0;
  PeerId id{};
  uint32_t slot = 0;
  std::string_view key;  // into the file
  Version version;       // owed and watermark: hlc only

  friend bool operator==(const MissedEntry&, const MissedEntry&) = default;
};

void append_missed_entry(std::string& out, const MissedEntry& entry);
// Appends a frame of these entries, padding included.
void append_missed_frame(std::string& out, uint64_t salt, uint64_t number,
                         std::string_view entries);

// Reads a whole file, entry by entry.
class MissedReader {
 public:
  enum class Step : uint8_t { entry, clean_end, torn_tail };

  explicit MissedReader(std::string_view file) : file_(file) {}

  // Errc::corrupt: damage, with the offset. Errc::unsupported: a later format version.
  Result<Step> next(MissedEntry& out);
  uint64_t valid_bytes() const { return offset_; }  // of whole frames, padding included
  uint64_t salt() const { return salt_; }

 private:
  // The payload of a good frame at the offset, or no data().
  std::string_view frame_at(uint64_t offset, uint64_t& number, uint64_t& salt) const;
  bool has_later_frame_behind(uint64_t offset) const;

  std::string_view file_;
  std::string_view entries_;  // what is left of the frame
  uint64_t offset_ = 0;       // of the next frame
  uint64_t salt_ = 0;
  uint64_t next_frame_ = 0;
};

}  // namespace gyre::cluster
