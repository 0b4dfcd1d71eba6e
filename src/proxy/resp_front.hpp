// The RESP side of one core of the proxy: clients of Redis see a Redis that answers reads of strings
// from memory and passes everything else on.
//
//   - GET, MGET, STRLEN, GETRANGE and SUBSTR are answered by the owner of the key (Origin)
//   - a command that may write is passed on over one of this core's two shared connections (one per
//     version of the protocol, so replies go back byte for byte), in the order in which it came.
//     Everything it was given is taken for a key and invalidated: as it is sent, and when its reply
//     is there, before that is passed back. So who wrote reads what it wrote, with tracking and
//     without, and a fetch that was overtaken by the write can't land (Cache::epoch). A write
//     whose outcome is not known, as the connection was lost, invalidates as well
//   - blocking commands and transactions have a connection of the client's own, made when first
//     needed. From MULTI or WATCH up to EXEC, DISCARD or UNWATCH everything of the client goes there,
//     and reads of strings invalidate as writes do: what they say may be newer than what is remembered.
//     If it is lost in between, EXEC says so: half a transaction is never carried out. If it can't be
//     begun, the client's connection ends with that answer, as what follows may belong to it
//   - of a cluster, each goes to the node of its first key; DEL, UNLINK, EXISTS, TOUCH and MSET are
//     split by slots (MSET is not atomic then), DBSIZE, KEYS, FLUSHALL, FLUSHDB and what loads scripts
//     and functions goes to every master; what has no key goes to any. A transaction is of the
//     node of its first key. Other keys get CROSSSLOT, SCAN is refused (cluster_commands.hpp)
//   - who subscribes has a connection of its own for that (subscriber.hpp)
//   - what changes the server, or a connection that others share, is refused: SELECT of another
//     database, SHUTDOWN and the like. So is MONITOR, which would not show what is answered from
//     memory, and CLIENT TRACKING: Redis would track what this connection reads there, which is
//     nothing
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gyre/acceptor.hpp>
#include <gyre/mailbox.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>

#include "base/rate_limit.hpp"
#include "proxy/origin.hpp"
#include "proxy/redis_commands.hpp"
#include "proxy/subscriber.hpp"
#include "proxy/test_faults.hpp"
#include "resp/client.hpp"
#include "resp/connection.hpp"

namespace gyre::proxy {

class PassExchange;
class Proxy;
class RespFront;

struct RespFrontStats {
  uint64_t commands = 0;
  uint64_t cached_reads = 0;   // commands that may be answered from memory
  uint64_t answered_here = 0;  // of these, at once
  uint64_t passed_on = 0;
  uint64_t sessions = 0;     // connections of a client's own
  uint64_t subscribers = 0;  // clients subscribed to something
  uint64_t pushes = 0;       // sent on to them
  uint64_t throttled = 0;
  uint64_t connections_accepted = 0;
  uint64_t connections_refused = 0;
  uint64_t connections_open = 0;
};

// A connection to Redis for one client alone.
class Session final : public resp::ClientListener {
 public:
  explicit Session(const resp::ClientOptions& options) : client(options, *this) {}
  void lost() noexcept override {
    broken = broken || (is_open && !proxy_test_faults.transaction_survives_loss);
  }

  resp::Client client;
  bool is_open = false;  // between MULTI or WATCH and what ends them
  bool in_multi = false;
  bool broken = false;             // it was lost in between
  std::vector<std::string> given;  // to commands since it was opened
  // Of a cluster: the node is that of the first key since it was opened.
  bool is_bound = false;
  bool multi_owed = false;       // MULTI was said to us, not yet to the node
  std::optional<uint16_t> slot;  // of that key
};

class RespConnection final : public resp::Connection {
 public:
  RespConnection(int fd, RespFront& front, const resp::ConnectionLimits& limits,
                 bool authenticated);

  void reading_ended() noexcept override;

