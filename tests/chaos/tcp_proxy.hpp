// A TCP proxy between the nodes of a cluster that delays, slows, holds, resets and damages what they
// say to each other.
//
//   machine a ──connects to front b──→ proxy ──connects to the back of b──→ machine b
//
// A connection's machines are told by the address that it came from and by the front that it came
// to. A way is one direction between two machines, whoever of them has connected: so a way can be
// cut and the other one stay. What a cut way holds comes when it is whole again, as TCP would have
// sent it again; a connection that is made meanwhile is taken, and nothing comes of it.
//
// One thread does all of it. Every function may be called from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace gyre::chaos {

struct WayRules {
  std::chrono::milliseconds delay{0};
  uint64_t bytes_per_second = 0;      // over all connections of the way; 0: as they come
  bool cut = false;                   // nothing passes, no end either
  uint64_t bytes_between_errors = 0;  // on average one bit of so many bytes is flipped; 0: none
};

struct WayCounts {
  uint64_t bytes = 0;    // passed on
  uint64_t flipped = 0;  // bits
};

class TcpProxy {
 public:
  // The seed decides which bits flip.
  explicit TcpProxy(uint64_t seed);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  // Connections that come from this IPv4 address are `machine`'s; from others, machine 0's.
  void know(const std::string& address, unsigned machine);
  // Takes connections to `machine` at address:port (0: a free one); the port.
  uint16_t front(unsigned machine, const std::string& address, uint16_t port,
                 const std::string& back_address, uint16_t back_port);

  void set_way(unsigned from, unsigned to, const WayRules& rules);
  void set_both_ways(unsigned a, unsigned b, const WayRules& rules);
  void heal();  // every way is whole
  // Ends all connections between the two with a reset at both ends, and what is held of them is lost;
  // how many there were.
  size_t reset(unsigned a, unsigned b);

  WayCounts counts(unsigned from, unsigned to) const;
  size_t connections(unsigned a, unsigned b) const;

 private:
  struct Way;
  struct Front;
  struct Stream;
  struct Connection;
  using Clock = std::chrono::steady_clock;

  void run();
  void wake();
  Way& way(unsigned from, unsigned to);
  void accept_from(Front& front);
  void read_from(Stream& stream);
  void write_to(Connection& connection, Stream& stream, Clock::time_point now);
  void damage(Way& way, std::string& bytes);
  static void close_with_reset(Connection& connection);

  mutable std::mutex mutex_;
  std::mt19937_64 random_;
  std::map<std::pair<unsigned, unsigned>, std::unique_ptr<Way>> ways_;
  std::map<uint32_t, unsigned> machines_;  // by address, in network order
  std::vector<std::unique_ptr<Front>> fronts_;
  std::vector<std::unique_ptr<Connection>> connections_;
  int wake_fd_ = -1;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace gyre::chaos
