// The HTTP side of one core of the proxy: its connections, and who may ask how much.
//
// A lookup of a key that this core owns and remembers is answered by plain code; everything else
// becomes a LookupExchange. Before that it passes, in this order: the bucket of its client's
// address (429, or 503 on /lookup, as the reference service answers), the bucket of all clients, and
// the bound of lookups that wait (503). /stats and /metrics have buckets of their own, so that
// who watches doesn't take from who works, nor the other way round.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include <gyre/acceptor.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>

#include "base/rate_limit.hpp"
#include "http/connection.hpp"
#include "proxy/allowed_hosts.hpp"
#include "proxy/lookup_exchange.hpp"
#include "proxy/origin.hpp"

namespace gyre::proxy {

class Proxy;

struct FrontStats {
  uint64_t lookups = 0;   // GET /lookup
  uint64_t entities = 0;  // GET /v1/entity
  uint64_t other = 0;
  uint64_t found = 0;  // lookups and entities that were answered so
  uint64_t absent = 0;
  uint64_t unavailable = 0;
  uint64_t bad = 0;                // 400, 403, 405
  uint64_t throttled_client = 0;   // over the client's rate
  uint64_t throttled_total = 0;    // over the rate of all
  uint64_t throttled_waiting = 0;  // too many lookups wait
  uint64_t forwarded = 0;          // to another core
  uint64_t connections_accepted = 0;
  uint64_t connections_refused = 0;
  uint64_t connections_open = 0;
};

class HttpFront final : public ConnectionSink, public http::Handler {
 public:
  HttpFront(Proxy& proxy, unsigned index, Origin& origin);
  ~HttpFront() override;

  unsigned index() const { return index_; }
  Proxy& proxy() { return proxy_; }
  Origin& origin() { return origin_; }
  Origin& origin_of(unsigned core);
  unsigned owner_of(std::string_view key) const;
  const FrontStats& stats() const { return stats_; }

  // --- life, on this core -----------------------------------------------------------------------
  Task<Result<void>> listen(bool probe, uint16_t port);
  uint16_t port() const { return port_; }
  void accept();
  // Stops accepting, lets lookups under way end; after `deadline` connections are cut.
  Task<bool> drain(Nanos deadline);

  // --- for LookupExchange -----------------------------------------------------------------------
  void lookup_begun() { ++waiting_; }
  void lookup_ended() { --waiting_; }
  std::string& scratch() { return scratch_; }
  void count_answer(const LookupAnswer& answer);

  // --- ConnectionSink, http::Handler ------------------------------------------------------------
  void connected(int fd) noexcept override;
  http::Exchange* start(http::Connection& connection, const http::RequestHead& head) override;
  void connection_closed(http::Connection& connection) noexcept override;
  bool unparsed_bytes_changed(size_t before, size_t after) noexcept override;

 private:
  http::Exchange* lookup(http::Connection& connection, const http::RequestHead& head, Api api);
  http::Exchange* observe(http::Connection& connection, const http::RequestHead& head);
  http::Exchange* answer(http::Connection& connection, const http::RequestHead& head, Api api,
                         const LookupAnswer& answer);
  http::Exchange* refuse(http::Connection& connection, uint16_t status, std::string_view reason,
                         std::string_view allow = {});
  Task<void> run_acceptor();
  Task<void> serve_connection(http::Connection* connection);

  Proxy& proxy_;
  unsigned index_;
  Origin& origin_;
  http::ConnectionLimits limits_;
  AllowedHosts allowed_hosts_;
  RateLimit client_limit_;
  RateLimit total_limit_;
  RateLimit stats_limit_;
  uint64_t waiting_ = 0;
  uint64_t waiting_max_;
  uint64_t connections_max_;
  size_t unparsed_bytes_ = 0;
  std::unique_ptr<char[]> key_scratch_;  // the decoded key of the request at hand
  std::string scratch_;                  // its answer
  http::Connection* connections_ = nullptr;
  Event connections_gone_;
  Listener listener_;
  uint16_t port_ = 0;
  bool draining_ = false;
  Scope scope_{nullptr, "proxy connections"};
  Scope accept_scope_{nullptr, "proxy accept"};
  FrontStats stats_;
};

}  // namespace gyre::proxy
