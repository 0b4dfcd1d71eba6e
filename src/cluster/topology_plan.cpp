#include "cluster/topology_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "base/limits.hpp"
#include "base/node_url.hpp"
#include "cluster/placement.hpp"

namespace gyre::cluster {

namespace {

// A zone whose nodes hold this much more or less than their weights say is worth a warning.
constexpr double zone_skew_max = 1.05;

// The numbers that the old table's nodes have in the new one.
SlotTable renumbered(const Topology& before, const std::vector<NodeEntry>& after) {
  std::vector<NodeIndex> numbers;
  for (const NodeEntry& node : before.nodes) {
    const auto found = std::ranges::lower_bound(after, node.url, {}, &NodeEntry::url);
    const bool stays = found != after.end() && found->url == node.url;
    numbers.push_back(stays ? static_cast<NodeIndex>(found - after.begin()) : no_node);
  }
  SlotTable table(before.table.width());
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    for (unsigned rank = 0; rank < table.width(); ++rank) {
      table.set(slot, rank, numbers[before.table.at(slot, rank)]);
    }
  }
  return table;
}

unsigned prefix_within(unsigned prefix, size_t node_count) {
  return static_cast<unsigned>(std::min<size_t>(prefix, node_count));
}

uint64_t copies_gone(const SlotTable& table, unsigned prefix) {
  uint64_t gone = 0;
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    const auto list = table.replicas(slot, prefix);
    gone += static_cast<uint64_t>(std::ranges::count(list, no_node));
  }
  return gone;
}

std::vector<std::string> warnings_of(const Topology& topology, unsigned copies) {
  std::vector<std::string> warnings;
  const size_t node_count = topology.nodes.size();
  if (node_count < copies) {
    warnings.push_back(fmt::format("{} nodes hold {} copies of a key, not {}: add nodes",
                                   node_count, node_count, copies));
  }
  const Members members = members_of(topology.nodes);
  const unsigned prefix = prefix_within(copies, node_count);
  if (members.zone_count == 0) return warnings;
  if (members.zone_count < copies) {
    warnings.push_back(fmt::format(
        "{} zones for {} copies: up to {} of a key's are in one zone; have at least {} zones, or "
        "none",
        members.zone_count, copies, zone_copies_max(members, prefix), copies));
  }
  Members zoneless = members;
  zoneless.zone_count = 0;
  for (Member& member : zoneless.nodes) member.zone = 0;
  const FairShares with = fair_shares(members, prefix);
  const FairShares without = fair_shares(zoneless, prefix);
  std::map<std::string_view, double> skew;
  for (size_t i = 0; i < node_count; ++i) {
    const double ratio = with.nodes[i].value() / without.nodes[i].value();
    double& most = skew.try_emplace(topology.nodes[i].zone, ratio).first->second;
    most = std::max(most, ratio);
  }
  for (const auto& [zone, ratio] : skew) {
    if (ratio <= zone_skew_max) continue;
    warnings.push_back(fmt::format(
        "zone skew: nodes of zone {} hold {:.2f} times what their weights say, since every zone "
        "holds one copy at most; give zone {} more nodes, or have more zones",
        zone, ratio, zone));
  }
  return warnings;
}

}  // namespace

Result<std::pair<std::string, uint32_t>> parse_reweight(std::string_view text) {
  const size_t equals = text.rfind('=');
  const Result<std::string> url = parse_node_url(text.substr(0, equals));
  if (equals == text.npos || !url) {
    return fail(Errc::invalid,
                fmt::format("{} is not URL=WEIGHT, such as http://10.0.0.1:8080=2", text));
  }
  Result<std::vector<NodeEntry>> node =
      parse_node_list(fmt::format("{},weight={}", *url, text.substr(equals + 1)));
  if (!node) return fail(node.error());
  if (node->size() != 1) return fail(Errc::invalid, fmt::format("{} has a comma", text));
  return std::pair{std::move((*node)[0].url), (*node)[0].weight};
}

Result<Topology> change_topology(const Topology& before, const TopologyChanges& changes) {
  std::map<std::string, NodeEntry> nodes;
  for (const NodeEntry& node : before.nodes) nodes.emplace(node.url, node);
  std::set<std::string_view> named;
  const auto name = [&named](std::string_view url) -> Result<void> {
    if (named.insert(url).second) return {};
    return fail(Errc::invalid, fmt::format("{} is named in two changes", url));
  };
  const auto not_there = [](std::string_view url) {
    return fail(Errc::not_found, fmt::format("{} is no node of this topology", url));
  };
  for (const std::string& url : changes.remove) {
    if (Result<void> once = name(url); !once) return fail(once.error());
    if (nodes.erase(url) == 0) return not_there(url);
  }
  for (const auto& [url, weight] : changes.reweight) {
    if (Result<void> once = name(url); !once) return fail(once.error());
    const auto found = nodes.find(url);
    if (found == nodes.end()) return not_there(url);
    found->second.weight = weight;
  }
  for (const NodeEntry& node : changes.add) {
    if (Result<void> once = name(node.url); !once) return fail(once.error());
    if (!nodes.emplace(node.url, node).second) {
      return fail(Errc::already_exists,
                  fmt::format("{} is a node of this topology already", node.url));
    }
  }
  std::vector<NodeEntry> list;
  for (auto& [url, node] : nodes) list.push_back(std::move(node));
  Result<std::vector<NodeEntry>> checked = checked_nodes(std::move(list));
  if (!checked) return fail(checked.error());

  Topology after;
  after.epoch = before.epoch + 1;
  after.previous_hash = before.table_hash();
  after.nodes = std::move(*checked);
  after.table = place(members_of(after.nodes), renumbered(before, after.nodes));
  return after;
}

