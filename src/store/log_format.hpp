// The bytes of the write-ahead log: segments and frames. Pure functions over memory.
//
// A shard's log is a sequence of bytes that only grows; a byte's number in it is its *position*,
// which never goes back. It is kept in segments, files of a size that is fixed when they are made,
// zero-filled once and later recycled under a new id, so that an append never changes the file
// system's metadata. Ids ascend and are never used twice. A segment's first frame says at which
// position the segment begins (its base), and frames follow each other without a gap:
//
//   segment 7, base 0                        segment 8, base 12288
//   | frame 1 | frame 2        | old bytes   | frame 3 | frame 4 | old bytes
//   0         4096             12288         12288     16384     20480
//
// One frame is one group commit: one write, 4 KiB-aligned, at most 1 MiB, padded with zeros.
//
//    0  magic            u32    "GLOG"
//    4  format version   u16
//    6  flags            u16    1: the log was reopened here, records begun earlier stay unfinished
//    8  segment id       u64    tells a frame from what an earlier life of the file left behind
//   16  frame sequence   u64    one more than that of the frame before, across segments
//   24  position         u64    of this header
//   32  synced position  u64    the promise: when this was written, everything before was durable
//   40  first seq        u64    no record in this frame or later has a smaller one, all before have
//   48  entries          u32
//   52  payload bytes    u32
//   56  payload XXH3     u64
//   64  header XXH3      u64    over bytes 0..64
//   72  payload                 entries (write_record.hpp)
//       zeros to the next multiple of 4096
//
// Both hashes are seeded with the log's salt, a random number kept with the directory's identity:
// neither another log's frames nor a client's value that looks like a frame are taken for ours.
// All integers are little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/limits.hpp"

namespace gyre {

inline constexpr uint32_t log_magic = 0x474f4c47;  // "GLOG"
inline constexpr uint16_t log_format_version = 1;
inline constexpr size_t log_header_bytes = 72;
inline constexpr size_t log_payload_bytes_max = limits::log_frame_bytes_max - log_header_bytes;
inline constexpr uint16_t log_flag_reopened = 1;

struct FrameHeader {
  uint16_t format_version = log_format_version;
  uint16_t flags = 0;
  uint64_t segment_id = 0;
  uint64_t frame_seq = 0;
  uint64_t position = 0;
  uint64_t synced_position = 0;
  uint64_t first_seq = 0;
  uint32_t entries = 0;
  uint32_t payload_bytes = 0;
  uint64_t payload_hash = 0;

  bool reopened() const { return (flags & log_flag_reopened) != 0; }
};

// The size of a frame on disk.
inline constexpr size_t padded_frame_bytes(size_t payload_bytes) {
  const size_t mask = limits::io_alignment_bytes - 1;
  return (log_header_bytes + payload_bytes + mask) & ~mask;
}

// Writes log_header_bytes bytes.
void encode_frame_header(char* out, const FrameHeader& header, uint64_t salt);

// Whether `bytes` begin with a whole header: magic, hash, and fields that fit together. Of another
// format version only the fields before `frame_seq` mean something; every version keeps them and
// the place of the hash, so that an old program can tell a newer log from damage.
bool decode_frame_header(std::string_view bytes, uint64_t salt, FrameHeader& header);

uint64_t frame_payload_hash(std::string_view payload, uint64_t salt);

}  // namespace gyre
