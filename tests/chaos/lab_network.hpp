// A network of its own for every node: one bridge, and a cable from each node's namespace to it.
//
//   namespace of node i            the test's namespace (made here, so nothing of the machine's)
//   eth0 10.77.0.(i+1) ── cable i ── bridge 10.77.0.254
//
// The namespaces have no names: they end with the processes that live in them, however those end, and
// nothing is left on the machine. Making one needs root, or user namespaces; and `ip`, for bandwidth
// `tc`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gyre::chaos {

class LabNetwork {
 public:
  // The calling thread moves into the bridge's namespace, for good; so do processes and threads that
  // it starts afterwards. Nothing, and the reason in `why_not`, where this can't be done.
  static std::unique_ptr<LabNetwork> make(size_t nodes, std::string& why_not);
  ~LabNetwork();
  LabNetwork(const LabNetwork&) = delete;
  LabNetwork& operator=(const LabNetwork&) = delete;

  size_t size() const { return namespaces_.size(); }
  // A descriptor, for setns.
  int namespace_of(size_t node) const { return namespaces_[node]; }
  static std::string address_of(size_t node) { return "10.77.0." + std::to_string(node + 1); }
  static std::string bridge_address() { return "10.77.0.254"; }

  // The cable is pulled out, and put back. These throw when a command fails.
  void unplug(size_t node);
  void plug(size_t node);
  // What `from` sends to `to` goes nowhere; the other direction arrives.
  void blackhole(size_t from, size_t to);
  void end_blackhole(size_t from, size_t to);
  // Both directions of a cable, in bytes per second.
  void limit(size_t node, uint64_t bytes_per_second);
  void end_limit(size_t node);
  static bool can_limit();

 private:
  LabNetwork() = default;
  void build(size_t nodes);
  std::string cable(size_t node) const { return "cable" + std::to_string(node); }

  std::vector<int> namespaces_;
};

}  // namespace gyre::chaos
