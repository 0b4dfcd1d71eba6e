// Streams a large value out of a table or a value file, in pieces of at most 256 KiB whose chunks passed their
// checksums, the next piece being read while the caller uses the current one.
//
// Holds a reference to the file, so that it outlives a compaction that removes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/block_file.hpp"

namespace gyre {

class LargeReader {
 public:
  static constexpr size_t piece_bytes_max = 256u << 10;

  // `encoded` is a LargeHandle in `file`: TableFile::place_of says both for an entry.
  static Result<LargeReader> open(Ref<BlockFile> file, std::string_view encoded);
  // The size without a reader.
  static Result<uint64_t> size_of(const BlockFile& file, std::string_view encoded);
  LargeReader(LargeReader&&) noexcept = default;
  LargeReader& operator=(LargeReader&&) noexcept = default;

  uint64_t size_bytes() const { return handle_.size_bytes; }
  // Not handed out yet.
  uint64_t remaining_bytes() const { return handle_.size_bytes - given_bytes_; }
  // The next piece, valid until the next call; empty at the end. After an error nothing more.
  Task<Result<std::string_view>> next();

  size_t memory_bytes() const;
  // What a reader of such a value holds at most: to be reserved before it starts.
  static size_t memory_bytes_expected(uint64_t value_bytes);

 private:
  LargeReader(Ref<BlockFile> file, LargeHandle handle) : file_(std::move(file)), handle_(handle) {}

  // The chunks of one read: [first, first + count).
  struct Group {
    uint64_t first = 0;
    uint64_t count = 0;
  };
  Group group_at(uint64_t chunk) const;
  uint64_t group_end(const Group& group) const;
  bool is_one_read() const;
  void start(const Group& group);
  Task<Result<void>> read_list();
  Result<void> take_list(std::string_view bytes, uint64_t begin);
  Task<Result<void>> fill();

  Ref<BlockFile> file_;
  LargeHandle handle_;
  std::string list_;
  AlignedBuffer buffer_;
  std::string_view rest_;  // of the current group, checked and not handed out
  OverlappedIo ahead_;
  Group ahead_group_;
  uint64_t next_chunk_ = 0;  // first one that no read was started for
  uint64_t given_bytes_ = 0;
  bool failed_ = false;
};

}  // namespace gyre
