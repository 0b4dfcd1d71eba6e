#include "runtime/uring/ring.hpp"

#include <sched.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>

#include "base/assert.hpp"
#include "runtime/uring/probe.hpp"
#include "runtime/uring/uapi.hpp"

namespace gyre::uring {

namespace {
constexpr unsigned base_flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
constexpr unsigned cooperative =
    base_flags | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
// Best first. A kernel or sandbox that knows less answers EINVAL.
constexpr unsigned flag_sets[] = {
    cooperative | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    cooperative,
    base_flags,
};
// Two bounded workers (buffered file I/O, metadata) and two unbounded ones per ring: more of
// them only take the CPUs away from the reactors.
constexpr unsigned workers_max = 2;
}  // namespace

Ring::Ring(RingOptions options) {
  set_up(options);
  io_uring_ring_dontfork(&ring_);
  // A registered descriptor saves the lookup in every enter; without it all works the same.
  if (io_uring_register_ring_fd(&ring_) == 1) enter_flags_ |= IORING_ENTER_REGISTERED_RING;
  // Waiting for the network is not waiting for a disk: keep it out of the iowait statistics.
  if (ring_.features & feature_no_iowait) enter_flags_ |= enter_no_iowait;
  unsigned workers[2] = {workers_max, workers_max};
  io_uring_register_iowq_max_workers(&ring_, workers);
  probe_opcodes();
}

Ring::~Ring() {
  io_uring_queue_exit(&ring_);
}

void Ring::set_up(RingOptions options) {
  int rc = -EINVAL;
  for (unsigned flags : flag_sets) {
    io_uring_params params{};
    params.flags = flags;
    params.cq_entries = options.cq_entries;
    rc = io_uring_queue_init_params(options.sq_entries, &ring_, &params);
    if (rc != -EINVAL) break;
  }
  if (rc < 0) throw std::runtime_error(explain(-rc, gather_facts(1)));
}

void Ring::probe_opcodes() {
  io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
  if (probe == nullptr) return;
  for (unsigned op = 0; op <= probe->last_op && op < 64; ++op) {
    if (probe->ops[op].flags & IO_URING_OP_SUPPORTED) opcodes_ |= uint64_t{1} << op;
  }
  io_uring_free_probe(probe);
}

io_uring_sqe& Ring::next_entry() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  // EAGAIN (no memory for requests) may need a moment; a queue that stays full is a bug.
  for (int attempt = 0; entry == nullptr && attempt < 100; ++attempt) {
    if (attempt > 0) sched_yield();
    enter(0, 0);
    entry = io_uring_get_sqe(&ring_);
  }
  GYRE_ASSERT(entry != nullptr);
  std::memset(static_cast<void*>(entry), 0, sizeof *entry);
  return *entry;
}

void Ring::enter(unsigned wait_count, Nanos timeout) {
  // liburing's flush and enter helpers add their own policy; the queue itself is this simple.
  __atomic_store_n(ring_.sq.ktail, ring_.sq.sqe_tail, __ATOMIC_RELEASE);
  ring_.sq.sqe_head = ring_.sq.sqe_tail;

  __kernel_timespec until{};
  io_uring_getevents_arg argument{};
  argument.sigmask_sz = _NSIG / 8;
  if (wait_count > 0 && timeout != nanos_never) {
    until.tv_sec = timeout / 1'000'000'000;
    until.tv_nsec = timeout % 1'000'000'000;
    argument.ts = reinterpret_cast<uint64_t>(&until);
  }
  ++enters_;
  const int rc =
      io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), unsubmitted(), wait_count,
                      enter_flags_ | IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                      reinterpret_cast<sigset_t*>(&argument), sizeof argument);
  if (rc >= 0) return;
  switch (-rc) {
    case ETIME:
    case EINTR:
    case EAGAIN:
    case EBUSY:
      return;
    default:  // EBADR (completions lost), EEXIST (another thread), EBADF, EFAULT…: a bug here
      errno = -rc;
      GYRE_ASSERT(!"io_uring_enter failed");
  }
}

}  // namespace gyre::uring
