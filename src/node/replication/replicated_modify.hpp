// A command that reads and writes one key at once, where the key has several replicas: it goes to the
// first replica of the key's list that is not dead as far as this core knows, where those of one key
// are worked on one after the other (key_modifiers.hpp).
//
// Where one can't have been carried out – it never left, or was refused – the next replica is asked.
// One that is lost on its way is not sent again: whether it took effect is unknown then, and the client
// is told so. Who is asked though another one is alive for him passes it on to that one, once; nodes
// that disagree on who lives may have two that work on one key at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <gyre/task.hpp>
#include <gyre/time.hpp>

#include "base/limits.hpp"
#include "cluster/slot_table.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/key_modifiers.hpp"
#include "peer/link.hpp"

namespace gyre {

struct ModifyAnswer {
  bool failed = false;     // `text` is the error: "CODE reason"
  bool not_first = false;  // … since others say that another node is the first replica
  bool changed = false;
  std::string_view text;  // the answer in the client's protocol; during the call
};

class ReplicatedModify {
 public:
  // Called once, perhaps before start returns.
  using Answered = void (*)(void* owner, const ModifyAnswer& answer) noexcept;
  // `payload` is an encoded ModifyRequest, whose memory the caller has reserved; the next node that it
  // comes to is the `hops`-th.
  static void start(Coordinator& coordinator, std::string payload, void* owner, Answered answered,
                    uint8_t hops = 1, Nanos deadline = nanos_never);

 private:
  struct Remote;
  struct Local;

  ReplicatedModify(Coordinator& coordinator, std::string payload, void* owner, Answered answered);
  ~ReplicatedModify();
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* modify, size_t size_bytes) { free_frame(modify, size_bytes); }

  void ask_next();
  void ask_here();
  void ask(cluster::NodeIndex node);
  void replied();
  void end(const ModifyAnswer& answer);
  void fail(std::string_view text);

  Coordinator& coordinator_;
  std::string payload_;
  std::string_view key_;  // in it
  uint8_t hops_ = 1;
  void* owner_;
  Answered answered_;
  unsigned rank_ = 0;  // of the replica that is asked next
  std::unique_ptr<Remote> remote_;
  std::unique_ptr<Local> local_;
  Nanos deadline_ = 0;
};

// Answers a peer's call; ends the call's life.
void serve_modify(Core& core, peer::InboundCall& call);

}  // namespace gyre
