#include "proxy/admin_front.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <optional>

#include <gyre/call.hpp>
#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "http/target.hpp"
#include "proxy/origin.hpp"
#include "proxy/proxy.hpp"
#include "proxy/report.hpp"

namespace gyre::proxy {

namespace {

constexpr size_t connections_max = 32;
constexpr size_t request_bytes_max = 4096;
constexpr Nanos drain_patience = seconds(1);
constexpr std::string_view known =
    "unknown path; known are GET /stats, /metrics, /hotkeys, /livez, /readyz, and POST "
    "/admin/flush, /admin/faults?fail_permille=N&delay_permille=N&delay_ms=N&for_ms=N";
constexpr std::string_view faults_usage =
    "use /admin/faults?fail_permille=N&delay_permille=N&delay_ms=N&for_ms=N: of 1000 fetches of "
    "Redis so many fail, so many begin up to 60000 ms later, for 1 to 3600000 ms (60000 unless "
    "given); what is left out is off";
constexpr uint64_t delay_ms_max = 60'000;
constexpr uint64_t faults_ms_default = 60'000;
constexpr uint64_t faults_ms_max = 3'600'000;

// Changes something on every core.
class ChangeExchange final : public http::Exchange {
 public:
  ChangeExchange(http::Connection& connection, Proxy& proxy, std::optional<InjectedFaults> faults)
      : Exchange(connection), proxy_(proxy), faults_(faults) {
    unsafe = true;
    many_keys = true;
  }

  void begin() override { connection().scope().spawn(change()); }
  void respond(http::Connection& to) override {
    constexpr std::string_view body = "ok\n";
    Socket& out = to.socket();
    char* at = out.reserve(http::response_head_bytes_max);
    char* end = http::write_response_head(at, {.status = 200,
                                               .close = style.close,
                                               .say_keep_alive = style.say_keep_alive,
                                               .content_type = http::ContentType::text,
                                               .content_length = body.size(),
                                               .date_line = to.date_line()});
    out.commit(static_cast<size_t>(end - at));
    out.append(body);
  }

 private:
  Task<void> change() {
    for (unsigned core = 0; core < proxy_.cores(); ++core) {
      co_await call_on(core, [this, core] {
        Origin& origin = proxy_.origin(core);
        if (faults_) {
          origin.faults = *faults_;
        } else {
          origin.invalidate_all();
        }
        return true;
      });
    }
    connection().finished(*this);
  }

