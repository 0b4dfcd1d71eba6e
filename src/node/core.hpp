// The part of a node that lives on one core: its storage shards, its connections, its answers.
// Every member belongs to that core's thread; cores talk through messages only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gyre/acceptor.hpp>
#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/stop.hpp>
#include <gyre/sync.hpp>

#include "base/rate_limit.hpp"
#include "http/connection.hpp"
#include "http/target.hpp"
#include "node/config.hpp"
#include "peer/gate.hpp"
#include "store/data_directory.hpp"
#include "store/shard.hpp"

namespace gyre {

class Coordinator;
class Core;
class Node;
class ReadExchange;
class RespServer;
class ShardHandoff;
// Whether a read is the next that its connection answers, or waits behind others.
enum class ReadTurn : uint8_t { next, later };

enum class NodeState : uint8_t { recovering, serving, draining };
std::string_view to_string(NodeState state);

struct CoreStats {
  uint64_t requests_by_kind[8] = {};    // RequestKind
  uint64_t responses_by_class[6] = {};  // 2xx at [2] …
  uint64_t requests_forwarded = 0;      // to another core of this node
  uint64_t connections_accepted = 0;
  uint64_t connections_refused = 0;
  uint64_t connections_open = 0;
  uint64_t connections_let_go = 0;  // stalled while memory was short
};

enum class RequestKind : uint8_t { get, put, del, range, status, other };

class Core final : public ConnectionSink, public peer::PeerSink, public http::Handler {
 public:
  Core(Node& node, unsigned index);
  ~Core() override;

  unsigned index() const { return index_; }
  Node& node() { return node_; }
  NodeState state() const { return state_; }
  void set_state(NodeState state) { state_ = state; }

  // --- life, on this core -----------------------------------------------------------------------
  void start();  // once the reactor runs
  Task<Result<void>> listen(bool probe);
  // Before connections come: from then on peers are known, though nothing is served to them yet.
  void join_cluster();
  void accept();
  Task<Result<void>> open_shards(const DataDirectory& directory);
  // Tries every other node of the cluster.
  Task<Result<void>> connect_peers();
  // From now on; answers how many records its shards have recovered.
  uint64_t serve();
  // Stops accepting, lets requests under way end, closes idle connections; after `deadline`
  // connections are cut.
  Task<bool> drain(Nanos deadline);
  // Ends what is under way for replicas and peers; shards of other cores may be asked until every
  // core has done so. Then close_shards.
  Task<Result<void>> close_cluster();
  Task<Result<void>> close_shards();
  // Opens a listener, with patience for a port that a dead process still holds.
  static Task<Result<void>> open_listener(Listener& listener, Listener::Options options);
  // Whether that was needed for the port of --listen.
  bool waited_for_port() const { return waited_for_port_; }
  // Stops what the administration has under way on this core's shards.
  StopSource& admin_stop() { return admin_stop_; }
  uint16_t port() const { return port_; }
  // Before listen(): the ports that another core has got.
  void set_ports(const Core& other);
  // Only with --resp.
  RespServer* resp() const { return resp_.get(); }

  // --- data -------------------------------------------------------------------------------------
  // The shard, if this core owns it.
  Shard& shard(uint32_t number) { return *shards_[number]; }
  bool has_shard(uint32_t number) const { return number < shards_.size() && shards_[number]; }
  const std::vector<std::unique_ptr<Shard>>& shards() const { return shards_; }
  // Only in a cluster, and while the shard is open.
  ShardHandoff* handoff(uint32_t number) {
    return number < handoffs_.size() ? handoffs_[number].get() : nullptr;
  }
  const std::vector<std::unique_ptr<ShardHandoff>>& handoffs() const { return handoffs_; }
  Semaphore& write_memory() { return *write_memory_; }
  Semaphore& transit_memory() { return *transit_memory_; }
  // The half of it that streams to clients who ask on without waiting for answers may have.
  Semaphore& pipelined_memory() { return *pipelined_memory_; }
  Scope& scope() { return *scope_; }
  CoreStats& stats() { return stats_; }

  // --- ConnectionSink, PeerSink, http::Handler --------------------------------------------------
  void connected(int fd) noexcept override;
  http::Exchange* start(http::Connection& connection, const http::RequestHead& head) override;
  void connection_closed(http::Connection& connection) noexcept override;
  void peer_connected(Descriptor fd, std::string received) noexcept override;
  void peer_arrived(Descriptor fd, std::string received) noexcept override;
  bool unparsed_bytes_changed(size_t before, size_t after) noexcept override;
  // Only in a cluster, once this core has joined it.
  bool has_coordinator() const { return coordinator_ != nullptr; }
  Coordinator& coordinator() { return *coordinator_; }

