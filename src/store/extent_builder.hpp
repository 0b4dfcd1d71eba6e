// The checksums of one large value while it passes by in pieces of any size: the caller puts the
// pieces into its file, and behind them the list that end() gives (table_format.hpp, extent).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/hash.hpp"
#include "store/table_format.hpp"

namespace gyre {

class ExtentBuilder {
 public:
  ExtentBuilder(uint64_t offset, uint64_t size_bytes, uint32_t chunk_bytes);

  // The pieces must add up to size_bytes.
  void add(std::string_view piece);
  // The list of checksums; the handle is complete then.
  std::string_view end();

  const LargeHandle& handle() const { return handle_; }
  size_t memory_bytes() const { return checksums_.capacity(); }

 private:
  void close_chunk();

  LargeHandle handle_;
  uint64_t added_bytes_ = 0;
  std::string checksums_;
  std::optional<StreamingHash> chunk_;  // open while a chunk is incomplete
};

}  // namespace gyre
