#include "node/replication/cluster_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include <gyre/reactor.hpp>

#include "base/json.hpp"
#include "base/limits.hpp"
#include "cluster/topology.hpp"
#include "node/core.hpp"
#include "node/node.hpp"
#include "node/progress.hpp"
#include "node/text_table.hpp"

namespace gyre {

using cluster::NodeIndex;
using cluster::slot_count;

namespace {

constexpr double nanos_per_ms = 1e6;

std::string hex(uint64_t number) {
  return fmt::format("{:016x}", number);
}

std::string hex(const peer::Uuid& uuid) {
  std::string text;
  for (const uint8_t byte : uuid) text += fmt::format("{:02x}", byte);
  return text;
}

// Slots with the same nodes. In which order they have them is left out: it changes from slot to slot.
struct Placement {
  using Holders = std::array<NodeIndex, limits::cluster_replicas_max>;  // sorted, then no_node
  std::span<const NodeIndex> nodes(unsigned copies) const {
    return std::span(holders).first(copies);
  }
  Holders holders{};
  uint32_t slots = 0;
  unsigned up = 0;                                    // of its nodes, how many are not dead
  std::vector<std::pair<uint32_t, uint32_t>> ranges;  // first and last slot
};

struct NodeView {
  const cluster::NodeEntry* entry = nullptr;
  uint32_t primary_slots = 0;  // first in their lists
  uint32_t replica_slots = 0;  // a further copy
  PeerHealth health = PeerHealth::unknown;
  std::vector<PeerHealth> by_core;
  std::optional<Nanos> heard_ago;  // by the core that heard last
  ShardHandoff::Owed owed;         // by all cores
  bool counts_in_reads = true;
  const peer::Identity* identity = nullptr;
};

// All of it put together. A single node is a cluster of one.
class View {
 public:
  View(Node& node, const std::vector<ClusterReport>& reports);

  const cluster::Topology& topology() const { return *topology_; }
  const std::vector<NodeView>& nodes() const { return nodes_; }
  const std::vector<Placement>& placements() const { return placements_; }
  NodeIndex self() const { return self_; }
  unsigned copies() const { return copies_; }
  // Slots with `up` of their nodes up.
  uint32_t slots_with(unsigned up) const { return slots_by_up_[up]; }
  uint32_t slots_with_less(unsigned up) const {
    uint32_t sum = 0;
    for (unsigned i = 0; i < up; ++i) sum += slots_by_up_[i];
    return sum;
  }
  uint32_t under_replicated() const { return slots_with_less(copies_); }
  uint32_t without_majority() const { return slots_with_less(copies_ / 2 + 1); }

 private:
  void place();

