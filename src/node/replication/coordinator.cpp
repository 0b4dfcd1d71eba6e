#include "node/replication/coordinator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include <gyre/call.hpp>
#include <gyre/reactor.hpp>
#include <gyre/when.hpp>

#include "base/limits.hpp"
#include "base/node_url.hpp"
#include "base/printable.hpp"
#include "cluster/replica_messages.hpp"
#include "node/core.hpp"
#include "node/node.hpp"
#include "node/replication/replica_access.hpp"
#include "node/replication/replica_scan.hpp"
#include "node/replication/replicated_modify.hpp"
#include "node/replication/shard_handoff.hpp"
#include "node/replication/test_faults.hpp"
#include "node/resp/scan_position.hpp"

namespace gyre {

using cluster::NodeIndex;

namespace {

constexpr size_t queued_bytes_max = 32u << 20;  // per peer
constexpr size_t served_bytes_max = 96u << 20;  // requests of peers; one of the largest fits
constexpr Nanos connect_patience = seconds(1);
// Together less than replica_patience: what was asked on a dead connection has time for another.
constexpr Nanos quiet_max = milliseconds(500);
constexpr Nanos silence_max = seconds(1);
static_assert(quiet_max + silence_max < replica_patience);
// Peers that say nothing are pinged at 5 Hz.
constexpr Nanos ping_interval = cluster::FailureDetector::Options{}.ping_interval;
constexpr Nanos watch_interval = milliseconds(100);
constexpr Nanos clock_window = seconds(2);
constexpr uint64_t repair_hlc_max = hlc_from_us(repair_age_max / microseconds(1));
constexpr Nanos lag_min = milliseconds(5);  // of the loop: less is nothing to make up for

}  // namespace

Coordinator::Coordinator(Core& core) : core_(core) {}

Coordinator::~Coordinator() = default;

void Coordinator::open(HybridClock& clock, const peer::Identity& identity,
                       const std::string& secret) {
  clock_ = &clock;
  identity_ = identity;
  secret_ = &secret;
  const Membership& membership = core_.node().membership();
  self_ = membership.self();
  budget_.bytes_max = served_bytes_max;
  gate_ = std::make_unique<peer::Gate>(core_.node().peer_sinks());
  gate_scope_ = std::make_unique<Scope>(nullptr, "gate");
  scope_ = std::make_unique<Scope>(nullptr, "peers");
  for (size_t i = 0; i < membership.topology().nodes.size(); ++i) {
    const std::string& url = membership.topology().nodes[i].url;
    urls_.emplace_back(url);
    links_.emplace_back();
    if (i == self_) continue;
    const NodeUrl parts = split_node_url(url);
    peer::LinkOptions options{.host = parts.host,
                              .port = parts.port,
                              .target_core = static_cast<uint16_t>(core_.index())};
    options.handshake.expected_url = url;
    options.connect_timeout = connect_patience;
    options.backoff_max = milliseconds(500);
    options.quiet_max = quiet_max;
    options.silence_max = silence_max;
    options.idle_ping_interval = ping_interval;
    options.queue_bytes_max = queued_bytes_max;
    links_.back() = std::make_unique<peer::Link>(*this, std::move(options));
  }
  Reactor& reactor = Reactor::current();
  health_.assign(links_.size(), cluster::FailureDetector(reactor.now()));
  heard_at_.assign(links_.size(), 0);
  dead_.assign(links_.size(), false);
  notices_ = std::make_unique<ReplicaNotices>(*this);
  watch_due_ = reactor.now() + watch_interval;
  reactor.arm(watch_, watch_due_);
}

namespace {
Task<Result<bool>> try_link(peer::Link& link) {
  co_return co_await link.try_once();
}
}  // namespace

Task<void> Coordinator::connect() {
  std::vector<Task<Result<bool>>> attempts;
  for (const auto& link : links_) {
    if (link) attempts.push_back(try_link(*link));
  }
  static_cast<void>(co_await when_all<Result<bool>>(std::move(attempts)));
}

void Coordinator::drain_peers() noexcept {
  draining_ = true;
  if (gate_scope_) gate_scope_->request_stop();
  for (peer::Inbound* inbound : inbounds_) {
    if (inbound->met()) {
      inbound->drain();
    } else {
      inbound->abort();
    }
  }
}

Task<void> Coordinator::peers_gone() {
  while (!inbounds_.empty()) {
    inbounds_gone_.reset();
    co_await gyre::detail::Uninterrupted{inbounds_gone_};
  }
}

void Coordinator::cut_peers() noexcept {
  for (peer::Inbound* inbound : inbounds_) inbound->abort();
}

Task<void> Coordinator::close() {
  if (!scope_) co_return;
  while (operations_ != 0) {
    idle_.reset();
    co_await gyre::detail::Uninterrupted{idle_};
  }
  co_await notices_->close();
  Reactor::current().disarm(watch_);
  for (const auto& link : links_) {
    if (link) co_await link->close();
  }
  co_await gate_scope_->join();
  co_await scope_->join();
  links_.clear();
  notices_.reset();
  gate_scope_.reset();
  scope_.reset();
}

std::span<const NodeIndex> Coordinator::replicas(std::string_view key, uint32_t from) const {
  const cluster::SlotTable& table = core_.node().membership().topology().table;
  return table.replicas(cluster::slot_of(key), from);
}

bool Coordinator::holds(std::string_view key, uint32_t from) const {
  const std::span<const NodeIndex> nodes = replicas(key, from);
  return std::ranges::find(nodes, self_) != nodes.end();
}

unsigned Coordinator::default_replicas() const {
  return std::min({core_.node().config().replication, core_.node().membership().node_count(),
                   limits::cluster_replicas_max});
}

// --- how peers do -------------------------------------------------------------------------------

Coordinator::WatchTimer::WatchTimer(Coordinator& of)
    : Timer([](Timer& self) noexcept { static_cast<WatchTimer&>(self).coordinator.watch(); }),
      coordinator(of) {}

void Coordinator::watch() {
  Reactor& reactor = Reactor::current();
  const Nanos now = reactor.now();
  const Nanos lag = now - watch_due_;
  for (NodeIndex node = 0; node < links_.size(); ++node) {
    if (!links_[node]) continue;
    const peer::Link& link = *links_[node];
    cluster::FailureDetector& detector = health_[node];
    if (lag >= lag_min) detector.loop_late(now, lag);
    if (link.heard_at() > heard_at_[node]) {
      heard_at_[node] = link.heard_at();
      detector.heard(heard_at_[node]);
    }
    if (link.is_down()) detector.unreachable();
    const bool dead = detector.state(now) == cluster::FailureDetector::State::dead;
    if (dead && !dead_[node]) {
      for (const auto& handoff : core_.handoffs()) {
        if (handoff) handoff->coordinator_lost(node);
      }
    }
    dead_[node] = dead;
  }
  if (now >= clock_window_end_) {
    if (clock_window_end_ != 0) round_trip_ = 0;
    for (const auto& link : links_) {
      const Nanos round_trip = link ? link->take_round_trip() : nanos_never;
      if (round_trip != nanos_never) round_trip_ = std::max(round_trip_, round_trip);
    }
    clock_lead_us_[1] = std::exchange(clock_lead_us_[0], nobody_heard);
    clock_window_end_ = now + clock_window;
  }
  watch_due_ = now + watch_interval;
  reactor.arm(watch_, watch_due_);
}

cluster::FailureDetector::State Coordinator::state_of(NodeIndex node) const {
  if (node == self_) return cluster::FailureDetector::State::alive;
  if (links_[node]->is_down()) return cluster::FailureDetector::State::dead;
  return health_[node].state(Reactor::current().now(), links_[node]->unheard_since());
}

// Coarse, so that peers that do about as well share the reads.
unsigned Coordinator::read_rank(NodeIndex node) const {
  constexpr unsigned slowness_max = 9;
  constexpr unsigned last = 1000;
  if (!counts_in_reads(node)) return last;
  if (node == self_) return 0;
  const Nanos lately = health_[node].latency_lately(Reactor::current().now());
  unsigned slowness = 0;
  for (Nanos usual = milliseconds(4); lately >= usual && slowness < slowness_max; usual *= 4) {
    ++slowness;
  }
  return 1 + slowness + (slowness_max + 1) * static_cast<unsigned>(state_of(node));
}

bool Coordinator::counts_in_reads(NodeIndex node) const {
  if (node == self_) return readers_.own_copies_count;
  if (node >= readers_.peers.size()) return true;  // nothing is known yet, nor is anybody asked
  const ReadersView::Peer& known = readers_.peers[node];
  if (known.lost) return false;
  // One that has just come back does not know of its loss yet.
  const peer::Identity* met = links_[node]->peer();
  return known.uuid == peer::Uuid{} || met == nullptr || met->uuid == known.uuid ||
         node_test_faults.wiped_node_votes;
}

const cluster::ScanPlan& Coordinator::scan_plan(uint32_t ack, uint32_t from) {
  std::vector<cluster::Reluctance> reluctance(links_.size());
  for (NodeIndex node = 0; node < links_.size(); ++node) {
    reluctance[node] = counts_in_reads(node) ? static_cast<cluster::Reluctance>(read_rank(node))
                                             : cluster::never_asked;
  }
  if (!scan_plan_ || !scan_plan_->is_for(ack, from, reluctance)) {
    scan_plan_.emplace(core_.node().membership().topology().table, ack, from, self_,
                       std::move(reluctance));
  }
  return *scan_plan_;
}

void Coordinator::call_ended(NodeIndex node, const peer::Call& call) {
  cluster::FailureDetector& detector = health_[node];
  if (call.status == peer::Status::ok) {
    const Nanos now = Reactor::current().now();
    detector.answered(now, now - call.sent_at);
    heard_at_[node] = std::max(heard_at_[node], now);
  } else if (call.status == peer::Status::timed_out) {
    detector.timed_out();
  }
}

uint64_t Coordinator::hlc() {
  return std::max(clock_->last(), hlc_from_us(Reactor::current().wall_us()));
}

bool Coordinator::observe(uint64_t hlc) {
  const auto lead_us =
      static_cast<int64_t>(hlc_to_us(hlc)) - static_cast<int64_t>(hlc_to_us(this->hlc()));
  clock_lead_us_[0] = std::max(clock_lead_us_[0], lead_us);
  if (is_credible(hlc)) {
    clock_->observe(hlc);
  } else {
    ++stats_.clocks_ahead;
  }
  return true;
}

bool Coordinator::is_credible(uint64_t hlc) const {
  return hlc_to_us(hlc) <= Reactor::current().wall_us() + clock_ahead_max_us;
}

uint64_t Coordinator::repair_as_of(NodeIndex node, Nanos read_at) const {
  const Nanos age_us = (Reactor::current().now() - read_at) / microseconds(1) + 1;
  const uint64_t heard = links_[node]->peer_hlc();
  return heard - std::min(heard, hlc_from_us(static_cast<uint64_t>(age_us)));
}

uint64_t Coordinator::clock_ahead_us() const {
  const int64_t lead_us = std::max(clock_lead_us_[0], clock_lead_us_[1]);
  if (lead_us == nobody_heard || round_trip_ == nanos_never) return 0;
  // What a frame says was true before it travelled here.
  const int64_t ahead_us = -lead_us - round_trip_ / microseconds(1);
  return static_cast<uint64_t>(std::max<int64_t>(ahead_us, 0));
}

std::string Coordinator::clock_refusal() const {
  const uint64_t ahead_us = clock_ahead_us();
  if (ahead_us <= clock_ahead_max_us || node_test_faults.clock_unbounded) return {};
  return fmt::format(
      "this node's clock is {} ms ahead of its peers': no writes are taken until it is within {} "
      "ms",
      ahead_us / 1000, clock_ahead_max_us / 1000);
}

std::string Coordinator::objection(const peer::Identity& peer) const {
  const std::string url = printable(peer.url, limits::node_url_bytes_max);
  if (peer.uuid == identity_.uuid) {
    return fmt::format(
        "{} has the same data directory as {}: a copied directory can't be a node beside its "
        "original",
        url, identity_.url);
  }
  if ((peer.epoch != identity_.epoch || peer.table_hash != identity_.table_hash) &&
      !node_test_faults.other_table_accepted) {
    return fmt::format(
        "{} has epoch {} of the topology with table {:016x}, {} has epoch {} with {:016x}: start "
        "all nodes with the same --peers or --topology",
        url, peer.epoch, peer.table_hash, identity_.url, identity_.epoch, identity_.table_hash);
  }
  return {};
}

// --- peers that call ----------------------------------------------------------------------------

void Coordinator::admit(Descriptor fd, std::string received) noexcept {
  if (!draining_) gate_scope_->spawn(run_gate(std::move(fd), std::move(received)));
}

Task<void> Coordinator::run_gate(Descriptor fd, std::string received) {
  Result<void> admitted = co_await gate_->admit(std::move(fd), std::move(received));
  if (!admitted) report(admitted.error());
}

void Coordinator::arrived(Descriptor fd, std::string received) noexcept {
  if (!draining_) scope_->spawn(serve(std::move(fd), std::move(received)));
}

Task<void> Coordinator::serve(Descriptor fd, std::string received) {
  if (draining_) co_return;
  peer::Inbound inbound(std::move(fd), *this, *this, budget_, {.bytes_max = served_bytes_max});
  inbounds_.push_back(&inbound);
  Result<void> ended = co_await inbound.serve(std::move(received));
  std::erase(inbounds_, &inbound);
  served_before_ += inbound.stats();
  if (inbounds_.empty()) inbounds_gone_.set();
  if (!ended) report(ended.error());
}

peer::InboundStats Coordinator::served() const {
  peer::InboundStats sum = served_before_;
  for (const peer::Inbound* inbound : inbounds_) sum += inbound->stats();
  return sum;
}

// Who only goes away is no news, and the same again isn't either.
void Coordinator::report(const Error& error) {
  if (error.code != Errc::invalid && error.code != Errc::unsupported && error.code != Errc::corrupt)
    return;
  std::string reason = error.message();
  if (reason == last_report_) return;
  Reactor::current().log("warn", fmt::format("event=peer_refused reason=\"{}\"", reason));
  last_report_ = std::move(reason);
}

void Coordinator::mark_seen(const peer::Identity& peer) {
  for (size_t i = 0; i < links_.size(); ++i) {
    if (links_[i] && urls_[i] == peer.url) links_[i]->peer_seen(peer);
  }
}

namespace {
struct SeenElsewhere : Message {
  Core* target = nullptr;
  peer::Identity peer;
};
}  // namespace

// It lives: no core goes on thinking that it doesn't.
void Coordinator::peer_seen(const peer::Identity& peer) noexcept {
  mark_seen(peer);
  for (unsigned other = 0; other < core_.node().cores(); ++other) {
    if (other == core_.index()) continue;
    auto* message = new SeenElsewhere;
    message->target = &core_.node().core(other);
    message->peer = peer;
    message->deliver = [](Message& self, Reactor&) noexcept {
      const std::unique_ptr<SeenElsewhere> seen(static_cast<SeenElsewhere*>(&self));
      seen->target->coordinator().mark_seen(seen->peer);
    };
    Reactor::current().send(other, *message);
  }
}

struct Coordinator::ServedPut final : ReplicaPut {
  ServedPut(Core& home, peer::InboundCall& of)
      : ReplicaPut(home, [](ReplicaAccess& self) noexcept { static_cast<ServedPut&>(self).end(); }),
        call(of) {}
  void end() noexcept {
    char head[cluster::PutReply::bytes];
    reply().encode(head);
    call.reply(peer::Status::ok, std::string_view(head, sizeof head));
    delete this;
  }
  peer::InboundCall& call;
};

struct Coordinator::ServedGet final : ReplicaGet {
  ServedGet(Core& home, peer::InboundCall& of)
      : ReplicaGet(home, [](ReplicaAccess& self) noexcept { static_cast<ServedGet&>(self).end(); }),
        call(of) {}
  void end() noexcept {
    send(call, reply());
    delete this;
  }
  static void send(peer::InboundCall& call, const cluster::GetReply& reply) noexcept {
    char head[cluster::GetReply::head_bytes];
    reply.encode_head(head);
    const std::string_view parts[] = {{head, sizeof head}, reply.value};
    call.reply(peer::Status::ok, parts);
  }
  peer::InboundCall& call;
};

void Coordinator::request(peer::InboundCall& call) noexcept {
  const auto refuse = [&call](peer::Status status) { static_cast<void>(call.reply(status)); };
  // Nodes that start together must get to know each other before they serve.
  const bool joins = call.verb() == static_cast<uint8_t>(cluster::Verb::join);
  if (core_.state() == NodeState::draining || (core_.state() != NodeState::serving && !joins))
    return refuse(peer::Status::closing);
  if (call.epoch() < identity_.epoch) return refuse(peer::Status::stale_epoch);
  if (call.epoch() > identity_.epoch) return refuse(peer::Status::future_epoch);
  ++stats_.requests_served;
  if (call.verb() == static_cast<uint8_t>(cluster::Verb::put)) {
    cluster::PutRequest put;
    if (!cluster::PutRequest::decode(call.payload(), put)) return refuse(peer::Status::corrupt);
    // A stamp that this clock never gave tells nothing either.
    const bool late =
        put.repair ? put.as_of > hlc() || hlc() - put.as_of > repair_hlc_max
                   : hlc_to_us(put.version.hlc) + write_age_max_us < Reactor::current().wall_us();
    if (late && !node_test_faults.late_repairs_taken) return refuse(peer::Status::failed);
    if (is_credible(put.version.hlc)) {
      clock_->observe(put.version.hlc);
    } else if (!put.repair && !node_test_faults.clock_unbounded) {
      return refuse(peer::Status::clock_ahead);
    }
    return (new ServedPut(core_, call))->start(put);
  }
  if (call.verb() == static_cast<uint8_t>(cluster::Verb::get)) {
    cluster::GetRequest get;
    if (!cluster::GetRequest::decode(call.payload(), get)) return refuse(peer::Status::corrupt);
    if (!counts_in_reads(self_)) return refuse(peer::Status::failed);
    StoreRead read;
    cluster::GetReply reply;
    if (ReplicaGet::try_now(core_, get.key, get.value_bytes_max, read, reply)) {
      return ServedGet::send(call, reply);
    }
    return (new ServedGet(core_, call))->start(get.key, get.value_bytes_max, true);
  }
  if (call.verb() == static_cast<uint8_t>(cluster::Verb::modify)) return serve_modify(core_, call);
  if (call.verb() == static_cast<uint8_t>(cluster::Verb::scan_position)) {
    return serve_scan_position(core_, call);
  }
  if (joins) {
    cluster::JoinRequest request;
    if (!cluster::JoinRequest::decode(call.payload(), request))
      return refuse(peer::Status::corrupt);
    return core_.scope().spawn(serve_join(call, request));
  }
  if (call.verb() == static_cast<uint8_t>(cluster::Verb::scan)) {
    if (!counts_in_reads(self_)) return refuse(peer::Status::failed);
    return serve_scan(core_, call);
  }
  if (call.verb() == static_cast<uint8_t>(cluster::Verb::notices)) {
    cluster::Notices notices;
    if (!cluster::Notices::decode(call.payload(), notices)) return refuse(peer::Status::corrupt);
    return core_.scope().spawn(serve_notices(call, std::move(notices)));
  }
  if (call.verb() == static_cast<uint8_t>(cluster::Verb::offer)) {
    std::vector<cluster::KeyVersion> entries;
    if (!cluster::decode_offer(call.payload(), entries)) return refuse(peer::Status::corrupt);
    return core_.scope().spawn(serve_offer(call, std::move(entries)));
  }
  refuse(peer::Status::unsupported);
}

Task<void> Coordinator::serve_notices(peer::InboundCall& call, cluster::Notices notices) {
  ++stats_.notices_served;
  const bool recorded = co_await take_notices(core_, std::move(notices));
  call.reply(recorded ? peer::Status::ok : peer::Status::failed);
}

Task<void> Coordinator::serve_join(peer::InboundCall& call, cluster::JoinRequest request) {
  const auto join = [this, url = call.peer().url, uuid = call.peer().uuid, request] {
    return core_.node().registry().join(url, uuid, request);
  };
  const Result<cluster::JoinReply> reply = co_await spawn_on(0, join);
  if (reply) {
    call.reply(peer::Status::ok, reply->encode());
  } else {
    call.reply(reply.error().code == Errc::busy ? peer::Status::closing : peer::Status::failed);
  }
}

Task<void> Coordinator::serve_offer(peer::InboundCall& call,
                                    std::vector<cluster::KeyVersion> entries) {
  const size_t count = entries.size();
  const std::vector<bool> lacks = co_await lacked_of(core_, std::move(entries));
  if (lacks.size() != count) {
    call.reply(peer::Status::failed);
    co_return;
  }
  stats_.offers_served += count;
  stats_.offers_lacked += static_cast<uint64_t>(std::ranges::count(lacks, true));
  call.reply(peer::Status::ok, cluster::encode_offer_reply(lacks));
}

}  // namespace gyre
