// The administration of a node: an HTTP server of its own, on core 0, at an address that clients
// need not be able to reach (--admin, by default on the loopback address).
//
//   GET  /admin                             where this is, as one line; also at the clients' address
//   GET  /livez /readyz /metrics …          as at the clients' address
//   POST /admin/flush /compact /verify      with the field "Gyre-Admin: 1"
//   POST /admin/checkpoint?directory=DIR    the same; DIR is a path of the node's machine
//
// A POST is answered with 200 and a line of text after the other while the work goes on:
//
//   progress bytes=N of=N steps=N
//   damage PATH: offset N: what             verify
//   ok TEXT | failed TEXT                   the last one; without it the answer was cut
//
// No web page can have a browser do any of it: it can't send that field to another site without
// asking first, which is refused, and whatever carries an Origin is refused too.
#pragma once

#include <array>
#include <memory>
#include <string>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>

#include "http/connection.hpp"
#include "node/admin_job.hpp"

namespace gyre {

class AdminServer final : public http::Handler {
 public:
  // On the core it serves on.
  AdminServer(Node& node, Core& core);
  ~AdminServer() override;

  // Errc::busy if the port is taken (a default one is replaced by a free one).
  Task<Result<void>> listen();
  void accept();
  // Stops the work under way, then ends the connections. The other cores must be draining too.
  Task<void> drain();
  // "http://127.0.0.1:18080"
  const std::string& url() const { return url_; }

  http::Exchange* start(http::Connection& connection, const http::RequestHead& head) override;
  void connection_closed(http::Connection& connection) noexcept override;

 private:
  Task<void> run_acceptor();
  Task<void> serve_connection(http::Connection* connection);
  http::Exchange* begin_job(http::Connection& connection, const http::RequestHead& head,
                            std::string_view verb);
  static http::Exchange* refuse(http::Connection& connection, uint16_t status,
                                std::string_view reason, std::string_view allow = {});

  Node& node_;
  Core& core_;
  std::string url_;
  Listener listener_;
  http::ConnectionLimits limits_;
  http::Connection* connections_ = nullptr;
  size_t connections_open_ = 0;
  std::array<std::weak_ptr<AdminJob>, std::size(admin_verbs)> under_way_;
  Scope accepting_{nullptr, "admin accept"};
  Scope jobs_{nullptr, "admin jobs"};
  Scope serving_{nullptr, "admin connections"};
};

}  // namespace gyre
