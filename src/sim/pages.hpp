// The bytes of a simulated file: sparse 4 KiB pages, copied on write, so that the volatile and
// the durable image of a file, and copies of a whole disk, share what they have in common.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace gyre::sim {

class Pages {
 public:
  static constexpr size_t page_bytes = 4096;

  uint64_t size() const { return size_; }
  uint64_t allocated_bytes() const { return allocated_ * page_bytes; }
  // How much `allocated_bytes` would grow by a write of this range.
  uint64_t missing_bytes(uint64_t offset, uint64_t length) const;

  // Reads at most `length` bytes; returns how many the file has there.
  size_t read(uint64_t offset, char* out, size_t length) const;
  void write(uint64_t offset, std::string_view bytes);
  // Takes space for the range, which reads as zeros; extends the size.
  void reserve(uint64_t offset, uint64_t length);
  void resize(uint64_t size);
  // Makes the pages of the range those of `from`, which has the same bytes there.
  void share(const Pages& from, uint64_t offset, uint64_t length);
  void clear() { *this = Pages(); }

 private:
  using Page = std::array<char, page_bytes>;
  Page& writable(size_t index);
  void grow_index(uint64_t end);

  uint64_t size_ = 0;
  uint64_t allocated_ = 0;  // pages that are not holes
  std::vector<std::shared_ptr<Page>> pages_;
};

}  // namespace gyre::sim
