#include "node/admin_server.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "http/target.hpp"
#include "node/observe.hpp"

namespace gyre {

namespace {

constexpr size_t connections_max = 32;
constexpr size_t request_bytes_max = 4096;
constexpr size_t directory_bytes_max = 4096;
constexpr Nanos poll_interval_min = milliseconds(2);
constexpr Nanos poll_interval_max = milliseconds(200);
constexpr Nanos line_interval_max = seconds(1);  // so that a client sees that it goes on
constexpr Nanos drain_patience = seconds(1);
constexpr std::string_view known =
    "unknown path; known are GET /admin, /v0/cluster, /livez, /readyz, /metrics, and POST "
    "/admin/flush, /admin/compact, /admin/checkpoint?directory=DIR, /admin/verify";

// Tells how far a job is until it has ended.
class JobExchange final : public http::Exchange {
 public:
  JobExchange(http::Connection& connection, std::shared_ptr<AdminJob> job)
      : Exchange(connection), job_(std::move(job)), framed_(!style.http_1_0) {
    is_stream = true;
    unsafe = true;
    if (!framed_) style.close = true;
  }

  void begin() override { connection().finished(*this); }

  void respond(http::Connection& to) override {
    Socket& out = to.socket();
    char* at = out.reserve(http::response_head_bytes_max);
    char* end =
        http::write_response_head(at, {.status = 200,
                                       .body = framed_ ? http::ResponseHead::Body::chunked
                                                       : http::ResponseHead::Body::until_close,
                                       .close = style.close,
                                       .say_keep_alive = style.say_keep_alive,
                                       .content_type = http::ContentType::text,
                                       .date_line = to.date_line()});
    out.commit(static_cast<size_t>(end - at));
  }

  Task<bool> stream(http::Connection& to) override {
    Socket& out = to.socket();
    const std::shared_ptr<AdminJob> job = job_;
    Nanos interval = poll_interval_min;
    Nanos told_at = Reactor::current().now();
    std::string told;
    while (!job->ended()) {
      static_cast<void>(co_await sleep_for(interval));
      interval = std::min(2 * interval, poll_interval_max);
      const AdminJob::Progress at = co_await job->progress();
      std::string line = fmt::format("progress bytes={} of={} steps={}\n", at.bytes_done,
                                     at.bytes_total, at.steps);
      const Nanos now = Reactor::current().now();
      if (job->ended() || (line == told && now - told_at < line_interval_max)) continue;
      append(out, line);
      told = std::move(line);
      told_at = now;
      if (co_await out.drained(0)) continue;
      if (job->verb() == AdminVerb::verify) co_await AdminJob::abandon(job);
      co_return false;
    }
    for (const std::string& damage : job->damage()) {
      append(out, "damage " + damage + "\n");
      if (!co_await out.drained(request_bytes_max)) co_return false;
    }
    append(out, fmt::format("{} {}\n", job->failed() ? "failed" : "ok", job->outcome()));
    if (framed_) out.append(http::last_chunk);
    co_return true;
  }

 private:
  void append(Socket& out, std::string_view text) const {
    char header[http::chunk_header_bytes_max];
    if (framed_) {
      const char* end = http::write_chunk_header(header, text.size());
      out.append({header, static_cast<size_t>(end - header)});
    }
    out.append(text);
    if (framed_) out.append(http::chunk_end);
  }

