#include "node_group.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

namespace gyre::test {

namespace {

std::string target_of(const std::string& key, const std::string& replicas) {
  return entity(key) + (replicas.empty() ? "" : "&replicas=" + replicas);
}

}  // namespace

std::vector<uint16_t> free_ports(size_t count) {
  std::vector<uint16_t> ports;
  std::vector<int> held;
  while (ports.size() < count) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("no free port");
    }
    held.push_back(fd);
    const uint16_t port = ntohs(address.sin_port);
    if (port < 50'000) ports.push_back(port);  // the administration's is 10000 above
    if (held.size() > 20 * count + 200) ports.push_back(port);
  }
  for (const int fd : held) close(fd);
  return ports;
}

NodeGroup::NodeGroup(size_t count, std::vector<std::string> flags) {
  for (const uint16_t port : free_ports(count))
    urls_.push_back("http://127.0.0.1:" + std::to_string(port));
  for (size_t i = 0; i < count; ++i) {
    std::vector<std::string> all = {
        "--listen", urls_[i].substr(7), "--advertise", urls_[i], "--peers",
        peers(),    "--admin",          "off"};
    all.insert(all.end(), flags.begin(), flags.end());
    nodes_.push_back(std::make_unique<NodeProcess>(all, false));
    nodes_.back()->launch();
  }
  for (const auto& node : nodes_) {
    if (node->wait_ready().ended) throw std::runtime_error(node->error_output());
  }
}

std::string NodeGroup::peers() const {
  std::string all;
  for (const std::string& url : urls_) all += (all.empty() ? "" : ",") + url;
  return all;
}

void NodeGroup::stop(size_t index) {
  const Exit exit = node(index).stop();
  if (!exit.ended || exit.code != 0) {
    throw std::runtime_error("a node did not end well: " + node(index).error_output());
  }
}

void NodeGroup::stop_all() {
  for (size_t i = 0; i < size(); ++i) {
    if (node(i).running()) stop(i);
  }
}

HttpAnswer NodeGroup::get(size_t index, const std::string& key, const std::string& replicas) {
  HttpClient client(node(index).port());
  return client.get(target_of(key, replicas));
}

int NodeGroup::put(size_t index, const std::string& key, const std::string& value,
                   const std::string& replicas) {
  HttpClient client(node(index).port());
  return client.put(target_of(key, replicas), value).status;
}

int NodeGroup::del(size_t index, const std::string& key, const std::string& replicas) {
  HttpClient client(node(index).port());
  return client.del(target_of(key, replicas)).status;
}

}  // namespace gyre::test
