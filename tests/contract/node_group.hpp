// A cluster of real nodes on this machine: each with its own directory and a port of its own that it
// keeps, so that it can be stopped and started again.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"

namespace gyre::test {

class NodeGroup {
 public:
  // Started, all at once; extra flags for each.
  explicit NodeGroup(size_t count, std::vector<std::string> flags = {});

  size_t size() const { return nodes_.size(); }
  NodeProcess& node(size_t index) { return *nodes_[index % size()]; }
  const std::string& url(size_t index) const { return urls_[index]; }
  std::string peers() const;

  void stop(size_t index);  // SIGTERM; throws if it doesn't end well
  void kill(size_t index) { node(index).kill(); }
  void start(size_t index) { node(index).start(); }
  void stop_all();

  // Over a connection of its own. `replicas` is "A/F", or "" for the default. 0: the node is not
  // there.
  HttpAnswer get(size_t index, const std::string& key, const std::string& replicas = "");
  int put(size_t index, const std::string& key, const std::string& value,
          const std::string& replicas = "");
  int del(size_t index, const std::string& key, const std::string& replicas = "");

 private:
  std::vector<std::unique_ptr<NodeProcess>> nodes_;
  std::vector<std::string> urls_;
};

// Ports that nobody listens on now.
std::vector<uint16_t> free_ports(size_t count);

}  // namespace gyre::test
