// The Redis of one core: one node, or a cluster's masters, each over one connection with its own
// circuit breaker, so that one that is dead doesn't stop the keys of others.
//
// A cluster's topology is read from one node after another (CLUSTER SLOTS, CLUSTER NODES): every
// second or so, and soon after a redirect, a lost node, or an attempt that failed; one reading at
// a time. It is taken whole or not at all, and not if the node that said it is behind (its
// configuration epoch is lower than one known before: it was cut off from the others); unless
// nothing newer was heard for ten seconds, as of a cluster that was made anew.
//
// A redirect is followed only to an address that the topology names, since a script can make up
// an error reply: nobody can have the proxy (and its password) sent elsewhere. Who is redirected to
// an unknown one waits for the next reading.
//
// Without a cluster there is one node, which has every slot.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "proxy/circuit_breaker.hpp"
#include "proxy/options.hpp"
#include "resp/client.hpp"
#include "resp/cluster.hpp"

namespace gyre::proxy {

class Upstream;

struct UpstreamNode final : resp::ClientListener {
  UpstreamNode(Upstream& of, const resp::ClientOptions& options);
  void connected(bool tracking) noexcept override;
  void pushed(const resp::Reply& push) noexcept override;
  void lost() noexcept override;

  Upstream& upstream;
  resp::Client client;
  CircuitBreaker breaker;
  bool tracked_before = false;
  bool retired = false;  // it has left the topology, and ends with its last command
};

class UpstreamListener {
 public:
  virtual ~UpstreamListener() = default;
  virtual void connected(UpstreamNode& node, bool tracking) noexcept = 0;
  virtual void pushed(UpstreamNode& node, const resp::Reply& push) noexcept = 0;
  virtual void lost(UpstreamNode& node) noexcept = 0;
  // They have another node now, or none.
  virtual void slots_changed(const std::vector<uint16_t>& slots) noexcept = 0;
};

// Somebody who waits for the next reading of the topology to end. Belongs to the caller until then.
struct TopologyWaiter {
  void (*ended)(TopologyWaiter& self) noexcept = nullptr;
  TopologyWaiter* next = nullptr;
};

struct UpstreamStats {
  uint64_t moved = 0;  // redirects, of fetches and of what is passed on
  uint64_t asked = 0;
  uint64_t topology_reads = 0;
  uint64_t topology_failed = 0;   // of these, attempts at a node
  uint64_t topology_changes = 0;  // readings after which a slot had another node
};

class Upstream {
 public:
  // So often one command is redirected.
  static constexpr unsigned hops_max = 5;

  Upstream(const Options& options, const resp::ClientOptions& client, UpstreamListener& listener);
  ~Upstream();

  // On this core, once its reactor runs. "": no AUTH; null: no TLS.
  void open(const std::string& password, const tls::Context* tls = nullptr);
  // What ends from here on ends for that reason.
  void close_soon() { closing_ = true; }
  Task<void> close();

  bool is_cluster() const { return is_cluster_; }
  bool is_closing() const { return closing_; }
  // 0 without a cluster.
  uint16_t slot_of(std::string_view key) const {
    return is_cluster_ ? resp::slot_of_key(key) : uint16_t{0};
  }
  // Null: nobody has it, or nothing is known yet.
  UpstreamNode* node_of(uint16_t slot) const {
    return is_cluster_ ? owners_[slot] : nodes_.begin()->second.get();
  }
  // Of a cluster.
  std::vector<uint16_t> slots_of(const UpstreamNode& node) const;
  // Masters that have slots, in the order of their addresses.
  std::vector<UpstreamNode*> masters() const;
  // One of these, in turns, connected ones first; null if there is none.
  UpstreamNode* any_master();
  // Of the cluster; null if the topology does not name it.
  UpstreamNode* find(const resp::NodeAddress& address);
  static resp::NodeAddress address_of(const UpstreamNode& node);

  // The topology is out of date; `hint`, if any, knows better.
  void refresh_soon(const UpstreamNode* hint = nullptr) noexcept;
  void refresh_soon(const resp::NodeAddress& hint) noexcept;
  void wait_for_topology(TopologyWaiter& waiter) noexcept;
  // Changes with the topology.
  uint64_t generation() const { return generation_; }
  void note(const resp::Redirect& redirect) { ++(redirect.ask ? stats_.asked : stats_.moved); }

  // A node can be asked, or of a cluster: some node, and who has which slot is known.
  bool is_up() const;
  // All that are connected send invalidations.
  bool is_coherent() const;
  // An attempt has ended, or the topology was read.
  bool tried() const;
  size_t slots_covered() const { return slots_covered_; }
  size_t nodes_up() const;
  std::string trouble() const;
  const std::string& server_version() const;
  resp::ClientStats client_stats() const;
  uint64_t breakers_open() const;
  uint64_t breakers_opened() const;
  uint64_t breakers_refused() const;
  const UpstreamStats& stats() const { return stats_; }

 private:
  friend struct UpstreamNode;
  struct View {
    std::vector<resp::SlotRange> ranges;
    resp::ClusterNodes nodes;
  };
  struct Question;

  UpstreamNode& obtain(const resp::NodeAddress& address);
  std::vector<resp::NodeAddress> candidates();
  Task<void> keep_topology();
  Task<bool> read_topology();
  bool adopt(View view, const resp::NodeAddress& from);
  void retire_strangers();
  Task<void> retire(UpstreamNode* node);
  void end_waiters() noexcept;

  const Options& options_;
  resp::ClientOptions client_options_;
  UpstreamListener& listener_;
  bool is_cluster_;
  const tls::Context* tls_ = nullptr;
  bool closing_ = false;
  std::map<resp::NodeAddress, std::unique_ptr<UpstreamNode>> nodes_;
  std::vector<std::unique_ptr<UpstreamNode>> retired_;
  std::vector<UpstreamNode*> owners_;  // by slot
  std::set<resp::NodeAddress> known_;  // what the topology names
  uint64_t epoch_ = 0;
  Nanos adopted_at_ = 0;
  uint64_t generation_ = 0;
  size_t slots_covered_ = 0;
  size_t turn_ = 0;
  size_t reading_turn_ = 0;
  bool read_once_ = false;
  std::string topology_trouble_;
  resp::NodeAddress hint_;
  Event wanted_;
  Nanos read_at_ = 0;
  TopologyWaiter* waiters_ = nullptr;
  TopologyWaiter* last_waiter_ = nullptr;
  UpstreamStats stats_;
  resp::ClientStats gone_;  // of nodes that have left
  std::unique_ptr<Scope> scope_;
};

}  // namespace gyre::proxy