  cluster::Topology alone_;
  const cluster::Topology* topology_;
  NodeIndex self_;
  unsigned copies_;
  std::vector<NodeView> nodes_;
  std::vector<Placement> placements_;
  std::vector<uint32_t> slots_by_up_;
};

View::View(Node& node, const std::vector<ClusterReport>& reports)
    : topology_(&node.membership().topology()),
      self_(node.membership().self()),
      copies_(std::clamp(topology_->table.width(), 1u,
                         std::min(node.config().replication, node.membership().node_count()))) {
  if (topology_->nodes.empty()) {
    const ServeConfig& config = node.config();
    const Address address{config.listen.host, node.core(0).port()};
    alone_.nodes.emplace_back().url =
        config.advertise.empty() ? "http://" + address.to_string() : config.advertise;
    alone_.epoch = 0;
    alone_.table = cluster::SlotTable(1);
    for (uint32_t slot = 0; slot < slot_count; ++slot) alone_.table.set(slot, 0, 0);
    topology_ = &alone_;
  }
  const size_t count = topology_->nodes.size();
  const std::vector<uint32_t> primaries = topology_->table.loads(1, count);
  const std::vector<uint32_t> copies = topology_->table.loads(copies_, count);
  for (size_t i = 0; i < count; ++i) {
    nodes_.push_back({.entry = &topology_->nodes[i],
                      .primary_slots = primaries[i],
                      .replica_slots = copies[i] - primaries[i],
                      .health = PeerHealth::alive});
  }
  for (const ClusterReport& report : reports) {
    nodes_[self_].counts_in_reads = nodes_[self_].counts_in_reads && report.counts_in_reads;
    for (const LinkReport& link : report.links) {
      NodeView& peer = nodes_[link.peer];
      peer.by_core.push_back(link.health);
      peer.counts_in_reads = peer.counts_in_reads && link.counts_in_reads;
      peer.owed.writes += link.owed.writes;
      peer.owed.slots += link.owed.slots;
      if (link.heard_ago && (!peer.heard_ago || *link.heard_ago < *peer.heard_ago)) {
        peer.heard_ago = link.heard_ago;
        if (link.identity) peer.identity = &*link.identity;
      }
    }
  }
  for (size_t i = 0; i < count; ++i) {
    if (i != self_) nodes_[i].health = health_of(nodes_[i].by_core);
  }
  place();
}

void View::place() {
  std::vector<Placement::Holders> holders(slot_count);
  std::vector<uint32_t> slots(slot_count);
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    slots[slot] = slot;
    holders[slot].fill(cluster::no_node);
    std::ranges::copy(topology_->table.replicas(slot, copies_), holders[slot].begin());
    std::ranges::sort(holders[slot]);
  }
  std::ranges::sort(slots, [&](uint32_t a, uint32_t b) {
    const auto order = holders[a] <=> holders[b];
    return order != 0 ? order < 0 : a < b;
  });
  slots_by_up_.resize(copies_ + 1);
  for (const uint32_t slot : slots) {
    if (placements_.empty() || placements_.back().holders != holders[slot]) {
      Placement& placement = placements_.emplace_back();
      placement.holders = holders[slot];
      placement.up =
          static_cast<unsigned>(std::ranges::count_if(placement.nodes(copies_), [&](NodeIndex at) {
            return nodes_[at].health != PeerHealth::dead;
          }));
    }
    Placement& placement = placements_.back();
    ++placement.slots;
    if (placement.ranges.empty() || placement.ranges.back().second + 1 != slot) {
      placement.ranges.emplace_back(slot, slot);
    } else {
      placement.ranges.back().second = slot;
    }
  }
  for (const Placement& placement : placements_) slots_by_up_[placement.up] += placement.slots;
}

// --- JSON ---------------------------------------------------------------------------------------

void put_heard(Json& json, const std::optional<Nanos>& ago) {
  if (ago) {
    json.number("heard_ms_ago", static_cast<double>(*ago) / nanos_per_ms);
  } else {
    json.null("heard_ms_ago");
  }
}

void put_self(Json& json, Node& node, std::string_view state, const View& view) {
  json.open("node", '{');
  json.string("url", view.nodes()[view.self()].entry->url);
  json.string("uuid", hex(node.directory().uuid()));
  json.string("state", state);
  json.count("epoch", view.topology().epoch);
  json.string("table_hash", hex(node.membership().table_hash()));
  if (node.membership().has_peers()) {
    json.string("incarnation", hex(node.peer_identity().incarnation));
  }
  json.count("cores", node.cores());
  json.count("shards", node.shard_count());
  json.number("uptime_s", static_cast<double>(Reactor::current().now() - node.started_at()) / 1e9);
  json.close('}');
}

void put_nodes(Json& json, const View& view) {
  json.open("nodes", '[');
  for (size_t i = 0; i < view.nodes().size(); ++i) {
    const NodeView& node = view.nodes()[i];
    json.open("", '{');
    json.count("index", i);
    json.string("url", node.entry->url);
    json.boolean("self", i == view.self());
    json.string("zone", node.entry->zone);
    json.count("weight", node.entry->weight);
    json.count("primary_slots", node.primary_slots);
    json.count("replica_slots", node.replica_slots);
    json.string("state", to_string(node.health));
    json.boolean("counts_in_reads", node.counts_in_reads);
    if (i != view.self()) {
      json.open("state_by_core", '[');
      for (const PeerHealth health : node.by_core) json.string("", to_string(health));
      json.close(']');
      put_heard(json, node.heard_ago);
      json.count("owed_writes", node.owed.writes);
      json.count("owed_slots", node.owed.slots);
    }
    if (node.identity != nullptr) {
      json.string("uuid", hex(node.identity->uuid));
      json.count("epoch", node.identity->epoch);
      json.string("table_hash", hex(node.identity->table_hash));
      json.string("incarnation", hex(node.identity->incarnation));
      json.count("cores", node.identity->cores);
    }
    json.close('}');
  }
  json.close(']');
}

void put_links(Json& json, const View& view, const std::vector<ClusterReport>& reports) {
  json.open("links", '[');
  for (const ClusterReport& report : reports) {
    for (const LinkReport& link : report.links) {
      json.open("", '{');
      json.count("core", report.core);
      json.string("peer", view.nodes()[link.peer].entry->url);
      json.count("target_core", link.target_core);
      json.string("state", peer::to_string(link.state));
      json.string("peer_state", to_string(link.health));
      json.count("calls_under_way", link.calls_under_way);
      json.count("queue_bytes", link.queue_bytes);
      put_heard(json, link.heard_ago);
      json.string("trouble", link.trouble);
      const peer::LinkStats& stats = link.stats;
      json.count("calls", stats.calls);
      json.count("replies", stats.replies);
      json.count("replies_late", stats.replies_late);
      json.count("timed_out", stats.timed_out);
      json.count("refused_here", stats.refused_here);
      json.count("retried", stats.retried);
      json.count("attempts", stats.attempts);
      json.count("connected", stats.connected);
      json.count("bytes_sent", stats.bytes_sent);
      json.count("bytes_received", stats.bytes_received);
      json.count("replayed", link.replayed);
      json.close('}');
    }
  }
  json.close(']');
}

void put_slots(Json& json, const View& view) {
  json.open("slots", '{');
  json.count("count", slot_count);
  json.count("copies", view.copies());
  json.count("under_replicated", view.under_replicated());
  json.count("without_majority", view.without_majority());
  json.open("placements", '[');
  for (const Placement& placement : view.placements()) {
    json.open("", '{');
    json.open("nodes", '[');
    for (const NodeIndex node : placement.nodes(view.copies())) json.count("", node);
    json.close(']');
    json.count("slots", placement.slots);
    json.count("up", placement.up);
    json.open("ranges", '[');
    for (const auto& [first, last] : placement.ranges) {
      json.open("", '[');
      json.count("", first);
      json.count("", last);
      json.close(']');
    }
    json.close(']');
    json.close('}');
  }
  json.close(']');
  json.close('}');
}

void put_coordinators(Json& json, const std::vector<ClusterReport>& reports) {
  json.open("coordinators", '[');
  for (const ClusterReport& report : reports) {
    json.open("", '{');
    json.count("core", report.core);
    const CoordinatorStats& stats = report.coordinator;
    json.count("writes", stats.writes);
    json.count("writes_failed", stats.writes_failed);
    json.count("writes_restamped", stats.writes_restamped);
    json.count("replicas_missed", stats.replicas_missed);
    json.count("reads", stats.reads);
    json.count("reads_failed", stats.reads_failed);
    json.count("reads_hedged", stats.reads_hedged);
    json.count("modifies", stats.modifies);
    json.count("modifies_failed", stats.modifies_failed);
    json.count("repairs", stats.repairs);
    json.count("clocks_ahead", stats.clocks_ahead);
    json.count("unconfirmed_writes", report.unconfirmed);
    json.open("served", '{');
    json.count("connections", report.peers_connected);
    json.count("requests", report.served.requests);
    json.count("busy", report.served.busy);
    json.count("expired", report.served.expired);
    json.count("corrupt", report.served.corrupt);
    json.count("notices", stats.notices_served);
    json.count("offers", stats.offers_served);
    json.count("offers_lacked", stats.offers_lacked);
    json.close('}');
    json.close('}');
  }
  json.close(']');
}

// --- text ---------------------------------------------------------------------------------------

std::string ago(const std::optional<Nanos>& duration) {
  return duration ? format_seconds(*duration) + " ago" : "-";
}

std::string owed_text(const NodeView& node) {
  const ShardHandoff::Owed& owed = node.owed;
  std::string text;
  if (!node.counts_in_reads) text = "all that it lost";
  if (owed.writes != 0) {
    text += fmt::format("{}{} writes", text.empty() ? "" : ", ", format_number(owed.writes));
  }
  if (owed.slots != 0) {
    text += fmt::format("{}{} slots", text.empty() ? "" : ", ", format_number(owed.slots));
  }
  return text.empty() ? "-" : text;
}

// Capitals for what somebody should look at.
std::string_view striking(PeerHealth health) {
  return health == PeerHealth::dead ? "DOWN" : to_string(health);
}

std::string nodes_text(Node& node, const View& view) {
  TextTable table({{"node"},
                   {"state"},
                   {"zone"},
                   {"weight", TextTable::Align::right},
                   {"primary slots", TextTable::Align::right},
                   {"further copies", TextTable::Align::right},
                   {"cores", TextTable::Align::right},
                   {"heard"},
                   {"to catch up on"}});
  for (size_t i = 0; i < view.nodes().size(); ++i) {
    const NodeView& at = view.nodes()[i];
    const bool is_self = i == view.self();
    std::string cores = at.identity != nullptr ? std::to_string(at.identity->cores) : "-";
    if (is_self) cores = std::to_string(node.cores());
    table.row({at.entry->url, std::string(striking(at.health)),
               at.entry->zone.empty() ? "-" : at.entry->zone, format_number(at.entry->weight),
               format_number(at.primary_slots), format_number(at.replica_slots), std::move(cores),
               is_self ? "this node" : ago(at.heard_ago), owed_text(at)});
  }
  return table.text("  ");
}

std::string links_text(const View& view, const std::vector<ClusterReport>& reports) {
  using enum TextTable::Align;
  TextTable table({{"core", right},
                   {"link to"},
                   {"state"},
                   {"under way", right},
                   {"queued", right},
                   {"calls", right},
                   {"timed out", right},
                   {"retried", right},
                   {"trouble"}});
  for (const ClusterReport& report : reports) {
    for (const LinkReport& link : report.links) {
      table.row({std::to_string(report.core), view.nodes()[link.peer].entry->url,
                 std::string(peer::to_string(link.state)), format_number(link.calls_under_way),
                 format_bytes(link.queue_bytes), format_number(link.stats.calls),
                 format_number(link.stats.timed_out), format_number(link.stats.retried),
                 link.trouble.empty() ? "-" : link.trouble});
    }
  }
  return table.text("  ");
}

std::string slots_text(const View& view) {
  TextTable table({{"copies up"}, {"slots", TextTable::Align::right}, {""}});
  for (unsigned up = view.copies() + 1; up-- > 0;) {
    const uint32_t slots = view.slots_with(up);
    if (slots == 0 && up != view.copies()) continue;
    const bool lacks_majority = up < view.copies() / 2 + 1;
    table.row({fmt::format("{} of {}", up, view.copies()), format_number(slots),
               up == view.copies() ? ""
               : lacks_majority    ? "NO MAJORITY"
                                   : "under-replicated"});
  }
  return table.text("  ");
}

std::string requests_text(const std::vector<ClusterReport>& reports) {
  CoordinatorStats sum;
  peer::InboundStats served;
  for (const ClusterReport& report : reports) {
    sum.writes += report.coordinator.writes;
    sum.writes_failed += report.coordinator.writes_failed;
    sum.replicas_missed += report.coordinator.replicas_missed;
    sum.reads += report.coordinator.reads;
    sum.reads_failed += report.coordinator.reads_failed;
    sum.reads_hedged += report.coordinator.reads_hedged;
    sum.repairs += report.coordinator.repairs;
    served.requests += report.served.requests;
    served.busy += report.served.busy;
    served.expired += report.served.expired;
  }
  TextTable table({{""}, {""}});
  table.row({"writes",
             fmt::format("{}, {} failed, {} copies missed", format_number(sum.writes),
                         format_number(sum.writes_failed), format_number(sum.replicas_missed))});
  table.row({"reads", fmt::format("{}, {} failed, {} hedged, {} copies repaired",
                                  format_number(sum.reads), format_number(sum.reads_failed),
                                  format_number(sum.reads_hedged), format_number(sum.repairs))});
  table.row({"for other nodes",
             fmt::format("{}, {} refused as busy, {} too late", format_number(served.requests),
                         format_number(served.busy), format_number(served.expired))});
  return table.text("  ");
}

}  // namespace

