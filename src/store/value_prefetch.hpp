// Reads the values of a scan that lie in value files, those of the next entries ahead: as many bytes
// as the walk has proved worth, up to bytes_ahead_max. Entries are looked for in the block that the
// cursor stands in, which holds the next hundred handles or so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/source_cursor.hpp"
#include "store/table_file.hpp"

namespace gyre {

class ValuePrefetch {
 public:
  static constexpr size_t bytes_ahead_max = 256u << 10;

  // `bound`: entries from that key on (going back: before it) are not read ahead; empty: all are.
  ValuePrefetch(std::string_view bound, bool back) : bound_(bound), back_(back) {}

  // Resolves `value`, the Kind::separate entry that `cursor` stands on, as TableFile::resolve does,
  // and starts to read ahead.
  Task<Result<void>> load(const SourceCursor& cursor, TableEntry& value);

  size_t memory_bytes() const { return bytes_ahead_; }

 private:
  struct Read {
    Ref<BlockFile> file;
    BlockHandle handle;
    OverlappedIo io;
  };
  bool is_under_way(const BlockFile& file, const BlockHandle& handle) const;
  void start(const SourceCursor& cursor);
  static Task<Result<BlockPin>> finish(Read read);

  std::string_view bound_;
  bool back_;
  std::deque<Read> reads_;  // in the order of the walk, of several cursors
  size_t bytes_ahead_ = 0;  // of these
  size_t bytes_wanted_ = 0;
};

}  // namespace gyre
