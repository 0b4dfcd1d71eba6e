// A value file: values that were taken out of the tables so that merges don't copy them (WiscKey,
// Lu et al. 2016; BlobDB's form of it). Written once, beside the table of a flush or of a merge;
// never changed, removed once no table names it.
//
//   ( block | extent )…      values, in the key order of the table they were written beside
//   zeros                    so that the footer ends at a multiple of 4096
//   footer                   the last 56 bytes of the file
//        0  value count u64
//        8  content bytes u64: of blocks and extents, from the file's start
//       16  content hash u64: XXH3-64 of these
//       24  file number u64
//       32  format version u32 · 0 u32
//       40  checksum u64 of bytes 0..40, seeded with the file number
//       48  magic "GyreValu"
//
//   block     a value encoded as encode_block does (table_format.hpp), read through the block cache
//   extent    a large value as in a table, streamed with a LargeReader
//
// The file knows no keys. An entry of a table names its value: kind, then as the entry's value
//
//   Kind::separate         file number varint · offset varint · stored bytes varint ·
//                          raw bytes varint · codec u8 · checksum u64
//   Kind::separate_large   file number varint · LargeHandle
//
// and the table's properties sum up what it names of each file (ValueReference): from that follows
// how much of a file is live. A file of which more than half is dead is sparse; merges move what is
// left of it to a new one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/block_file.hpp"
#include "store/entry.hpp"
#include "store/table_format.hpp"

namespace gyre {

inline constexpr uint32_t value_format_version = 1;
inline constexpr size_t value_footer_bytes = 56;
// The codec of Kind::separate and its sizes fit in that; the longest form of an encoded handle.
inline constexpr size_t value_handle_bytes_max = 64;

struct ValueFooter {
  uint64_t value_count = 0;
  uint64_t content_bytes = 0;
  uint64_t content_hash = 0;
  uint64_t file_number = 0;
  uint32_t format_version = value_format_version;
};

void append_value_footer(std::string& out, const ValueFooter& footer);
// `tail` ends where the file does. Errc::unsupported for a format version of the future.
Result<ValueFooter> parse_value_footer(std::string_view tail, uint64_t file_bytes,
                                       uint64_t file_number);

// --- handles -------------------------------------------------------------------------------------

std::string encode_block_value(uint64_t file_number, const BlockHandle& handle);
std::string encode_large_value(uint64_t file_number, const LargeHandle& handle);
// Takes the file number off the front of an entry's value.
Result<uint64_t> take_value_file_number(std::string_view& encoded);
// What is left of a Kind::separate entry's value then. The block must end at or before `limit`.
Result<BlockHandle> decode_block_value(std::string_view handle, uint64_t limit);

// Where a separate value lies.
struct SeparateValue {
  uint64_t file_number = 0;
  uint64_t raw_bytes = 0;     // the value's size
  uint64_t stored_bytes = 0;  // in its file, checksums of chunks included
  uint64_t end_offset = 0;
};

// Of an entry with is_separate(entry.kind). Plausible in itself; whether the file is that long is
// known to the file.
Result<SeparateValue> separate_value(const Entry& entry);

// --- the file ------------------------------------------------------------------------------------

using ValueFileRef = Ref<ValueFile>;

class ValueFile final : public BlockFile {
 public:
  // The file that `reference` names, open already or not. Errc::corrupt if it is missing, shorter
  // than what is named of it, or another file; `named_by` is the path of the table.
  static Task<Result<ValueFileRef>> open(TableHost& host, ValueReference reference,
                                         std::string named_by);
  ~ValueFile() override;

  // A table that names so much of it has come into use, or went out of it; obsolete after the last.
  void add(const ValueReference& reference);
  void remove(const ValueReference& reference);

  uint64_t value_count() const { return footer_.value_count; }
  uint64_t content_bytes() const { return footer_.content_bytes; }
  const ValueFooter& footer() const { return footer_; }
  uint64_t live_bytes() const { return live_bytes_; }
  // In use, and more than half of it is dead.
  bool is_sparse() const { return tables_ != 0 && 2 * live_bytes_ < footer_.content_bytes; }
  // In use, and so much is dead that who asks for a full compaction wants it back.
  bool is_wasteful() const {
    return tables_ != 0 && footer_.content_bytes - live_bytes_ > footer_.content_bytes / 16;
  }

 private:
  ValueFile(TableHost& host, File file, const ValueFooter& footer, uint64_t file_bytes);
  void count(int64_t sign);

  ValueFooter footer_;
  uint64_t live_bytes_ = 0;
  uint32_t tables_ = 0;  // in use, that name it
};

}  // namespace gyre
