// A node: its cores and what they share. Everything here is fixed before the cores start, or
// written by one core and read by others only through messages.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gyre/acceptor.hpp>
#include <gyre/mailbox.hpp>
#include <gyre/signals.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "base/hash.hpp"
#include "node/config.hpp"
#include "node/core.hpp"
#include "node/replication/membership.hpp"
#include "peer/hello.hpp"

namespace gyre {

class AdminServer;
class PeerRegistry;

class Node {
 public:
  // What the node needs of the world beyond the Backend.
  struct Environment {
    uint16_t (*port_of)(int listening_fd);
    void (*print)(std::string_view line);  // to standard output
    void (*exit_now)(int code);            // does not return
  };
  Node(const ServeConfig& config, const Environment& environment);
  ~Node();

  const ServeConfig& config() const { return config_; }
  unsigned cores() const { return config_.cores; }
  Fabric& fabric() { return fabric_; }
  ConnectionCounts& counts() { return counts_; }
  Core& core(unsigned index) { return *cores_[index]; }
  ConnectionSink* const* sinks() const { return sinks_.data(); }
  std::span<peer::PeerSink* const> peer_sinks() const { return peer_sinks_; }

  uint32_t shard_count() const { return shard_count_; }
  uint32_t shard_for(std::string_view key) const { return shard_of(key, shard_count_); }
  unsigned owner_of(uint32_t shard) const { return shard % cores(); }

  const DataDirectory& directory() const { return directory_; }
  const Membership& membership() const { return membership_; }
  // In a cluster; core 0's.
  PeerRegistry& registry() { return *registry_; }
  // What it tells other nodes of itself, and what all nodes of the cluster know.
  const peer::Identity& peer_identity() const { return peer_identity_; }
  const std::string& peer_secret() const { return peer_secret_; }
  // What Redis clients must tell first; "": nothing. Known before the first one is accepted.
  const std::string& resp_password() const { return resp_password_; }
  ConnectionCounts& resp_counts() { return resp_counts_; }
  ConnectionSink* const* resp_sinks() const { return resp_sinks_.data(); }
  // Of this life, 40 hexadecimal digits.
  const std::string& run_id() const { return run_id_; }
  Nanos started_at() const { return started_at_; }
  // "" if there is no administration. Known before the first connection is accepted.
  const std::string& admin_url() const { return admin_url_; }

  uint16_t port_of(int listening_fd) const { return environment_.port_of(listening_fd); }

  // What core `index` runs: core 0 leads the others through start and stop.
  Task<void> run(unsigned index);
  // After all cores have ended. 0, or the exit code of a failed start.
  int exit_code() const { return exit_code_; }

 private:
  Task<void> lead();
  Task<void> follow(Core& core);
  Task<void> heed_signals(Signals& signals);
  Task<Result<void>> start_all();
  Task<Result<void>> start_admin();
  Task<Result<void>> read_resp_password();
  Task<Result<void>> join_cluster();
  Task<Result<void>> on_all(Task<Result<void>> (*work)(Node& node, Core& core));
  Task<Result<bool>> on_one(unsigned core, Task<Result<void>> (*work)(Node& node, Core& core));
  static Task<Result<void>> listen(Node& node, Core& core);
  static Task<Result<void>> accept(Node& node, Core& core);
  Task<uint64_t> serve_on_all();
  static Task<Result<void>> drain_core(Node& node, Core& core);
  static Task<Result<void>> close_core(Node& node, Core& core);
  void print_ready(uint64_t records_recovered);
  void report(const Error& error);

  ServeConfig config_;
  Environment environment_;
  Fabric fabric_;
  ConnectionCounts counts_;
  std::vector<std::unique_ptr<Core>> cores_;
  std::vector<ConnectionSink*> sinks_;
  ConnectionCounts resp_counts_;
  std::vector<ConnectionSink*> resp_sinks_;  // none without --resp
  std::vector<peer::PeerSink*> peer_sinks_;
  std::vector<std::unique_ptr<Event>> stop_events_;
  Event stop_asked_;  // by a signal; core 0's
  DataDirectory directory_;
  Membership membership_;
  std::unique_ptr<PeerRegistry> registry_;  // in a cluster; core 0's
  peer::Identity peer_identity_;
  std::string peer_secret_;
  std::string resp_password_;
  std::string run_id_;
  std::unique_ptr<AdminServer> admin_;  // core 0's
  std::string admin_url_;
  uint32_t shard_count_ = 1;
  Nanos started_at_ = 0;
  int exit_code_ = 0;
};

}  // namespace gyre
