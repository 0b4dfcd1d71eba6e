#include "store/extent_builder.hpp"

#include "base/assert.hpp"
#include "base/coding.hpp"

namespace gyre {

ExtentBuilder::ExtentBuilder(uint64_t offset, uint64_t size_bytes, uint32_t chunk_bytes) {
  handle_.offset = offset;
  handle_.size_bytes = size_bytes;
  handle_.chunk_bytes = chunk_bytes;
  checksums_.reserve(handle_.list_bytes());
}

void ExtentBuilder::add(std::string_view piece) {
  GYRE_ASSERT(piece.size() <= handle_.size_bytes - added_bytes_);
  const uint64_t chunk_bytes = handle_.chunk_bytes;
  while (!piece.empty()) {
    const uint64_t room = chunk_bytes - added_bytes_ % chunk_bytes;
    const std::string_view part = piece.substr(0, room);
    piece.remove_prefix(part.size());
    added_bytes_ += part.size();
    if (part.size() == chunk_bytes) {  // a whole chunk at once
      append_fixed(checksums_, hash64(part));
      continue;
    }
    if (!chunk_) chunk_.emplace();
    chunk_->update(part);
    if (part.size() == room) close_chunk();
  }
}

void ExtentBuilder::close_chunk() {
  append_fixed(checksums_, chunk_->digest());
  chunk_.reset();
}

std::string_view ExtentBuilder::end() {
  GYRE_ASSERT(added_bytes_ == handle_.size_bytes);
  if (chunk_) close_chunk();
  handle_.list_checksum = hash64(checksums_);
  return checksums_;
}

}  // namespace gyre
