// Writes a table as a stream of bytes. No I/O: the caller drains pending() into the file in
// whatever pieces suit it, at any time between calls.
//
//   for each entry in key order:
//     small value or tombstone   add(entry)
//     value of a value file      add_separate(entry, where)
//     large value                begin_large(entry, size) · add_large_bytes(piece)… · end_large()
//     while (pending().size() >= piece) { write; consume(piece); }
//   finish(…); write the rest; properties() and file_bytes() go into the manifest
//
// Memory: one data block, the index and hashes of the open partition, the top index, and what
// is pending. A large value passes through in the pieces it is given in.
//
// A data block, a partition's end and an index entry are decided when the next key is known
// (separators need it), so up to one block stays inside until then.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "store/block.hpp"
#include "store/bloom.hpp"
#include "store/extent_builder.hpp"
#include "store/table_format.hpp"
#include "store/table_index.hpp"
#include "store/value_file.hpp"

namespace gyre {

// The large value that is passing through a builder.
struct OpenExtent {
  OpenExtent(const Entry& entry, uint64_t offset, uint64_t size_bytes, uint32_t chunk_bytes)
      : key(entry.key),
        version(entry.version),
        expire_at_ms(entry.expire_at_ms),
        extent(offset, size_bytes, chunk_bytes) {}
  std::string key;
  Version version;
  uint64_t expire_at_ms;
  ExtentBuilder extent;
};

class TableBuilder {
 public:
  TableBuilder(const TableOptions& options, uint64_t file_number);

  // Keys must strictly increase. A value of options.large_value_bytes_min or more becomes an
  // extent, all of which is then pending. A Kind::large entry can't be added: its handle means
  // nothing in this file, its bytes have to be streamed.
  void add(const Entry& entry);
  // is_separate(entry.kind), and entry.value names `value`.
  void add_separate(const Entry& entry, const SeparateValue& value);

  // entry.kind and entry.value are ignored. The pieces must add up to `size_bytes`.
  void begin_large(const Entry& entry, uint64_t size_bytes);
  void add_large_bytes(std::string_view piece);
  void end_large();

  // At least one entry must have been added. `created_ms`: wall clock; `log_sequence_max`: the
  // last log record that the table contains.
  void finish(uint64_t created_ms, uint64_t log_sequence_max);

  std::string_view pending() const { return std::string_view(pending_).substr(consumed_bytes_); }
  void consume(size_t bytes);

  // Bytes of the file so far, pending ones included. After finish(): the table's size.
  uint64_t file_bytes() const { return file_bytes_; }
  // What the file would have if it was finished now, without the top index.
  uint64_t estimated_file_bytes() const;
  // Of the values that it names in value files, as stored there.
  uint64_t separate_bytes() const { return separate_bytes_; }
  const TableProperties& properties() const { return properties_; }
  // What the builder holds, pending bytes included.
  size_t memory_bytes() const;

 private:
  void append_to_file(std::string_view bytes);
  void account(const Entry& entry, uint64_t value_bytes);
  void add_to_block(const Entry& entry);
  void close_block();
  // The waiting block gets its index entry, and its partition perhaps an end.
  void settle_block(std::string_view separator, bool is_last);
  // What must happen before `key` is added.
  void prepare_for(std::string_view key);
  BlockHandle append_whole(std::string_view raw);
  // The greatest key added so far.
  std::string_view last_key() const;

  TableOptions options_;
  uint64_t file_number_;
  std::string pending_;
  size_t consumed_bytes_ = 0;  // at its front
  uint64_t file_bytes_ = 0;

  BlockBuilder block_;
  uint32_t block_tombstone_count_ = 0;  // of the open block
  std::string compressed_;
  std::string scratch_;
  std::optional<BlockHandle> waiting_;  // a closed block without an index entry yet; its last key
                                        // is properties_.largest_key
  BloomBuilder bloom_;
  IndexBuilder partition_index_;
  uint64_t partition_bytes_ = 0;  // raw bytes of its data blocks
  IndexBuilder top_index_;
  std::optional<OpenExtent> large_;
  std::map<uint64_t, ValueReference> references_;
  uint64_t separate_bytes_ = 0;
  TableProperties properties_;
  bool finished_ = false;
};

}  // namespace gyre
