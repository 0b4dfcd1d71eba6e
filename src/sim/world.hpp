// Deterministic simulation: nodes, their disks and clocks, the network between them, and one
// virtual time, all decided by one seed and run on one thread.
//
//   sim::World world({.seed = 42});
//   sim::Node& node = world.add_node({.cores = 2});
//   sim::SimBackend backend(node, 0);
//   Reactor reactor(backend, {});            // or anything with `bool tick()`
//   reactor.start(main_task());
//   node.drive(0, reactor);
//   REQUIRE(world.run_until([&] { return node.ended(); }, seconds(60)) == sim::Stop::satisfied);
//   CHECK(world.check_quiescent(node) == "");
//
// How it runs: events (completions, messages, wakes) wait in a queue ordered by virtual time,
// equal times in an order drawn from the seed. After the events that are due, one of the cores
// that have something to do is drawn and ticked; when there is none, time jumps to the next event
// or the next end of a sleep. Nothing depends on addresses, real time or hash order: two runs of
// a seed give the same trace_hash().
//
// Crash sweeps: disk().stop_at(k, phase) makes run_until return Stop::crash_point at write point
// k; crash() then cuts the power. From that moment the node's backends are dead: each operation
// ends with -EIO and nothing they do has an effect, so the program can unwind. When it has ended
// (and reactors and backends are destroyed), power_on() and new backends start the next life on
// what the disk kept. life.hpp does all this for reactors.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gyre/backend.hpp>

#include "sim/network.hpp"
#include "sim/node.hpp"
#include "sim/prng.hpp"
#include "sim/trace.hpp"

namespace gyre::sim {

struct WorldOptions {
  uint64_t seed = 1;
  NetworkOptions network;
  // What a tick costs beyond its calls of now(), and what each such call costs at most.
  Latency tick_cost{microseconds(1), microseconds(10)};
  Nanos now_step_max = microseconds(2);
  // Chances of the backend's legal but rare behaviours, in parts per million.
  uint32_t multishot_end_ppm = 10'000;    // a multishot ends early, without an error
  uint32_t cancel_file_op_ppm = 200'000;  // a cancelled file operation had not begun
  uint32_t short_send_ppm = 100'000;
  uint32_t partial_reap_ppm = 100'000;  // reap leaves some completions for the next tick
  uint32_t false_pending_ppm = 30'000;  // completions_pending says yes for no reason
};

enum class Stop : uint8_t {
  satisfied,    // the predicate holds
  deadline,     // virtual time is up
  stuck,        // nothing can happen any more; see dump()
  crash_point,  // a disk reached the write point of its stop_at
};

class World {
 public:
  explicit World(WorldOptions options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Node& add_node(NodeOptions options = {});
  Node& node(unsigned id) { return *nodes_.at(id); }
  unsigned node_count() const { return static_cast<unsigned>(nodes_.size()); }
  Network& network() { return *network_; }
  const WorldOptions& options() const { return options_; }

  Nanos time() const { return time_; }
  // Runs until the predicate holds, at most `limit` of virtual time. A stuck world is described
  // on stderr.
  Stop run_until(const std::function<bool()>& predicate, Nanos limit);
  // Lets virtual time pass.
  Stop run_for(Nanos duration);

  // Cuts the power of a node: its operations under way are done in part, its peers hear nothing
  // more. The disk keeps both of its images until Disk::crash (see clone()).
  void power_off(Node& node);
  // power_off, and the disk keeps what `mode` lets through.
  void crash(Node& node, CrashMode mode);
  // Ends the process only: sockets are closed by the kernel, the page cache survives.
  void kill(Node& node);
  // After power_off or kill, when the backends of the former life are destroyed.
  void power_on(Node& node);

  // "" if nothing is left over: descriptors, operations in flight, provided buffers.
  std::string check_quiescent(Node& node) const;
  uint64_t trace_hash() const { return trace_.hash(); }
  uint64_t events_run() const { return events_run_; }
  uint64_t ticks_run() const { return ticks_run_; }
  // What each core waits for, the network, and the last events.
  std::string dump();
  // Faults that have struck, of the network and of all disks, by kind.
  std::map<std::string, uint64_t> faults() const;

  // Called when the program breaks the Backend contract; unset, the world is dumped and the
  // process aborts.
  std::function<void(const std::string&)> on_violation;

  // --- for Network, Node and SimBackend
  void schedule(Nanos at, const void* owner, std::function<void()> action);
  void forget_events(const void* owner);
  void violation(const std::string& text);
  void stop_run() { stop_requested_ = true; }
  Trace& trace() { return trace_; }
  void note_fault(const char* kind);
  Prng fork(std::string_view label) { return Prng(options_.seed, label); }
  Prng& backend_prng() { return backend_prng_; }

 private:
  struct Event {
    Nanos at;
    uint64_t tie;
    uint64_t sequence;
    const void* owner;
    std::function<void()> action;
    bool operator<(const Event& other) const {  // the heap's top is the earliest
      if (at != other.at) return at > other.at;
      if (tie != other.tie) return tie > other.tie;
      return sequence > other.sequence;
    }
  };

  bool step(Nanos until);
  Nanos ready_at(const Node& node, const Core& core) const;
  void tick(Node& node, Core& core);
  void end_life(Node& node, Power power);

  WorldOptions options_;
  Nanos time_ = 0;
  Prng scheduler_prng_;
  Prng backend_prng_;
  std::vector<Event> events_;  // a heap
  uint64_t next_sequence_ = 0;
  uint64_t events_run_ = 0;
  uint64_t ticks_run_ = 0;
  bool stop_requested_ = false;
  Trace trace_;
  std::map<std::string, uint64_t> faults_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::unique_ptr<Network> network_;
};

}  // namespace gyre::sim
