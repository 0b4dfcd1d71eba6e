#include "lab_cluster.hpp"

#include <cstdio>
#include <cstdlib>
#include <set>
#include <sstream>
#include <stdexcept>

namespace gyre::chaos {

namespace {

constexpr uint16_t node_port = 8080;
constexpr uint16_t first_front_port = 7001;
constexpr int skipped = 77;

std::string url(const std::string& address, uint16_t port) {
  return "http://" + address + ":" + std::to_string(port);
}

}  // namespace

LabCluster::LabCluster(const LabClusterOptions& options) {
  std::string why_not;
  network_ = LabNetwork::make(options.nodes, why_not);
  if (!network_) {
    std::fprintf(stderr, "skipped: there are no network namespaces to run a cluster in: %s\n",
                 why_not.c_str());
    std::exit(skipped);
  }
  proxy_ = std::make_unique<TcpProxy>(options.seed);
  std::vector<std::string> urls;
  std::string peers;
  for (size_t i = 0; i < options.nodes; ++i) {
    const std::string address = LabNetwork::address_of(i);
    proxy_->know(address, machine(i));
    if (options.proxied) {
      const auto port = static_cast<uint16_t>(first_front_port + i);
      proxy_->front(machine(i), LabNetwork::bridge_address(), port, address, node_port);
      urls.push_back(url(LabNetwork::bridge_address(), port));
    } else {
      urls.push_back(url(address, node_port));
    }
    peers += (i == 0 ? "" : ",") + urls.back();
  }
  for (size_t i = 0; i < options.nodes; ++i) {
    const std::string address = LabNetwork::address_of(i);
    nodes_.push_back(std::make_unique<test::NodeProcess>(
        std::vector<std::string>{"--listen", address + ":" + std::to_string(node_port),
                                 "--advertise", urls[i], "--peers", peers, "--admin", "off",
                                 "--memory", "128M", "--max-value", "1M"},
        false));
    nodes_[i]->network_namespace = network_->namespace_of(i);
    nodes_[i]->address = address;
    nodes_[i]->launch();
  }
  for (const auto& node : nodes_) {
    if (node->wait_ready().ended) throw std::runtime_error(node->error_output());
  }
}

void LabCluster::set_ways_of(size_t node, const WayRules& rules) {
  for (size_t other = 0; other < size(); ++other) {
    if (other != node) proxy_->set_both_ways(machine(node), machine(other), rules);
  }
}

std::unique_ptr<test::HttpClient> LabCluster::connect(size_t node,
                                                      std::chrono::milliseconds patience) const {
  return std::make_unique<test::HttpClient>(LabNetwork::address_of(node), node_port, patience);
}

std::map<std::string, std::string> LabCluster::own_records(size_t node) const {
  const test::HttpAnswer answer = connect(node)->get("/v0/entities?start=%00&scope=node");
  if (answer.status != 200) {
    throw std::runtime_error("a node's own records: " + std::to_string(answer.status) + " " +
                             answer.body);
  }
  std::map<std::string, std::string> records;
  for (const std::string& chunk : answer.chunks) {
    const size_t newline = chunk.find('\n');
    records.emplace(chunk.substr(0, newline), chunk.substr(newline + 1));
  }
  return records;
}

size_t LabCluster::differing_keys() const {
  std::vector<std::map<std::string, std::string>> all;
  std::set<std::string> keys;
  for (size_t node = 0; node < size(); ++node) {
    all.push_back(own_records(node));
    for (const auto& [key, value] : all.back()) keys.insert(key);
  }
  size_t count = 0;
  for (const std::string& key : keys) {
    for (size_t node = 1; node < size(); ++node) {
      const auto first = all[0].find(key);
      const auto other = all[node].find(key);
      const bool same = first == all[0].end()      ? other == all[node].end()
                        : other == all[node].end() ? false
                                                   : first->second == other->second;
      if (same) continue;
      ++count;
      break;
    }
  }
  return count;
}

std::vector<std::string> LabCluster::error_lines() const {
  std::vector<std::string> lines;
  for (const auto& node : nodes_) {
    std::istringstream text(node->error_output());
    for (std::string line; std::getline(text, line);) {
      if (line.find("level=error") != std::string::npos) lines.push_back(line);
    }
  }
  return lines;
}

}  // namespace gyre::chaos
