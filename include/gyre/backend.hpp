// The seam (DESIGN D1): the only way from Gyre to the outside world. Two implementations:
// io_uring (src/runtime/uring_backend) and the simulation (src/sim). Each reactor has its own
// Backend object and calls it only from its own thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <gyre/op.hpp>

namespace gyre {

using Nanos = int64_t;
inline constexpr Nanos nanos_never = INT64_MAX;
inline constexpr Nanos microseconds(int64_t n) {
  return n * 1'000;
}
inline constexpr Nanos milliseconds(int64_t n) {
  return n * 1'000'000;
}
inline constexpr Nanos seconds(int64_t n) {
  return n * 1'000'000'000;
}

struct BackendStats {
  uint64_t enters = 0;  // system calls into the ring, or ticks of the simulation
  uint64_t sleeps = 0;  // enters that were allowed to block
  uint64_t submitted = 0;
  uint64_t completed = 0;          // operations that ended: submitted - completed are in flight
  uint64_t stale_completions = 0;  // for an operation that no longer exists: dropped
  uint64_t queue_overflows = 0;    // the completion queue was full
  uint64_t log_lines_dropped = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Queues an operation; it reaches the kernel with the next enter at the latest.
  virtual void submit(Op& op) = 0;
  // Asks an operation in flight to end early. It still completes.
  virtual void cancel(Op& op) = 0;

  // Delivers every completion that is there to on_complete; returns how many.
  virtual size_t reap() = 0;
  // Submits what is queued. Returns at once if `wait` is 0, else when a completion or a wake
  // from another core arrives or `wait` nanoseconds have passed.
  virtual void enter(Nanos wait) = 0;
  // Lets other threads of this CPU run (kernel workers that finish DSYNC writes, DESIGN D2).
  virtual void yield_cpu() = 0;
  // True when completions wait to be reaped: long work should yield. Costs one load.
  virtual bool completions_pending() const = 0;

  virtual Nanos now() = 0;         // monotonic, nanoseconds
  virtual uint64_t wall_us() = 0;  // microseconds since 1970; may step in either direction
  virtual uint64_t random() = 0;

  // Provided receive buffers. A buffer belongs to the receiver from its completion to recycle.
  virtual std::span<char> buffer(uint16_t id) = 0;
  virtual void recycle(uint16_t id) = 0;
  virtual size_t buffers_free() const = 0;
  virtual size_t buffer_count() const = 0;

  // A number for who is at the other end of a connected socket: the same for all connections from
  // one address, whatever its port. 0 if that is not known.
  virtual uint64_t peer(int fd) = 0;

  // Makes the reactor of another core of this node return from enter. Callable when that core
  // may be asleep; cheap when it is not.
  virtual void wake(unsigned core) = 0;

  // Writes a line (without its newline) to the log. Never blocks: lines over the bound are
  // dropped and counted.
  virtual void log(std::string_view line) = 0;

  const BackendStats& stats() const { return stats_; }

 protected:
  BackendStats stats_;
};

}  // namespace gyre