  Proxy& proxy_;
  std::optional<InjectedFaults> faults_;  // nothing: everything is dropped
};

// Nothing if the query names something else, or a number that is out of range.
std::optional<InjectedFaults> faults_of(std::string_view query) {
  uint64_t fail = 0;
  uint64_t delay = UINT64_MAX;
  uint64_t delay_ms = 0;
  uint64_t for_ms = faults_ms_default;
  const struct {
    std::string_view name;
    uint64_t& number;
    uint64_t low;
    uint64_t high;
  } parameters[] = {
      {"fail_permille", fail, 0, 1000},
      {"delay_permille", delay, 0, 1000},
      {"delay_ms", delay_ms, 0, delay_ms_max},
      {"for_ms", for_ms, 1, faults_ms_max},
  };
  std::string_view name;
  std::string_view value;
  bool any = false;
  for (http::QueryWalk walk(query); walk.next(name, value); any = true) {
    const auto known =
        std::ranges::find(parameters, name, [](const auto& parameter) { return parameter.name; });
    if (known == std::end(parameters)) return {};
    const char* const end = value.data() + value.size();
    const auto [at, error] = std::from_chars(value.data(), end, known->number);
    if (error != std::errc{} || at != end) return {};
    if (known->number < known->low || known->number > known->high) return {};
  }
  if (!any) return {};
  if (delay == UINT64_MAX) delay = delay_ms == 0 ? 0 : 1000;
  Reactor& reactor = Reactor::current();
  return InjectedFaults{
      .fail_permille = static_cast<uint32_t>(fail),
      .delay_permille = static_cast<uint32_t>(delay_ms == 0 ? 0 : delay),
      .delay = milliseconds(static_cast<int64_t>(delay_ms)),
      .until = reactor.after(milliseconds(static_cast<int64_t>(for_ms))),
  };
}

}  // namespace

AdminFront::AdminFront(Proxy& proxy)
    : proxy_(proxy), allowed_hosts_(proxy.options().admin->host, proxy.options().allowed_hosts) {
  limits_.body_bytes_max = request_bytes_max;
  limits_.pipeline_max = 4;
}

AdminFront::~AdminFront() {
  GYRE_ASSERT(connections_ == nullptr);
}

Task<Result<void>> AdminFront::listen() {
  const ListenAddress& address = *proxy_.options().admin;
  Result<void> opened = co_await listener_.open({.address = address.host,
                                                 .port = address.port,
                                                 .backlog = connections_max,
                                                 .probe_port = address.port != 0});
  if (!opened && opened.error().os_error == EADDRINUSE && proxy_.options().admin_is_default) {
    Reactor::current().log("warn", fmt::format("event=admin_port_taken port={} advice=\"a free one "
                                               "is used; choose one with --admin\"",
                                               address.port));
    opened = co_await listener_.open({.address = address.host, .backlog = connections_max});
  }
  if (!opened) {
    co_return fail(Error::from_errno(
        opened.error().os_error,
        fmt::format("cannot listen on {}:{} (--admin)", address.host, address.port)));
  }
  const bool v6 = address.host.find(':') != std::string::npos;
  url_ = fmt::format(fmt::runtime(v6 ? "http://[{}]:{}" : "http://{}:{}"), address.host,
                     proxy_.port_of(listener_.fd()));
  co_return opened;
}

void AdminFront::accept() {
  accepting_.spawn(run_acceptor());
}

Task<void> AdminFront::run_acceptor() {
  for (;;) {
    Result<Descriptor> fd = co_await listener_.accept();
    if (!fd) {
      if (fd.error().code != Errc::cancelled) {
        Reactor::current().log("error", "event=admin_accept_ended " + fd.error().message());
      }
      co_return;
    }
    if (connections_open_ >= connections_max) continue;  // closes it
    ++connections_open_;
    auto* connection = new http::Connection(fd->release(), *this, limits_);
    connection->next = connections_;
    if (connections_ != nullptr) connections_->previous = connection;
    connections_ = connection;
    serving_.spawn(serve_connection(connection));
  }
}

Task<void> AdminFront::serve_connection(http::Connection* connection) {
  co_await connection->run();
  delete connection;
}

void AdminFront::connection_closed(http::Connection& connection) noexcept {
  if (connection.next != nullptr) connection.next->previous = connection.previous;
  (connection.previous != nullptr ? connection.previous->next : connections_) = connection.next;
  --connections_open_;
}

Task<void> AdminFront::drain() {
  accepting_.request_stop();
  co_await accepting_.join();
  if (listener_.is_open()) co_await listener_.close();
  for (http::Connection* at = connections_; at != nullptr; at = at->next) at->drain();
  const Nanos end = Reactor::current().now() + drain_patience;
  while (connections_ != nullptr && Reactor::current().now() < end) {
    if (!co_await sleep_for(milliseconds(5))) break;
  }
  for (http::Connection* at = connections_; at != nullptr; at = at->next) at->abort();
  co_await serving_.join();
}

http::Exchange* AdminFront::start(http::Connection& connection, const http::RequestHead& head) {
  if (!allowed_hosts_.allow(head.host)) {
    connection.answer_error(403, AllowedHosts::refusal);
    return nullptr;
  }
  if (head.path.starts_with("/admin/")) return change(connection, head);
  if (!is_reported(head.path) && head.path != "/hotkeys") {
    connection.answer_error(400, known);
    return nullptr;
  }
  if (head.method != http::Method::get && head.method != http::Method::head) {
    connection.answer_error(405, "only GET and HEAD are allowed here", 0, "GET, HEAD");
    return nullptr;
  }
  if (head.path == "/livez") {
    connection.answer_text(200, "ok\n");
    return nullptr;
  }
  return new ReportExchange(connection, proxy_, head.path, head.query);
}

http::Exchange* AdminFront::change(http::Connection& connection, const http::RequestHead& head) {
  const auto refuse = [&](uint16_t status, std::string_view reason,
                          std::string_view allow = {}) -> http::Exchange* {
    connection.answer_error(status, reason, 0, allow);
    return nullptr;
  };
  const bool flush = head.path == "/admin/flush";
  if (!flush && head.path != "/admin/faults") return refuse(400, known);
  if (head.method != http::Method::post) return refuse(405, "only POST is allowed here", "POST");
  if (head.has_origin) return refuse(403, "requests of web pages are refused");
  if (!head.says_gyre_admin) {
    return refuse(403, "send the header field Gyre-Admin: 1 to say that you mean it");
  }
  std::optional<InjectedFaults> faults;
  if (!flush) {
    faults = faults_of(head.query);
    if (!faults) return refuse(400, faults_usage);
    Reactor::current().log("warn", fmt::format("event=faults_set query=\"{}\"", head.query));
  }
  return new ChangeExchange(connection, proxy_, faults);
}

}  // namespace gyre::proxy
