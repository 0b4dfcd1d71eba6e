// What the cores of one process share: where to find each core's ring, whether it sleeps, and
// what the off-loop threads have answered to it. The only memory here that two threads touch.
//
// No wake is ever lost. A waker sets `woken`, then reads `sleeping`; a core sets `sleeping`, then
// reads `woken`. All four are seq_cst, so at least one of the two sees the other: either the core
// does not go to sleep, or the waker knows that it has to be kicked. The core clears `woken` when
// it leaves enter, and looks at its mailboxes after that.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/uring/offload.hpp"

namespace gyre::uring {

class UringNode final : private OffloadSink {
 public:
  explicit UringNode(unsigned cores);
  ~UringNode();
  UringNode(const UringNode&) = delete;
  UringNode& operator=(const UringNode&) = delete;

  unsigned cores() const { return static_cast<unsigned>(cores_.size()); }

  // Records the wake. True if the core may be asleep and has to be kicked.
  bool mark_woken(unsigned core);
  // Kicks through the core's eventfd, from any thread.
  void kick(unsigned core);

  // Hands a slow question to the thread that answers such ones.
  void offload(std::unique_ptr<OffloadJob> job);

 private:
  friend class UringBackend;

  struct alignas(64) Core {
    std::atomic<bool> sleeping{false};
    std::atomic<bool> woken{false};
    std::atomic<bool> occupied{false};  // a backend lives there
    std::atomic<bool> answered{false};
    int event_fd = -1;
    std::mutex mutex;
    std::vector<std::unique_ptr<OffloadJob>> answers;
  };

  void answer(std::unique_ptr<OffloadJob> job) override;  // on an off-loop thread
  Core& at(unsigned core) { return *cores_[core]; }

  std::vector<std::unique_ptr<Core>> cores_;
  std::atomic<uint64_t> owners_{0};  // names each backend, so that answers for an earlier one drop
  OffloadThread files_;              // directories, locks: a slow disk
  OffloadThread names_;              // resolving: a slow name server must not hold up files
};

// Blocks SIGINT, SIGTERM and SIGHUP for the whole process, so that only OpCode::signal sees them,
// and ignores SIGPIPE. To be called before any thread starts.
void block_signals();

}  // namespace gyre::uring
