#include "node/resp/resp_server.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/printable.hpp"
#include "node/database_key.hpp"
#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/resp/invocation.hpp"
#include "resp/number_text.hpp"

namespace gyre {

namespace {

constexpr unsigned unauthenticated_per_address_max = 64;
constexpr size_t addresses_max = 4096;
constexpr Nanos foreigner_log_interval = seconds(60);
constexpr Nanos memory_patience = seconds(10);

constexpr std::string_view loading_message = "LOADING Redis is loading the dataset in memory";

}  // namespace

resp::Exchange* Invocation::error(std::string_view message) {
  out().error(message);
  return nullptr;
}

resp::Exchange* Invocation::ok() {
  out().ok();
  return nullptr;
}

resp::Exchange* Invocation::wrong_arity() {
  return error(fmt::format("ERR wrong number of arguments for '{}' command", spec.name));
}

RespServer::RespServer(Node& node, Core& core) : node_(node), core_(core) {
  const ServeConfig& config = node.config();
  limits_.command.bulk_bytes_max = std::max<uint64_t>(config.value_bytes_max, 64u << 10);
  limits_.command.command_bytes_max = 4 * limits_.command.bulk_bytes_max;
  limits_.send_timeout = milliseconds(static_cast<int64_t>(config.send_timeout_ms));
  limits_.command_timeout = milliseconds(static_cast<int64_t>(config.body_timeout_ms));
  limits_.output_total_bytes_max = config.memory_plan.transit_bytes_per_core / 2;
  limits_.output_bytes_pause =
      std::min(limits_.output_bytes_pause, limits_.output_total_bytes_max / 2);
  limits_.spare_texts.reserve(64);
  batches_.resize(node.cores());
  next_number_ = core.index() + 1;
}

RespServer::~RespServer() {
  GYRE_ASSERT(clients_ == nullptr);
}

// --- life ---------------------------------------------------------------------------------------

Task<Result<void>> RespServer::listen(bool probe) {
  const Address& address = *node_.config().resp;
  const Listener::Options options{.address = address.host,
                                  .port = port_ != 0 ? port_ : address.port,
                                  .backlog = static_cast<int>(node_.config().listen_backlog),
                                  .reuse_port = node_.cores() > 1,
                                  .probe_port = probe};
  Result<void> opened = co_await Core::open_listener(listener_, options);
  if (!opened && opened.error().os_error == EADDRINUSE) {
    co_return fail(Errc::busy,
                   fmt::format("{}:{} is in use by another process: stop it, or choose another "
                               "address with --resp",
                               address.host, address.port));
  }
  if (!opened) {
    co_return fail(
        Error::from_errno(opened.error().os_error,
                          fmt::format("cannot listen on {}:{}", address.host, address.port)));
  }
  port_ = options.port != 0 ? options.port : node_.port_of(listener_.fd());
  co_return opened;
}

void RespServer::accept() {
  accept_scope_ = std::make_unique<Scope>(nullptr, "resp accept");
  accept_scope_->spawn(run_acceptor());
}

Task<void> RespServer::run_acceptor() {
  Acceptor acceptor(node_.resp_counts(), node_.resp_sinks());
  Result<void> ended = co_await acceptor.run(listener_);
  if (!ended) {
    Reactor::current().log("error", "event=resp_accept_ended " + ended.error().message());
  }
}

Task<void> RespServer::stop_accepting() {
  if (accept_scope_) {
    accept_scope_->request_stop();
    co_await accept_scope_->join();
    accept_scope_.reset();
  }
  if (listener_.is_open()) co_await listener_.close();
}

void RespServer::drain() {
  for (resp::Connection* at = clients_; at != nullptr; at = at->next) at->drain();
}

void RespServer::abort() {
  for (resp::Connection* at = clients_; at != nullptr; at = at->next) at->abort();
}

Task<void> RespServer::clients_gone() {
  while (clients_ != nullptr) {
    clients_gone_.reset();
    if (!co_await clients_gone_.wait()) break;
  }
}

// --- clients ------------------------------------------------------------------------------------

void RespServer::connected(int fd) noexcept {
  Reactor& reactor = Reactor::current();
  const uint64_t connections_max = node_.config().connections_max / node_.cores() + 1;
  const bool full = client_count_ + core_.stats().connections_open >= connections_max;
  const uint64_t peer = reactor.backend().peer(fd);
  if (core_.state() == NodeState::draining || full ||
      (needs_password() && !may_come_unauthenticated(peer))) {
    ++stats_.connections_refused;
    node_.resp_counts().closed(core_.index());
    if (core_.state() == NodeState::draining) {
      close_detached(reactor, fd);
    } else {
      core_.scope().spawn(refuse(fd, full ? "ERR max number of clients reached"
                                          : "ERR max number of unauthenticated clients reached"));
    }
    return;
  }
  ++stats_.connections_accepted;
  ++client_count_;
  auto* client = new RespClient(fd, *this, limits_, !needs_password(), next_number_);
  next_number_ += node_.cores();
  client->next = clients_;
  if (clients_ != nullptr) clients_->previous = client;
  clients_ = client;
  core_.scope().spawn(serve(client));
}

Task<void> RespServer::refuse(int fd, std::string_view message) {
  Socket socket(fd);
  resp::ReplyWriter(socket, resp::Protocol::resp2).error(message);
  static_cast<void>(co_await with_timeout<void>(seconds(1), [](Socket* to) -> Task<Result<void>> {
    static_cast<void>(co_await to->drained(0));
    co_return Result<void>{};
  }(&socket)));
  co_await socket.close();
}

Task<void> RespServer::serve(RespClient* client) {
  co_await client->run();
  delete client;
}

void RespServer::connection_closed(resp::Connection& connection) noexcept {
  if (connection.next != nullptr) connection.next->previous = connection.previous;
  (connection.previous != nullptr ? connection.previous->next : clients_) = connection.next;
  --client_count_;
  node_.resp_counts().closed(core_.index());
  if (!connection.authenticated()) no_longer_unauthenticated(connection.peer());
  if (clients_ == nullptr) clients_gone_.set();
}

bool RespServer::may_come_unauthenticated(uint64_t peer) {
  // More addresses than can be remembered: strangers, of whom each could be one of them.
  if (unauthenticated_.size() >= addresses_max && !unauthenticated_.contains(peer)) return false;
  unsigned& count = unauthenticated_[peer];
  if (count >= unauthenticated_per_address_max) return false;
  ++count;
  return true;
}

void RespServer::no_longer_unauthenticated(uint64_t peer) noexcept {
  const auto found = unauthenticated_.find(peer);
  if (found != unauthenticated_.end() && --found->second == 0) unauthenticated_.erase(found);
}

bool RespServer::needs_password() const {
  return !node_.resp_password().empty();
}

bool RespServer::is_password(std::string_view text) {
  const std::string& password = node_.resp_password();
  // The time tells how long `text` is, which its sender knows.
  size_t differences = text.size() ^ password.size();
  for (size_t i = 0; i < text.size(); ++i) {
    differences |= static_cast<unsigned char>(text[i]) ^
                   static_cast<unsigned char>(password[i % password.size()]);
  }
  if (differences != 0) ++stats_.passwords_wrong;
  return differences == 0;
}

void RespServer::authenticated(RespClient& client) {
  if (client.authenticated()) return;
  no_longer_unauthenticated(client.peer());
  client.set_authenticated(true);
}

void RespServer::forget_authentication(RespClient& client) {
  if (!client.authenticated()) return;
  ++unauthenticated_[client.peer()];
  client.set_authenticated(false);
}

ScanPositions& RespServer::scan_positions() {
  if (!scan_positions_) scan_positions_.emplace(Reactor::current().random());
  return *scan_positions_;
}

void RespServer::reset_stats() {
  stats_ = {};
  limits_.counters = {};
}

size_t RespServer::let_stalled_go(Nanos latest) {
  std::vector<std::pair<Nanos, resp::Connection*>> stalled;
  for (resp::Connection* at = clients_; at != nullptr; at = at->next) {
    if (!at->holds_memory()) continue;
    if (const Nanos since = at->stalled_since(); since < latest) stalled.emplace_back(since, at);
  }
  // A part of them at a time: the first may be enough.
  const size_t count = std::min(stalled.size(), 16 + stalled.size() / 4);
  std::ranges::partial_sort(stalled, stalled.begin() + static_cast<std::ptrdiff_t>(count));
  for (size_t i = 0; i < count; ++i) stalled[i].second->expire();
  return count;
}

void RespServer::foreigner_cut_off(resp::Connection&, std::string_view what) noexcept {
  const Nanos now = Reactor::current().now();
  if (foreigner_logged_at_ != 0 && now - foreigner_logged_at_ < foreigner_log_interval) return;
  foreigner_logged_at_ = now;
  Reactor::current().log(
      "warn", fmt::format("event=foreigner_cut_off said={} reason=\"no Redis client says that: a "
                          "browser, perhaps made to by a malicious page, or a TLS client\"",
                          printable(what)));
}

bool RespServer::unparsed_bytes_changed(size_t before, size_t after) noexcept {
  // Before the store is open there is no budget.
  if (core_.state() == NodeState::recovering) return after < before || after < (64u << 10);
  Semaphore& transit = core_.transit_memory();
  // A command may be a little larger than the largest value, and so than what there is for it.
  const size_t held = std::min<size_t>(before, transit.capacity());
  const size_t wanted = std::min<size_t>(after, transit.capacity());
  if (wanted <= held) {
    const size_t returned = std::min<size_t>(held - wanted, unparsed_bytes_);
    unparsed_bytes_ -= returned;
    transit.release(returned);
    return true;
  }
  // One command may always come; several leave a half to everything else.
  const size_t more = wanted - held;
  const bool others = unparsed_bytes_ > held;
  if ((others && unparsed_bytes_ + more > transit.capacity() / 2) || !transit.try_acquire(more)) {
    core_.transit_awaited();
    return false;
  }
  unparsed_bytes_ += more;
  return true;
}

Task<bool> RespServer::unparsed_bytes_wanted(size_t more) {
  // Before the store is open nobody may wait.
  if (core_.state() == NodeState::recovering || !core_.may_wait_for_transit()) co_return false;
  core_.transit_awaited();
  const uint64_t wanted = std::min<uint64_t>(more, core_.transit_memory().capacity());
  core_.transit_waits(1);
  const bool room =
      (co_await with_timeout<void>(memory_patience, acquire(core_.transit_memory(), wanted)))
          .has_value();
  core_.transit_waits(-1);
  if (room) core_.transit_memory().release(wanted);  // taken again at once
  co_return room;
}

// --- dispatch -----------------------------------------------------------------------------------

void RespServer::post(StoreTask& task) {
  TaskBatch*& batch = batches_[task.owner()];
  if (batch == nullptr) batch = new TaskBatch(*this, task.owner());
  batch->add(task);
}

// Two rounds: a key's place in the index must have come before what it leads to can be asked for.
void RespServer::keys_expected(resp::Connection& connection,
                               std::span<const std::string_view> keys) noexcept {
  if (core_.state() == NodeState::recovering) return;
  struct Place {
    uint64_t hash;
    const Shard* shard;
  };
  std::array<Place, 64> places;
  size_t count = 0;
  const unsigned database = static_cast<RespClient&>(connection).database;
  for (const std::string_view key : keys.first(std::min(keys.size(), places.size()))) {
    if (database != 0 || has_database_prefix(key)) continue;
    const uint32_t shard = node_.shard_for(key);
    if (node_.owner_of(shard) != core_.index()) continue;
    const Place place{hash64(key), &core_.shard(shard)};
    place.shard->key_expected(place.hash);
    places[count++] = place;
  }
  for (const Place& place : std::span(places).first(count)) place.shard->key_at_hand(place.hash);
}

void RespServer::batch_ended(resp::Connection&) noexcept {
  // Replies that nobody reads: the stalest clients are let go.
  if (output_bytes_live() > limits_.output_total_bytes_max) core_.transit_awaited();
  for (TaskBatch*& batch : batches_) {
    if (batch != nullptr) std::exchange(batch, nullptr)->send();
  }
}

resp::Exchange* RespServer::unknown_command(RespClient& client, resp::Command command) {
  ++stats_.commands_unknown;
  std::string args;
  for (size_t i = 1; i < command.size() && args.size() < resp::echo_bytes_max; ++i) {
    args += "'" + resp::echo(command[i], resp::echo_bytes_max - args.size()) + "' ";
  }
  client.out().error(fmt::format("ERR unknown command '{}', with args beginning with: {}",
                                 resp::echo(command[0]), args));
  return nullptr;
}

resp::Exchange* RespServer::start(resp::Connection& connection, resp::Command command) {
  auto& client = static_cast<RespClient&>(connection);
  const CommandSpec* spec = find_command(command[0]);
  // A stranger learns nothing of what there is.
  const bool may =
      client.authenticated() || (spec != nullptr && (spec->flags & command_flag::no_auth) != 0);
  if (spec == nullptr) {
    if (may) return unknown_command(client, command);
    client.out().error("NOAUTH Authentication required.");
    return nullptr;
  }
  if (!spec->subcommands.empty() && command.size() > 1) {
    const CommandSpec* subcommand = find_subcommand(*spec, command[1]);
    if (subcommand == nullptr && may) {
      std::string container(spec->name);
      std::ranges::transform(container, container.begin(), [](char c) {
        return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
      });
      client.out().error(fmt::format("ERR unknown subcommand '{}'. Try {} HELP.",
                                     resp::echo(command[1]), container));
      return nullptr;
    }
    if (subcommand != nullptr) spec = subcommand;
  }
  Invocation invocation{*this, client, command, *spec};
  if (!spec->allows_words(command.size())) return invocation.wrong_arity();
  if (!may) return invocation.error("NOAUTH Authentication required.");
  if (!core_.admits(client.peer())) {
    return invocation.error("ERR over the rate limit of this client address; slow down");
  }
  if (core_.state() == NodeState::recovering && (spec->flags & command_flag::loading) == 0) {
    return invocation.error(loading_message);
  }
  client.last_command = spec;
  return spec->run(invocation);
}

}  // namespace gyre
