// SIGINT, SIGTERM and SIGHUP as something to wait for. The process must have blocked them before
// (uring::block_signals), or they end it as ever.
//
// What arrives while nobody waits is kept, in order, from before this object was made on; like the
// kernel, it forgets what comes while `kept_max` are kept. Make one per process: which of several
// is told of a signal is not defined.
#pragma once

#include <cstddef>

#include <gyre/op.hpp>
#include <gyre/result.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

namespace gyre {

class Signals {
 public:
  static constexpr size_t kept_max = 8;

  Signals();
  ~Signals();  // closed before
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // The number of the next signal. Errc::cancelled when the task is stopped or this is closed.
  [[nodiscard]] Task<Result<int>> next();
  Task<void> close();

 private:
  struct OwnOp : Op {
    explicit OwnOp(Signals& of) : signals(of) {}
    Signals& signals;
  };
  static void completed(Op& op, Completion completion) noexcept;

  OwnOp op_{*this};
  int kept_[kept_max] = {};
  size_t kept_count_ = 0;
  int end_error_ = 0;  // errno with which the operation ended
  Event changed_;
};

}  // namespace gyre
