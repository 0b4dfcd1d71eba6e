#include "proxy/upstream.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"

namespace gyre::proxy {

namespace {

constexpr Nanos read_interval = seconds(1);             // and up to a quarter more
constexpr Nanos read_interval_min = milliseconds(100);  // whoever wants it sooner
constexpr Nanos read_timeout_max = seconds(1);          // of one node
constexpr size_t nodes_per_reading = 4;                 // are asked, one after the other
constexpr Nanos behind_patience = seconds(10);          // with nodes that are behind
constexpr Nanos retire_patience = seconds(5);
constexpr Nanos retire_interval = milliseconds(20);

constexpr std::string_view question =
    "*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n*2\r\n$7\r\nCLUSTER\r\n$5\r\nNODES\r\n";

void add(resp::ClientStats& to, const resp::ClientStats& stats) {
  to.commands += stats.commands;
  to.replies += stats.replies;
  to.replies_late += stats.replies_late;
  to.replies_too_long += stats.replies_too_long;
  to.pushes += stats.pushes;
  to.timed_out += stats.timed_out;
  to.refused += stats.refused;
  to.attempts += stats.attempts;
  to.connected += stats.connected;
  to.lost += stats.lost;
  to.bytes_received += stats.bytes_received;
}

}  // namespace

UpstreamNode::UpstreamNode(Upstream& of, const resp::ClientOptions& options)
    : upstream(of), client(options, *this) {}

void UpstreamNode::connected(bool tracking) noexcept {
  breaker.succeeded();
  upstream.listener_.connected(*this, tracking);
  tracked_before = tracking;
}

void UpstreamNode::pushed(const resp::Reply& push) noexcept {
  upstream.listener_.pushed(*this, push);
}

void UpstreamNode::lost() noexcept {
  upstream.listener_.lost(*this);
  if (!retired) upstream.refresh_soon();
}

Upstream::Upstream(const Options& options, const resp::ClientOptions& client,
                   UpstreamListener& listener)
    : options_(options),
      client_options_(client),
      listener_(listener),
      is_cluster_(!options.redis_cluster.empty()) {
  if (is_cluster_) {
    owners_.assign(resp::cluster_slots, nullptr);
  } else {
    obtain({options.redis_host, options.redis_port});
  }
}

Upstream::~Upstream() {
  GYRE_ASSERT(waiters_ == nullptr && scope_ == nullptr);
}

UpstreamNode& Upstream::obtain(const resp::NodeAddress& address) {
  auto& node = nodes_[address];
  if (!node) {
    resp::ClientOptions options = client_options_;
    options.host = address.host;
    options.port = address.port;
    node = std::make_unique<UpstreamNode>(*this, options);
    node->client.set_tls(tls_);
  }
  return *node;
}

void Upstream::open(const std::string& password, const tls::Context* tls) {
  tls_ = tls;
  client_options_.password = password;
  if (is_cluster_) {
    scope_ = std::make_unique<Scope>(nullptr, "redis cluster");
    scope_->spawn(keep_topology());
    return;
  }
  UpstreamNode& node = *nodes_.begin()->second;
  node.client.set_password(password);
  node.client.set_tls(tls);
  node.client.connect();
}

Task<void> Upstream::close() {
  closing_ = true;
  if (scope_ != nullptr) {
    scope_->request_stop();
    co_await scope_->join();
    scope_.reset();
  }
  for (auto& [address, node] : nodes_) co_await node->client.close();
  for (auto& node : retired_) co_await node->client.close();
  end_waiters();
}

// --- who has what -------------------------------------------------------------------------------

std::vector<uint16_t> Upstream::slots_of(const UpstreamNode& node) const {
  std::vector<uint16_t> slots;
  for (unsigned slot = 0; slot < owners_.size(); ++slot) {
    if (owners_[slot] == &node) slots.push_back(static_cast<uint16_t>(slot));
  }
  return slots;
}

std::vector<UpstreamNode*> Upstream::masters() const {
  std::set<UpstreamNode*> distinct(owners_.begin(), owners_.end());
  std::vector<UpstreamNode*> masters;
  for (const auto& [address, node] : nodes_) {
    if (!is_cluster_ || distinct.contains(node.get())) masters.push_back(node.get());
  }
  return masters;
}

UpstreamNode* Upstream::any_master() {
  const std::vector<UpstreamNode*> all = masters();
  if (all.empty()) return nullptr;
  ++turn_;
  for (size_t i = 0; i < all.size(); ++i) {
    UpstreamNode* const node = all[(turn_ + i) % all.size()];
    if (node->client.state() == resp::ClientState::ready) return node;
  }
  return all[turn_ % all.size()];
}

UpstreamNode* Upstream::find(const resp::NodeAddress& address) {
  return !closing_ && known_.contains(address) ? &obtain(address) : nullptr;
}

resp::NodeAddress Upstream::address_of(const UpstreamNode& node) {
  return {node.client.options().host, node.client.options().port};
}

// --- the topology -------------------------------------------------------------------------------

void Upstream::refresh_soon(const UpstreamNode* hint) noexcept {
  if (hint != nullptr && !hint->retired) hint_ = address_of(*hint);
  wanted_.set();
}

void Upstream::refresh_soon(const resp::NodeAddress& hint) noexcept {
  if (known_.contains(hint)) hint_ = hint;
  wanted_.set();
}

void Upstream::wait_for_topology(TopologyWaiter& waiter) noexcept {
  waiter.next = nullptr;
  (last_waiter_ != nullptr ? last_waiter_->next : waiters_) = &waiter;
  last_waiter_ = &waiter;
  wanted_.set();
}

void Upstream::end_waiters() noexcept {
  last_waiter_ = nullptr;
  for (TopologyWaiter* at = std::exchange(waiters_, nullptr); at != nullptr;) {
    TopologyWaiter& waiter = *at;
    at = at->next;
    waiter.ended(waiter);
  }
}

struct Upstream::Question : resp::ClientCommand {
  Question() {
    bytes = question;
    replies = 2;
    reply = [](ClientCommand& self, uint32_t index, const resp::Reply& reply) noexcept {
      static_cast<Question&>(self).take(index, reply);
    };
    done = [](ClientCommand& self) noexcept { static_cast<Question&>(self).ended.set(); };
  }
  void take(uint32_t index, const resp::Reply& reply) {
    if (index == 0) {
      slots = resp::parse_cluster_slots(reply, asked);
    } else if (!reply.is_error() && !reply.is_aggregate()) {
      nodes = resp::parse_cluster_nodes(reply.text(), asked);
    }
  }