  uint64_t id = 0;
  std::string name;
  std::unique_ptr<Session> session;
  std::unique_ptr<Subscriber> subscriber;
  PassExchange* blocking = nullptr;  // under way in the session
  // Of a cluster: those passed on over shared connections, under one topology at a time. So what
  // was sent to where a slot was is not overtaken by what goes to where it is.
  uint64_t topology = 0;
  size_t passing = 0;
  std::deque<PassExchange*> held;
  bool releasing = false;
};

class RespFront final : public ConnectionSink, public resp::Handler {
 public:
  RespFront(Proxy& proxy, unsigned index, Origin& origin);
  ~RespFront() override;

  unsigned index() const { return index_; }
  Proxy& proxy() { return proxy_; }
  Origin& origin() { return origin_; }
  Origin& origin_of(unsigned core);
  unsigned owner_of(std::string_view key) const;
  const RespFrontStats& stats() const { return stats_; }
  // Clients that did not read what was pushed.
  uint64_t pushes_cut_off() const { return limits_.counters.pushes_cut_off; }

  // --- life, on this core -----------------------------------------------------------------------
  Task<Result<void>> listen(bool probe, uint16_t port);
  uint16_t port() const { return port_; }
  // `redis_password` for Redis, `password` of clients; "": none.
  void accept(const std::string& redis_password, const std::string& password);
  Task<bool> drain(Nanos deadline);
  // After drain of all cores.
  Task<void> close();

  // --- for exchanges ----------------------------------------------------------------------------
  Upstream& upstream() { return origin_.upstream(); }
  // This core's connection for what many clients send; to a node of a cluster, or null.
  resp::Client& shared(resp::Protocol protocol, const resp::NodeAddress* node);
  Session& session_of(RespConnection& connection);
  // The same, to that node.
  Session& bind(RespConnection& connection, const resp::NodeAddress& node);
  // True: it may be sent, and `passed` says when it has ended; else it is to be held.
  bool may_pass(RespConnection& connection);
  void passed(RespConnection& connection);
  Subscriber& subscriber_of(RespConnection& connection);
  // RESET, once nothing of the connection is under way.
  void reset(RespConnection& connection);
  RespFrontStats& stats() { return stats_; }
  // Begins to invalidate, on whichever core: nobody waits for it.
  void invalidate_soon(const std::vector<std::string>& keys, bool everything);

  // --- ConnectionSink, resp::Handler ------------------------------------------------------------
  void connected(int fd) noexcept override;
  resp::Exchange* start(resp::Connection& connection, resp::Command command) override;
  void keys_expected(resp::Connection& connection,
                     std::span<const std::string_view> keys) noexcept override;
  void connection_closed(resp::Connection& connection) noexcept override;
  bool unparsed_bytes_changed(size_t before, size_t after) noexcept override;

 private:
  resp::Exchange* local(RespConnection& connection, resp::Command command);
  void hello(RespConnection& connection, resp::Command command);
  void client(RespConnection& connection, resp::Command command);
  bool authenticate(std::string_view user, std::string_view password) const;
  resp::Exchange* subscribe(RespConnection& connection, resp::Command command);
  resp::Exchange* cached_read(RespConnection& connection, resp::Command command);
  Task<void> run_acceptor();
  Task<void> serve_connection(RespConnection* connection);
  void drop_strangers();
  resp::ClientOptions client_options(resp::Protocol protocol, bool own) const;

  Proxy& proxy_;
  unsigned index_;
  Origin& origin_;
  std::string redis_password_;
  std::string password_;
  resp::ConnectionLimits limits_;
  RateLimit client_limit_;
  RateLimit total_limit_;
  struct NoListener final : resp::ClientListener {
  } no_listener_;
  using NodeKey = std::pair<resp::Protocol, resp::NodeAddress>;
  std::map<NodeKey, std::unique_ptr<resp::Client>> shared_;
  uint64_t topology_ = 0;  // that these are of
  uint64_t connections_max_;
  uint64_t next_id_ = 0;
  size_t unparsed_bytes_ = 0;
  RespConnection* connections_ = nullptr;
  Event connections_gone_;
  Listener listener_;
  uint16_t port_ = 0;
  bool draining_ = false;
  Scope scope_{nullptr, "proxy resp connections"};
  Scope accept_scope_{nullptr, "proxy resp accept"};
  RespFrontStats stats_;
};

}  // namespace gyre::proxy
