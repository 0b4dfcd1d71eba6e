// A simulated machine: its disk, clocks, descriptors and cores. It keeps existing while its
// program crashes and starts again; the SimBackends belong to one life of the program.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gyre/backend.hpp>

#include "sim/clock.hpp"
#include "sim/disk.hpp"
#include "sim/network.hpp"

namespace gyre::sim {

class World;
class SimBackend;

// Whatever runs on a core. `tick` must reap, work and enter once, as Reactor::tick does, and
// return false when it has ended.
struct Driver {
  virtual ~Driver() = default;
  virtual bool tick() = 0;
};

struct NodeOptions {
  unsigned cores = 1;
  DiskOptions disk;
  std::unique_ptr<Disk> existing_disk;  // instead of an empty one
  size_t buffer_count = 64;             // provided receive buffers per core
  size_t buffer_bytes = 16u << 10;
  size_t descriptors_max = 10'000;
  int64_t wall_offset_us = 0;
  int64_t drift_ppm = 0;
  size_t log_lines_max = 10'000;  // lines over it are dropped and counted
};

enum class Power : uint8_t {
  on,
  killed,  // the process is gone, the kernel and its page cache are not
  off,
};

struct Core {
  unsigned index = 0;
  SimBackend* backend = nullptr;
  std::unique_ptr<Driver> driver;
  bool ended = false;  // its driver returned false
  Nanos busy_until = 0;
  Nanos sleep_until = 0;  // world time at which enter returns by itself
  bool woken = false;     // a wake arrived since the last reap
};

class Node {
 public:
  Node(World& world, unsigned id, NodeOptions options, Prng prng);
  ~Node();

  unsigned id() const { return id_; }
  const std::string& address() const { return address_; }
  Power power() const { return power_; }
  Disk& disk() { return *disk_; }
  Clock& clock() { return clock_; }
  Core& core(unsigned index) { return *cores_.at(index); }
  unsigned core_count() const { return static_cast<unsigned>(cores_.size()); }

  // Lets the world tick `driven` (a Reactor or anything with `bool tick()`) on a core.
  template <class Driven>
  void drive(unsigned core, Driven& driven) {
    struct Of final : Driver {
      explicit Of(Driven& of) : driven(of) {}
      bool tick() override { return driven.tick(); }
      Driven& driven;
    };
    set_driver(core, std::make_unique<Of>(driven));
  }
  void set_driver(unsigned core, std::unique_ptr<Driver> driver);
  // The driven object is about to go away.
  void stop_driving(unsigned core);
  // All drivers have ended (or there is none).
  bool ended() const;

  // Delivers a signal to every armed `signal` operation, or to the first one to come.
  void signal(int number);
  // The node does nothing (as under SIGSTOP) until `duration` from now; its kernel goes on.
  void pause(Nanos duration);

  // The port that a listening descriptor is bound to (which port 0 became).
  uint16_t port_of(int fd) const;
  // The network's end of a connected descriptor, for Network's faults.
  EndpointId endpoint_of(int fd) const { return handles_.at(fd).endpoint; }

  const std::deque<std::string>& log_lines() const { return log_lines_; }
  std::map<std::string, std::vector<std::string>>& names() { return names_; }

  const NodeOptions& options() const { return options_; }

 private:
  friend class World;
  friend class SimBackend;

  // An open descriptor. Numbers are never used twice, so that use after close shows.
  struct Handle {
    enum Kind : uint8_t { file, listener, stream } kind;
    uint16_t flags = 0;  // file: how it was opened
    bool lock = false;
    InodeId inode = 0;
    ListenerId listener_id = 0;
    EndpointId endpoint = 0;
    uint32_t operations = 0;  // in flight on it
    bool receiving = false;
    bool sending = false;
    bool closing = false;
  };

  int add_handle(Handle handle);

  World& world_;
  unsigned id_;
  std::string address_;
  NodeOptions options_;
  Power power_ = Power::on;
  std::unique_ptr<Disk> disk_;
  Clock clock_;
  std::vector<std::unique_ptr<Core>> cores_;
  std::map<int, Handle> handles_;
  int next_fd_ = 3;
  Nanos paused_until_ = 0;
  std::deque<int> signals_;  // not yet delivered
  std::deque<std::string> log_lines_;
  std::map<std::string, std::vector<std::string>> names_;
};

}  // namespace gyre::sim
