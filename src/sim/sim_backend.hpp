// The simulated Backend of one core (DESIGN D1, D13).
//
// It carries out the contract of <gyre/backend.hpp> at its worst: completions come late, in any
// order and sometimes after a cancel; sends are short; multishots end early; memory of a read
// holds noise until it completes; memory of a write is taken at submission, at completion, or
// part then and part later. What a program does against the contract is a violation of the world:
// an operation or descriptor used again too early, two receives or two sends on one socket, a
// close while operations are in flight on the descriptor, a buffer recycled twice.
//
// A dead backend (after World::crash or kill) ends every operation with -EIO and gives SIGTERM to
// a program that waits for signals.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include <gyre/backend.hpp>

#include "sim/node.hpp"
#include "sim/prng.hpp"

namespace gyre::sim {

class SimBackend final : public Backend {
 public:
  SimBackend(Node& node, unsigned core);
  ~SimBackend() override;
  SimBackend(const SimBackend&) = delete;
  SimBackend& operator=(const SimBackend&) = delete;

  void submit(Op& op) override;
  void cancel(Op& op) override;
  size_t reap() override;
  void enter(Nanos wait) override;
  void yield_cpu() override;
  bool completions_pending() const override;
  Nanos now() override;
  uint64_t wall_us() override;
  uint64_t random() override { return program_prng_.next(); }
  std::span<char> buffer(uint16_t id) override;
  void recycle(uint16_t id) override;
  size_t buffers_free() const override { return free_buffers_.size(); }
  size_t buffer_count() const override { return buffers_.size(); }
  void wake(unsigned core) override;
  uint64_t peer(int fd) override;
  void log(std::string_view line) override;

  size_t in_flight() const;
  bool dead() const { return dead_; }
  // Forgets every operation in flight without completing it, for programs that are thrown away
  // rather than unwound. Only on a dead backend.
  void abandon();

 private:
  friend class World;
  friend class Network;
  friend class Node;

  enum class Copy : uint8_t { at_submit, at_completion, torn };

  struct Slot {
    Op* op = nullptr;
    uint32_t generation = 0;
    bool done = false;  // its last completion waits to be reaped
    bool begun = false;
    bool watching = false;  // registered with a listener or an endpoint
    bool cancelling = false;
    Copy copy = Copy::at_completion;
    std::string bytes;        // of a write or send, as far as taken at submission
    size_t progress = 0;      // bytes sent or received
    EndpointId endpoint = 0;  // of a connect under way
  };
  struct Posted {
    uint32_t slot;
    Completion completion;
    bool last;
  };
  struct Buffer {
    std::vector<char> memory;
    bool outstanding = false;
  };

  using Handle = Node::Handle;

  static bool is_file_op(OpCode code);
  bool has_posted() const { return !posted_.empty(); }
  void begin_tick();
  Nanos end_tick();  // how long it took by this core's clock
  bool deliver_signal(int number);
  Nanos local_time() const;
  // Runs `action` for this operation at a time, unless it ended before.
  void later(Nanos at, uint32_t slot, void (SimBackend::*action)(uint32_t));
  void post(uint32_t slot, int32_t result, bool more = false, int buffer = -1);
  bool claim_handle(Op& op);
  void release_handle(const Op& op);
  std::string describe(const Op& op) const;

  // --- files: one effect at a random time after submission
  void submit_file_op(uint32_t slot);
  Nanos file_latency(const Op& op);
  Nanos transfer_end(const Op& op);
  void file_effect(uint32_t slot);
  bool fill_request(Slot& slot, DiskRequest& request, int32_t& error);
  void take_bytes_at_submit(Slot& slot);
  std::string_view bytes_to_write(Slot& slot);
  int32_t finish_open(const Op& op, int32_t result, InodeId inode);
  int32_t answer(const Op& op);
  void interrupt_file_op(uint32_t slot, bool power_cut);

  // --- sockets and signals: begin, then progress whenever something changes
  void begin(uint32_t slot);
  void begin_listen(Slot& slot, uint32_t index);
  void begin_close(Slot& slot, uint32_t index);
  void begin_shutdown(Slot& slot, uint32_t index);
  void progress(uint32_t slot);
  void progress_accept(Slot& slot, uint32_t index);
  void progress_connect(Slot& slot, uint32_t index);
  void progress_recv(Slot& slot, uint32_t index);
  void progress_recv_into(Slot& slot, uint32_t index);
  void progress_send(Slot& slot, uint32_t index);
  void stop_watching(Slot& slot, uint32_t index);
  void try_cancel(uint32_t slot);

  void die(bool power_cut);
  void post_dead(uint32_t index);
  std::string dump() const;

  Node& node_;
  World& world_;
  Core& core_;
  Prng program_prng_;
  Prng& prng_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::deque<Posted> posted_;
  std::vector<Buffer> buffers_;
  std::deque<uint16_t> free_buffers_;
  Nanos tick_elapsed_ = 0;
  bool in_tick_ = false;
  bool entered_ = false;
  bool reaping_ = false;
  bool dead_ = false;
};

}  // namespace gyre::sim
