// As many objects as are known beforehand, side by side, in memory of the frame pool. They never
// move.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <utility>

#include <gyre/task.hpp>

#include "base/assert.hpp"

namespace gyre {

template <class T>
class FrameArray {
 public:
  explicit FrameArray(size_t capacity)
      : data_(static_cast<T*>(allocate_frame(bytes_of(capacity)))), capacity_(capacity) {}
  ~FrameArray() {
    std::destroy_n(data_, size_);
    free_frame(data_, bytes_of(capacity_));
  }
  FrameArray(const FrameArray&) = delete;
  FrameArray& operator=(const FrameArray&) = delete;

  template <class... Args>
  T& emplace_back(Args&&... args) {
    GYRE_ASSERT(size_ < capacity_);
    T* made = new (data_ + size_) T(std::forward<Args>(args)...);
    ++size_;
    return *made;
  }
  size_t size() const { return size_; }
  T* data() { return data_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  T& operator[](size_t index) { return data_[index]; }

 private:
  static size_t bytes_of(size_t count) { return count == 0 ? 1 : count * sizeof(T); }

  T* data_;
  size_t capacity_;
  size_t size_ = 0;
};

}  // namespace gyre
