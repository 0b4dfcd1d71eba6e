// The words of a command, kept for as long as it is worked on: a usual command's inside, so that they
// cost no allocation.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "resp/command_parser.hpp"

namespace gyre {

class CarriedWords {
 public:
  explicit CarriedWords(resp::Command words) : count_(words.size()) {
    size_t bytes = 0;
    for (const std::string_view word : words) bytes += word.size();
    char* to = inline_bytes_;
    if (bytes > sizeof inline_bytes_) {
      bytes_ = std::make_unique_for_overwrite<char[]>(bytes);
      to = bytes_.get();
    }
    if (count_ > inline_count) views_ = std::make_unique<std::string_view[]>(count_);
    std::string_view* view = count_ > inline_count ? views_.get() : inline_views_;
    for (const std::string_view word : words) {
      if (!word.empty()) std::memcpy(to, word.data(), word.size());
      *view++ = {to, word.size()};
      to += word.size();
    }
  }
  CarriedWords(const CarriedWords&) = delete;
  CarriedWords& operator=(const CarriedWords&) = delete;

  size_t size() const { return count_; }
  std::string_view operator[](size_t index) const { return all()[index]; }
  std::span<const std::string_view> all() const {
    return {count_ > inline_count ? views_.get() : inline_views_, count_};
  }
  std::span<const std::string_view> from(size_t index) const { return all().subspan(index); }

 private:
  static constexpr size_t inline_count = 8;

  size_t count_;
  std::string_view inline_views_[inline_count];
  char inline_bytes_[192];
  std::unique_ptr<std::string_view[]> views_;
  std::unique_ptr<char[]> bytes_;
};

}  // namespace gyre
