#include "runtime/uring/node.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>
#include <system_error>

#include "base/assert.hpp"
#include "runtime/uring/signals.hpp"

namespace gyre::uring {

UringNode::UringNode(unsigned cores) : files_(*this), names_(*this) {
  GYRE_ASSERT(cores > 0);
  for (unsigned i = 0; i < cores; ++i) {
    cores_.push_back(std::make_unique<Core>());
    cores_.back()->event_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (cores_.back()->event_fd < 0)
      throw std::system_error(errno, std::generic_category(), "eventfd");
  }
}

UringNode::~UringNode() {
  names_.stop();
  files_.stop();
  for (auto& core : cores_) ::close(core->event_fd);
}

bool UringNode::mark_woken(unsigned core) {
  Core& target = at(core);
  // Whoever set it first has kicked, or found the core awake.
  if (target.woken.exchange(true, std::memory_order_seq_cst)) return false;
  return target.sleeping.load(std::memory_order_seq_cst);
}

void UringNode::kick(unsigned core) {
  // EAGAIN means that the counter is full: the core has 2^64 - 1 reasons to wake up already.
  (void)!::eventfd_write(at(core).event_fd, 1);
}

void UringNode::offload(std::unique_ptr<OffloadJob> job) {
  (job->code == OpCode::resolve ? names_ : files_).push(std::move(job));
}

void UringNode::answer(std::unique_ptr<OffloadJob> job) {
  const unsigned core = job->core;
  {
    std::lock_guard lock(at(core).mutex);
    at(core).answers.push_back(std::move(job));
    at(core).answered.store(true, std::memory_order_release);
  }
  if (mark_woken(core)) kick(core);
}

sigset_t stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, number);
  return signals;
}

void block_signals() {
  const sigset_t signals = stop_signals();
  const int rc = ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  GYRE_ASSERT(rc == 0);
  ::signal(SIGPIPE, SIG_IGN);
}

}  // namespace gyre::uring
