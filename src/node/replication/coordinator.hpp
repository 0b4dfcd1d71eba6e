// One core's part in the cluster: its links to the other nodes, what it does for their coordinators,
// and where its own requests for keys with several replicas begin.
//
// Every node has the same table of slots. Whoever gets a client's request coordinates it: it asks the
// replicas of the key's slot, this node's own among them without a connection, and answers when enough
// of them have. replicated_write.hpp and replicated_read.hpp say how.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "cluster/failure_detector.hpp"
#include "cluster/hedge_budget.hpp"
#include "cluster/scan_cover.hpp"
#include "cluster/slot_table.hpp"
#include "node/replication/key_modifiers.hpp"
#include "node/replication/peer_registry.hpp"
#include "node/replication/replica_notices.hpp"
#include "peer/gate.hpp"
#include "peer/inbound.hpp"
#include "peer/link.hpp"

namespace gyre {

class Core;

// How long the coordinator waits for replicas before it answers 504.
inline constexpr Nanos replica_patience = seconds(2);
// How far a clock may be ahead of others (D8). Stamps beyond it are not merged, and writes with them
// are refused but for repairs, which must come through.
inline constexpr uint64_t clock_ahead_max_us = 500'000;
// A client's write that comes to a replica so long after it was stamped is refused: its coordinator has
// given it up, and a tombstone above it may be purged soon.
inline constexpr uint64_t write_age_max_us = 30'000'000;
// So is a repair or replay that was read from another replica so long ago.
inline constexpr Nanos repair_age_max = seconds(30);

struct CoordinatorStats {
  uint64_t writes = 0;
  uint64_t writes_failed = 0;     // fewer than `ack` replicas took them
  uint64_t writes_restamped = 0;  // a replica held something newer
  uint64_t replicas_missed = 0;   // writes that were answered, times replicas that don't have them
  uint64_t reads = 0;
  uint64_t reads_failed = 0;
  uint64_t modifies = 0;  // commands that read and write one key at once, begun or passed on here
  uint64_t modifies_failed = 0;
  uint64_t clocks_ahead = 0;  // frames with a stamp too far ahead of this node's clock
  uint64_t reads_hedged = 0;  // asked one replica more, since one was slow
  uint64_t repairs = 0;       // copies written since a read saw that they were old
  uint64_t scans = 0;         // ranges over the whole cluster
  uint64_t scans_failed = 0;  // not begun, or cut off
  uint64_t scan_streams_replaced = 0;
  uint64_t requests_served = 0;  // for coordinators of other nodes
  uint64_t offers_served = 0;    // entries that peers asked about, to replay what is missed
  uint64_t offers_lacked = 0;    // of these, which this node lacked
  uint64_t notices_served = 0;   // batches
};

class Coordinator final : public peer::LocalNode, public peer::Service {
 public:
  explicit Coordinator(Core& core);
  ~Coordinator() override;

  // After the node's membership is known.
  void open(HybridClock& clock, const peer::Identity& identity, const std::string& secret);
  // Tries every peer once.
  Task<void> connect();
  // Nothing more is taken from peers; what is under way is answered.
  void drain_peers() noexcept;
  // Until no peer is connected; cut_peers() gives up on those that don't take their answers.
  Task<void> peers_gone();
  void cut_peers() noexcept;
  Task<void> close();

  Core& core() { return core_; }
  CoordinatorStats& stats() { return stats_; }
  // Requests of other nodes, over all connections that they have and had.
  peer::InboundStats served() const;
  size_t peers_connected() const { return inbounds_.size(); }
  std::span<const cluster::NodeIndex> replicas(std::string_view key, uint32_t from) const;
  bool holds(std::string_view key, uint32_t from) const;
  cluster::NodeIndex self() const { return self_; }
  // Of a key, unless a request says otherwise.
  unsigned default_replicas() const;
  ReplicaNotices& notices() { return *notices_; }
  // Of keys of this core's shards whose first replica is this node.
  KeyModifiers& modifiers() { return modifiers_; }