  std::shared_ptr<AdminJob> job_;
  bool framed_;
};

// The value of `directory`, decoded; nothing if it is not there as it must be.
std::optional<std::string> directory_of(std::string_view query) {
  std::string_view name;
  std::string_view value;
  for (http::QueryWalk walk(query); walk.next(name, value);) {
    if (name != "directory") continue;
    char scratch[directory_bytes_max];
    const http::Decoded decoded = http::percent_decode(value, scratch, http::Plus::is_space);
    if (decoded.status != http::Decoded::Status::ok || !decoded.text.starts_with('/')) return {};
    return std::string(decoded.text);
  }
  return {};
}

}  // namespace

AdminServer::AdminServer(Node& node, Core& core) : node_(node), core_(core) {
  limits_.body_bytes_max = request_bytes_max;
  limits_.pipeline_max = 4;
  limits_.send_timeout = milliseconds(static_cast<int64_t>(node.config().send_timeout_ms));
}

AdminServer::~AdminServer() {
  GYRE_ASSERT(connections_ == nullptr);
}

// --- life ---------------------------------------------------------------------------------------

Task<Result<void>> AdminServer::listen() {
  const ServeConfig& config = node_.config();
  Address address = *config.admin;
  const Listener::Options options{.address = address.host,
                                  .port = address.port,
                                  .backlog = connections_max,
                                  .probe_port = address.port != 0};
  Result<void> opened = co_await listener_.open(options);
  // The default port is waited for only if the node before, which dies, held the one of --listen, too.
  if (!opened && opened.error().os_error == EADDRINUSE &&
      (!config.admin_is_default || core_.waited_for_port())) {
    opened = co_await core_.open_listener(listener_, options);
  }
  if (!opened && opened.error().os_error == EADDRINUSE && config.admin_is_default) {
    Reactor::current().log("warn", fmt::format("event=admin_port_taken address={} advice=\"a free "
                                               "one is used; choose one with --admin\"",
                                               address.to_string()));
    opened = co_await listener_.open({.address = address.host, .backlog = connections_max});
  }
  if (!opened && opened.error().os_error == EADDRINUSE) {
    co_return fail(Errc::busy, fmt::format("{} is in use by another process: stop it, or choose "
                                           "another address with --admin",
                                           address.to_string()));
  }
  if (!opened) {
    co_return fail(
        Error::from_errno(opened.error().os_error,
                          fmt::format("cannot listen on {} (--admin)", address.to_string())));
  }
  address.port = node_.port_of(listener_.fd());
  url_ = "http://" + address.to_string();
  co_return opened;
}

void AdminServer::accept() {
  accepting_.spawn(run_acceptor());
}

Task<void> AdminServer::run_acceptor() {
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

Task<void> AdminServer::serve_connection(http::Connection* connection) {
  co_await connection->run();
  delete connection;
}

void AdminServer::connection_closed(http::Connection& connection) noexcept {
  if (connection.next != nullptr) connection.next->previous = connection.previous;
  (connection.previous != nullptr ? connection.previous->next : connections_) = connection.next;
  --connections_open_;
}

Task<void> AdminServer::drain() {
  accepting_.request_stop();
  co_await accepting_.join();
  co_await listener_.close();
  jobs_.request_stop();
  co_await jobs_.join();
  for (http::Connection* at = connections_; at != nullptr; at = at->next) at->drain();
  const Nanos end = Reactor::current().now() + drain_patience;
  while (connections_ != nullptr && Reactor::current().now() < end) {
    if (!co_await sleep_for(milliseconds(5))) break;
  }
  for (http::Connection* at = connections_; at != nullptr; at = at->next) at->abort();
  co_await serving_.join();
}

// --- requests -----------------------------------------------------------------------------------

http::Exchange* AdminServer::refuse(http::Connection& connection, uint16_t status,
                                    std::string_view reason, std::string_view allow) {
  connection.answer_error(status, reason, status == 503 || status == 409 ? 1 : 0, allow);
  return nullptr;
}

http::Exchange* AdminServer::start(http::Connection& connection, const http::RequestHead& head) {
  constexpr std::string_view verbs = "/admin/";
  if (head.path.starts_with(verbs)) {
    return begin_job(connection, head, head.path.substr(verbs.size()));
  }
  const bool is_admin = head.path == "/admin";
  if (!is_admin && !is_observed(head.path)) return refuse(connection, 400, known);
  if (head.method != http::Method::get && head.method != http::Method::head) {
    return refuse(connection, 405, "only GET and HEAD are allowed here", "GET, HEAD");
  }
  if (is_admin) {
    connection.answer_text(200, url_ + "\n");
    return nullptr;
  }
  if (head.path != "/v0/status") {
    return new ObserveExchange(connection, core_, head.path, head.query);
  }
  if (core_.state() == NodeState::serving) {
    connection.answer_text(200, "", http::ContentType::none);
    return nullptr;
  }
  return refuse(connection, 503, "recovering or shutting down; try again");
}

http::Exchange* AdminServer::begin_job(http::Connection& connection, const http::RequestHead& head,
                                       std::string_view name) {
  const auto* verb = std::ranges::find_if(
      admin_verbs, [&](AdminVerb known_verb) { return to_string(known_verb) == name; });
  if (verb == std::end(admin_verbs)) return refuse(connection, 400, known);
  if (head.method != http::Method::post) {
    return refuse(connection, 405, "only POST is allowed here", "POST");
  }
  if (head.has_origin) return refuse(connection, 403, "requests of web pages are refused");
  if (!head.says_gyre_admin) {
    return refuse(connection, 403, "send the header field Gyre-Admin: 1 to say that you mean it");
  }
  if (core_.state() != NodeState::serving) {
    return refuse(connection, 503, "recovering or shutting down; try again");
  }
  std::string directory;
  if (*verb == AdminVerb::checkpoint) {
    std::optional<std::string> given = directory_of(head.query);
    if (!given) {
      return refuse(connection, 400,
                    "use /admin/checkpoint?directory=DIR with the whole path of a new directory, "
                    "from / on, percent-encoded");
    }
    directory = std::move(*given);
  }
  std::weak_ptr<AdminJob>& under_way = under_way_[static_cast<size_t>(*verb)];
  if (const auto other = under_way.lock(); other && !other->ended() && *verb != AdminVerb::flush) {
    return refuse(connection, 409, "that is under way already; see the log for its end");
  }
  auto job = std::make_shared<AdminJob>(node_, *verb, std::move(directory));
  under_way = job;
  jobs_.spawn(AdminJob::run(job));
  return new JobExchange(connection, std::move(job));
}

}  // namespace gyre