std::string_view to_string(PeerHealth health) {
  switch (health) {
    case PeerHealth::unknown:
      return "unknown";
    case PeerHealth::alive:
      return "alive";
    case PeerHealth::slow:
      return "slow";
    case PeerHealth::dead:
      return "dead";
  }
  return "";
}

PeerHealth health_of(Coordinator& coordinator, NodeIndex node) {
  if (!coordinator.link(node).tried()) return PeerHealth::unknown;
  switch (coordinator.state_of(node)) {
    case cluster::FailureDetector::State::alive:
      return PeerHealth::alive;
    case cluster::FailureDetector::State::slow:
      return PeerHealth::slow;
    case cluster::FailureDetector::State::dead:
      return PeerHealth::dead;
  }
  return PeerHealth::unknown;
}

PeerHealth health_of(std::span<const PeerHealth> by_core) {
  if (by_core.empty()) return PeerHealth::unknown;
  const bool agreed =
      std::ranges::all_of(by_core, [&](PeerHealth health) { return health == by_core.front(); });
  return agreed ? by_core.front() : PeerHealth::slow;
}

ClusterReport cluster_report_of(Core& core) {
  Coordinator& coordinator = core.coordinator();
  const Nanos now = Reactor::current().now();
  ClusterReport report{.core = core.index(),
                       .coordinator = coordinator.stats(),
                       .served = coordinator.served(),
                       .peers_connected = coordinator.peers_connected(),
                       .counts_in_reads = coordinator.counts_in_reads(coordinator.self()),
                       .links = {}};
  for (size_t i = 0; i < coordinator.links().size(); ++i) {
    const peer::Link* link = coordinator.links()[i].get();
    if (link == nullptr) continue;
    LinkReport& out = report.links.emplace_back();
    out.peer = static_cast<NodeIndex>(i);
    out.target_core = link->options().target_core;
    out.state = link->state();
    out.health = health_of(coordinator, out.peer);
    out.calls_under_way = link->calls_under_way();
    out.queue_bytes = link->queue_bytes();
    out.counts_in_reads = coordinator.counts_in_reads(out.peer);
    out.stats = link->stats();
    out.stats.bytes_sent = link->bytes_sent();
    out.trouble = link->trouble();
    if (link->heard_at() != 0) out.heard_ago = now - link->heard_at();
    if (link->peer() != nullptr) out.identity = *link->peer();
    for (const auto& handoff : core.handoffs()) {
      if (!handoff) continue;
      const ShardHandoff::Owed owed = handoff->owed(out.peer);
      out.owed.writes += owed.writes;
      out.owed.slots += owed.slots;
      if (const cluster::Replay* replay = handoff->replay(out.peer)) {
        out.replayed += replay->counts().sent;
      }
    }
  }
  for (const auto& handoff : core.handoffs()) {
    if (handoff) report.unconfirmed += handoff->handoff().unconfirmed_count();
  }
  return report;
}

