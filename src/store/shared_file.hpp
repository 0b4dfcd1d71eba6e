// Files with several owners, and reads and writes that run while their owner does something else.
//
// SharedFile is counted without atomics: one core only. The last owner's Ref closes it, in the
// background.
//
// OverlappedIo is one read or write under way. It keeps its file open and its memory alive until
// the operation has ended, even if its owner is gone by then: file operations can't be taken back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>

namespace gyre {

class SharedFile {
 public:
  explicit SharedFile(File file) : file_(std::move(file)) {}
  virtual ~SharedFile() = default;
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  File& file() { return file_; }
  const File& file() const { return file_; }

 private:
  template <class T>
  friend class Ref;
  File file_;
  uint32_t references_ = 0;
};

// A counted reference to a SharedFile or something derived from it.
template <class T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* object) : object_(object) {
    if (object_ != nullptr) ++object_->SharedFile::references_;
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  template <class U>
    requires std::is_convertible_v<U*, T*>
  Ref(const Ref<U>& other) : Ref(other.get()) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { reset(); }
  void reset() {
    T* const object = std::exchange(object_, nullptr);
    if (object != nullptr && --object->SharedFile::references_ == 0) delete object;
  }

  explicit operator bool() const { return object_ != nullptr; }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  friend bool operator==(const Ref&, const Ref&) = default;

 private:
  T* object_ = nullptr;
};

class OverlappedIo {
 public:
  OverlappedIo() = default;
  OverlappedIo(OverlappedIo&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  OverlappedIo& operator=(OverlappedIo&& other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~OverlappedIo() { abandon(); }

  // Offset and length are multiples of 4096. Only when nothing is started.
  void start_read(Ref<SharedFile> file, uint64_t offset, size_t size_bytes);
  // Writes the first `size_bytes` of `buffer`.
  void start_write(Ref<SharedFile> file, uint64_t offset, AlignedBuffer buffer, size_t size_bytes);

  bool started() const { return state_ != nullptr; }
  // Started, and not yet known to have ended.
  bool in_flight() const;
  // Waits for the end, whatever was stopped. Answers how many bytes were read (less than asked for
  // only at the file's end) or written (all of them), and gives the buffer back.
  struct Done {
    AlignedBuffer buffer;
    size_t size_bytes = 0;
  };
  Task<Result<Done>> finish();
  // Lets the operation end on its own.
  void abandon() noexcept;

  size_t memory_bytes() const;

 private:
  struct State;
  void start(Ref<SharedFile> file, OpCode code, uint64_t offset, AlignedBuffer buffer,
             size_t size_bytes);

  State* state_ = nullptr;
};

}  // namespace gyre
