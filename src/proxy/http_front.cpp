#include "proxy/http_front.hpp"

#include <fmt/format.h>

#include <cerrno>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "base/limits.hpp"
#include "http/target.hpp"
#include "proxy/proxy.hpp"
#include "proxy/report.hpp"
#include "runtime/patience.hpp"

namespace gyre::proxy {

namespace {

constexpr std::string_view read_methods = "GET, HEAD";
constexpr std::string_view known_paths =
    "unknown path; known are /lookup?key=KEY, /v1/entity?id=KEY, /stats, /metrics, /livez, /readyz";
constexpr size_t unparsed_bytes_max = 32u << 20;  // of all connections of a core
constexpr uint32_t retry_after_s = 1;

struct Key {
  std::string_view text;
  std::string_view error;
};

// The key as the query names it: `key`, or `id` for /v1/entity too.
Key key_of(std::string_view query, Api api, std::span<char> scratch) {
  std::string_view name;
  std::string_view value;
  bool given = false;
  Key key;
  if (!http::is_well_encoded(query)) return {{}, "the query is not percent-encoded correctly"};
  for (http::QueryWalk walk(query); walk.next(name, value);) {
    if (name != "key" && (api == Api::lookup || name != "id")) continue;
    if (given) return {{}, "the key is given twice"};
    given = true;
    const http::Decoded decoded = http::percent_decode(value, scratch, http::Plus::is_space);
    if (decoded.status != http::Decoded::Status::ok) {
      return {{}, "the key is longer than 65536 bytes"};
    }
    key.text = decoded.text;
  }
  if (key.text.empty()) {
    key.error = api == Api::lookup ? "the parameter key is missing or empty; use /lookup?key=KEY"
                                   : "the parameter id is missing or empty; use /v1/entity?id=KEY";
  } else if (key.text.size() > limits::http_key_bytes_max) {
    key.error = "the key is longer than 65536 bytes";
  }
  return key;
}

}  // namespace

HttpFront::HttpFront(Proxy& proxy, unsigned index, Origin& origin)
    : proxy_(proxy),
      index_(index),
      origin_(origin),
      allowed_hosts_(proxy.options().listen.host, proxy.options().allowed_hosts),
      client_limit_(proxy.options().client_rate_per_s, proxy.cores()),
      total_limit_(proxy.options().total_rate_per_s, proxy.cores()),
      stats_limit_(proxy.options().stats_rate_per_s, proxy.cores()),
      waiting_max_(proxy.options().in_flight_max / proxy.cores() + 1),
      connections_max_(proxy.options().connections_max / proxy.cores() + 1),
      key_scratch_(new char[limits::http_key_bytes_max + 1]) {
  limits_.body_bytes_max = 64u << 10;  // nobody has a reason to send one
}

HttpFront::~HttpFront() {
  GYRE_ASSERT(connections_ == nullptr);
}

Origin& HttpFront::origin_of(unsigned core) {
  return proxy_.origin(core);
}

unsigned HttpFront::owner_of(std::string_view key) const {
  return proxy_.owner_of(key);
}

// --- life ---------------------------------------------------------------------------------------

Task<Result<void>> HttpFront::listen(bool probe, uint16_t port) {
  const Options& options = proxy_.options();
  const Listener::Options wanted{.address = options.listen.host,
                                 .port = port,
                                 .backlog = static_cast<int>(options.listen_backlog),
                                 .reuse_port = proxy_.cores() > 1,
                                 .probe_port = probe};
  Result<void> opened = co_await open_patiently(listener_, wanted);
  if (!opened && opened.error().os_error == EADDRINUSE) {
    co_return fail(Errc::busy,
                   fmt::format("{}:{} is in use by another process: stop it, or choose another "
                               "port with --port or PROXY_PORT",
                               options.listen.host, port));
  }
  if (!opened) {
    co_return fail(Error::from_errno(
        opened.error().os_error, fmt::format("cannot listen on {}:{}", options.listen.host, port)));
  }
  port_ = proxy_.port_of(listener_.fd());
  co_return opened;
}

void HttpFront::accept() {
  accept_scope_.spawn(run_acceptor());
}

Task<void> HttpFront::run_acceptor() {
  Acceptor acceptor(proxy_.counts(), proxy_.sinks());
  Result<void> ended = co_await acceptor.run(listener_);
  if (!ended) Reactor::current().log("error", "event=accept_ended " + ended.error().message());
}

Task<bool> HttpFront::drain(Nanos deadline) {
  Reactor& reactor = Reactor::current();
  accept_scope_.request_stop();
  co_await accept_scope_.join();
  draining_ = true;
  if (listener_.is_open()) co_await listener_.close();
  for (http::Connection* at = connections_; at != nullptr; at = at->next) at->drain();
  struct Cut : Timer {
    explicit Cut(HttpFront& of)
        : Timer([](Timer& self) noexcept {
            auto& cut = static_cast<Cut&>(self);
            cut.struck = true;
            for (http::Connection* at = cut.front.connections_; at != nullptr; at = at->next) {
              at->abort();
            }
          }),
          front(of) {}
    HttpFront& front;
    bool struck = false;
  } cut(*this);
  reactor.arm(cut, deadline);
  while (connections_ != nullptr) {
    connections_gone_.reset();
    if (!co_await connections_gone_.wait()) break;
  }
  reactor.disarm(cut);
  co_await scope_.join();
  co_return !cut.struck;
}

void HttpFront::connected(int fd) noexcept {
  if (draining_ || stats_.connections_open >= connections_max_) {
    ++stats_.connections_refused;
    proxy_.counts().closed(index_);
    close_detached(Reactor::current(), fd);
    return;
  }
  ++stats_.connections_accepted;
  ++stats_.connections_open;
  auto* connection = new http::Connection(fd, *this, limits_);
  connection->next = connections_;
  if (connections_ != nullptr) connections_->previous = connection;
  connections_ = connection;
  scope_.spawn(serve_connection(connection));
}

Task<void> HttpFront::serve_connection(http::Connection* connection) {
  co_await connection->run();
  delete connection;
}

void HttpFront::connection_closed(http::Connection& connection) noexcept {
  if (connection.next != nullptr) connection.next->previous = connection.previous;
  (connection.previous != nullptr ? connection.previous->next : connections_) = connection.next;
  --stats_.connections_open;
  proxy_.counts().closed(index_);
  if (connections_ == nullptr) connections_gone_.set();
}

bool HttpFront::unparsed_bytes_changed(size_t before, size_t after) noexcept {
  if (after > before && unparsed_bytes_ + (after - before) > unparsed_bytes_max) return false;
  unparsed_bytes_ += after - before;
  return true;
}

// --- requests -----------------------------------------------------------------------------------

void HttpFront::count_answer(const LookupAnswer& answer) {
  switch (answer.status) {
    case 200:
      ++stats_.found;
      break;
    case 404:
      ++stats_.absent;
      break;
    case 400:
      ++stats_.bad;
      break;
    default:
      ++stats_.unavailable;
  }
}

http::Exchange* HttpFront::refuse(http::Connection& connection, uint16_t status,
                                  std::string_view reason, std::string_view allow) {
  stats_.bad += status < 429;
  connection.answer_error(status, reason, status == 503 || status == 429 ? retry_after_s : 0,
                          allow);
  return nullptr;
}

// In order, and with the rest of a body that came along read.
http::Exchange* HttpFront::answer(http::Connection& connection, const http::RequestHead& head,
                                  Api api, const LookupAnswer& answer) {
  if (connection.may_answer_now() && !head.has_body()) {
    count_answer(answer);
    write_lookup_answer(connection, connection.style(), api, answer, scratch_);
    return nullptr;
  }
  auto* exchange = new LookupExchange(connection, *this, api, answer.key);
  exchange->settle(answer);
  return exchange;
}

http::Exchange* HttpFront::start(http::Connection& connection, const http::RequestHead& head) {
  if (!allowed_hosts_.allow(head.host)) return refuse(connection, 403, AllowedHosts::refusal);
  if (head.path == "/lookup") return lookup(connection, head, Api::lookup);
  if (head.path == "/v1/entity") return lookup(connection, head, Api::entity);
  ++stats_.other;
  if (is_reported(head.path)) return observe(connection, head);
  return refuse(connection, 400, known_paths);
}

http::Exchange* HttpFront::lookup(http::Connection& connection, const http::RequestHead& head,
                                  Api api) {
  ++(api == Api::lookup ? stats_.lookups : stats_.entities);
  if (head.method != http::Method::get && head.method != http::Method::head) {
    return refuse(connection, 405, "only GET and HEAD are allowed here", read_methods);
  }
  const Key key = key_of(head.query, api, {key_scratch_.get(), limits::http_key_bytes_max + 1});
  LookupAnswer said{
      .status = 400, .has_key = !key.text.empty(), .key = key.text, .reason = key.error};
  if (!key.error.empty()) return answer(connection, head, api, said);
  const Nanos now = Reactor::current().now();
  if (client_limit_.enabled() && !client_limit_.admit(connection.peer(), now)) {
    ++stats_.throttled_client;
    said.status = api == Api::lookup ? 503 : 429;
    said.reason = "over the rate limit of this client address; slow down";
    return answer(connection, head, api, said);
  }
  if (total_limit_.enabled() && !total_limit_.admit(0, now)) {
    ++stats_.throttled_total;
    said.status = 503;
    said.reason = "over the rate limit of all clients; try again";
    return answer(connection, head, api, said);
  }
  const bool mine = owner_of(key.text) == index_;
  if (Answer known; mine && origin_.try_answer(key.text, known)) {
    return answer(connection, head, api, to_http(known, key.text));
  }
  if (waiting_ >= waiting_max_) {
    ++stats_.throttled_waiting;
    said.status = 503;
    said.reason = "too many lookups are waiting; try again";
    return answer(connection, head, api, said);
  }
  stats_.forwarded += !mine;
  return new LookupExchange(connection, *this, api, key.text);
}

http::Exchange* HttpFront::observe(http::Connection& connection, const http::RequestHead& head) {
  if (head.method != http::Method::get && head.method != http::Method::head) {
    return refuse(connection, 405, "only GET and HEAD are allowed here", read_methods);
  }
  if (head.path == "/livez") {
    connection.answer_text(200, "ok\n");
    return nullptr;
  }
  const bool is_probe = head.path == "/readyz";
  if (!is_probe && stats_limit_.enabled() &&
      !stats_limit_.admit(connection.peer(), Reactor::current().now())) {
    ++stats_.throttled_client;
    return refuse(connection, 429, "over the rate limit of this client address; slow down");
  }
  return new ReportExchange(connection, proxy_, head.path, head.query);
}

}  // namespace gyre::proxy
