// A write of a key with several replicas, from the stamp to the last replica's answer: carries out
// what cluster::WriteQuorum decides.
//
// The object lives until every replica has answered or can't any more, and so do the memory it has
// reserved and the node: a slow replica shows as memory in use, not as work that nobody counts. Then
// the replicas that have the write are told whether all have it, or who lacks it (replica_notices.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <gyre/reactor.hpp>
#include <gyre/version.hpp>

#include "base/limits.hpp"
#include "cluster/replica_messages.hpp"
#include "cluster/write_quorum.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replica_access.hpp"

namespace gyre {

struct WriteAnswer {
  uint16_t status = 504;  // 201, 409 or 410 (only with a stamp), 413, 503, 504
  Version version;
  std::string_view reason;  // of a failure
};

struct WriteSpec {
  std::string key;
  std::string value;
  bool tombstone = false;
  uint64_t expire_at_ms = 0;
  uint32_t ack = 1;
  uint32_t from = 1;
  uint64_t transit_bytes = 0;  // reserved in the core's transit memory; given back at the end
  // If set, the write has this stamp and gets no other one: a replica that holds something newer does
  // not store it. Where too few have stored it, 409 says that it is nowhere, since `ack` hold
  // something newer; 410 that it is somewhere, but that every `ack` replicas have one with it or
  // something newer.
  Version stamp;
};

class ReplicatedWrite {
 public:
  // Called once, perhaps before start returns.
  using Answered = void (*)(void* owner, const WriteAnswer& answer) noexcept;
  static void start(Coordinator& coordinator, WriteSpec spec, void* owner, Answered answered);

 private:
  struct Remote;
  struct Local;
  struct Replica {
    cluster::NodeIndex node = cluster::no_node;
    std::unique_ptr<Remote> remote;  // of another node
    std::unique_ptr<Local> local;    // of this one, while it is asked
  };
  struct PatienceTimer : Timer {
    explicit PatienceTimer(ReplicatedWrite& of);
    ReplicatedWrite& write;
  };

  ReplicatedWrite(Coordinator& coordinator, WriteSpec spec, void* owner, Answered answered);
  ~ReplicatedWrite();
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* write, size_t size_bytes) { free_frame(write, size_bytes); }

  Version new_version() const;
  cluster::PutRequest request() const;
  void ask(unsigned rank);
  void replied(unsigned rank, const cluster::PutReply& reply);
  void failed(unsigned rank);
  void drive();
  void restamp();
  void end();
  void answer(uint16_t status, std::string_view reason);
  void answer_failed();

  Coordinator& coordinator_;
  WriteSpec spec_;
  void* owner_;
  Answered answered_;
  Version version_;
  Version first_version_;  // before it was stamped again
  Version superseded_by_;  // the greatest that replicas hold
  bool driving_ = false;
  bool too_large_ = false;
  // Of a write with a stamp given: replicas that hold something newer, that have it, and that don't.
  unsigned hidden_by_ = 0;
  unsigned stored_by_ = 0;
  unsigned lacked_by_ = 0;
  bool future_stamp_ = false;  // superseded by what no clock should have stamped yet
  cluster::WriteQuorum quorum_;
  std::array<Replica, limits::cluster_replicas_max> replicas_;
  Nanos deadline_ = 0;
  PatienceTimer timer_{*this};
};

}  // namespace gyre
