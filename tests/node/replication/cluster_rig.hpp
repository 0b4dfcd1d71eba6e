// Clusters of whole nodes in the simulation, and an oracle that knows every write.
//
// The oracle follows what LWW quorums promise where ack_w + ack_r > from (reference: the honesty
// section of the README):
//   - a read that began after a write was acknowledged returns that write or a version above it
//   - of two reads, one after the other, the later one does not return an older version
//   - a write that began after another was acknowledged has a greater version
//   - a version has one value; a value that is read was written to this key, not later
// A write that was answered 504, 503 or not at all may be there or not, now or later.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gyre/time.hpp>

#include "../node_sim_rig.hpp"
#include "http/client.hpp"

namespace gyre::test {

// --- the oracle ---------------------------------------------------------------------------------

enum class Outcome : uint8_t { acknowledged, unknown, not_done };

struct WriteEvent {
  int key = 0;
  std::string value;  // unique; "" for a removal
  bool removes = false;
  uint64_t begun = 0;  // in the order in which things happened
  uint64_t ended = 0;
  Outcome outcome = Outcome::unknown;
  std::string version;  // the entity tag, hexadecimal: the order of the text is that of versions
};

struct ReadEvent {
  int key = 0;
  uint64_t begun = 0;
  uint64_t ended = 0;
  bool found = false;
  std::string value;
  std::string version;
};

class Oracle {
 public:
  uint64_t tick() { return ++now_; }
  size_t begin(int key, std::string value, bool removes) {
    writes_.push_back({.key = key, .value = std::move(value), .removes = removes, .begun = tick()});
    return writes_.size() - 1;
  }
  void end(size_t write, Outcome outcome, std::string version) {
    writes_[write].outcome = outcome;
    writes_[write].version = std::move(version);
    writes_[write].ended = tick();
  }
  void read(ReadEvent event) {
    event.ended = tick();
    reads_.push_back(std::move(event));
  }

  size_t acknowledged() const;
  size_t unknown() const;
  size_t reads() const { return reads_.size(); }
  // Every violation, as a line. Empty: there is none.
  std::vector<std::string> violations() const;

 private:
  uint64_t now_ = 0;
  std::vector<WriteEvent> writes_;
  std::vector<ReadEvent> reads_;
};

// --- the cluster --------------------------------------------------------------------------------

struct ClusterOptions {
  uint64_t seed = 1;
  unsigned nodes = 3;
  unsigned cores = 1;
  bool skewed_clocks = false;
  std::vector<int64_t> clock_offsets_us;  // by node; none where it is shorter
  std::string durability = "group";
  std::string admin = "off";
  bool resp = false;                 // each listens to Redis clients, at resp_port
  bool last_has_more_peers = false;  // its table names a node more, which there isn't
};

class ClusterRig {
 public:
  explicit ClusterRig(ClusterOptions options);
  ~ClusterRig();

  sim::World& world() { return world_; }
  sim::Node& client() { return *client_; }
  unsigned size() const { return options_.nodes; }
  const std::string& host(unsigned node) const { return members_[node].machine->address(); }
  sim::Node& machine(unsigned node) { return *members_[node].machine; }
  Node& node(unsigned node) { return *members_[node].node; }

  unsigned cores() const { return options_.cores; }
  std::string directory(unsigned node) const {
    return fmt::format("data{}", members_[node].directory);
  }

  // Also where its start was refused.
  bool running(unsigned node) const { return members_[node].life != nullptr; }
  // Of a node that is down, or whose start was refused; nothing happens to others.
  void start(unsigned node);
  void start_all();
  // Why the node did not start. Empty: it did, or nobody has started it.
  std::string refused_start(unsigned node) const;
  // It has another directory than at first.
  bool wiped(unsigned node) const { return members_[node].directory != 0; }
  // It serves, and no shard has become read-only.
  bool takes_writes(unsigned node) const;
  // Whether a node that serves is still to be given back what it has lost.
  bool rebuilding() const;
  // Nodes that do not take writes, and what they said last. Empty: all do.
  std::string not_taking_writes() const;
  // Until every node that was started says that it is ready.
  bool await_ready(Nanos limit = seconds(60));
  void kill(unsigned node);                        // kill -9: the kernel's cache survives
  void crash(unsigned node, sim::CrashMode mode);  // the power goes
  void wipe(unsigned node);                        // of a node that is down: its directory is lost
  enum class Disk : uint8_t { works, fails };
  // SIGTERM; checks that nothing is left, and that all was well if the disk works.
  void stop(unsigned node, Disk disk = Disk::works);
  void stop_all();

 private:
  struct Member {
    sim::Node* machine = nullptr;
    std::unique_ptr<Node> node;
    std::unique_ptr<sim::Life> life;
    unsigned directory = 0;  // the one before was lost
  };
  ServeConfig config_of(unsigned node) const;
  bool ready(unsigned node) const;
  std::string last_line(unsigned node) const;
  bool take_refused_start(unsigned node);

  ClusterOptions options_;
  sim::World world_;
  std::vector<Member> members_;
  sim::Node* client_ = nullptr;
};

// --- clients ------------------------------------------------------------------------------------

struct ClusterAnswer {
  uint16_t status = 0;  // 0: none came
  std::string version;
  std::string body;
};

// One request on a connection of its own.
Task<ClusterAnswer> ask_node(std::string host, std::string method, std::string target,
                             std::string body);

}  // namespace gyre::test
