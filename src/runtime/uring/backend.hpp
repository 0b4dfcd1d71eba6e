// The Backend on io_uring. Made, used and destroyed on one thread.
//
// Who is called when
//   submit   fills a submission entry, or does a system call that cannot wait (listen, shutdown)
//            and queues its result, or hands the question to the node's off-loop threads
//   enter    publishes recycled buffers, starts the log's next write, submits, sleeps
//   reap     the only place where owners hear of completions: the ring's, the queued results,
//            the off-loop answers, in this order
//
// A core tells the others that it may sleep before it does, and looks at their wakes once more
// after it has told them (node.hpp).
#pragma once

#include <memory>
#include <vector>

#include <gyre/backend.hpp>

#include "runtime/uring/buffer_pool.hpp"
#include "runtime/uring/completion_table.hpp"
#include "runtime/uring/log_buffer.hpp"
#include "runtime/uring/node.hpp"
#include "runtime/uring/prepare.hpp"
#include "runtime/uring/random.hpp"
#include "runtime/uring/ring.hpp"

namespace gyre::uring {

struct UringOptions {
  unsigned core = 0;
  unsigned sq_entries = 1024;
  unsigned cq_entries = 8192;
  unsigned buffer_count = 256;
  unsigned buffer_bytes = 16384;
  UringNode* node = nullptr;  // outlives the backend
  int log_fd = 2;
};

class UringBackend final : public Backend {
 public:
  // Throws std::runtime_error with a sentence for people when the machine can't do it.
  explicit UringBackend(const UringOptions& options);
  // Cancels what is in flight and waits for it. Owners hear of it as always.
  ~UringBackend() override;

  void submit(Op& op) override;
  void cancel(Op& op) override;
  size_t reap() override;
  void enter(Nanos wait) override;
  void yield_cpu() override;
  bool completions_pending() const override;

  Nanos now() override;
  uint64_t wall_us() override;
  uint64_t random() override { return random_.next(); }

  std::span<char> buffer(uint16_t id) override { return buffers_.bytes_of(id); }
  void recycle(uint16_t id) override { buffers_.recycle(id); }
  size_t buffers_free() const override { return buffers_.free(); }
  size_t buffer_count() const override { return buffers_.count(); }

  void wake(unsigned core) override;
  uint64_t peer(int fd) override;
  void log(std::string_view line) override;

  size_t operations_in_flight() const { return table_.in_flight(); }
  const Abilities& abilities() const { return abilities_; }

 private:
  // The tokens of the backend's own operations.
  enum Internal : uint32_t {
    internal_ignored = slot_internal,  // cancel requests
    internal_wake,                     // poll on the eventfd
    internal_log_write,
    internal_log_poll,
    internal_probe,
  };
  struct QueuedResult {
    uint64_t token;
    int32_t result;
  };

  // submit
  void finish_later(Op& op, uint64_t token, int32_t result);
  void push(Op& op, uint64_t token);
  void start_connect(Op& op, uint64_t token);
  void start_signal(Op& op, uint64_t token);
  void start_offload(Op& op, uint64_t token);

  // reap
  void take(uint64_t token, int32_t result, uint32_t kernel_flags);
  void take_internal(uint64_t token, int32_t result, uint32_t kernel_flags);
  void take_signal(CompletionTable::Entry& entry, Completion completion);
  void take_queued();
  void take_answers();
  bool reopen_without_direct(CompletionTable::Entry& entry, uint64_t token, int32_t result);
  void deliver(CompletionTable::Entry& entry, Completion completion);

  // the backend's own operations
  void fetch_deferred();
  io_uring_sqe& next_entry(uint64_t token);
  void arm_wake();
  void write_log();
  void poll_log();
  void flush_log();
  bool recv_limit_works();
  void drain();
  void cancel_everything();

  UringNode& node_;
  UringNode::Core& self_;
  const unsigned core_;
  const int log_fd_;
  const uint64_t owner_;
  Ring ring_;
  BufferPool buffers_;
  CompletionTable table_;
  Abilities abilities_;
  std::vector<QueuedResult> queued_;
  std::vector<QueuedResult> queued_taken_;  // keeps its memory from tick to tick
  LogBuffer log_;
  Random random_;
  unsigned internal_in_flight_ = 0;
  uint64_t delivered_ = 0;  // completions, those of multishots included
  bool log_busy_ = false;
  bool direct_refused_ = false;
  bool flag_stale_ = false;
  bool closing_ = false;
};

}  // namespace gyre::uring