  std::string asked;
  Result<std::vector<resp::SlotRange>> slots = fail(Errc::closed, "it did not answer");
  resp::ClusterNodes nodes;
  Event ended;
};

// Who was asked to be asked; then masters, those that are connected first, in turns; then where the
// proxy was told to begin.
std::vector<resp::NodeAddress> Upstream::candidates() {
  std::vector<resp::NodeAddress> all;
  const auto want = [&](const resp::NodeAddress& address) {
    if (std::ranges::find(all, address) == all.end()) all.push_back(address);
  };
  if (!hint_.host.empty()) want(std::exchange(hint_, {}));
  const std::vector<UpstreamNode*> nodes = masters();
  const size_t turn = ++reading_turn_;
  for (const bool connected : {true, false}) {
    std::vector<resp::NodeAddress> some;
    for (size_t i = 0; i < nodes.size(); ++i) {
      const UpstreamNode& node = *nodes[(turn + i) % nodes.size()];
      if ((node.client.state() == resp::ClientState::ready) == connected) {
        some.push_back(address_of(node));
      }
    }
    std::ranges::for_each(some, want);
    if (!connected) break;
    // One that was told, and one that only others know of, each in its turn.
    const auto& seeds = options_.redis_cluster;
    for (size_t i = 0; i < seeds.size(); ++i) want(seeds[(turn + i) % seeds.size()]);
  }
  if (all.size() > nodes_per_reading) all.resize(nodes_per_reading);
  return all;
}

Task<bool> Upstream::read_topology() {
  Reactor& reactor = Reactor::current();
  ++stats_.topology_reads;
  std::string trouble = "no node can be asked";
  for (const resp::NodeAddress& address : candidates()) {
    UpstreamNode& node = obtain(address);
    Question asked;
    asked.asked = address.host;
    asked.deadline = reactor.after(
        std::min(read_timeout_max, milliseconds(static_cast<int64_t>(options_.redis_timeout_ms))));
    if (node.client.start(asked)) {
      if (!co_await asked.ended.wait()) {
        if (asked.under_way()) node.client.cancel(asked);
        co_return false;
      }
      if (asked.outcome == Errc::ok && asked.slots) {
        if (adopt({std::move(*asked.slots), std::move(asked.nodes)}, address)) co_return true;
        trouble = fmt::format("{}: it is behind other nodes", address.to_string());
        continue;
      }
    }
    ++stats_.topology_failed;
    if (asked.outcome == Errc::ok) {
      trouble = fmt::format("{}: {}", address.to_string(), asked.slots.error().detail);
    } else {
      trouble = fmt::format(
          "{}: {}", address.to_string(),
          node.client.trouble().empty() ? "it did not answer in time" : node.client.trouble());
    }
  }
  if (trouble != topology_trouble_) {
    reactor.log("warn", fmt::format("event=cluster_topology_unknown reason=\"{}\"", trouble));
  }
  topology_trouble_ = std::move(trouble);
  read_once_ = true;
  retire_strangers();
  co_return false;
}

Task<void> Upstream::keep_topology() {
  Reactor& reactor = Reactor::current();
  struct Due : Timer {
    explicit Due(Event& of)
        : Timer([](Timer& self) noexcept { static_cast<Due&>(self).event.set(); }), event(of) {}
    Event& event;
  } due(wanted_);
  for (;;) {
    wanted_.reset();
    read_at_ = reactor.now();
    static_cast<void>(co_await read_topology());
    end_waiters();
    const auto jitter = static_cast<Nanos>(reactor.random() % uint64_t{read_interval / 4});
    reactor.arm(due, reactor.after(read_interval + jitter));
    const bool goes_on =
        co_await wanted_.wait() &&
        co_await sleep_until(std::max(reactor.now(), read_at_ + read_interval_min));
    reactor.disarm(due);
    if (!goes_on) co_return;
  }
}

bool Upstream::adopt(View view, const resp::NodeAddress& from) {
  const Nanos now = Reactor::current().now();
  if (view.nodes.epoch < epoch_ && now - adopted_at_ < behind_patience) return false;
  adopted_at_ = now;
  epoch_ = view.nodes.epoch;
  topology_trouble_.clear();
  std::set<resp::NodeAddress> known(view.nodes.addresses.begin(), view.nodes.addresses.end());
  std::vector<UpstreamNode*> owners(resp::cluster_slots, nullptr);
  size_t covered = 0;
  for (const resp::SlotRange& range : view.ranges) {
    known.insert(range.master);
    UpstreamNode& node = obtain(range.master);
    node.client.connect();
    for (unsigned slot = range.first; slot <= range.last; ++slot) owners[slot] = &node;
    covered += range.last - range.first + 1u;
  }
  std::vector<uint16_t> changed;
  for (unsigned slot = 0; slot < resp::cluster_slots; ++slot) {
    if (owners[slot] != owners_[slot]) changed.push_back(static_cast<uint16_t>(slot));
  }
  owners_ = std::move(owners);
  if (known != known_ || !changed.empty()) ++generation_;
  known_ = std::move(known);
  slots_covered_ = covered;
  read_once_ = true;
  if (!changed.empty()) {
    ++stats_.topology_changes;
    listener_.slots_changed(changed);
    Reactor::current().log(
        "info", fmt::format("event=cluster_topology from={} masters={} slots={} changed={}",
                            from.to_string(), masters().size(), covered, changed.size()));
  }
  retire_strangers();
  return true;
}

// Also those that were only asked: a name that was told, if the topology has addresses.
void Upstream::retire_strangers() {
  if (known_.empty()) return;
  for (auto at = nodes_.begin(); at != nodes_.end();) {
    if (known_.contains(at->first)) {
      ++at;
      continue;
    }
    at->second->retired = true;
    retired_.push_back(std::move(at->second));
    at = nodes_.erase(at);
    scope_->spawn(retire(retired_.back().get()));
  }
}

Task<void> Upstream::retire(UpstreamNode* node) {
  const Nanos until = Reactor::current().after(retire_patience);
  while (node->client.commands_under_way() != 0 && Reactor::current().now() < until) {
    if (!co_await sleep_for(retire_interval)) co_return;  // close() does the rest
  }
  node->client.drop("it has left the cluster");
  co_await node->client.close();
  add(gone_, node->client.stats());
  std::erase_if(retired_, [&](const auto& one) { return one.get() == node; });
}

// --- how it is ----------------------------------------------------------------------------------

bool Upstream::is_up() const {
  return nodes_up() != 0;
}

size_t Upstream::nodes_up() const {
  return static_cast<size_t>(std::ranges::count_if(masters(), [](const UpstreamNode* node) {
    return node->client.state() == resp::ClientState::ready;
  }));
}

bool Upstream::is_coherent() const {
  if (!is_cluster_) return nodes_.begin()->second->client.tracking();
  return is_up() && std::ranges::all_of(masters(), [](const UpstreamNode* node) {
           return node->client.state() != resp::ClientState::ready || node->client.tracking();
         });
}

bool Upstream::tried() const {
  if (!is_cluster_) return nodes_.begin()->second->client.tried();
  const std::vector<UpstreamNode*> all = masters();
  return read_once_ &&
         std::ranges::all_of(all, [](const UpstreamNode* node) { return node->client.tried(); });
}

std::string Upstream::trouble() const {
  if (!is_cluster_) return nodes_.begin()->second->client.trouble();
  if (!topology_trouble_.empty()) return topology_trouble_;
  for (const UpstreamNode* node : masters()) {
    if (!node->client.trouble().empty()) {
      return fmt::format("{}: {}", address_of(*node).to_string(), node->client.trouble());
    }
  }
  return {};
}

const std::string& Upstream::server_version() const {
  static const std::string unknown;
  for (const auto& [address, node] : nodes_) {
    if (!node->client.server_version().empty()) return node->client.server_version();
  }
  return unknown;
}

resp::ClientStats Upstream::client_stats() const {
  resp::ClientStats sum = gone_;
  for (const auto& [address, node] : nodes_) add(sum, node->client.stats());
  for (const auto& node : retired_) add(sum, node->client.stats());
  return sum;
}

uint64_t Upstream::breakers_open() const {
  uint64_t sum = 0;
  for (const auto& [address, node] : nodes_) {
    sum += node->breaker.state() != CircuitBreaker::State::closed;
  }
  return sum;
}

uint64_t Upstream::breakers_opened() const {
  uint64_t sum = 0;
  for (const auto& [address, node] : nodes_) sum += node->breaker.opened();
  return sum;
}

uint64_t Upstream::breakers_refused() const {
  uint64_t sum = 0;
  for (const auto& [address, node] : nodes_) sum += node->breaker.refused();
  return sum;
}

}  // namespace gyre::proxy
