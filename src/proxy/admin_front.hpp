// The proxy's listener for whoever looks after it: what /stats and the like tell without a limit,
// the hot keys, and what changes something, by POST with the header field Gyre-Admin: 1, which no
// web page can send. Core 0's.
#pragma once

#include <string>
#include <string_view>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/task.hpp>

#include "http/connection.hpp"
#include "proxy/allowed_hosts.hpp"

namespace gyre::proxy {

class Proxy;

class AdminFront final : public http::Handler {
 public:
  explicit AdminFront(Proxy& proxy);
  ~AdminFront() override;

  Task<Result<void>> listen();
  void accept();
  Task<void> drain();
  const std::string& url() const { return url_; }

  http::Exchange* start(http::Connection& connection, const http::RequestHead& head) override;
  void connection_closed(http::Connection& connection) noexcept override;

 private:
  http::Exchange* change(http::Connection& connection, const http::RequestHead& head);
  Task<void> run_acceptor();
  Task<void> serve_connection(http::Connection* connection);

  Proxy& proxy_;
  std::string url_;
  http::ConnectionLimits limits_;
  AllowedHosts allowed_hosts_;
  http::Connection* connections_ = nullptr;
  size_t connections_open_ = 0;
  Listener listener_;
  Scope accepting_{nullptr, "admin accept"};
  Scope serving_{nullptr, "admin connections"};
};

}  // namespace gyre::proxy
