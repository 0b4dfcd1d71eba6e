#include "cluster_keys.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "cluster/slot_table.hpp"

namespace gyre::test {

unsigned from_of(const ClusterRig& rig, int key) {
  return rig.size() == 5 && key % 3 == 2 ? 5 : 3;
}

std::string target_of(int key, std::string_view replicas) {
  return fmt::format("/v0/entity?id=key{}&replicas={}", key, replicas);
}

std::string target_of(const ClusterRig& rig, int key, bool all) {
  const unsigned from = from_of(rig, key);
  return target_of(key, fmt::format("{}/{}", all ? from : from / 2 + 1, from));
}

namespace {

using Records = std::map<std::string, std::string>;

// What each node holds by itself.
Task<void> read_own(ClusterRig& rig, std::vector<Records>& own) {
  own.assign(rig.size(), {});
  for (unsigned node = 0; node < rig.size(); ++node) {
    const ClusterAnswer answer =
        co_await ask_node(rig.host(node), "GET", "/v0/entities?start=k&scope=node", "");
    CHECK(answer.status == 200);
    std::string_view rest = answer.body;  // key0\nvaluekey1\nvalue…
    while (!rest.empty()) {
      const size_t next = std::min(rest.find("key", 1), rest.size());
      const size_t line = rest.find('\n');
      own[node][std::string(rest.substr(0, line))] = rest.substr(line + 1, next - line - 1);
      rest.remove_prefix(next);
    }
  }
}

// The keys of which the replicas hold different things, or others hold anything.
std::string unlike(ClusterRig& rig, const std::vector<Records>& own) {
  std::string out;
  const cluster::SlotTable& table = rig.node(0).membership().topology().table;
  for (int i = 0; i < keys + unread_keys; ++i) {
    const std::string key = fmt::format("key{}", i);
    const unsigned from = from_of(rig, i);
    std::vector<std::string> held;
    bool alike = true;
    for (const cluster::NodeIndex node : table.replicas(cluster::slot_of(key), rig.size())) {
      const auto at = own[node].find(key);
      held.push_back(at == own[node].end() ? "nothing" : at->second);
      alike = alike && held.back() == (held.size() > from ? "nothing" : held.front());
    }
    if (!alike) out += fmt::format(" {}: {}", key, fmt::join(held, ", "));
  }
  return out;
}

}  // namespace

std::string await_equal(ClusterRig& rig, Nanos limit) {
  std::vector<Records> own;
  std::string differences;
  for (Nanos waited = 0; waited <= limit; waited += seconds(1)) {
    sim::Life client(rig.world(), rig.client());
    client.start(0, read_own(rig, own));
    CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(60)) ==
          sim::Stop::satisfied);
    differences = unlike(rig, own);
    if (differences.empty()) return {};
    rig.world().run_for(seconds(1));
  }
  return "the replicas still differ:" + differences;
}

}  // namespace gyre::test
