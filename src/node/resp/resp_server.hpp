// The RESP front end on one core: its listener, its clients, the dispatch of their commands.
//
// Security: without a password only loopback addresses are listened on (the configuration sees to
// that); before it was told little is parsed, buffered and answered; only so many connections of one
// address may be without it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <gyre/acceptor.hpp>
#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>

#include "node/resp/resp_client.hpp"
#include "node/resp/scan_cursor.hpp"
#include "node/resp/store_task.hpp"
#include "resp/connection.hpp"

namespace gyre {

class Core;
class Node;

struct RespStats {
  uint64_t connections_accepted = 0;
  uint64_t connections_refused = 0;
  uint64_t keyspace_hits = 0;
  uint64_t keyspace_misses = 0;
  uint64_t passwords_wrong = 0;
  uint64_t commands_unknown = 0;
};

class RespServer final : public ConnectionSink, public resp::Handler {
 public:
  static constexpr unsigned databases = 16;

  RespServer(Node& node, Core& core);
  ~RespServer() override;

  Core& core() { return core_; }
  Node& node() { return node_; }

  // --- life -------------------------------------------------------------------------------------
  Task<Result<void>> listen(bool probe);
  void accept();
  Task<void> stop_accepting();
  void drain();
  void abort();
  Task<void> clients_gone();
  uint16_t port() const { return port_; }
  void set_port(uint16_t port) { port_ = port; }

  // --- for commands -----------------------------------------------------------------------------
  bool needs_password() const;
  // In constant time; counts what is wrong.
  bool is_password(std::string_view text);
  void authenticated(RespClient& client);
  void forget_authentication(RespClient& client);
  RespClient* clients() { return static_cast<RespClient*>(clients_); }
  size_t client_count() const { return client_count_; }
  RespStats& stats() { return stats_; }
  resp::ConnectionLimits& limits() { return limits_; }
  void reset_stats();
  // Behind the cursors of scans of this core's shards.
  ScanPositions& scan_positions();
  // Sends the task to its core, together with what else goes there.
  void post(StoreTask& task);

  // Ends the stalest of the clients that hold memory and have not moved since `latest`; how many.
  size_t let_stalled_go(Nanos latest);

  // --- ConnectionSink, resp::Handler ------------------------------------------------------------
  void connected(int fd) noexcept override;
  resp::Exchange* start(resp::Connection& connection, resp::Command command) override;
  void keys_expected(resp::Connection& connection,
                     std::span<const std::string_view> keys) noexcept override;
  void batch_ended(resp::Connection& connection) noexcept override;
  void foreigner_cut_off(resp::Connection& connection, std::string_view what) noexcept override;
  void connection_closed(resp::Connection& connection) noexcept override;
  bool unparsed_bytes_changed(size_t before, size_t after) noexcept override;
  Task<bool> unparsed_bytes_wanted(size_t more) override;

 private:
  Task<void> serve(RespClient* client);
  Task<void> refuse(int fd, std::string_view message);
  Task<void> run_acceptor();
  resp::Exchange* unknown_command(RespClient& client, resp::Command command);
  bool may_come_unauthenticated(uint64_t peer);
  void no_longer_unauthenticated(uint64_t peer) noexcept;

  Node& node_;
  Core& core_;
  resp::ConnectionLimits limits_;
  Listener listener_;
  uint16_t port_ = 0;
  std::unique_ptr<Scope> accept_scope_;
  resp::Connection* clients_ = nullptr;
  size_t client_count_ = 0;
  Event clients_gone_;
  uint64_t next_number_ = 0;
  std::unordered_map<uint64_t, unsigned> unauthenticated_;  // connections by address
  std::vector<TaskBatch*> batches_;                         // by core, what is to be sent there
  size_t unparsed_bytes_ = 0;                               // of all clients, within transit memory
  Nanos foreigner_logged_at_ = 0;
  RespStats stats_;
  std::optional<ScanPositions> scan_positions_;
};

}  // namespace gyre
