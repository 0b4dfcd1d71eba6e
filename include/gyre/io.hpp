// One operation as an awaitable. The Op lives in the awaiter, so in the frame of the waiting
// coroutine, which is resumed only by the operation's own last completion.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <gyre/reactor.hpp>
#include <gyre/result.hpp>
#include <gyre/stop.hpp>
#include <gyre/task.hpp>

namespace gyre {

// The fields of an Op, copyable.
struct OpSpec {
  OpCode code = OpCode::nop;
  uint16_t flags = 0;
  int fd = -1;
  uint32_t len = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  void* out = nullptr;
  void* data = nullptr;
  // A stop cancels the operation. Off for files: their operations can't be taken back, and the
  // memory they use must outlive them.
  bool cancellable = false;
};

class IoWait {
 public:
  explicit IoWait(const OpSpec& spec, std::string path = {}, std::string path2 = {});
  IoWait(const IoWait&) = delete;
  IoWait& operator=(const IoWait&) = delete;

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
    return suspend(handle.promise());
  }

 protected:
  bool suspend(PromiseBase& task) noexcept;
  static void completed(Op& op, Completion completion) noexcept;

  struct OwnOp : Op {
    explicit OwnOp(IoWait& of) : wait(of) {}
    IoWait& wait;
  };
  struct OnStop : StopCallback {
    explicit OnStop(IoWait& of);
    IoWait& wait;
  };

  std::string path_;
  std::string path2_;
  OwnOp op_;
  int32_t result_ = 0;
  bool cancellable_;
  PromiseBase* task_ = nullptr;
  OnStop on_stop_;
};

// Answers the count or descriptor the system call would.
class [[nodiscard]] IoCount : public IoWait {
 public:
  using IoWait::IoWait;
  Result<uint32_t> await_resume() const {
    if (result_ < 0) return fail(Error::from_errno(-result_, describe()));
    return static_cast<uint32_t>(result_);
  }

 private:
  std::string describe() const;
};

class [[nodiscard]] IoDone : public IoWait {
 public:
  using IoWait::IoWait;
  Result<void> await_resume() const {
    if (result_ < 0) return fail(Error::from_errno(-result_, path_));
    return {};
  }
};

// Closes a descriptor without waiting for it; the operation frees itself.
void close_detached(Reactor& reactor, int fd);

// An open descriptor of this core that nothing uses yet. Closed in the background unless somebody
// takes it over: so an answer that nobody wants any more (a loser of when_any) leaks nothing.
class [[nodiscard]] Descriptor {
 public:
  explicit Descriptor(int fd);
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();

  int fd() const { return fd_; }
  // The caller's from here on.
  int release() noexcept;

 private:
  int fd_;
};

// Answers a descriptor.
class [[nodiscard]] IoDescriptor : public IoCount {
 public:
  using IoCount::IoCount;
  Result<Descriptor> await_resume() const;
};

}  // namespace gyre