Balance balance_of(const Topology& topology, unsigned prefix) {
  Balance balance{.prefix = prefix};
  if (topology.nodes.empty()) return balance;
  const Members members = members_of(topology.nodes);
  const FairShares shares = fair_shares(members, prefix);
  const std::vector<uint32_t> loads = topology.table.loads(prefix, members.size());
  for (size_t i = 0; i < loads.size(); ++i) {
    const double ratio = loads[i] / shares.nodes[i].value();
    balance.most = i == 0 ? ratio : std::max(balance.most, ratio);
    balance.least = i == 0 ? ratio : std::min(balance.least, ratio);
  }
  const unsigned copies_max = zone_copies_max(members, prefix);
  std::vector<unsigned> in_zone(members.zones_or_one());
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    std::ranges::fill(in_zone, 0u);
    bool over = false;
    for (const NodeIndex node : topology.table.replicas(slot, prefix)) {
      over |= ++in_zone[members.nodes[node].zone] > copies_max;
    }
    balance.over += over ? 1 : 0;
  }
  return balance;
}

TopologyPlan compare(const Topology& before, const Topology& after, unsigned copies) {
  TopologyPlan plan;
  plan.copies = copies;
  const size_t count = after.nodes.size();
  const Members members = members_of(after.nodes);
  const SlotTable old = renumbered(before, after.nodes);

  std::map<std::string, NodePlan> by_url;
  const unsigned factor = copies;
  const std::vector<uint32_t> loads_before = before.table.loads(factor, before.nodes.size());
  for (size_t i = 0; i < before.nodes.size(); ++i) {
    NodePlan& node = by_url[before.nodes[i].url];
    node.node = before.nodes[i];
    node.before = loads_before[i];
  }
  const std::vector<uint32_t> loads_after = after.table.loads(factor, count);
  const FairShares shares = fair_shares(members, prefix_within(factor, count));
  for (size_t i = 0; i < count; ++i) {
    NodePlan& node = by_url[after.nodes[i].url];
    node.node = after.nodes[i];
    node.after = loads_after[i];
    node.fair = shares.nodes[i].value();
    for (uint32_t slot = 0; slot < slot_count; ++slot) {
      const auto is = [i](NodeIndex index) { return index == i; };
      const bool had = std::ranges::any_of(old.replicas(slot, factor), is);
      const bool has = std::ranges::any_of(after.table.replicas(slot, factor), is);
      node.in += has && !had ? 1 : 0;
    }
  }
  for (auto& [url, node] : by_url) {
    node.out = node.before + node.in - node.after;
    plan.nodes.push_back(std::move(node));
  }

  for (const unsigned prefix : std::set<unsigned>{1, 3, limits::cluster_replicas_max, factor}) {
    if (prefix > count) continue;
    PrefixPlan part;
    part.before = balance_of(before, prefix_within(prefix, before.nodes.size()));
    part.after = balance_of(after, prefix);
    part.moved = entries(old, after.table, prefix);
    part.moved_min = entries_min(fair_shares(members, prefix), old.loads(prefix, count),
                                 copies_gone(old, prefix));
    plan.prefixes.push_back(part);
  }
  plan.warnings = warnings_of(after, copies);
  return plan;
}

std::string print_plan(const TopologyPlan& plan, const Topology& before, const Topology& after) {
  std::string text;
  if (before.nodes.empty()) {
    text = fmt::format("epoch {}, {} nodes", after.epoch, after.nodes.size());
  } else {
    text = fmt::format("epoch {} → {}, {} → {} nodes", before.epoch, after.epoch,
                       before.nodes.size(), after.nodes.size());
  }
  const Members members = members_of(after.nodes);
  text += fmt::format(", {} copies, {}\n\n", plan.copies,
                      members.zone_count == 0 ? std::string("no zones")
                                              : fmt::format("{} zones", members.zone_count));
  size_t url_width = 4;
  size_t zone_width = 4;
  for (const NodePlan& node : plan.nodes) {
    url_width = std::max(url_width, node.node.url.size());
    zone_width = std::max(zone_width, node.node.zone.size());
  }
  text += fmt::format("{:<{}}  {:<{}} {:>6} {:>7} {:>7} {:>9} {:>7} {:>7}\n", "node", url_width,
                      "zone", zone_width, "weight", "before", "after", "fair", "in", "out");
  for (const NodePlan& node : plan.nodes) {
    text += fmt::format("{:<{}}  {:<{}} {:>6} {:>7} {:>7} {:>9.1f} {:>7} {:>7}\n", node.node.url,
                        url_width, node.node.zone.empty() ? "-" : node.node.zone, zone_width,
                        node.node.weight, node.before, node.after, node.fair, node.in, node.out);
  }
  text += fmt::format("Slots, of {}, that a node holds one of the first {} copies of.\n\n",
                      slot_count, plan.copies);
  for (const PrefixPlan& part : plan.prefixes) {
    text += fmt::format("first {}: most/fair ", part.after.prefix);
    if (!before.nodes.empty()) text += fmt::format("{:.3f} → ", part.before.most);
    text += fmt::format("{:.3f}", part.after.most);
    if (!before.nodes.empty()) {
      text += fmt::format(", {} copies to send, {} at least", part.moved, part.moved_min);
    }
    text += '\n';
  }
  for (const std::string& warning : plan.warnings) text += "warning: " + warning + "\n";
  return text;
}

}  // namespace gyre::cluster
