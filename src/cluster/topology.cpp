#include "cluster/topology.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "base/coding.hpp"
#include "base/hash.hpp"
#include "base/limits.hpp"
#include "base/node_url.hpp"
#include "cluster/placement.hpp"

namespace gyre::cluster {

namespace {

constexpr uint32_t shards_max = 256;  // as DataDirectory's

bool parse_number(std::string_view text, uint32_t min, uint32_t max, uint32_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size() && number >= min && number <= max;
}

Result<void> assign(NodeEntry& node, std::string_view name, std::string_view value) {
  if (name == "weight") {
    if (parse_number(value, 1, limits::node_weight_max, node.weight)) return {};
    return fail(Errc::invalid, fmt::format("weight={} is not a whole number from 1 to {}", value,
                                           limits::node_weight_max));
  }
  if (name == "zone") {
    node.zone = value;
    if (is_zone_name(value)) return {};
    return fail(Errc::invalid,
                fmt::format("zone={} is not a name of 1 to {} letters, digits, '.', '_' or '-'",
                            value, limits::zone_name_bytes_max));
  }
  if (name == "shards") {
    if (parse_number(value, 1, shards_max, node.shards)) return {};
    return fail(Errc::invalid,
                fmt::format("shards={} is not a whole number from 1 to {}", value, shards_max));
  }
  if (name == "uuid") {
    node.uuid = value;
    if (is_uuid(value)) return {};
    return fail(Errc::invalid, fmt::format("uuid={} is not 32 digits of 0-9 a-f", value));
  }
  return fail(Errc::invalid,
              fmt::format("{} is not known of a node: write URL[,weight=W][,zone=Z]", name));
}

}  // namespace

bool is_zone_name(std::string_view text) {
  return !text.empty() && text.size() <= limits::zone_name_bytes_max &&
         std::ranges::all_of(text, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

bool is_uuid(std::string_view text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<std::vector<NodeEntry>> parse_node_list(std::string_view text) {
  std::vector<NodeEntry> nodes;
  for (bool more = true; more;) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view item = text.substr(0, comma);
    more = comma < text.size();
    text.remove_prefix(std::min(comma + 1, text.size()));
    const size_t equals = item.find('=');
    if (!nodes.empty() && equals != std::string_view::npos && item.find("://") == item.npos) {
      Result<void> assigned = assign(nodes.back(), item.substr(0, equals), item.substr(equals + 1));
      if (!assigned) {
        return fail(Errc::invalid,
                    fmt::format("{}: {}", nodes.back().url, assigned.error().detail));
      }
      continue;
    }
    Result<std::string> url = parse_node_url(item);
    if (!url) return fail(Errc::invalid, fmt::format("{} {}", item, url.error().detail));
    nodes.emplace_back().url = std::move(*url);
  }
  return nodes;
}

Result<std::vector<NodeEntry>> checked_nodes(std::vector<NodeEntry> nodes) {
  if (nodes.empty()) return fail(Errc::invalid, "a cluster has at least one node");
  if (nodes.size() > limits::cluster_nodes_max) {
    return fail(Errc::too_large, fmt::format("{} nodes: a cluster has at most {}", nodes.size(),
                                             limits::cluster_nodes_max));
  }
  std::ranges::sort(nodes, {}, &NodeEntry::url);
  for (size_t i = 0; i < nodes.size(); ++i) {
    const NodeEntry& node = nodes[i];
    if (node.url.size() > limits::node_url_bytes_max) {
      return fail(Errc::too_large,
                  fmt::format("{} has more than {} bytes", node.url, limits::node_url_bytes_max));
    }
    if (i > 0 && node.url == nodes[i - 1].url) {
      return fail(Errc::invalid, fmt::format("{} is named twice", node.url));
    }
    if (node.zone.empty() != nodes[0].zone.empty()) {
      return fail(Errc::invalid,
                  fmt::format("{} has no zone and {} has one: give all nodes a zone, or none",
                              node.zone.empty() ? node.url : nodes[0].url,
                              node.zone.empty() ? nodes[0].url : node.url));
    }
  }
  return nodes;
}

Members members_of(const std::vector<NodeEntry>& nodes) {
  std::map<std::string_view, uint16_t> zones;
  for (const NodeEntry& node : nodes) {
    if (!node.zone.empty()) zones.emplace(node.zone, uint16_t{0});
  }
  uint16_t next = 0;
  for (auto& [name, number] : zones) number = next++;
  Members members;
  members.zone_count = next;
  for (const NodeEntry& node : nodes) {
    members.nodes.push_back({node.weight, node.zone.empty() ? uint16_t{0} : zones.at(node.zone)});
  }
  return members;
}

uint64_t Topology::table_hash() const {
  StreamingHash hash;
  std::string bytes;
  append_varint(bytes, nodes.size());
  for (const NodeEntry& node : nodes) {
    append_varint(bytes, node.url.size());
    bytes += node.url;
    append_varint(bytes, node.weight);
    append_varint(bytes, node.zone.size());
    bytes += node.zone;
  }
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    for (const NodeIndex node : table.replicas(slot, table.width())) append_fixed(bytes, node);
  }
  hash.update(bytes);
  return hash.digest();
}

Result<Topology> make_topology(std::vector<NodeEntry> nodes) {
  Result<std::vector<NodeEntry>> checked = checked_nodes(std::move(nodes));
  if (!checked) return fail(checked.error());
  Topology topology;
  topology.nodes = std::move(*checked);
  topology.table = place(members_of(topology.nodes), SlotTable());
  return topology;
}

}  // namespace gyre::cluster
