// A read of a key with several replicas.
//
//   - The `ack` best replicas are asked: this node, then those that were not down. One that fails is
//     replaced at once; one that is slow has another asked beside it, within a budget (hedging).
//   - The newest of `ack` answers is the answer; a tombstone or "never written" counts.
//   - A majority read (2 · ack > from) answers only when `ack` replicas hold the version it returns: it
//     writes it to them first, or else a later read could find the older one again ("new, then old").
//     Other reads answer at once. What is seen to be old afterwards is written in the background, with
//     its stamp and expiry as they are.
//   - Long values come from one replica, which holds the newest, in a second step.
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

struct ReadAnswer {
  uint16_t status = 504;  // 200, 404, 504
  Version version;
  std::string_view value;  // during the call
};

class ReplicatedRead {
 public:
  // Called once, perhaps before start returns.
  using Answered = void (*)(void* owner, const ReadAnswer& answer) noexcept;
  static void start(Coordinator& coordinator, std::string_view key, uint32_t ack, uint32_t from,
                    void* owner, Answered answered);

 private:
  enum class State : uint8_t { unasked, asked, known, writing, failed };
  struct Remote : peer::Call {
    ReplicatedRead* read = nullptr;
    unsigned rank = 0;
    char head[cluster::PutRequest::head_bytes];
    std::string_view pieces[3];
  };
  struct LocalGet;
  struct LocalPut;
  // What a replica said that it holds. Never changed: a copy on its way to another replica may wait
  // for a connection while something newer comes.
  struct Entry {
    cluster::ReadState state = cluster::ReadState::never;
    Version version;
    uint64_t expire_at_ms = 0;
    uint64_t value_bytes = 0;
    std::string value;
    bool has_value() const {
      return state != cluster::ReadState::live || value.size() == value_bytes;
    }
  };
  struct Replica {
    cluster::NodeIndex node = cluster::no_node;
    State state = State::unasked;
    bool fetching = false;  // it is asked for the value that it is known to have
    Version version;
    std::shared_ptr<const Entry> written;  // while it is being written
    Remote remote;
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

  void order_replicas();
  bool ask_another();
  void ask(unsigned rank, uint32_t value_bytes_max);
  void write_newest_to(unsigned rank);
  void came(unsigned rank, const cluster::GetReply& reply);
  void written(unsigned rank, const cluster::PutReply& reply);
  void failed(unsigned rank);
  void settle();
  void decide();
  bool write_back();
  bool fetch_value();
  void answer();
  void answer_504();
  void hedge();

  Coordinator& coordinator_;
  std::string key_;
  uint32_t ack_;
  uint32_t from_;
  void* owner_;
  Answered answered_;
  bool is_answered_ = false;
  unsigned asking_ = 0;  // replicas are being asked: nothing is deleted, nothing decided
  unsigned under_way_ = 0;
  std::shared_ptr<const Entry> newest_;                         // that was seen
  std::array<Replica, limits::cluster_replicas_max> replicas_;  // in the order they are asked
  Nanos deadline_ = 0;
  ReadTimer patience_;
  ReadTimer hedging_;
};

}  // namespace gyre
