#include "runtime/uring/backend.hpp"

#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "runtime/uring/signals.hpp"
#include "runtime/uring/sockets.hpp"
#include "runtime/uring/uapi.hpp"

namespace gyre::uring {

namespace {
// One enter fetches about 20 completions at most (the kernel's limit of deferred work).
constexpr int enters_per_fetch_max = 4;

std::array<uint64_t, 4> random_seed() {
  std::array<uint64_t, 4> seed{};
  const ssize_t got = ::getrandom(seed.data(), sizeof seed, 0);
  GYRE_ASSERT(got == static_cast<ssize_t>(sizeof seed));
  return seed;
}

Nanos clock_now(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return Nanos{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// A yield forfeits what is left of the thread's slice (EEVDF, about 3 ms): beside another busy
// process on its CPU a core that yields every 50 us got 3 % of it, with slices of 100 us 30 %. The
// thread's share stays what it was. Kernels before 6.12 ignore the wish.
void ask_for_short_slices() {
  SchedAttributes attributes;
  if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER) return;
  attributes.runtime_ns = 100'000;
  static_cast<void>(::syscall(SYS_sched_setattr, 0, &attributes, 0));
}
}  // namespace

UringBackend::UringBackend(const UringOptions& options)
    : node_(*options.node),
      self_(node_.at(options.core)),
      core_(options.core),
      log_fd_(options.log_fd),
      owner_(node_.owners_.fetch_add(1) + 1),
      ring_({.sq_entries = options.sq_entries, .cq_entries = options.cq_entries}),
      buffers_(ring_, options.buffer_count, options.buffer_bytes),
      log_(limits::log_buffer_bytes_max),
      random_(random_seed()) {
  abilities_.ftruncate = ring_.supports(opcode_ftruncate);
  if (recv_limit_works()) {
    abilities_.recv_bytes_max = limits::recv_buffers_per_arm_max * options.buffer_bytes;
  }
  ask_for_short_slices();
  arm_wake();
  const bool occupied = self_.occupied.exchange(true);
  GYRE_ASSERT(!occupied);  // one backend per core
}

UringBackend::~UringBackend() {
  closing_ = true;
  drain();
  GYRE_ASSERT(table_.in_flight() == 0);
  flush_log();
  self_.occupied.store(false);
}

// --- submitting ----------------------------------------------------------------------------------

void UringBackend::submit(Op& op) {
  ++stats_.submitted;
  const uint64_t token = table_.add(op);
  switch (op.code) {
    case OpCode::listen:
      finish_later(op, token,
                   open_listener(op.path, static_cast<uint16_t>(op.offset), op.len, op.flags));
      break;
    case OpCode::shutdown:  // the ring would punt it to a worker thread
      finish_later(op, token, ::shutdown(op.fd, static_cast<int>(op.len)) == 0 ? 0 : -errno);
      break;
    case OpCode::connect:
      start_connect(op, token);
      break;
    case OpCode::signal:
      start_signal(op, token);
      break;
    case OpCode::truncate:
      if (abilities_.ftruncate) {
        push(op, token);
      } else {
        start_offload(op, token);
      }
      break;
    default:
      if (OffloadJob::handles(op.code)) {
        start_offload(op, token);
      } else {
        push(op, token);
      }
  }
}

void UringBackend::finish_later(Op& op, uint64_t token, int32_t result) {
  table_.entry_of(op).queued = true;
  queued_.push_back({token, result});
}

io_uring_sqe& UringBackend::next_entry(uint64_t token) {
  io_uring_sqe& sqe = ring_.next_entry();
  sqe.user_data = token;
  return sqe;
}

void UringBackend::push(Op& op, uint64_t token) {
  io_uring_sqe& sqe = next_entry(token);
  prepare(sqe, op, table_.entry_of(op), abilities_);
}

void UringBackend::start_connect(Op& op, uint64_t token) {
  CompletionTable::Entry& entry = table_.entry_of(op);
  if (parse_address(op.path, static_cast<uint16_t>(op.offset), entry.address) == 0) {
    return finish_later(op, token, -EINVAL);
  }
  const int fd = ::socket(entry.address.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return finish_later(op, token, -errno);
  const int on = 1;
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  entry.fd = fd;
  push(op, token);
}

void UringBackend::start_signal(Op& op, uint64_t token) {
  const sigset_t signals = stop_signals();
  const int fd = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return finish_later(op, token, -errno);
  table_.entry_of(op).fd = fd;
  push(op, token);
}

void UringBackend::start_offload(Op& op, uint64_t token) {
  auto job = std::make_unique<OffloadJob>();
  job->code = op.code;
  job->core = core_;
  job->owner = owner_;
  job->token = token;
  job->fd = op.fd;
  if (op.code == OpCode::truncate) job->length = op.length;
  if (op.path != nullptr) job->path = op.path;
  node_.offload(std::move(job));
}

void UringBackend::cancel(Op& op) {
  if (!op.in_flight) return;
  op.cancel_requested = true;  // Reactor::cancel has set it already, and asks once
  if (table_.entry_of(op).queued) return;
  const uint64_t token = table_.token_of(op);
  if (OffloadJob::handles(op.code)) {
    // The thread finishes for nobody: its answer will be stale.
    finish_later(op, token, -ECANCELED);
  } else if (op.code != OpCode::truncate || abilities_.ftruncate) {
    io_uring_sqe& sqe = next_entry(internal_ignored);
    io_uring_prep_cancel64(&sqe, token, 0);
    sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
  }
}

// --- completions ---------------------------------------------------------------------------------

size_t UringBackend::reap() {
  const uint64_t before = delivered_;
  ring_.drain(
      [this](uint64_t token, int32_t result, uint32_t flags) { take(token, result, flags); });
  if (!queued_.empty()) take_queued();
  if (self_.answered.load(std::memory_order_relaxed)) take_answers();
  stats_.stale_completions = table_.stale();
  return delivered_ - before;
}

void UringBackend::deliver(CompletionTable::Entry& entry, Completion completion) {
  ++delivered_;
  if (!completion.more) ++stats_.completed;
  table_.deliver(entry, completion);
}

void UringBackend::take(uint64_t token, int32_t result, uint32_t kernel_flags) {
  if (static_cast<uint32_t>(token) >= slot_internal)
    return take_internal(token, result, kernel_flags);
  Completion completion = CompletionTable::translate(result, kernel_flags);
  CompletionTable::Entry* entry = table_.find(token);
  if (completion.has_buffer) {
    buffers_.take(completion.buffer);
    if (entry == nullptr || result <= 0) {  // nobody, or nothing in it
      buffers_.recycle(completion.buffer);
      completion.has_buffer = false;
    }
  }
  if (entry == nullptr) return;
  switch (entry->op->code) {
    case OpCode::connect: {
      const int fd = entry->fd;
      if (result < 0) {
        ::close(fd);
      } else {
        completion.result = fd;
      }
      break;
    }
    case OpCode::open:
      if (reopen_without_direct(*entry, token, result)) return;
      break;
    case OpCode::signal:
      return take_signal(*entry, completion);
    default:
      break;
  }
  deliver(*entry, completion);
}

bool UringBackend::reopen_without_direct(CompletionTable::Entry& entry, uint64_t token,
                                         int32_t result) {
  Op& op = *entry.op;
  if (result != -EINVAL || (op.flags & flag_direct) == 0 || entry.retried || op.cancel_requested) {
    return false;
  }
  if (!direct_refused_) {
    direct_refused_ = true;
    log("a file system without O_DIRECT: its files are read and written through the page cache");
  }
  entry.retried = true;
  push(op, token);
  return true;
}

void UringBackend::take_signal(CompletionTable::Entry& entry, Completion completion) {
  Op& op = *entry.op;
  const int fd = entry.fd;
  const uint64_t token = table_.token_of(op);
  if (completion.result >= 0) {
    signalfd_siginfo info;
    while (::read(fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      deliver(entry, {.result = static_cast<int32_t>(info.ssi_signo), .more = true});
    }
    if (completion.more) return;
    if (!op.cancel_requested && !closing_) return push(op, token);  // ended by a full queue
    completion.result = -ECANCELED;
  }
  ::close(fd);
  deliver(entry, {.result = completion.result});
}

void UringBackend::take_queued() {
  queued_taken_.swap(queued_);
  for (const QueuedResult& item : queued_taken_) {
    if (CompletionTable::Entry* entry = table_.find(item.token)) {
      deliver(*entry, {.result = item.result});
    }
  }
  queued_taken_.clear();
}

void UringBackend::take_answers() {
  std::vector<std::unique_ptr<OffloadJob>> answers;
  {
    std::lock_guard lock(self_.mutex);
    answers.swap(self_.answers);
    self_.answered.store(false, std::memory_order_relaxed);
  }
  for (const auto& job : answers) {
    if (job->owner != owner_) continue;
    CompletionTable::Entry* entry = table_.find(job->token);
    if (entry == nullptr) continue;  // cancelled meanwhile
    job->answer(*entry->op);
    deliver(*entry, {.result = job->result});
  }
}

bool UringBackend::completions_pending() const {
  return (ring_.work_deferred() && !flag_stale_) || ring_.completions_ready() || !queued_.empty() ||
         self_.woken.load(std::memory_order_relaxed);
}

// --- entering the kernel -------------------------------------------------------------------------

void UringBackend::enter(Nanos wait) {
  if (!log_busy_ && !log_.empty() && !closing_) write_log();
  buffers_.publish();
  if (!queued_.empty() || ring_.completions_ready()) wait = 0;
  if (wait > 0) {
    self_.sleeping.store(true, std::memory_order_seq_cst);
    if (self_.woken.load(std::memory_order_seq_cst)) {
      self_.sleeping.store(false, std::memory_order_relaxed);
      wait = 0;
    }
  }
  if (ring_.overflowed()) ++stats_.queue_overflows;
  if (wait > 0) {
    // Deferred work needs no look before: the kernel runs it first and then does not sleep.
    ++stats_.sleeps;
    ring_.enter(1, wait);
    self_.sleeping.store(false, std::memory_order_relaxed);
  } else if (ring_.unsubmitted() > 0) {
    ring_.enter(0, 0);
  }
  fetch_deferred();
  // The caller looks at its mailboxes before it enters again: wakes so far have done their work.
  if (self_.woken.load(std::memory_order_relaxed)) {
    self_.woken.exchange(false, std::memory_order_seq_cst);
  }
  stats_.enters = ring_.enters();
}

// The kernel sets IORING_SQ_TASKRUN after it has queued the work, so a core that runs the work in
// between finds the flag set with nothing behind it, and it stays set until the next real work.
// Whoever took it at its word would spin: it may cost one more enter, but never a sleep, and
// completions_pending must not believe it.
void UringBackend::fetch_deferred() {
  flag_stale_ = false;
  for (int i = 0; i < enters_per_fetch_max && ring_.work_deferred(); ++i) {
    const unsigned before = ring_.completions_posted();
    ring_.enter(0, 0);
    if (ring_.completions_posted() == before) {
      flag_stale_ = ring_.work_deferred();
      return;
    }
  }
}

void UringBackend::yield_cpu() {
  ::sched_yield();
}

Nanos UringBackend::now() {
  return clock_now(CLOCK_MONOTONIC);
}

uint64_t UringBackend::wall_us() {
  return static_cast<uint64_t>(clock_now(CLOCK_REALTIME) / 1'000);
}

// --- waking --------------------------------------------------------------------------------------

// An eventfd also between cores: measured against a message from ring to ring (submitted with the
// same enter, or at once), the round trip takes 2.1 us instead of 3.1 or 2.4 on one CPU, the same
// on two, and its cost in CPU time is the lowest of the three.
void UringBackend::wake(unsigned core) {
  if (node_.mark_woken(core) && core != core_) node_.kick(core);
}

void UringBackend::arm_wake() {
  // Never read: each write to an eventfd completes a multishot poll anew.
  io_uring_sqe& sqe = next_entry(internal_wake);
  io_uring_prep_poll_multishot(&sqe, self_.event_fd, POLLIN);
  ++internal_in_flight_;
}

void UringBackend::take_internal(uint64_t token, int32_t result, uint32_t kernel_flags) {
  switch (static_cast<uint32_t>(token)) {
    case internal_wake:
      if ((kernel_flags & IORING_CQE_F_MORE) != 0) break;
      --internal_in_flight_;
      if (!closing_) arm_wake();
      break;
    case internal_log_write:
    case internal_log_poll: {
      --internal_in_flight_;
      log_busy_ = false;
      if (static_cast<uint32_t>(token) == internal_log_poll || result == -EINTR) break;
      if (result > 0) {
        log_.consume(static_cast<size_t>(result));
      } else if (result == -EAGAIN) {
        if (!closing_) poll_log();  // somebody made the pipe non-blocking
      } else if (result != -ECANCELED) {
        log_.consume(log_.chunk().size());  // nowhere to write to
      }
      break;
    }
    default:
      break;  // a cancel request that came too late
  }
}

// --- the log -------------------------------------------------------------------------------------

uint64_t UringBackend::peer(int fd) {
  return peer_number(fd);
}

void UringBackend::log(std::string_view line) {
  log_.append(line);
  stats_.log_lines_dropped = log_.lines_dropped();
}

void UringBackend::write_log() {
  const std::string_view chunk = log_.chunk();
  if (chunk.empty()) return;
  io_uring_sqe& sqe = next_entry(internal_log_write);
  io_uring_prep_write(&sqe, log_fd_, chunk.data(), static_cast<unsigned>(chunk.size()),
                      static_cast<uint64_t>(-1));
  log_busy_ = true;
  ++internal_in_flight_;
}

void UringBackend::poll_log() {
  io_uring_sqe& sqe = next_entry(internal_log_poll);
  io_uring_prep_poll_add(&sqe, log_fd_, POLLOUT);
  log_busy_ = true;
  ++internal_in_flight_;
}

void UringBackend::flush_log() {
  const Nanos deadline = now() + milliseconds(limits::log_flush_delay_ms_max);
  while (!log_.empty()) {
    const std::string_view chunk = log_.chunk();
    const Nanos left = deadline - now();
    pollfd writable{.fd = log_fd_, .events = POLLOUT, .revents = 0};
    // A pipe that polls writable has room for PIPE_BUF bytes: this write will not block.
    if (left <= 0 || ::poll(&writable, 1, static_cast<int>(left / 1'000'000) + 1) <= 0) return;
    const ssize_t written = ::write(log_fd_, chunk.data(), chunk.size());
    if (written <= 0 && errno != EINTR) return;
    if (written > 0) log_.consume(static_cast<size_t>(written));
  }
}

// --- start and end -------------------------------------------------------------------------------

bool UringBackend::recv_limit_works() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return false;
  ::close(pair[1]);
  io_uring_sqe& sqe = next_entry(internal_probe);
  io_uring_prep_recv_multishot(&sqe, pair[0], nullptr, 0, 0);
  sqe.flags |= IOSQE_BUFFER_SELECT;
  sqe.buf_group = BufferPool::group;
  sqe.file_index = 1;
  int32_t outcome = -EINVAL;
  bool answered = false;
  while (!answered) {
    ring_.enter(1, nanos_never);
    ring_.drain([&](uint64_t, int32_t result, uint32_t flags) {
      outcome = result;
      answered = true;
      if (flags & IORING_CQE_F_BUFFER) {
        buffers_.take(static_cast<uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT));
        buffers_.recycle(static_cast<uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT));
      }
    });
  }
  ::close(pair[0]);
  return outcome == 0;  // the end of the stream; an older kernel answers EINVAL
}

void UringBackend::cancel_everything() {
  table_.each_in_flight([this](Op& op) {
    if (OffloadJob::handles(op.code)) cancel(op);
  });
  io_uring_sqe& sqe = next_entry(internal_ignored);
  io_uring_prep_cancel64(&sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
}

void UringBackend::drain() {
  const Nanos deadline = now() + seconds(limits::drain_delay_s_max);
  while ((table_.in_flight() > 0 || internal_in_flight_ > 0) && now() < deadline) {
    cancel_everything();  // again each time: a running operation may come to a point where it works
    enter(milliseconds(10));
    reap();
  }
}

}  // namespace gyre::uring
