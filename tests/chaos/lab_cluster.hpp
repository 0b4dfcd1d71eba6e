// A cluster of the real binary, each node in a network namespace of its own. Its nodes reach each
// other through a proxy at the bridge, or straight over the bridge; clients always go straight.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../contract/http_client.hpp"
#include "../contract/node_process.hpp"
#include "lab_network.hpp"
#include "tcp_proxy.hpp"

namespace gyre::chaos {

struct LabClusterOptions {
  size_t nodes = 3;
  bool proxied = true;
  uint64_t seed = 1;  // of the proxy's damage
};

class LabCluster {
 public:
  // All nodes started and ready. Where there are no network namespaces this process ends with the
  // code that says to meson that the test was skipped, and with a line that says why.
  explicit LabCluster(const LabClusterOptions& options);

  size_t size() const { return nodes_.size(); }
  test::NodeProcess& node(size_t index) { return *nodes_[index]; }
  LabNetwork& network() { return *network_; }
  TcpProxy& proxy() { return *proxy_; }
  // What the proxy calls a node.
  static unsigned machine(size_t node) { return static_cast<unsigned>(node) + 1; }

  // Every way between this node and the others.
  void set_ways_of(size_t node, const WayRules& rules);
  void cut_off(size_t node) { set_ways_of(node, {.cut = true}); }

  // A connection to a node; throws what HttpClient throws.
  std::unique_ptr<test::HttpClient> connect(size_t node, std::chrono::milliseconds patience) const;
  std::unique_ptr<test::HttpClient> connect(size_t node) const {
    return connect(node, std::chrono::seconds(120));
  }
  // What the node's own replica holds, by key.
  std::map<std::string, std::string> own_records(size_t node) const;
  // How many keys the nodes' own replicas differ in.
  size_t differing_keys() const;

  // The error lines that the nodes have logged since they were started.
  std::vector<std::string> error_lines() const;

 private:
  std::unique_ptr<LabNetwork> network_;
  std::unique_ptr<TcpProxy> proxy_;
  std::vector<std::unique_ptr<test::NodeProcess>> nodes_;
};

}  // namespace gyre::chaos
