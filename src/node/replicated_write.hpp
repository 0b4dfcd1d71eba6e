// A write of a key with several replicas, from the stamp to the last replica's answer.
//
//   - All `from` replicas get it at once. It is answered when `ack` of them have it on their disks,
//     with 504 as soon as that can't happen any more, else when replica_patience is over.
//   - A replica that holds something newer has not stored it. If the client has no answer yet, the
//     write gets a stamp above that and goes to all replicas again, once: else it would be hidden by
//     a write that ended before it began. A second time, or after the answer, it counts as stored:
//     restamped then, it would itself hide newer ones (DESIGN D8).
//   - The object lives until every replica has answered or can't any more, and so do the memory it
//     has reserved and the node: a slow replica shows as memory in use, not as work that nobody counts.
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
#include "node/coordinator.hpp"
#include "node/replica_access.hpp"

namespace gyre {

struct WriteAnswer {
  uint16_t status = 504;  // 201, 413, 503, 504
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
};

class ReplicatedWrite {
 public:
  // Called once, perhaps before start returns.
  using Answered = void (*)(void* owner, const WriteAnswer& answer) noexcept;
  static void start(Coordinator& coordinator, WriteSpec spec, void* owner, Answered answered);

 private:
  enum class State : uint8_t { asked, stored, failed };
  struct Remote : peer::Call {
    ReplicatedWrite* write = nullptr;
    unsigned rank = 0;
    char head[cluster::PutRequest::head_bytes];
    std::string_view pieces[3];
  };
  struct Local;
  struct Replica {
    cluster::NodeIndex node = cluster::no_node;
    State state = State::asked;
    unsigned round = 0;  // of the question under way, or the last one
    bool under_way = false;
    bool refused = false;  // it said that it did not store it
    Remote remote;
    std::unique_ptr<Local> local;
  };
  struct PatienceTimer : Timer {
    explicit PatienceTimer(ReplicatedWrite& of);
    ReplicatedWrite& write;
  };

  ReplicatedWrite(Coordinator& coordinator, WriteSpec spec, void* owner, Answered answered);
  ~ReplicatedWrite();

  cluster::PutRequest request() const;
  void ask(unsigned rank);
  void replied(unsigned rank, const cluster::PutReply& reply);
  void failed(unsigned rank);
  bool may_restamp() const;
  void restamp(const Version& above);
  void settle();
  void answer_failure();
  void answer(uint16_t status, std::string_view reason);

  Coordinator& coordinator_;
  WriteSpec spec_;
  void* owner_;
  Answered answered_;
  Version version_;
  unsigned round_ = 1;
  unsigned asking_ = 0;         // replicas are being asked: nothing is deleted
  bool nothing_stored_ = true;  // as far as is known
  bool too_large_ = false;
  bool is_answered_ = false;
  std::array<Replica, limits::cluster_replicas_max> replicas_;
  Nanos deadline_ = 0;
  PatienceTimer timer_{*this};
};

}  // namespace gyre
