// A read of a key with several replicas: carries out what cluster::ReadQuorum decides. This node is
// asked first, then those that are alive, slow, dead. Repairs leave stamp and expiry as they are.
//
// What one replica alone answers is passed on from where it lies, the reply in the connection's buffer
// or this node's store: it is copied only when the read goes on waiting.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <gyre/reactor.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "base/limits.hpp"
#include "cluster/read_quorum.hpp"
#include "cluster/replica_messages.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replica_access.hpp"
#include "store/shard.hpp"

namespace gyre {

struct ReadAnswer {
  uint16_t status = 504;  // 200, 404, 504
  Version version;
  uint64_t expire_at_ms = 0;  // 0: never
  std::string_view value;     // during the call
};

class ReplicatedRead {
 public:
  // Called once, perhaps before start returns.
  using Answered = void (*)(void* owner, const ReadAnswer& answer) noexcept;
  static void start(Coordinator& coordinator, std::string_view key, uint32_t ack, uint32_t from,
                    void* owner, Answered answered);

 private:
  struct Remote;
  struct LocalGet;
  struct LocalPut;
  // What a replica said that it holds. Never changed: a copy on its way to another replica may wait
  // for a connection while something newer comes.
  struct Entry {
    cluster::ReadState state = cluster::ReadState::never;
    Version version;
    uint64_t expire_at_ms = 0;
    std::string value;
  };
  struct Replica {
    cluster::NodeIndex node = cluster::no_node;
    std::shared_ptr<const Entry> written;  // while it is being written
    std::unique_ptr<Remote> remote;        // once it was asked
    std::unique_ptr<LocalGet> local_get;
    std::unique_ptr<LocalPut> local_put;
  };
  struct ReadTimer : Timer {
    using Struck = void (ReplicatedRead::*)();
    ReadTimer(ReplicatedRead& of, Struck struck);
    ReplicatedRead& read;
    Struck struck;
  };

  ReplicatedRead(Coordinator& coordinator, std::string_view key, uint32_t ack, uint32_t from,
                 void* owner, Answered answered);
  ~ReplicatedRead();
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* read, size_t size_bytes) { free_frame(read, size_bytes); }

  void order_replicas();
  void drive();
  void ask(unsigned rank, uint32_t value_bytes_max);
  void ask_local(unsigned rank, uint32_t value_bytes_max);
  void write_newest_to(unsigned rank);
  void took(unsigned rank, const cluster::GetReply& reply);
  void keep_newest();
  void stop_borrowing();
  void came(unsigned rank, const cluster::GetReply& reply);
  void written(unsigned rank, const cluster::PutReply& reply);
  void failed(unsigned rank);
  void answer();
  void answer_504();
  void expire();
  void hedge();
  Nanos hedge_delay() const;

  Coordinator& coordinator_;
  std::string key_;
  uint32_t ack_;
  uint32_t from_;
  void* owner_;
  Answered answered_;
  bool driving_ = false;
  cluster::ReadQuorum quorum_;
  cluster::GetReply newest_;             // that was seen; its value lies in kept_, if that is set
  std::shared_ptr<const Entry> kept_;    // else in what is being answered, or
  std::optional<StoreRead> found_here_;  // in this node's store
  std::array<Replica, limits::cluster_replicas_max> replicas_;  // in the order they are asked
  Nanos deadline_ = 0;
  ReadTimer patience_;
  ReadTimer hedging_;
};

}  // namespace gyre
