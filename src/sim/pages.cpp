#include "sim/pages.hpp"

#include <algorithm>
#include <cstring>

namespace gyre::sim {

uint64_t Pages::missing_bytes(uint64_t offset, uint64_t length) const {
  if (length == 0) return 0;
  uint64_t missing = 0;
  for (uint64_t i = offset / page_bytes; i <= (offset + length - 1) / page_bytes; ++i) {
    if (i >= pages_.size() || pages_[i] == nullptr) missing += page_bytes;
  }
  return missing;
}

void Pages::grow_index(uint64_t end) {
  const uint64_t count = (end + page_bytes - 1) / page_bytes;
  if (pages_.size() < count) pages_.resize(count);
}

Pages::Page& Pages::writable(size_t index) {
  std::shared_ptr<Page>& page = pages_[index];
  if (page == nullptr) {
    page = std::make_shared<Page>();
    page->fill(0);
    ++allocated_;
  } else if (page.use_count() != 1) {
    page = std::make_shared<Page>(*page);
  }
  return *page;
}

size_t Pages::read(uint64_t offset, char* out, size_t length) const {
  if (offset >= size_) return 0;
  length = std::min<uint64_t>(length, size_ - offset);
  for (size_t done = 0; done < length;) {
    const size_t index = (offset + done) / page_bytes;
    const size_t within = (offset + done) % page_bytes;
    const size_t n = std::min(length - done, page_bytes - within);
    if (index < pages_.size() && pages_[index] != nullptr) {
      std::memcpy(out + done, pages_[index]->data() + within, n);
    } else {
      std::memset(out + done, 0, n);
    }
    done += n;
  }
  return length;
}

void Pages::write(uint64_t offset, std::string_view bytes) {
  if (bytes.empty()) return;
  grow_index(offset + bytes.size());
  for (size_t done = 0; done < bytes.size();) {
    const size_t within = (offset + done) % page_bytes;
    const size_t n = std::min(bytes.size() - done, page_bytes - within);
    std::memcpy(writable((offset + done) / page_bytes).data() + within, bytes.data() + done, n);
    done += n;
  }
  size_ = std::max<uint64_t>(size_, offset + bytes.size());
}

void Pages::reserve(uint64_t offset, uint64_t length) {
  if (length == 0) return;
  grow_index(offset + length);
  // One page of zeros serves the whole range until it is written.
  std::shared_ptr<Page> zeros;
  for (uint64_t i = offset / page_bytes; i <= (offset + length - 1) / page_bytes; ++i) {
    if (pages_[i] != nullptr) continue;
    if (zeros == nullptr) {
      zeros = std::make_shared<Page>();
      zeros->fill(0);
    }
    pages_[i] = zeros;
    ++allocated_;
  }
  size_ = std::max(size_, offset + length);
}

void Pages::resize(uint64_t size) {
  if (size < size_) {
    const uint64_t keep = (size + page_bytes - 1) / page_bytes;
    for (uint64_t i = keep; i < pages_.size(); ++i) allocated_ -= pages_[i] != nullptr ? 1 : 0;
    if (pages_.size() > keep) pages_.resize(keep);
    const size_t tail = size % page_bytes;
    // What a later extension uncovers must read as zeros.
    if (tail != 0 && keep <= pages_.size() && pages_[keep - 1] != nullptr) {
      Page& last = writable(keep - 1);
      std::memset(last.data() + tail, 0, page_bytes - tail);
    }
  }
  size_ = size;
}

void Pages::share(const Pages& from, uint64_t offset, uint64_t length) {
  if (length == 0) return;
  grow_index(offset + length);
  for (uint64_t i = offset / page_bytes; i <= (offset + length - 1) / page_bytes; ++i) {
    const auto& page = i < from.pages_.size() ? from.pages_[i] : nullptr;
    allocated_ += (page != nullptr ? 1 : 0) - (pages_[i] != nullptr ? 1 : 0);
    pages_[i] = page;
  }
  size_ = std::max(size_, offset + length);
}

}  // namespace gyre::sim
