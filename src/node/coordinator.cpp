#include "node/coordinator.hpp"

#include <algorithm>

#include <gyre/reactor.hpp>
#include <gyre/when.hpp>

#include "base/node_url.hpp"
#include "cluster/replica_messages.hpp"
#include "node/core.hpp"
#include "node/node.hpp"
#include "node/replica_access.hpp"

namespace gyre {

using cluster::NodeIndex;

Coordinator::Coordinator(Core& core) : core_(core) {}

Coordinator::~Coordinator() = default;

void Coordinator::open(HybridClock& clock, const peer::Identity& identity,
                       std::string_view secret) {
  clock_ = &clock;
  identity_ = identity;
  secret_ = secret;
  const Membership& membership = core_.node().membership();
  self_ = membership.self();
  scope_ = std::make_unique<Scope>(nullptr, "peers");
  for (size_t i = 0; i < membership.topology().nodes.size(); ++i) {
    links_.emplace_back();
    if (i == self_) continue;
    const std::string& url = membership.topology().nodes[i].url;
    const NodeUrl parts = split_node_url(url);
    links_.back() = std::make_unique<peer::Link>(
        *this, peer::Link::Address{.host = parts.host, .port = parts.port, .url = url}, *scope_);
  }
}

namespace {
Task<Result<bool>> try_link(peer::Link& link) {
  co_return co_await link.connect();
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
  for (peer::Inbound* inbound : inbounds_) inbound->drain();
}

Task<void> Coordinator::close() {
  if (!scope_) co_return;
  while (operations_ != 0) {
    idle_.reset();
    co_await gyre::detail::Uninterrupted{idle_};
  }
  for (const auto& link : links_) {
    if (link) co_await link->close();
  }
  co_await scope_->join();
  links_.clear();
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

uint64_t Coordinator::hlc() {
  return std::max(clock_->last(), hlc_from_us(Reactor::current().wall_us()));
}

// --- peers that call ----------------------------------------------------------------------------

Task<void> Coordinator::serve(Socket& socket, std::string_view first) {
  peer::Inbound inbound(*this, *this, socket);
  if (draining_) inbound.drain();
  inbounds_.push_back(&inbound);
  co_await inbound.serve(first);
  std::erase(inbounds_, &inbound);
}

void Coordinator::mark_seen(const peer::Identity& peer) {
  for (const auto& link : links_) {
    if (link && link->address().url == peer.url) link->peer_seen(peer);
  }
}

namespace {
struct SeenElsewhere : Message {
  Core* target = nullptr;
  peer::Identity peer;
};
}  // namespace

// It lives: no core goes on thinking that it doesn't.
void Coordinator::peer_seen(const peer::Identity& peer) {
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
  ServedPut(Core& home, const peer::ReplyTo& to)
      : ReplicaPut(home, [](ReplicaAccess& self) noexcept { static_cast<ServedPut&>(self).end(); }),
        reply_to(to) {}
  void end() noexcept {
    char head[cluster::PutReply::bytes];
    reply().encode(head);
    reply_to.reply(peer::Status::ok, {head, sizeof head});
    delete this;
  }
  peer::ReplyTo reply_to;
};

struct Coordinator::ServedGet final : ReplicaGet {
  ServedGet(Core& home, const peer::ReplyTo& to)
      : ReplicaGet(home, [](ReplicaAccess& self) noexcept { static_cast<ServedGet&>(self).end(); }),
        reply_to(to) {}
  void end() noexcept {
    char head[cluster::GetReply::head_bytes];
    reply().encode_head(head);
    reply_to.reply(peer::Status::ok, {head, sizeof head}, reply().value);
    delete this;
  }
  peer::ReplyTo reply_to;
};

void Coordinator::request(uint8_t verb, std::string_view payload, Nanos,
                          const peer::ReplyTo& to) noexcept {
  if (core_.state() != NodeState::serving) return to.reply(peer::Status::closing);
  ++stats_.requests_served;
  if (verb == static_cast<uint8_t>(cluster::Verb::put)) {
    cluster::PutRequest put;
    if (!cluster::PutRequest::decode(payload, put)) return to.reply(peer::Status::damaged);
    clock_->observe(put.version.hlc);
    return (new ServedPut(core_, to))->start(put);
  }
  if (verb == static_cast<uint8_t>(cluster::Verb::get)) {
    cluster::GetRequest get;
    if (!cluster::GetRequest::decode(payload, get)) return to.reply(peer::Status::damaged);
    return (new ServedGet(core_, to))->start(get.key, get.value_bytes_max);
  }
  to.reply(peer::Status::damaged);
}

}  // namespace gyre
