#include "node/core.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "http/etag.hpp"
#include "node/database_key.hpp"
#include "node/entity_exchange.hpp"
#include "node/node.hpp"
#include "node/observe.hpp"
#include "node/replication/cluster_scan.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/shard_handoff.hpp"
#include "node/resp/resp_server.hpp"
#include "node/scan_exchange.hpp"
#include "peer/hello.hpp"
#include "runtime/patience.hpp"

namespace gyre {

namespace {

constexpr std::string_view entity_methods = "GET, HEAD, PUT, DELETE";
constexpr std::string_view read_methods = "GET, HEAD";
constexpr uint32_t retry_after_s = 1;
constexpr Nanos relief_interval = milliseconds(100);
constexpr Nanos stall_patience = milliseconds(500);  // while memory is short

constexpr std::string_view known_paths =
    "unknown path; known are /v0/entity, /v0/entities, /v0/status, /v0/cluster, /livez, /readyz, "
    "/metrics, /admin";

}  // namespace

std::string_view to_string(NodeState state) {
  switch (state) {
    case NodeState::recovering:
      return "recovering";
    case NodeState::serving:
      return "serving";
    case NodeState::draining:
      return "draining";
  }
  return "";
}

Core::Core(Node& node, unsigned index)
    : node_(node),
      index_(index),
      rate_limit_(node.config().rate_limit_per_s, node.cores()),
      scratch_(new char[http::parameters_scratch_bytes]) {
  const ServeConfig& config = node.config();
  limits_.body_bytes_max = config.value_bytes_max;
  limits_.head_timeout = milliseconds(static_cast<int64_t>(config.head_timeout_ms));
  limits_.body_timeout = milliseconds(static_cast<int64_t>(config.body_timeout_ms));
  limits_.idle_timeout = milliseconds(static_cast<int64_t>(config.idle_timeout_ms));
  limits_.output_total_bytes_max = config.memory_plan.transit_bytes_per_core / 2;
  limits_.send_timeout = milliseconds(static_cast<int64_t>(config.send_timeout_ms));
  if (config.resp) resp_ = std::make_unique<RespServer>(node, *this);
}

Core::~Core() {
  GYRE_ASSERT(connections_ == nullptr);
}

// --- life ---------------------------------------------------------------------------------------

void Core::start() {
  scope_ = std::make_unique<Scope>(nullptr, "core");
  accept_scope_ = std::make_unique<Scope>(nullptr, "accept");
}

Task<Result<void>> Core::open_listener(Listener& listener, Listener::Options options) {
  return open_patiently(listener, std::move(options));
}

Task<Result<void>> Core::listen(bool probe) {
  const ServeConfig& config = node_.config();
  const Listener::Options options{.address = config.listen.host,
                                  .port = port_ != 0 ? port_ : config.listen.port,
                                  .backlog = static_cast<int>(config.listen_backlog),
                                  .reuse_port = node_.cores() > 1,
                                  .probe_port = probe};
  Result<void> opened = co_await listener_.open(options);
  if (!opened && opened.error().os_error == EADDRINUSE) {
    waited_for_port_ = true;
    opened = co_await open_listener(listener_, options);
  }
  if (!opened && opened.error().os_error == EADDRINUSE) {
    co_return fail(Errc::busy,
                   fmt::format("{}:{} is in use by another process: stop it, or choose another "
                               "address with --listen",
                               config.listen.host, config.listen.port));
  }
  if (!opened) {
    co_return fail(Error::from_errno(
        opened.error().os_error,
        fmt::format("cannot listen on {}:{}", config.listen.host, config.listen.port)));
  }
  port_ = node_.port_of(listener_.fd());
  if (resp_) co_return co_await resp_->listen(probe);
  co_return opened;
}

void Core::set_ports(const Core& other) {
  port_ = other.port_;
  if (resp_) resp_->set_port(other.resp_->port());
}

void Core::accept() {
  accept_scope_->spawn(run_acceptor());
  if (resp_) resp_->accept();
}

Task<void> Core::run_acceptor() {
  Acceptor acceptor(node_.counts(), node_.sinks());
  Result<void> ended = co_await acceptor.run(listener_);
  if (!ended) {
    Reactor::current().log("error", "event=accept_ended " + ended.error().message());
  }
}

void Core::join_cluster() {
  clock_ = HybridClock(node_.directory().node_number(), static_cast<uint16_t>(index_));
  if (!node_.membership().has_peers()) return;
  coordinator_ = std::make_unique<Coordinator>(*this);
  coordinator_->open(clock_, node_.peer_identity(), node_.peer_secret());
}

Task<Result<void>> Core::open_shards(const DataDirectory& directory) {
  const ServeConfig& config = node_.config();
  const uint32_t count = directory.shard_count();
  shards_.resize(count);
  handoffs_.resize(coordinator_ ? count : 0);
  uint32_t mine = 0;
  for (uint32_t shard = 0; shard < count; ++shard) mine += node_.owner_of(shard) == index_;
  const MemoryPlan& plan = config.memory_plan;
  const uint64_t my_shards = std::max<uint32_t>(mine, 1);
  const uint64_t credit_bytes = plan.flush_credit_bytes_per_shard * my_shards;
  write_memory_ =
      std::make_unique<Semaphore>(plan.memtable_bytes_per_shard * my_shards - credit_bytes);
  flush_credit_ = std::make_unique<Semaphore>(credit_bytes);
  transit_memory_ = std::make_unique<Semaphore>(plan.transit_bytes_per_core);
  pipelined_memory_ = std::make_unique<Semaphore>(plan.transit_bytes_per_core / 2);
  // Each may hold a value that is not streamed.
  const size_t read_slots = std::clamp<size_t>(
      plan.transit_bytes_per_core / 4 / Memtable::large_value_bytes_min, 16, 4096);
  for (ReadQueue& queue : reads_) queue.slots = read_slots / 2;
  for (uint32_t shard = 0; shard < count; ++shard) {
    if (node_.owner_of(shard) != index_) continue;
    ShardOptions options;
    options.directory = directory.shard_path(shard);
    options.identity = directory.shard_identity(shard);
    options.log_salt = directory.log_salt(shard);
    options.durability = config.durability;
    // One active and up to two immutable memtables share the reservation, a fourth part is for what
    // a flush has given back.
    options.memtable_bytes_max =
        std::clamp<uint64_t>(plan.memtable_bytes_per_shard / 4, 1u << 20, 64u << 20);
    options.cache_bytes = plan.cache_bytes_per_shard;
    options.scrub_period = seconds(86'400) * static_cast<int64_t>(config.scrub_days);
    options.compaction.base_bytes_min =
        std::max<uint64_t>(options.memtable_bytes_max * 2, 16u << 20);
    ShardContext context{
        .write_memory = *write_memory_, .clock = clock_, .flush_credit = flush_credit_.get()};
    if (coordinator_) {
      Result<std::unique_ptr<ShardHandoff>> handoff =
          co_await ShardHandoff::open(*this, shard, directory.created());
      if (!handoff) co_return fail(handoff.error());
      handoffs_[shard] = std::move(*handoff);
      context.purge_hlc_max = &handoffs_[shard]->purge_hlc_max();
    }
    Result<std::unique_ptr<Shard>> opened = co_await Shard::open(std::move(options), context);
    if (!opened) co_return fail(opened.error());
    shards_[shard] = std::move(*opened);
  }
  co_return Result<void>{};
}

Task<Result<void>> Core::connect_peers() {
  if (coordinator_) co_await coordinator_->connect();
  co_return Result<void>{};
}

uint64_t Core::serve() {
  state_ = NodeState::serving;
  uint64_t records_recovered = 0;
  for (const auto& shard : shards_) {
    if (shard) records_recovered += shard->stats().records_recovered;
  }
  for (const auto& handoff : handoffs_) {
    if (handoff) handoff->begin();
  }
  return records_recovered;
}

Task<bool> Core::drain(Nanos deadline) {
  Reactor& reactor = Reactor::current();
  accept_scope_->request_stop();
  co_await accept_scope_->join();
  co_await listener_.close();
  if (resp_) {
    co_await resp_->stop_accepting();
    resp_->drain();
  }
  for (http::Connection* at = connections_; at != nullptr; at = at->next) at->drain();
  if (coordinator_) coordinator_->drain_peers();
  struct Cut : Timer {
    explicit Cut(Core& of)
        : Timer([](Timer& self) noexcept {
            Core& core = static_cast<Cut&>(self).core;
            static_cast<Cut&>(self).struck = true;
            for (http::Connection* at = core.connections_; at != nullptr; at = at->next)
              at->abort();
            if (core.resp_) core.resp_->abort();
            if (core.coordinator_) core.coordinator_->cut_peers();
          }),
          core(of) {}
    Core& core;
    bool struck = false;
  } cut(*this);
  reactor.arm(cut, deadline);
  while (connections_ != nullptr) {
    connections_gone_.reset();
    if (!co_await connections_gone_.wait()) break;
  }
  if (resp_) co_await resp_->clients_gone();
  if (coordinator_) co_await coordinator_->peers_gone();
  reactor.disarm(cut);
  co_return !cut.struck;
}

Task<Result<void>> Core::close_cluster() {
  for (const auto& handoff : handoffs_) {
    if (handoff) co_await handoff->stop();
  }
  if (coordinator_) co_await coordinator_->close();
  co_await scope_->join();
  co_return Result<void>{};
}

Task<Result<void>> Core::close_shards() {
  Result<void> result{};
  Reactor::current().disarm(relief_);
  // What is unconfirmed by now is owed: the shards must show it until then.
  for (auto& handoff : handoffs_) {
    if (!handoff) continue;
    if (Result<void> closed = co_await handoff->close(); !closed && result) result = closed;
  }
  for (auto& shard : shards_) {
    if (!shard) continue;
    if (Result<void> closed = co_await shard->close(true); !closed && result) result = closed;
    shard.reset();
  }
  handoffs_.clear();
  scope_.reset();
  accept_scope_.reset();
  co_return result;
}

// --- connections --------------------------------------------------------------------------------

void Core::connected(int fd) noexcept {
  Reactor& reactor = Reactor::current();
  const uint64_t connections_max = node_.config().connections_max / node_.cores() + 1;
  if (state_ == NodeState::draining || stats_.connections_open >= connections_max) {
    ++stats_.connections_refused;
    node_.counts().closed(index_);
    close_detached(reactor, fd);
    return;
  }
  ++stats_.connections_accepted;
  ++stats_.connections_open;
  auto* connection = new http::Connection(fd, *this, limits_);
  connection->next = connections_;
  if (connections_ != nullptr) connections_->previous = connection;
  connections_ = connection;
  scope_->spawn(serve_connection(connection));
}

Task<void> Core::serve_connection(http::Connection* connection) {
  co_await connection->run();
  delete connection;
}

void Core::connection_closed(http::Connection& connection) noexcept {
  if (connection.next != nullptr) connection.next->previous = connection.previous;
  (connection.previous != nullptr ? connection.previous->next : connections_) = connection.next;
  --stats_.connections_open;
  node_.counts().closed(index_);
  if (connections_ == nullptr) connections_gone_.set();
}

void Core::peer_connected(Descriptor fd, std::string received) noexcept {
  if (coordinator_) {
    coordinator_->admit(std::move(fd), std::move(received));
  } else {
    scope_->spawn(refuse_peer(std::move(fd)));
  }
}

void Core::peer_arrived(Descriptor fd, std::string received) noexcept {
  coordinator_->arrived(std::move(fd), std::move(received));
}

Task<void> Core::refuse_peer(Descriptor fd) {
  Socket socket(std::move(fd));
  co_await peer::refuse(socket, "this node is not part of a cluster");
  co_await socket.close();
}

// --- when memory is short -----------------------------------------------------------------------

Core::ReliefTimer::ReliefTimer(Core& of)
    : Timer([](Timer& self) noexcept {
        Core& core = static_cast<ReliefTimer&>(self).core;
        if (!core.is_short_of_memory()) return;
        core.let_stalled_go();
        core.transit_awaited();
      }),
      core(of) {}

bool Core::is_short_of_memory() const {
  return (transit_memory_ && transit_memory_->has_waiters()) || reads_[0].head != nullptr ||
         reads_[1].head != nullptr || output_bytes_live() > limits_.output_total_bytes_max;
}

void Core::transit_awaited() noexcept {
  Reactor& reactor = Reactor::current();
  if (!relief_.armed()) reactor.arm(relief_, reactor.now() + relief_interval);
}

void Core::let_stalled_go() noexcept {
  const Nanos latest = Reactor::current().now() - stall_patience;
  std::vector<std::pair<Nanos, http::Connection*>> stalled;
  for (http::Connection* at = connections_; at != nullptr; at = at->next) {
    if (!at->holds_memory()) continue;
    if (const Nanos since = at->stalled_since(); since < latest) stalled.emplace_back(since, at);
  }
  // A part of them at a time: the first may be enough.
  const size_t count = std::min(stalled.size(), 16 + stalled.size() / 4);
  std::ranges::partial_sort(stalled, stalled.begin() + static_cast<std::ptrdiff_t>(count));
  for (size_t i = 0; i < count; ++i) stalled[i].second->expire();
  stats_.connections_let_go += count;
  if (resp_) stats_.connections_let_go += resp_->let_stalled_go(latest);
}

void Core::ReadQueue::push(ReadExchange& read) {
  read.previous_waiting = tail;
  read.next_waiting = nullptr;
  (tail != nullptr ? tail->next_waiting : head) = &read;
  tail = &read;
}

void Core::ReadQueue::remove(ReadExchange& read) {
  (read.previous_waiting != nullptr ? read.previous_waiting->next_waiting : head) =
      read.next_waiting;
  (read.next_waiting != nullptr ? read.next_waiting->previous_waiting : tail) =
      read.previous_waiting;
}

void Core::start_read(ReadExchange& read, ReadTurn turn) {
  ReadQueue& queue = reads_[static_cast<size_t>(turn)];
  queue.push(read);
  if (queue.slots == 0) transit_awaited();
  start_reads();
}

void Core::expedite_read(ReadExchange& read) {
  reads_[static_cast<size_t>(ReadTurn::later)].remove(read);
  start_read(read, ReadTurn::next);
}

void Core::read_ended(ReadTurn turn) {
  ++reads_[static_cast<size_t>(turn)].slots;
  start_reads();
}

// Not recursive, although a read may end before its start returns.
void Core::start_reads() {
  if (starting_reads_) return;
  starting_reads_ = true;
  for (bool started = true; started;) {
    started = false;
    for (const ReadTurn turn : {ReadTurn::next, ReadTurn::later}) {
      ReadQueue& queue = reads_[static_cast<size_t>(turn)];
      if (queue.slots == 0 || queue.head == nullptr) continue;
      // Those whose turn is later can wait until it has come.
      if (turn == ReadTurn::later && output_bytes_live() > limits_.output_total_bytes_max) continue;
      ReadExchange& read = *queue.head;
      queue.remove(read);
      started = true;
      if (turn == ReadTurn::next && !has_room_for_answer(read.connection())) {
        read.refuse();
        continue;
      }
      --queue.slots;
      read.go(turn);
    }
  }
  starting_reads_ = false;
}

// Whether one more answer may be made. When unread answers hold too much, those who have some or
// ask on without waiting for them get no more; others only when that has not helped.
bool Core::has_room_for_answer(http::Connection& connection) noexcept {
  const size_t bytes = output_bytes_live();
  const size_t most = limits_.output_total_bytes_max;
  if (bytes <= most) return true;
  transit_awaited();
  const bool contributes = connection.socket().output_bytes() != 0 || connection.pipelines();
  return !contributes && bytes <= most + most / 2;
}

bool Core::unparsed_bytes_changed(size_t before, size_t after) noexcept {
  if (!transit_memory_) return after < 16u << 10;  // before the store is open
  if (after <= before) {
    unparsed_bytes_ -= before - after;
    transit_memory_->release(before - after);
    return true;
  }
  // They leave a half for bodies and values.
  const uint64_t more = after - before;
  if (unparsed_bytes_ + more > transit_memory_->capacity() / 2 ||
      !transit_memory_->try_acquire(more)) {
    transit_awaited();
    return false;
  }
  unparsed_bytes_ += more;
  return true;
}

// --- requests -----------------------------------------------------------------------------------

http::Exchange* Core::refuse(http::Connection& connection, uint16_t status, std::string_view reason,
                             std::string_view allow) {
  count_status(status);
  connection.answer_error(status, reason, status == 503 || status == 429 ? retry_after_s : 0,
                          allow);
  return nullptr;
}

http::Exchange* Core::start(http::Connection& connection, const http::RequestHead& head) {
  if (!admits(connection.peer())) {
    return refuse(connection, 429, "over the rate limit of this client address; slow down");
  }
  std::string_view path = head.path;
  if (path == "/v0/entity") return entity(connection, head);
  char decoded[64];
  if (path.find('%') != std::string_view::npos) {
    const http::Decoded result = http::percent_decode(path, decoded, http::Plus::is_plus);
    if (result.status == http::Decoded::Status::malformed) {
      return refuse(connection, 400, "the path is not percent-encoded correctly");
    }
    path = result.status == http::Decoded::Status::ok ? result.text : std::string_view();
    if (path == "/v0/entity") return entity(connection, head);
  }
  if (path == "/v0/entities") return entities(connection, head);
  const bool reads = head.method == http::Method::get || head.method == http::Method::head;
  if (is_observed(path)) {
    if (!reads) return refuse(connection, 405, "only GET and HEAD are allowed here", read_methods);
    return observe(connection, head, path);
  }
  count(RequestKind::other);
  if (path == "/admin" || path.starts_with("/admin/")) return admin(connection, head, path);
  return refuse(connection, 400, known_paths);
}

// Only says where the administration is.
http::Exchange* Core::admin(http::Connection& connection, const http::RequestHead& head,
                            std::string_view path) {
  const std::string& url = node_.admin_url();
  if (url.empty()) return refuse(connection, 404, "this node was started with --admin off");
  const bool reads = head.method == http::Method::get || head.method == http::Method::head;
  if (path != "/admin" || !reads) {
    return refuse(connection, 403, "this is done at the address of --admin: GET /admin tells it");
  }
  count_status(200);
  connection.answer_text(200, url + "\n");
  return nullptr;
}

http::Exchange* Core::observe(http::Connection& connection, const http::RequestHead& head,
                              std::string_view path) {
  count(RequestKind::status);
  if (path == "/v0/status") {
    if (state_ == NodeState::serving) {
      count_status(200);
      connection.answer_text(200, "", http::ContentType::none);
      return nullptr;
    }
    return refuse(connection, 503,
                  state_ == NodeState::recovering ? "recovering; try again" : "shutting down");
  }
  return new ObserveExchange(connection, *this, path, head.query);
}

http::Exchange* Core::entity(http::Connection& connection, const http::RequestHead& head) {
  using http::Method;
  const bool known = head.method == Method::get || head.method == Method::head ||
                     head.method == Method::put || head.method == Method::del;
  if (!known) {
    count(RequestKind::other);
    return refuse(connection, 405, "only GET, HEAD, PUT and DELETE are allowed here",
                  entity_methods);
  }
  const http::ParametersResult parsed =
      http::parse_parameters(head.query, {scratch_.get(), http::parameters_scratch_bytes});
  if (!parsed.error.empty()) return refuse(connection, 400, parsed.error);
  const http::Parameters& parameters = parsed.parameters;
  if (!parameters.id || parameters.id->empty()) {
    return refuse(connection, 400, "the parameter id is missing or empty; use /v0/entity?id=KEY");
  }
  if (parameters.id->size() > limits::http_key_bytes_max) {
    return refuse(connection, 400, "the key is longer than 65536 bytes");
  }
  const http::Replicas replicas = http::resolve_replicas(
      parameters, node_.membership().node_count(), node_.config().replication);
  if (!replicas.error.empty()) return refuse(connection, 400, replicas.error);
  if (head.has_if_match) {
    return refuse(connection, 501,
                  "If-Match is not supported: conditional writes do not exist yet");
  }
  if (state_ != NodeState::serving) {
    return refuse(connection, 503,
                  state_ == NodeState::recovering ? "recovering; try again" : "shutting down");
  }
  std::string room;
  const std::string_view key = stored_key(*parameters.id, room);
  if (head.method == Method::get || head.method == Method::head) {
    return entity_get(connection, head, key, replicas);
  }
  if (head.has_if_none_match) {
    return refuse(connection, 501,
                  "If-None-Match is not supported here: conditional writes do not exist yet");
  }
  return entity_write(connection, head, key, parameters, replicas);
}

// The fast path: a value in this core's memory is answered here, without any object.
http::Exchange* Core::entity_get(http::Connection& connection, const http::RequestHead& head,
                                 std::string_view key, const http::Replicas& replicas) {
  count(RequestKind::get);
  if (!has_room_for_answer(connection))
    return refuse(connection, 503, ReadExchange::too_many_unread);
  const uint32_t shard_number = node_.shard_for(key);
  const unsigned owner = node_.owner_of(shard_number);
  const uint64_t key_hash = connection.has_unsafe() ? hash64(key) : 0;
  // One answer is enough, and this node's is at hand.
  const bool alone =
      !coordinator_ || (replicas.ack == 1 && coordinator_->holds(key, replicas.from));
  if (owner == index_ && alone && connection.may_answer_now() && !head.has_body()) {
    StoreRead read;
    switch (shards_[shard_number]->try_get(key, Reactor::current().wall_ms(), read)) {
      case ReadOutcome::absent:
        return refuse(connection, 404, "no value is stored under this key");
      case ReadOutcome::found:
        if (read.large) break;
        if (head.has_if_none_match &&
            http::if_none_match_matches(head.if_none_match, read.version)) {
          break;
        }
        answer_value(connection, read);
        return nullptr;
      case ReadOutcome::wait:
        break;
    }
  }
  auto* exchange =
      new ReadExchange(connection, *this, shard_number, owner, key, head.if_none_match);
  exchange->key_hash = key_hash;
  if (!alone) exchange->ask_replicas(replicas.ack, replicas.from);
  return exchange;
}

void Core::answer_value(http::Connection& connection, const StoreRead& read) {
  const http::AnswerStyle& style = connection.style();
  if (style.close) connection.close_after_answer();
  count_status(200);
  Socket& out = connection.socket();
  const bool together =
      http::response_head_bytes_max + read.value.size() <= Socket::reserve_bytes_max;
  char* at = out.reserve(together ? http::response_head_bytes_max + read.value.size()
                                  : http::response_head_bytes_max);
  char* end = http::write_response_head(at, {.status = 200,
                                             .close = style.close,
                                             .say_keep_alive = style.say_keep_alive,
                                             .content_type = http::ContentType::bytes,
                                             .content_length = read.value.size(),
                                             .etag = read.version,
                                             .date_line = connection.date_line()});
  if (style.head_only || !together) {
    out.commit(static_cast<size_t>(end - at));
    if (!style.head_only) out.append(read.value);
    return;
  }
  std::memcpy(end, read.value.data(), read.value.size());
  out.commit(static_cast<size_t>(end - at) + read.value.size());
}

http::Exchange* Core::entity_write(http::Connection& connection, const http::RequestHead& head,
                                   std::string_view key, const http::Parameters& parameters,
                                   const http::Replicas& replicas) {
  const bool is_put = head.method == http::Method::put;
  count(is_put ? RequestKind::put : RequestKind::del);
  if (coordinator_) {
    if (const std::string reason = coordinator_->clock_refusal(); !reason.empty())
      return refuse(connection, 503, reason);
  }
  uint64_t expire_at_ms = 0;
  if (is_put && parameters.ttl_ms) {
    expire_at_ms = Reactor::current().wall_ms() + *parameters.ttl_ms;
  }
  const uint64_t key_hash = hash64(key);
  const uint32_t shard_number = node_.shard_for(key);
  const unsigned owner = node_.owner_of(shard_number);
  if (owner == index_) shards_[shard_number]->write_expected(key_hash);
  auto* exchange = new WriteExchange(connection, *this, shard_number, owner,
                                     is_put ? Kind::value : Kind::tombstone, key, expire_at_ms,
                                     head.chunked, head.content_length);
  exchange->key_hash = key_hash;
  exchange->hash = key_hash;  // the store's own copy travels with the write
  if (coordinator_) exchange->send_to_replicas(replicas.ack, replicas.from);
  return exchange;
}

http::Exchange* Core::entities(http::Connection& connection, const http::RequestHead& head) {
  count(RequestKind::range);
  if (!has_room_for_answer(connection))
    return refuse(connection, 503, ReadExchange::too_many_unread);
  if (head.method != http::Method::get) {
    return refuse(connection, 405, "only GET is allowed here", "GET");
  }
  const http::ParametersResult parsed =
      http::parse_parameters(head.query, {scratch_.get(), http::parameters_scratch_bytes});
  if (!parsed.error.empty()) return refuse(connection, 400, parsed.error);
  const http::Parameters& parameters = parsed.parameters;
  if (!parameters.start || parameters.start->empty()) {
    return refuse(connection, 400,
                  "the parameter start is missing or empty; use /v0/entities?start=KEY[&end=KEY]");
  }
  if (parameters.end && parameters.end->empty()) {
    return refuse(connection, 400, "the parameter end is empty; leave it out for an open end");
  }
  const http::Replicas replicas = http::resolve_replicas(
      parameters, node_.membership().node_count(), node_.config().replication);
  if (!replicas.error.empty()) return refuse(connection, 400, replicas.error);
  if (state_ != NodeState::serving) {
    return refuse(connection, 503,
                  state_ == NodeState::recovering ? "recovering; try again" : "shutting down");
  }
  std::string start_room;
  std::string end_room;
  const std::string_view start = stored_key(*parameters.start, start_room);
  const std::string_view end = stored_key(parameters.end.value_or(std::string_view()), end_room);
  if (coordinator_ && parameters.scope == http::Parameters::Scope::cluster) {
    return new ClusterScan(connection, *this, start, end, replicas.ack, replicas.from);
  }
  return new ScanExchange(connection, *this, start, end);
}

}  // namespace gyre
