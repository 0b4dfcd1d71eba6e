// A table: an immutable file of sorted entries, at most one per key.
//
//   ( data block | extent )…  partition     one group per partition (table_index.hpp)
//   ( data block | extent )…  partition
//   …
//   top index                               one entry per partition
//   properties
//   footer                                  the last 88 bytes
//
//   extent      a large value: its bytes, cut into chunks for checking, then the XXH3-64 of each
//               chunk, u64 each. The entry in a data block holds a LargeHandle instead of a value:
//               offset varint, size varint, chunk bytes varint, checksum of the checksum list u64.
//               An extent lies before the data block that names it.
//   footer       0  top index offset u64 · stored size u32 · raw size u32 · checksum u64
//               24  properties offset u64 · stored size u32 · raw size u32 · checksum u64
//               48  file number u64
//               56  format version u32
//               60  checksum type u8 (1: XXH3-64) · top index codec u8 · properties codec u8 · 0
//               64  0 u64
//               72  checksum u64 of bytes 0..72, seeded with the file number
//               80  magic "GyreTabl"
//
// Every byte of the file but the footer is covered by a checksum that is kept elsewhere, beside
// the address of what it covers: a block that was written to, or read from, a wrong place does
// not pass. Numbers are little-endian. The table's size comes from the manifest: what the file
// has behind it (padding of the last O_DIRECT write) is no part of the table.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/version.hpp>

namespace gyre {

// 2 knows the last expiry; readers take a table of version 1 for one that ends at its first.
// 3 knows how many blocks are dense with tombstones, and may name value files; readers take one of
// version 1 or 2 for one that has none of either.
inline constexpr uint32_t table_format_version = 3;
inline constexpr size_t table_footer_bytes = 88;

enum class Codec : uint8_t { none = 0, lz4 = 1 };

inline constexpr bool is_known_codec(uint8_t codec) {
  return codec <= static_cast<uint8_t>(Codec::lz4);
}

// How a table is written; readers need none of it.
struct TableOptions {
  uint32_t block_bytes_target = 8u << 10;
  uint32_t restart_interval = 16;
  uint32_t partition_blocks_max = 256;         // whichever of the two comes first
  uint64_t partition_bytes_target = 2u << 20;  // raw bytes of data blocks
  uint64_t large_value_bytes_min = 64u << 10;  // values from here on go to an extent
  uint32_t chunk_bytes = 64u << 10;
  uint32_t bloom_bits_per_key = 10;  // 0: no filter
  // Of tables above the deepest level, which hold about an eighth of the entries, but are most of
  // the tables that a lookup asks in vain: for 8 % more bytes of filters in all, a seventh of the
  // false hits there (the idea: Dayan, Athanassoulis, Idreos, "Monkey", 2017). No part of the
  // format: a table's properties have the bits that it got.
  uint32_t bloom_bits_per_key_upper = 16;
  Codec codec = Codec::lz4;

  // What a table of this level is written with.
  TableOptions at_level(unsigned level) const;
};

// Where a block's bytes lie, what they must hash to, and how they are encoded.
struct BlockHandle {
  uint64_t offset = 0;
  uint32_t stored_bytes = 0;
  uint32_t raw_bytes = 0;
  Codec codec = Codec::none;
  uint64_t checksum = 0;

