#include "node/node.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <gyre/call.hpp>
#include <gyre/file.hpp>
#include <gyre/scope.hpp>
#include <gyre/signals.hpp>
#include <gyre/time.hpp>
#include <gyre/when.hpp>

#include "node/admin_server.hpp"
#include "node/replication/peer_registry.hpp"
#include "node/resp/resp_server.hpp"

namespace gyre {

namespace {

// Requests under way get this long when the node is told to stop; then connections are cut. With
// closing the store it stays within the promised 10 s.
constexpr Nanos drain_patience = seconds(6);

Task<Result<bool>> as_bool(Task<Result<void>> task) {
  Result<void> result = co_await std::move(task);
  if (!result) co_return fail(result.error());
  co_return true;
}

// Whoever asks twice doesn't want to wait for what is under way.
constexpr int exit_code_second_signal = 130;

constexpr size_t secret_bytes_max = 4096;

// Without the end of its line.
Task<Result<std::string>> read_secret(std::string path) {
  Result<std::string> secret = co_await read_file(path, secret_bytes_max);
  if (!secret) co_return fail(secret.error());
  while (!secret->empty() && (secret->back() == '\n' || secret->back() == '\r')) secret->pop_back();
  co_return secret;
}

}  // namespace

Node::Node(const ServeConfig& config, const Environment& environment)
    : config_(config),
      environment_(environment),
      fabric_(config.cores),
      counts_(config.cores),
      resp_counts_(config.cores) {
  for (unsigned core = 0; core < config.cores; ++core) {
    cores_.push_back(std::make_unique<Core>(*this, core));
    sinks_.push_back(cores_.back().get());
    if (RespServer* resp = cores_.back()->resp()) resp_sinks_.push_back(resp);
    peer_sinks_.push_back(cores_.back().get());
    stop_events_.push_back(std::make_unique<Event>());
  }
}

Node::~Node() = default;

Task<void> Node::run(unsigned index) {
  cores_[index]->start();
  if (index == 0) {
    co_await lead();
  } else {
    co_await follow(*cores_[index]);
  }
}

Task<void> Node::follow(Core& core) {
  // Everything happens through messages from core 0.
  static_cast<void>(co_await stop_events_[core.index()]->wait());
}

void Node::report(const Error& error) {
  Reactor::current().log("error", fmt::format("event=start_failed {}", error.message()));
  exit_code_ = 1;
}

// Every core, at the same time.
Task<Result<void>> Node::on_all(Task<Result<void>> (*work)(Node& node, Core& core)) {
  std::vector<Task<Result<bool>>> tasks;
  for (unsigned core = 0; core < cores(); ++core) tasks.push_back(on_one(core, work));
  for (const Result<bool>& result : co_await when_all<Result<bool>>(std::move(tasks))) {
    if (!result) co_return fail(result.error());
  }
  co_return Result<void>{};
}

Task<Result<bool>> Node::on_one(unsigned core, Task<Result<void>> (*work)(Node& node, Core& core)) {
  co_return co_await spawn_on(core,
                              [this, core, work]() { return as_bool(work(*this, *cores_[core])); });
}

Task<Result<void>> Node::start_all() {
  Core& first = *cores_[0];
  Result<DataDirectory> opened =
      co_await DataDirectory::open(config_.data, config_.shards.value_or(config_.cores));
  if (!opened) co_return fail(opened.error());
  directory_ = std::move(*opened);
  shard_count_ = directory_.shard_count();
  if (shard_count_ < cores()) {
    co_return fail(Errc::invalid,
                   fmt::format("{} was made with {} storage shards, which cannot keep {} cores "
                               "busy: start with --cores {}",
                               config_.data, shard_count_, cores(), shard_count_));
  }
  if (Result<void> joined = co_await join_cluster(); !joined) co_return joined;
  if (Result<void> read = co_await read_resp_password(); !read) co_return read;
  if (Result<void> listening = co_await first.listen(true); !listening) co_return listening;
  Result<void> listening = co_await on_all(&Node::listen);
  if (!listening) co_return listening;
  if (Result<void> admin = co_await start_admin(); !admin) co_return admin;
  // From here on clients get 503 instead of a refused connection. Every core is up: a connection
  // may be handed to any of them.
  static_cast<void>(co_await on_all([](Node&, Core& core) -> Task<Result<void>> {
    core.join_cluster();
    co_return Result<void>{};
  }));
  static_cast<void>(co_await on_all(&Node::accept));
  Result<void> recovered = co_await on_all([](Node& node, Core& core) -> Task<Result<void>> {
    return core.open_shards(node.directory_);
  });
  if (!recovered) co_return recovered;
  Result<void> connected = co_await on_all([](Node&, Core& core) { return core.connect_peers(); });
  if (connected && registry_) co_await registry_->join_peers();
  co_return connected;
}

Task<Result<void>> Node::join_cluster() {
  Result<Membership> membership = co_await Membership::open(config_, config_.data);
  if (!membership) co_return fail(membership.error());
  membership_ = std::move(*membership);
  if (!membership_.has_peers()) co_return Result<void>{};
  peer_identity_ = {.uuid = directory_.uuid(),
                    .incarnation = Reactor::current().random(),
                    .url = membership_.topology().nodes[membership_.self()].url,
                    .epoch = membership_.topology().epoch,
                    .table_hash = membership_.table_hash(),
                    .cores = static_cast<uint16_t>(cores())};
  Result<std::unique_ptr<PeerRegistry>> registry = co_await PeerRegistry::open(*this);
  if (!registry) co_return fail(registry.error());
  registry_ = std::move(*registry);
  if (config_.secret_file.empty()) co_return Result<void>{};
  Result<std::string> secret = co_await read_secret(config_.secret_file);
  if (!secret) co_return fail(secret.error());
  if (secret->size() < peer::secret_bytes_min) {
    co_return fail(Errc::invalid,
                   fmt::format("{}: a secret has at least {} bytes, this one {}",
                               config_.secret_file, peer::secret_bytes_min, secret->size()));
  }
  peer_secret_ = std::move(*secret);
  co_return Result<void>{};
}

Task<Result<void>> Node::read_resp_password() {
  if (!config_.resp) co_return Result<void>{};
  for (int i = 0; i < 3; ++i) run_id_ += fmt::format("{:016x}", Reactor::current().random());
  run_id_.resize(40);
  if (config_.resp_password_file.empty()) co_return Result<void>{};
  Result<std::string> password = co_await read_secret(config_.resp_password_file);
  if (!password) co_return fail(password.error());
  if (password->empty()) {
    co_return fail(Errc::invalid,
                   fmt::format("{}: there is no password in it", config_.resp_password_file));
  }
  resp_password_ = std::move(*password);
  co_return Result<void>{};
}

Task<Result<void>> Node::start_admin() {
  if (!config_.admin) co_return Result<void>{};
  admin_ = std::make_unique<AdminServer>(*this, *cores_[0]);
  if (Result<void> listening = co_await admin_->listen(); !listening) co_return listening;
  admin_url_ = admin_->url();
  admin_->accept();
  co_return Result<void>{};
}

Task<Result<void>> Node::listen(Node& node, Core& core) {
  if (core.index() == 0) co_return Result<void>{};
  core.set_ports(*node.cores_[0]);
  co_return co_await core.listen(false);
}

Task<Result<void>> Node::accept(Node&, Core& core) {
  core.accept();
  co_return Result<void>{};
}

// What they recovered comes with their answers.
Task<uint64_t> Node::serve_on_all() {
  uint64_t records_recovered = 0;
  for (unsigned core = 0; core < cores(); ++core) {
    records_recovered += co_await call_on(core, [this, core] { return cores_[core]->serve(); });
  }
  co_return records_recovered;
}

Task<Result<void>> Node::drain_core(Node& node, Core& core) {
  core.set_state(NodeState::draining);
  core.admin_stop().request_stop();
  if (core.index() == 0 && node.admin_) co_await node.admin_->drain();
  if (!co_await core.drain(Reactor::current().now() + drain_patience)) {
    Reactor::current().log("warn", "event=connections_cut reason=\"not finished in time\"");
  }
  co_return Result<void>{};
}

Task<Result<void>> Node::close_core(Node&, Core& core) {
  co_return co_await core.close_shards();
}

Task<void> Node::heed_signals(Signals& signals) {
  const Result<int> first = co_await signals.next();
  if (!first) {
    if (first.error().code == Errc::cancelled) co_return;
    report(first.error());  // a node that can't be asked to stop must not serve
  }
  stop_asked_.set();
  if (co_await signals.next()) environment_.exit_now(exit_code_second_signal);
}

Task<void> Node::lead() {
  started_at_ = Reactor::current().now();
  {
    Signals signals;
    Scope heeding(nullptr, "signals");
    heeding.spawn(heed_signals(signals));
    Result<void> started = co_await start_all();
    if (started) {
      const uint64_t records_recovered = co_await serve_on_all();
      if (registry_) registry_->begin();
      print_ready(records_recovered);
      static_cast<void>(co_await stop_asked_.wait());
    } else {
      report(started.error());
    }
    if (registry_) co_await registry_->stop();
    static_cast<void>(co_await on_all(&Node::drain_core));
    static_cast<void>(co_await on_all([](Node&, Core& core) { return core.close_cluster(); }));
    if (Result<void> closed = co_await on_all(&Node::close_core); !closed && started) {
      Reactor::current().log("error", "event=close_failed " + closed.error().message());
      exit_code_ = 1;
    }
    registry_.reset();
    admin_.reset();
    co_await directory_.close();
    heeding.request_stop();
    co_await heeding.join();
    co_await signals.close();
  }
  for (unsigned core = 1; core < cores(); ++core) {
    co_await call_on(core, [this, core] {
      stop_events_[core]->set();
      return true;
    });
  }
}

void Node::print_ready(uint64_t records_recovered) {
  environment_.print(fmt::format(
      "gyre serves http://{}:{}{} admin={} cores={} shards={} durability={} data={} "
      "records_recovered={}\n",
      config_.listen.host, cores_[0]->port(),
      config_.resp ? fmt::format(" resp={}:{}", config_.resp->host, cores_[0]->resp()->port()) : "",
      admin_url_.empty() ? "off" : admin_url_, cores(), shard_count_, to_string(config_.durability),
      config_.data, records_recovered));
}

}  // namespace gyre