std::string cluster_json(Node& node, std::string_view state,
                         const std::vector<ClusterReport>& reports) {
  const View view(node, reports);
  Json json;
  json.open("", '{');
  put_self(json, node, state, view);
  put_nodes(json, view);
  put_links(json, view, reports);
  put_slots(json, view);
  put_coordinators(json, reports);
  json.close('}');
  return json.take() + "\n";
}

std::string cluster_table(Node& node, std::string_view state,
                          const std::vector<ClusterReport>& reports) {
  const View view(node, reports);
  const auto down = static_cast<size_t>(std::ranges::count(
      view.nodes(), PeerHealth::dead, [](const NodeView& at) { return at.health; }));
  std::string text = fmt::format(
      "cluster of {} {}, {}epoch {}, table {:016x}; this node {}, up {}\n", view.nodes().size(),
      view.nodes().size() == 1 ? "node" : "nodes", down == 0 ? "" : fmt::format("{} DOWN, ", down),
      view.topology().epoch, node.membership().table_hash(), state,
      format_seconds(Reactor::current().now() - node.started_at()));
  text += nodes_text(node, view);
  if (!reports.empty()) {
    text += "\nlinks\n" + links_text(view, reports);
    text += "\nslots\n" + slots_text(view);
    text += "\nreplicated requests\n" + requests_text(reports);
  }
  return text;
}

}  // namespace gyre
