#include "proxy/resp_front.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <span>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "proxy/proxy.hpp"
#include "proxy/resp_exchanges.hpp"
#include "resp/number_text.hpp"
#include "runtime/patience.hpp"

namespace gyre::proxy {

namespace {

constexpr size_t unparsed_bytes_max = 64u << 20;  // of all connections of a core
constexpr Nanos subscriber_ping_interval = seconds(2);
constexpr Nanos pass_silence_max = seconds(10);  // Redis may work on one command for long
constexpr Nanos pass_answer_max = seconds(60);
constexpr Nanos retire_patience = seconds(5);  // with what was sent to a node that has left
constexpr Nanos retire_interval = milliseconds(20);
constexpr Nanos no_limit = seconds(366ll * 86400);
constexpr std::string_view version_if_unknown = "7.0.0";

// Takes as long for any two texts of these sizes.
bool same_secret(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^
                  static_cast<unsigned char>(b.empty() ? 0 : b[i % b.size()]);
  }
  return difference == 0;
}

bool is(std::string_view word, std::string_view lower) {
  return resp::is_word(word, lower);
}

void wrong_arity(resp::ReplyWriter out, std::string_view lower_name) {
  out.error(fmt::format("ERR wrong number of arguments for '{}' command", lower_name));
}

struct Invalidation : Message {
  Origin* origin = nullptr;
  std::vector<std::string> keys;
  bool everything = false;
};

}  // namespace

RespConnection::RespConnection(int fd, RespFront& front, const resp::ConnectionLimits& limits,
                               bool authenticated)
    : Connection(fd, front, limits, authenticated) {}

void RespConnection::reading_ended() noexcept {
  if (blocking != nullptr) blocking->give_up();
  if (subscriber) subscriber->mute();
}

RespFront::RespFront(Proxy& proxy, unsigned index, Origin& origin)
    : proxy_(proxy),
      index_(index),
      origin_(origin),
      client_limit_(proxy.options().client_rate_per_s, proxy.cores()),
      total_limit_(proxy.options().total_rate_per_s, proxy.cores()),
      connections_max_(proxy.options().connections_max / proxy.cores() + 1) {
  limits_.command.bulk_bytes_max = proxy.options().value_bytes_max;
  limits_.command.command_bytes_max = 2 * proxy.options().value_bytes_max;
}

RespFront::~RespFront() {
  GYRE_ASSERT(connections_ == nullptr);
}

Origin& RespFront::origin_of(unsigned core) {
  return proxy_.origin(core);
}

unsigned RespFront::owner_of(std::string_view key) const {
  return proxy_.owner_of(key);
}

// --- life ---------------------------------------------------------------------------------------

Task<Result<void>> RespFront::listen(bool probe, uint16_t port) {
  const ListenAddress& address = *proxy_.options().resp;
  const Listener::Options wanted{.address = address.host,
                                 .port = port,
                                 .backlog = static_cast<int>(proxy_.options().listen_backlog),
                                 .reuse_port = proxy_.cores() > 1,
                                 .probe_port = probe && port != 0};
  Result<void> opened = co_await open_patiently(listener_, wanted);
  if (!opened) {
    co_return fail(
        Error::from_errno(opened.error().os_error,
                          fmt::format("cannot listen on {}:{} (--resp)", address.host, port)));
  }
  port_ = proxy_.port_of(listener_.fd());
  co_return opened;
}

resp::ClientOptions RespFront::client_options(resp::Protocol protocol, bool own) const {
  const Options& options = proxy_.options();
  resp::ClientOptions client;
  client.host = options.redis_host;
  client.port = options.redis_port;
  client.user = options.redis_user;
  client.password = redis_password_;
  client.name = fmt::format("gyre-proxy-{}-{}", index_, own ? "own" : "shared");
  client.database = options.redis_database;
  client.tls = proxy_.redis_tls(index_);
  client.tls_name = options.redis_server_name;
  client.protocol = static_cast<int>(protocol);
  client.allow_resp2 = false;
  client.silence_max = own ? no_limit : pass_silence_max;
  client.answer_max = own ? no_limit : pass_answer_max;
  client.kept_bytes_max = options.value_bytes_max + (64u << 20);
  client.limits.reply_bytes_max = std::max(client.kept_bytes_max, client.limits.reply_bytes_max);
  client.too_long_reply =
      "-ERR gyre proxy: the reply is longer than --max-value and 64 MiB allow\r\n";
  return client;
}

