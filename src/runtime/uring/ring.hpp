// One io_uring: set-up, submission queue, completion queue and our own enter. Made and used on
// one thread (SINGLE_ISSUER).
//
// Invariants
//   - entries that were filled stay in the submission queue until an enter takes them: EINTR,
//     EBUSY and EAGAIN are backpressure, never loss
//   - with DEFER_TASKRUN completions appear only inside enter, so a core that does not enter
//     sees nothing; the kernel raises IORING_SQ_TASKRUN when there is something to fetch
#pragma once

#include <liburing.h>

#include <cstdint>

#include <gyre/backend.hpp>

namespace gyre::uring {

struct RingOptions {
  unsigned sq_entries = 1024;
  unsigned cq_entries = 8192;
};

class Ring {
 public:
  // Throws std::runtime_error with a sentence that says what to do (probe.hpp).
  explicit Ring(RingOptions options);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // A cleared entry. If the queue is full it is submitted once to make room.
  io_uring_sqe& next_entry();
  unsigned unsubmitted() const {
    return ring_.sq.sqe_tail - __atomic_load_n(ring_.sq.khead, __ATOMIC_ACQUIRE);
  }

  // Submits everything and fetches completions. wait_count = 0 returns at once; else waits for
  // so many completions or until the timeout (nanos_never: without one) or a signal.
  void enter(unsigned wait_count, Nanos timeout);

  // The kernel holds completions that only an enter can bring into the queue.
  bool work_deferred() const {
    return (__atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED) &
            (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
  }
  bool overflowed() const {
    return (__atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_CQ_OVERFLOW) != 0;
  }
  bool completions_ready() const {
    return __atomic_load_n(ring_.cq.ktail, __ATOMIC_ACQUIRE) !=
           __atomic_load_n(ring_.cq.khead, __ATOMIC_RELAXED);
  }

  unsigned completions_posted() const { return __atomic_load_n(ring_.cq.ktail, __ATOMIC_ACQUIRE); }

  // Takes completions one by one until none is left; take may submit.
  template <class Take>
  void drain(Take&& take) {
    for (unsigned head = *ring_.cq.khead;
         head != __atomic_load_n(ring_.cq.ktail, __ATOMIC_ACQUIRE);) {
      const io_uring_cqe entry = copy(ring_.cq.cqes[head & ring_.cq.ring_mask]);
      __atomic_store_n(ring_.cq.khead, ++head, __ATOMIC_RELEASE);
      take(entry.user_data, entry.res, entry.flags);
    }
  }

  bool supports(unsigned opcode) const { return opcode < 64 && ((opcodes_ >> opcode) & 1) != 0; }
  bool defers_taskrun() const { return (ring_.flags & IORING_SETUP_DEFER_TASKRUN) != 0; }
  unsigned cq_entries() const { return ring_.cq.ring_entries; }
  int fd() const { return ring_.ring_fd; }
  io_uring& raw() { return ring_; }
  uint64_t enters() const { return enters_; }

 private:
  static io_uring_cqe copy(const io_uring_cqe& from) {
    io_uring_cqe to;
    to.user_data = from.user_data, to.res = from.res, to.flags = from.flags;
    return to;
  }
  void set_up(RingOptions options);
  void probe_opcodes();

  io_uring ring_{};
  uint64_t opcodes_ = 0;
  uint64_t enters_ = 0;
  unsigned enter_flags_ = 0;
};

}  // namespace gyre::uring