  uint64_t end() const { return offset + stored_bytes; }
  friend bool operator==(const BlockHandle&, const BlockHandle&) = default;
};

// Codec and sizes that go together, and the block ends at or before `limit`.
bool is_plausible(const BlockHandle& handle, uint64_t limit);

// Compresses `raw` with `codec` if that saves at least an eighth. Returns what to store: `raw`
// itself or `scratch`. Fills all of the handle but its offset.
std::string_view encode_block(std::string_view raw, Codec codec, std::string& scratch,
                              BlockHandle& handle);

// Checks `stored` and writes handle.raw_bytes bytes to `out`.
Result<void> decode_block(std::string_view stored, const BlockHandle& handle, char* out);

// --- footer --------------------------------------------------------------------------------------

struct TableFooter {
  uint64_t file_number = 0;
  uint32_t format_version = table_format_version;
  BlockHandle top_index;
  BlockHandle properties;
};

void append_footer(std::string& out, const TableFooter& footer);

// `tail` is the end of the table, at least its last table_footer_bytes. Errc::unsupported for a
// format version of the future.
Result<TableFooter> parse_footer(std::string_view tail, uint64_t table_bytes, uint64_t file_number);

// --- properties ----------------------------------------------------------------------------------

inline constexpr uint64_t no_tombstone_hlc = ~uint64_t{0};

// What a table names of one value file (value_file.hpp).
struct ValueReference {
  uint64_t file_number = 0;
  uint64_t value_count = 0;
  uint64_t value_bytes = 0;  // as stored there
  uint64_t end_offset = 0;   // of the last one in the file

  friend bool operator==(const ValueReference&, const ValueReference&) = default;
};

// A data block of which at least half of the entries are tombstones.
constexpr bool is_tombstone_dense(uint64_t entry_count, uint64_t tombstone_count) {
  return tombstone_count != 0 && 2 * tombstone_count >= entry_count;
}

struct TableProperties {
  uint64_t entry_count = 0;
  uint64_t tombstone_count = 0;
  uint64_t large_count = 0;  // in extents of the table
  uint64_t raw_key_bytes = 0;
  uint64_t raw_value_bytes = 0;  // those outside blocks included
  uint64_t data_block_count = 0;
  uint64_t partition_count = 0;
  uint64_t tombstone_dense_block_count = 0;  // is_tombstone_dense
  std::string smallest_key;  // meaningless in a table without entries, which nobody writes
  std::string largest_key;
  Version version_min;
  Version version_max;
  uint64_t tombstone_hlc_min = no_tombstone_hlc;
  uint64_t expire_at_ms_min = 0;  // 0: nothing here expires
  uint64_t expire_at_ms_max = 0;
  uint64_t expiring_count = 0;
  uint64_t log_sequence_max = 0;  // the last log record that is contained
  uint64_t created_ms = 0;        // wall clock
  TableOptions options;
  std::vector<ValueReference> value_references;  // by file number

  friend bool operator==(const TableProperties& a, const TableProperties& b) {
    return a.encode() == b.encode();
  }
  std::string encode() const;
  static Result<TableProperties> decode(std::string_view bytes,
                                        uint32_t format_version = table_format_version);
};

// --- large values --------------------------------------------------------------------------------

struct LargeHandle {
  uint64_t offset = 0;  // in the file that holds the entry
  uint64_t size_bytes = 0;
  uint32_t chunk_bytes = 0;
  uint64_t list_checksum = 0;

  uint64_t chunk_count() const {
    return size_bytes / chunk_bytes + (size_bytes % chunk_bytes != 0);
  }
  uint64_t chunk_offset(uint64_t index) const { return offset + index * chunk_bytes; }
  uint32_t chunk_size_bytes(uint64_t index) const {
    const uint64_t rest = size_bytes - index * chunk_bytes;
    return rest < chunk_bytes ? static_cast<uint32_t>(rest) : chunk_bytes;
  }
  uint64_t list_offset() const { return offset + size_bytes; }
  uint64_t list_bytes() const { return chunk_count() * 8; }

  std::string encode() const;
  // `limit`: the extent must end at or before it (the offset of the block that holds the entry).
  static Result<LargeHandle> decode(std::string_view bytes, uint64_t limit);

  friend bool operator==(const LargeHandle&, const LargeHandle&) = default;
};

// The chunk checksums of one large value, as read from the file.
Result<void> check_large_list(const LargeHandle& handle, std::string_view list);
// One chunk against a list that passed check_large_list.
Result<void> check_large_chunk(const LargeHandle& handle, std::string_view list, uint64_t index,
                               std::string_view chunk);

}  // namespace gyre
