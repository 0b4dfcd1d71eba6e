// Clients that write, remove and read over plain sockets and remember what they were told.
//
// Every key belongs to one client, so its operations are ordered. A client sends either one request
// of any size, or a packet of up to sixteen small ones on few keys, which the node must answer in
// order and as if they came one by one. A key whose last operation is in doubt rests until a look
// has settled it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "oracle.hpp"

namespace gyre::chaos {

struct LoadOptions {
  uint64_t seed = 1;
  unsigned clients = 4;
  unsigned keys_per_client = 40;
  unsigned answer_timeout_ms = 60'000;  // then the client gives up and connects anew
  bool disk_may_fail = false;           // then 500 says that a write may have happened
};

struct LoadCounts {
  std::atomic<uint64_t> acknowledged{0};
  std::atomic<uint64_t> acknowledged_bytes{0};
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> refused{0};
  std::atomic<uint64_t> timeouts{0};
  std::atomic<uint64_t> connections_lost{0};
};

class Load {
 public:
  explicit Load(const LoadOptions& options);
  ~Load();
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  void start(uint16_t port);
  // Each client ends with the answers it waits for, or with its connection. Asked before the node
  // is killed, none of them tries to connect to a port that nobody has.
  void ask_to_stop() { stopping_ = true; }
  void stop();

  const LoadCounts& counts() const { return counts_; }
  // What no client may see: wrong answers, wrong values.
  std::vector<std::string> take_problems();
  // The body of the last 503.
  std::string refusal() const;

  // Reads every key, one by one and as a range. After a start, `settle` says that nothing is under
  // way any more.
  std::vector<std::string> look(uint16_t port, bool settle);

 private:
  struct Client;
  std::vector<std::string> look_at_range(uint16_t port);

  LoadOptions options_;
  LoadCounts counts_;
  std::atomic<bool> stopping_{false};
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::thread> threads_;
};

}  // namespace gyre::chaos