  // Somebody is about to wait for transit memory: while that lasts, clients that hold some and
  // have not moved for a while are let go, the stalest first.
  void transit_awaited() noexcept;
  // Bodies that wait for it hold what has come already: only so many may, and as many streams to
  // clients who ask on.
  bool may_wait_for_transit(bool pipelined = false) const {
    return transit_waits_[pipelined] < transit_waits_max;
  }
  void transit_waits(int more, bool pipelined = false) { transit_waits_[pipelined] += more; }
  // Begins it now or when others have ended; read_ended is its end. A read that is the next to be
  // answered never waits for one whose turn has not come: that may take as long as a client likes.
  void start_read(ReadExchange& read, ReadTurn turn);
  void expedite_read(ReadExchange& read);  // it has become the next to be answered
  void read_ended(ReadTurn turn);

  // Takes one request of this client address; false: it is over its rate limit.
  bool admits(uint64_t peer) {
    return !rate_limit_.enabled() || rate_limit_.admit(peer, Reactor::current().now());
  }
  void count(RequestKind kind) { ++stats_.requests_by_kind[static_cast<size_t>(kind)]; }
  void count_status(uint16_t status) { ++stats_.responses_by_class[status / 100 % 6]; }

 private:
  http::Exchange* entity(http::Connection& connection, const http::RequestHead& head);
  http::Exchange* entity_get(http::Connection& connection, const http::RequestHead& head,
                             std::string_view key, const http::Replicas& replicas);
  void answer_value(http::Connection& connection, const StoreRead& read);
  http::Exchange* entity_write(http::Connection& connection, const http::RequestHead& head,
                               std::string_view key, const http::Parameters& parameters,
                               const http::Replicas& replicas);
  http::Exchange* entities(http::Connection& connection, const http::RequestHead& head);
  http::Exchange* observe(http::Connection& connection, const http::RequestHead& head,
                          std::string_view path);
  http::Exchange* admin(http::Connection& connection, const http::RequestHead& head,
                        std::string_view path);
  http::Exchange* refuse(http::Connection& connection, uint16_t status, std::string_view reason,
                         std::string_view allow = {});
  Task<void> serve_connection(http::Connection* connection);
  Task<void> refuse_peer(Descriptor fd);
  Task<void> run_acceptor();
  void start_reads();
  bool is_short_of_memory() const;
  bool has_room_for_answer(http::Connection& connection) noexcept;
  void let_stalled_go() noexcept;

  Node& node_;
  unsigned index_;
  NodeState state_ = NodeState::recovering;
  std::vector<std::unique_ptr<Shard>> shards_;  // by number; empty where another core owns it
  std::vector<std::unique_ptr<ShardHandoff>> handoffs_;  // of these shards, in a cluster
  std::unique_ptr<Semaphore> write_memory_;
  std::unique_ptr<Semaphore> flush_credit_;
  std::unique_ptr<Semaphore> transit_memory_;
  std::unique_ptr<Semaphore> pipelined_memory_;
  // Reads that can't be answered on the spot copy values: only so many at a time, the rest queue.
  struct ReadQueue {
    void push(ReadExchange& read);
    void remove(ReadExchange& read);
    size_t slots = 0;
    ReadExchange* head = nullptr;
    ReadExchange* tail = nullptr;
  };
  ReadQueue reads_[2];  // by ReadTurn
  bool starting_reads_ = false;
  uint64_t unparsed_bytes_ = 0;  // of all connections, within transit memory
  static constexpr int transit_waits_max = 256;
  int transit_waits_[2] = {};
  HybridClock clock_;
  RateLimit rate_limit_;
  http::ConnectionLimits limits_;
  std::unique_ptr<char[]> scratch_;  // decoded parameters of the request at hand
  http::Connection* connections_ = nullptr;
  Event connections_gone_;
  Listener listener_;
  uint16_t port_ = 0;
  bool waited_for_port_ = false;
  std::unique_ptr<Scope> scope_;
  std::unique_ptr<Scope> accept_scope_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<RespServer> resp_;
  CoreStats stats_;
  StopSource admin_stop_;
  struct ReliefTimer : Timer {
    explicit ReliefTimer(Core& of);
    Core& core;
  } relief_{*this};
};

}  // namespace gyre