  // --- how peers do, out of this core's own experience
  const cluster::FailureDetector& health(cluster::NodeIndex node) const { return health_[node]; }
  cluster::FailureDetector::State state_of(cluster::NodeIndex node) const;
  // The order in which replicas are read from: the least first.
  unsigned read_rank(cluster::NodeIndex node) const;
  // Whether what `node` has counts in reads: not if it has lost its data and not got it back.
  bool counts_in_reads(cluster::NodeIndex node) const;
  void set_readers_view(const ReadersView& view) { readers_ = view; }
  // Which nodes a range of the cluster is read from; valid until the next call.
  const cluster::ScanPlan& scan_plan(uint32_t ack, uint32_t from);
  // A call to `node` has ended, however.
  void call_ended(cluster::NodeIndex node, const peer::Call& call);
  // Of a node other than this one.
  peer::Link& link(cluster::NodeIndex node) { return *links_[node]; }
  const std::vector<std::unique_ptr<peer::Link>>& links() const { return links_; }
  HybridClock& clock() { return *clock_; }
  // Whether the stamp is one that this node's clock may be moved to.
  bool is_credible(uint64_t hlc) const;
  // For a repair of what was read at `read_at` of this core's clock, to be sent to `node` now: what the
  // receiver's clock had passed then. That was told by the last frame from there, so that no two
  // clocks are compared, and what this core took since then is subtracted.
  uint64_t repair_as_of(cluster::NodeIndex node, Nanos read_at) const;
  // By how much this node's clock is ahead of that of every peer heard in the last seconds; 0: it is
  // not, or none was heard.
  uint64_t clock_ahead_us() const;
  // Why no write may be taken from clients because of that; empty: they may.
  std::string clock_refusal() const;
  // Reads may be hedged at 5 % of their number, so that slowness everywhere doesn't double the load
  // (Dean and Barroso, "The Tail at Scale", 2013).
  cluster::HedgeBudget& hedges() { return hedges_; }

  // Replicated requests under way; close() waits for them.
  void operation_begun() { ++operations_; }
  void operation_ended() {
    if (--operations_ == 0) idle_.set();
  }

  // A peer's connection that this core accepted: it goes to the core that it asks for.
  void admit(Descriptor fd, std::string received) noexcept;
  // One that asked for this core.
  void arrived(Descriptor fd, std::string received) noexcept;

  // --- peer::LocalNode, peer::Service -----------------------------------------------------------
  peer::Identity identity() const override { return identity_; }
  const std::string& secret() const override { return *secret_; }
  std::string objection(const peer::Identity& peer) const override;
  uint64_t epoch() const override { return identity_.epoch; }
  uint64_t hlc() override;
  bool observe(uint64_t hlc) override;
  void peer_seen(const peer::Identity& peer) noexcept override;
  void request(peer::InboundCall& call) noexcept override;

 private:
  struct ServedPut;
  struct ServedGet;
  struct WatchTimer : Timer {
    explicit WatchTimer(Coordinator& of);
    Coordinator& coordinator;
  };
  void watch();
  Task<void> serve_notices(peer::InboundCall& call, cluster::Notices notices);
  Task<void> serve_join(peer::InboundCall& call, cluster::JoinRequest request);
  Task<void> serve_offer(peer::InboundCall& call, std::vector<cluster::KeyVersion> entries);
  void mark_seen(const peer::Identity& peer);
  Task<void> run_gate(Descriptor fd, std::string received);
  Task<void> serve(Descriptor fd, std::string received);
  void report(const Error& error);

  Core& core_;
  HybridClock* clock_ = nullptr;
  peer::Identity identity_;
  const std::string* secret_ = nullptr;
  cluster::NodeIndex self_ = 0;
  std::vector<std::unique_ptr<peer::Link>> links_;  // by node; none for this one
  std::vector<std::string_view> urls_;              // by node
  std::vector<cluster::FailureDetector> health_;    // by node
  std::vector<Nanos> heard_at_;                     // by node: as far as its detector knows
  ReadersView readers_;
  // The peer's clock that was the furthest ahead of this one's (mostly below zero), in µs, of this
  // window of time and the one before.
  static constexpr int64_t nobody_heard = INT64_MIN;
  int64_t clock_lead_us_[2] = {nobody_heard, nobody_heard};
  Nanos clock_window_end_ = 0;
  Nanos round_trip_ = nanos_never;  // of the peer that is the furthest, in the last window
  std::vector<bool> dead_;          // by node: at the last watch()
  std::unique_ptr<ReplicaNotices> notices_;
  WatchTimer watch_{*this};
  Nanos watch_due_ = 0;
  std::unique_ptr<peer::Gate> gate_;
  std::unique_ptr<Scope> gate_scope_;
  std::unique_ptr<Scope> scope_;
  peer::ByteBudget budget_;
  std::vector<peer::Inbound*> inbounds_;
  peer::InboundStats served_before_;  // by connections that have ended
  Event inbounds_gone_;
  std::string last_report_;
  bool draining_ = false;
  cluster::HedgeBudget hedges_;
  std::optional<cluster::ScanPlan> scan_plan_;  // the last one
  KeyModifiers modifiers_{*this};
  uint64_t operations_ = 0;
  Event idle_;
  CoordinatorStats stats_;
};

}  // namespace gyre
