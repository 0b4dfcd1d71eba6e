// A Redis Cluster made for tests: nodes on ports of one machine, who has which slot, slots on their
// way, and nodes whose idea of all that is out of date.
#pragma once

#include <fmt/format.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../resp/fake_redis.hpp"
#include "resp/cluster.hpp"

namespace gyre::test {

class FakeCluster {
 public:
  static constexpr uint16_t first_port = 7000;
  static constexpr int nobody = -1;

  struct View {
    std::array<int, resp::cluster_slots> owner{};
    uint64_t epoch = 1;
  };

  // All slots evenly over the first `masters` of `count` nodes.
  FakeCluster(std::string host, int count, int masters) : host_(std::move(host)) {
    for (unsigned slot = 0; slot < resp::cluster_slots; ++slot) {
      view.owner[slot] =
          static_cast<int>(slot * static_cast<unsigned>(masters) / resp::cluster_slots);
    }
    stale.resize(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) {
      auto node = std::make_unique<FakeRedis>();
      node->listens_on = static_cast<uint16_t>(first_port + i);
      node->gate = [this, i](const std::vector<std::string>& words, bool asking) {
        return gate(i, words, asking);
      };
      nodes.push_back(std::move(node));
    }
  }

  std::vector<std::unique_ptr<FakeRedis>> nodes;
  View view;                               // the truth
  std::vector<std::optional<View>> stale;  // what a node believes instead
  std::map<uint16_t, int> migrating;       // slot -> where to
  std::vector<int> named;                  // if any: CLUSTER NODES names only these
  std::string slots_instead;               // of the reply of CLUSTER SLOTS
  std::string redirect_instead;            // of every MOVED, whole

  FakeRedis& operator[](int i) { return *nodes[static_cast<size_t>(i)]; }
  resp::NodeAddress address(int i) const { return {host_, static_cast<uint16_t>(first_port + i)}; }
  int owner_of(const std::string& key) const { return view.owner[resp::slot_of_key(key)]; }

  // As a client of the cluster would.
  FakeRedis& holder_of(const std::string& key) {
    const uint16_t slot = resp::slot_of_key(key);
    FakeRedis& owner = (*this)[view.owner[slot]];
    const auto moving = migrating.find(slot);
    if (moving == migrating.end() || owner.data.contains(key)) return owner;
    return (*this)[moving->second];
  }
  void set(const std::string& key, std::string value) { holder_of(key).set(key, value); }
  void erase(const std::string& key) { holder_of(key).erase(key); }

  void move_key(const std::string& key) {
    const uint16_t slot = resp::slot_of_key(key);
    FakeRedis& from = (*this)[view.owner[slot]];
    if (!from.data.contains(key)) return;
    (*this)[migrating.at(slot)].data[key] = from.data[key];
    from.erase(key);  // who tracks it is told
  }
  void end_migration(uint16_t slot) {
    FakeRedis& from = (*this)[view.owner[slot]];
    std::vector<std::string> keys;
    for (const auto& [key, value] : from.data) {
      if (resp::slot_of_key(key) == slot) keys.push_back(key);
    }
    for (const std::string& key : keys) move_key(key);
    view.owner[slot] = migrating.at(slot);
    migrating.erase(slot);
    ++view.epoch;
  }
  // A replica has all that the master had.
  void fail_over(int from, int to) {
    (*this)[to].data = (*this)[from].data;
    for (int& owner : view.owner) owner = owner == from ? to : owner;
    ++view.epoch;
  }
  void kill(int i) {
    (*this)[i].refuses = true;
    (*this)[i].cut();
  }

  uint64_t count(std::string_view name) const {
    uint64_t sum = 0;
    for (const auto& node : nodes) sum += node->count(name);
    return sum;
  }

 private:
  const View& view_of(int i) const {
    const auto& stale_view = stale[static_cast<size_t>(i)];
    return stale_view ? *stale_view : view;
  }

  std::string gate(int i, const std::vector<std::string>& words, bool asking) {
    const View& mine = view_of(i);
    if (words[0] == "CLUSTER" && words.at(1) == "SLOTS") {
      return slots_instead.empty() ? slots_of(mine) : slots_instead;
    }
    if (words[0] == "CLUSTER") return nodes_of(i, mine);
    if (words[0] != "GET" && words[0] != "PTTL" && words[0] != "SET") return "";
    const uint16_t slot = resp::slot_of_key(words.at(1));
    const int owner = mine.owner[slot];
    const auto moving = migrating.find(slot);
    if (owner == nobody) return "-CLUSTERDOWN Hash slot not served\r\n";
    if (owner == i) {
      if (moving == migrating.end() || (*this)[i].data.contains(words[1])) return "";
      return fmt::format("-ASK {} {}\r\n", slot, address(moving->second).to_string());
    }
    if (moving != migrating.end() && moving->second == i && asking) return "";
    if (!redirect_instead.empty()) return redirect_instead;
    return fmt::format("-MOVED {} {}\r\n", slot, address(owner).to_string());
  }

  std::string slots_of(const View& mine) const {
    std::string ranges;
    size_t count = 0;
    for (unsigned first = 0; first < resp::cluster_slots;) {
      unsigned last = first;
      while (last + 1 < resp::cluster_slots && mine.owner[last + 1] == mine.owner[first]) ++last;
      if (mine.owner[first] != nobody) {
        ++count;
        ranges += fmt::format("*3\r\n:{}\r\n:{}\r\n*3\r\n${}\r\n{}\r\n:{}\r\n$2\r\nid\r\n", first,
                              last, host_.size(), host_, first_port + mine.owner[first]);
      }
      first = last + 1;
    }
    return fmt::format("*{}\r\n{}", count, ranges);
  }

  std::string nodes_of(int i, const View& mine) const {
    std::string text;
    for (int at = 0; at < static_cast<int>(nodes.size()); ++at) {
      if (!named.empty() && std::ranges::find(named, at) == named.end()) continue;
      text += fmt::format("id{} {}@17000 {}master - 0 0 {} connected\n", at,
                          address(at).to_string(), at == i ? "myself," : "", mine.epoch);
    }
    return fmt::format("${}\r\n{}\r\n", text.size(), text);
  }

  std::string host_;
};

}  // namespace gyre::test
