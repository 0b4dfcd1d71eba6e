// A short text that an object carries along.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

namespace gyre {

// The key or the entity tags of a request, kept for as long as it is worked on: usual ones inside,
// so that they cost no allocation.
class CarriedText {
 public:
  explicit CarriedText(std::string_view text) : size_(text.size()) {
    if (size_ <= sizeof inline_) {
      std::memcpy(inline_, text.data(), size_);
    } else {
      long_.assign(text);
    }
  }
  std::string_view view() const {
    return size_ <= sizeof inline_ ? std::string_view(inline_, size_) : std::string_view(long_);
  }

 private:
  size_t size_;
  char inline_[128];
  std::string long_;
};

}  // namespace gyre