void RespFront::accept(const std::string& redis_password, const std::string& password) {
  redis_password_ = redis_password;
  password_ = password;
  accept_scope_.spawn(run_acceptor());
}

Task<void> RespFront::run_acceptor() {
  Acceptor acceptor(proxy_.resp_counts(), proxy_.resp_sinks());
  Result<void> ended = co_await acceptor.run(listener_);
  if (!ended) Reactor::current().log("error", "event=accept_ended " + ended.error().message());
}

Task<bool> RespFront::drain(Nanos deadline) {
  Reactor& reactor = Reactor::current();
  accept_scope_.request_stop();
  co_await accept_scope_.join();
  draining_ = true;
  if (listener_.is_open()) co_await listener_.close();
  const auto each = [this](void (*act)(RespConnection&)) {
    for (RespConnection* at = connections_; at != nullptr;) {
      RespConnection& connection = *at;
      at = static_cast<RespConnection*>(at->next);
      act(connection);
    }
  };
  each([](RespConnection& connection) { connection.drain(); });
  struct Cut : Timer {
    explicit Cut(RespFront& of)
        : Timer([](Timer& self) noexcept {
            auto& cut = static_cast<Cut&>(self);
            cut.struck = true;
            for (resp::Connection* at = cut.front.connections_; at != nullptr; at = at->next) {
              at->abort();
              static_cast<RespConnection*>(at)->reading_ended();
            }
          }),
          front(of) {}
    RespFront& front;
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

Task<void> RespFront::close() {
  for (auto& [key, shared] : shared_) co_await shared->close();
  shared_.clear();
}

void RespFront::connected(int fd) noexcept {
  if (draining_ || stats_.connections_open >= connections_max_) {
    ++stats_.connections_refused;
    proxy_.resp_counts().closed(index_);
    close_detached(Reactor::current(), fd);
    return;
  }
  ++stats_.connections_accepted;
  ++stats_.connections_open;
  auto* connection = new RespConnection(fd, *this, limits_, password_.empty());
  connection->id = next_id_++ * proxy_.cores() + index_ + 1;
  connection->next = connections_;
  if (connections_ != nullptr) connections_->previous = connection;
  connections_ = connection;
  scope_.spawn(serve_connection(connection));
}

Task<void> RespFront::serve_connection(RespConnection* connection) {
  co_await connection->run();
  if (connection->session) co_await connection->session->client.close();
  if (connection->subscriber) co_await connection->subscriber->client.close();
  delete connection;
}

void RespFront::keys_expected(resp::Connection&, std::span<const std::string_view> keys) noexcept {
  std::array<std::string_view, 64> own;
  size_t count = 0;
  for (const std::string_view key : keys.first(std::min(keys.size(), own.size()))) {
    if (owner_of(key) == index_) own[count++] = key;
  }
  origin_.expect(std::span(own).first(count));
}

void RespFront::connection_closed(resp::Connection& connection) noexcept {
  if (connection.next != nullptr) connection.next->previous = connection.previous;
  if (connection.previous != nullptr) {
    connection.previous->next = connection.next;
  } else {
    connections_ = static_cast<RespConnection*>(connection.next);
  }
  --stats_.connections_open;
  proxy_.resp_counts().closed(index_);
  if (connections_ == nullptr) connections_gone_.set();
}

bool RespFront::unparsed_bytes_changed(size_t before, size_t after) noexcept {
  if (after > before && unparsed_bytes_ + (after - before) > unparsed_bytes_max) return false;
  unparsed_bytes_ += after - before;
  return true;
}

// --- for exchanges ------------------------------------------------------------------------------

namespace {
// What has been sent gets its answer, for a while.
Task<void> retire(std::unique_ptr<resp::Client> client) {
  const Nanos until = Reactor::current().after(retire_patience);
  while (client->commands_under_way() != 0 && Reactor::current().now() < until) {
    if (!co_await sleep_for(retire_interval)) break;
  }
  co_await client->close();
}

template <class Own>
Task<void> retire(std::unique_ptr<Own> own) {
  co_await own->client.close();
}
}  // namespace

resp::Client& RespFront::shared(resp::Protocol protocol, const resp::NodeAddress* node) {
  if (topology_ != upstream().generation()) drop_strangers();
  resp::NodeAddress address;  // without a cluster there is one, whatever its name
  if (node != nullptr) address = *node;
  auto& client = shared_[{protocol, address}];
  if (!client) {
    resp::ClientOptions options = client_options(protocol, false);
    if (node != nullptr) {
      options.host = node->host;
      options.port = node->port;
    }
    client = std::make_unique<resp::Client>(options, no_listener_);
  }
  return *client;
}

void RespFront::drop_strangers() {
  topology_ = upstream().generation();
  for (auto at = shared_.begin(); at != shared_.end();) {
    if (upstream().find(at->first.second) != nullptr) {
      ++at;
      continue;
    }
    scope_.spawn(retire(std::move(at->second)));
    at = shared_.erase(at);
  }
}

Session& RespFront::session_of(RespConnection& connection) {
  if (!connection.session) {
    ++stats_.sessions;
    connection.session = std::make_unique<Session>(client_options(connection.protocol(), true));
  }
  return *connection.session;
}

Session& RespFront::bind(RespConnection& connection, const resp::NodeAddress& node) {
  Session& session = session_of(connection);
  resp::ClientOptions options = session.client.options();
  if (options.host == node.host && options.port == node.port) return session;
  options.host = node.host;
  options.port = node.port;
  auto bound = std::make_unique<Session>(options);
  bound->is_open = session.is_open;
  bound->in_multi = session.in_multi;
  bound->given = std::move(session.given);
  bound->multi_owed = session.multi_owed;
  bound->slot = session.slot;
  session.is_open = false;
  scope_.spawn(retire(std::exchange(connection.session, std::move(bound))));
  return *connection.session;
}

bool RespFront::may_pass(RespConnection& connection) {
  if (connection.passing != 0 && connection.topology != upstream().generation()) return false;
  if (!connection.held.empty()) return false;
  connection.topology = upstream().generation();
  ++connection.passing;
  return true;
}

void RespFront::passed(RespConnection& connection) {
  if (--connection.passing != 0 || connection.held.empty() || connection.releasing) return;
  connection.topology = upstream().generation();
  connection.releasing = true;
  while (!connection.held.empty()) {
    PassExchange* const exchange = connection.held.front();
    connection.held.pop_front();
    ++connection.passing;
    exchange->begin_shared();  // it may end at once
  }
  connection.releasing = false;
}

Subscriber& RespFront::subscriber_of(RespConnection& connection) {
  if (!connection.subscriber) {
    ++stats_.sessions;
    // Like a shared one, an idle one is pinged, so that a dead link is noticed.
    resp::ClientOptions options = client_options(resp::Protocol::resp3, false);
    options.name = fmt::format("gyre-proxy-{}-subscriber", index_);
    options.ping_interval = subscriber_ping_interval;
    if (const UpstreamNode* const node =
            upstream().is_cluster() ? upstream().any_master() : nullptr;
        node != nullptr) {
      options.host = node->client.options().host;
      options.port = node->client.options().port;
    }
    connection.subscriber = std::make_unique<Subscriber>(options, connection, *this);
  }
  return *connection.subscriber;
}

void RespFront::reset(RespConnection& connection) {
  if (connection.subscriber) {
    connection.subscriber->mute();
    connection.scope().spawn(retire(std::move(connection.subscriber)));
  }
  if (connection.session) connection.scope().spawn(retire(std::move(connection.session)));
  connection.set_protocol(resp::Protocol::resp2);
  connection.set_reply_mode(resp::ReplyMode::on);
  connection.set_authenticated(password_.empty());
  connection.name.clear();
}

void RespFront::invalidate_soon(const std::vector<std::string>& keys, bool everything) {
  for (unsigned core = 0; core < proxy_.cores(); ++core) {
    std::vector<std::string> owned;
    for (const std::string& key : keys) {
      if (owner_of(key) == core) owned.push_back(key);
    }
    if (owned.empty() && !everything) continue;
    if (core == index_) {
      for (const std::string& key : owned) origin_.invalidate(key);
      if (everything) origin_.invalidate_all();
      continue;
    }
    auto* message = new Invalidation;
    message->origin = &origin_of(core);
    message->keys = std::move(owned);
    message->everything = everything;
    message->deliver = [](Message& self, Reactor&) noexcept {
      const std::unique_ptr<Invalidation> invalidation(static_cast<Invalidation*>(&self));
      for (const std::string& key : invalidation->keys) invalidation->origin->invalidate(key);
      if (invalidation->everything) invalidation->origin->invalidate_all();
    };
    Reactor::current().send(core, *message);
  }
}

// --- commands -----------------------------------------------------------------------------------

resp::Exchange* RespFront::start(resp::Connection& of, resp::Command command) {
  auto& connection = static_cast<RespConnection&>(of);
  ++stats_.commands;
  const CommandKind kind = kind_of(command[0]);
  if (!connection.authenticated()) {
    const bool may = is(command[0], "auth") || is(command[0], "hello") || is(command[0], "quit") ||
                     is(command[0], "reset");
    if (!may) {
      connection.out().error("NOAUTH Authentication required.");
      return nullptr;
    }
  }
  const bool in_session = connection.session && connection.session->is_open;
  if (connection.subscriber && connection.subscriber->is_subscribed() &&
      connection.protocol() == resp::Protocol::resp2 && !may_while_subscribed(command[0])) {
    std::string name;
    for (const char c : resp::echo(command[0])) name += resp::to_lower(c);
    connection.out().error(
        fmt::format("ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT "
                    "/ RESET are allowed in this context",
                    name));
    return nullptr;
  }
  if (is(command[0], "reset") && (connection.session || connection.subscriber)) {
    return new ResetExchange(connection, *this);
  }
  if (kind == CommandKind::local && !in_session) return local(connection, command);
  const Nanos now = Reactor::current().now();
  if ((client_limit_.enabled() && !client_limit_.admit(connection.peer(), now)) ||
      (total_limit_.enabled() && !total_limit_.admit(0, now))) {
    ++stats_.throttled;
    connection.out().error("TRYAGAIN over the rate limit; slow down");
    return nullptr;
  }
  if (upstream().is_cluster() && placement_of(command).kind == Placement::Kind::refused) {
    connection.out().error(
        fmt::format("ERR gyre proxy: '{}' of a whole cluster is not served: ask each node itself",
                    resp::echo(command[0])));
    return nullptr;
  }
  switch (kind) {
    case CommandKind::local:
      if (is(command[0], "quit") || is(command[0], "hello") || is(command[0], "select") ||
          is(command[0], "client") || is(command[0], "auth")) {
        if (is(command[0], "quit")) return local(connection, command);
        connection.out().error("ERR gyre proxy: not within a transaction");
        return nullptr;
      }
      return new PassExchange(connection, *this, command, CommandKind::read);
    case CommandKind::refused:
      if (is(command[0], "monitor")) {
        connection.out().error(
            "ERR gyre proxy: MONITOR is not passed on; it would not show what is answered from "
            "memory: connect to Redis itself");
        return nullptr;
      }
      connection.out().error(
          fmt::format("ERR gyre proxy: '{}' is not passed on", resp::echo(command[0])));
      return nullptr;
    case CommandKind::subscribe:
      if (!in_session) return subscribe(connection, command);
      connection.out().error("ERR gyre proxy: not within a transaction");
      return nullptr;
    case CommandKind::cached_read:
      if (!in_session) return cached_read(connection, command);
      // What it reads is newer than what is remembered: who has seen it must not see that again.
      return new PassExchange(connection, *this, command, CommandKind::write);
    case CommandKind::read:
      if (is(command[0], "config") && command.size() > 1 && !is(command[1], "get")) {
        connection.out().error("ERR gyre proxy: only CONFIG GET is passed on");
        return nullptr;
      }
      return new PassExchange(connection, *this, command, kind);
    case CommandKind::write:
    case CommandKind::flush:
    case CommandKind::blocking:
    case CommandKind::session:
      return new PassExchange(connection, *this, command, kind);
  }
  return nullptr;
}

resp::Exchange* RespFront::subscribe(RespConnection& connection, resp::Command command) {
  std::string name;
  for (const char c : command[0]) name += resp::to_lower(c);
  const bool ends = name.find("unsub") != std::string::npos;
  if (!ends && command.size() < 2) {
    wrong_arity(connection.out(), name);
    return nullptr;
  }
  if (!ends || connection.subscriber) return new SubscribeExchange(connection, *this, command);
  // There is nothing to end.
  resp::ReplyWriter out = connection.out();
  for (size_t i = 1; i < std::max<size_t>(command.size(), 2); ++i) {
    out.push(3);
    out.bulk(name);
    if (i < command.size()) {
      out.bulk(command[i]);
    } else {
      out.null();
    }
    out.integer(0);
  }
  return nullptr;
}

resp::Exchange* RespFront::cached_read(RespConnection& connection, resp::Command command) {
  ++stats_.cached_reads;
  ReadForm form;
  if (is(command[0], "mget")) {
    if (command.size() < 2) {
      wrong_arity(connection.out(), "mget");
      return nullptr;
    }
    return new ManyReadsExchange(connection, *this, command);
  }
  const bool ranged = is(command[0], "getrange") || is(command[0], "substr");
  if (command.size() != (ranged ? 4u : 2u)) {
    wrong_arity(connection.out(), is(command[0], "get")      ? "get"
                                  : is(command[0], "strlen") ? "strlen"
                                  : is(command[0], "substr") ? "substr"
                                                             : "getrange");
    return nullptr;
  }
  if (ranged) {
    const auto start = resp::parse_integer(command[2]);
    const auto end = resp::parse_integer(command[3]);
    if (!start || !end) {
      connection.out().error("ERR value is not an integer or out of range");
      return nullptr;
    }
    form = {ReadForm::Kind::getrange, *start, *end};
  } else if (is(command[0], "strlen")) {
    form.kind = ReadForm::Kind::strlen;
  }
  const std::string_view key = command[1];
  if (owner_of(key) == index_ && connection.may_read(hash64(key))) {
    Answer answer;
    if (origin_.try_answer(key, answer)) {
      ++stats_.answered_here;
      resp::ReplyWriter out = connection.out();
      write_answer(out, form, answer);
      return nullptr;
    }
  }
  return new ReadExchange(connection, *this, key, form);
}

resp::Exchange* RespFront::local(RespConnection& connection, resp::Command command) {
  resp::ReplyWriter out = proxy_test_faults.answer_out_of_turn
                              ? resp::ReplyWriter(connection.socket(), connection.protocol())
                              : connection.out();
  const std::string_view name = command[0];
  if (is(name, "ping")) {
    if (command.size() > 2) {
      wrong_arity(out, "ping");
    } else if (connection.subscriber && connection.subscriber->is_subscribed() &&
               connection.protocol() == resp::Protocol::resp2) {
      out.array(2);
      out.bulk("pong");
      out.bulk(command.size() == 2 ? command[1] : std::string_view());
    } else if (command.size() == 2) {
      out.bulk(command[1]);
    } else {
      out.simple("PONG");
    }
  } else if (is(name, "echo")) {
    if (command.size() != 2) {
      wrong_arity(out, "echo");
    } else {
      out.bulk(command[1]);
    }
  } else if (is(name, "quit")) {
    out.ok();
    connection.close_after_answer();
  } else if (is(name, "select")) {
    const auto number = command.size() == 2 ? resp::parse_integer(command[1]) : std::nullopt;
    if (command.size() != 2) {
      wrong_arity(out, "select");
    } else if (!number) {
      out.error("ERR value is not an integer or out of range");
    } else if (*number != 0 && upstream().is_cluster()) {
      out.error("ERR SELECT is not allowed in cluster mode");
    } else if (*number != static_cast<int64_t>(proxy_.options().redis_database)) {
      out.error(fmt::format("ERR gyre proxy: only database {} is served",
                            proxy_.options().redis_database));
    } else {
      out.ok();
    }
  } else if (is(name, "auth")) {
    if (command.size() != 2 && command.size() != 3) {
      wrong_arity(out, "auth");
    } else if (password_.empty()) {
      out.error(
          "ERR AUTH <password> called without any password configured for the default user. Are "
          "you sure your configuration is correct?");
    } else if (authenticate(command.size() == 3 ? command[1] : "default", command.back())) {
      connection.set_authenticated(true);
      out.ok();
    } else {
      out.error("WRONGPASS invalid username-password pair or user is disabled.");
    }
  } else if (is(name, "reset")) {
    reset(connection);
    connection.out().simple("RESET");
  } else if (is(name, "hello")) {
    hello(connection, command);
  } else {
    client(connection, command);
  }
  return nullptr;
}

bool RespFront::authenticate(std::string_view user, std::string_view password) const {
  return same_secret(password, password_) && user == "default";
}

void RespFront::hello(RespConnection& connection, resp::Command command) {
  resp::Protocol protocol = connection.protocol();
  size_t at = 1;
  if (command.size() > 1) {
    const auto version = resp::parse_integer(command[1]);
    if (!version) {
      connection.out().error("ERR Protocol version is not an integer or out of range");
      return;
    }
    if (*version != 2 && *version != 3) {
      connection.out().error("NOPROTO unsupported protocol version");
      return;
    }
    protocol = *version == 3 ? resp::Protocol::resp3 : resp::Protocol::resp2;
    at = 2;
  }
  bool authenticated = connection.authenticated();
  std::optional<std::string_view> name;
  while (at < command.size()) {
    if (is(command[at], "auth") && at + 2 < command.size()) {
      if (!password_.empty() && !authenticate(command[at + 1], command[at + 2])) {
        connection.out().error("WRONGPASS invalid username-password pair or user is disabled.");
        return;
      }
      authenticated = true;
      at += 3;
    } else if (is(command[at], "setname") && at + 1 < command.size()) {
      name = command[at + 1];
      at += 2;
    } else {
      connection.out().error(
          fmt::format("ERR Syntax error in HELLO option '{}'", resp::echo(command[at])));
      return;
    }
  }
  if (!authenticated) {
    connection.out().error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
        "<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
        "RESP protocol version at the same time");
    return;
  }
  if (!connection.authenticated()) connection.set_authenticated(true);
  if (name) connection.name.assign(*name);
  // A connection of its own speaks the protocol that it was made with.
  if (protocol != connection.protocol() && connection.session) {
    connection.out().error("ERR gyre proxy: the protocol can't change after a transaction");
    return;
  }
  connection.set_protocol(protocol);
  resp::ReplyWriter out = connection.out();
  const std::string& version = origin_.upstream().server_version();
  out.map(7);
  out.bulk("server");
  out.bulk("redis");
  out.bulk("version");
  out.bulk(version.empty() ? version_if_unknown : std::string_view(version));
  out.bulk("proto");
  out.integer(static_cast<int64_t>(protocol));
  out.bulk("id");
  out.integer(static_cast<int64_t>(connection.id));
  out.bulk("mode");
  out.bulk("standalone");
  out.bulk("role");
  out.bulk("master");
  out.bulk("modules");
  out.array(0);
}

void RespFront::client(RespConnection& connection, resp::Command command) {
  resp::ReplyWriter out = connection.out();
  const std::string_view what = command.size() > 1 ? command[1] : std::string_view();
  if (is(what, "id") && command.size() == 2) {
    out.integer(static_cast<int64_t>(connection.id));
  } else if (is(what, "getname") && command.size() == 2) {
    if (connection.name.empty()) {
      out.null();
    } else {
      out.bulk(connection.name);
    }
  } else if (is(what, "setname") && command.size() == 3) {
    const bool printable = std::ranges::all_of(
        command[2], [](char c) { return c > ' ' && static_cast<unsigned char>(c) < 0x7f; });
    if (printable) {
      connection.name.assign(command[2]);
      out.ok();
    } else {
      out.error("ERR Client names cannot contain spaces, newlines or special characters.");
    }
  } else if ((is(what, "setinfo") && command.size() == 4) ||
             ((is(what, "no-evict") || is(what, "no-touch")) && command.size() == 3)) {
    out.ok();
  } else if (is(what, "reply") && command.size() == 3) {
    if (is(command[2], "on")) {
      connection.set_reply_mode(resp::ReplyMode::on);
      connection.out().ok();
    } else if (is(command[2], "off")) {
      connection.set_reply_mode(resp::ReplyMode::off);
    } else if (is(command[2], "skip")) {
      connection.set_reply_mode(resp::ReplyMode::skip_next);
    } else {
      out.error("ERR syntax error");
    }
  } else if (is(what, "tracking") || is(what, "caching")) {
    out.error(
        fmt::format("ERR gyre proxy: CLIENT {} is not passed on; reads are answered from the "
                    "proxy's memory, which Redis does not know to be this client's: connect to "
                    "Redis itself to cache here",
                    resp::echo(what)));
  } else {
    out.error(fmt::format("ERR gyre proxy: CLIENT {} is not passed on", resp::echo(what)));
  }
}

}  // namespace gyre::proxy
