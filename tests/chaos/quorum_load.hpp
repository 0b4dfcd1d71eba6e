// Clients that read and write a cluster with quorums, through any of its nodes, and remember all of
// it; what they saw in a stretch of time is summed up as figures.
//
// Each client has a node that it likes. When that does not answer in time, or ends the connection,
// it goes to the next one, and tries its own again a second later.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "lab_cluster.hpp"
#include "quorum_history.hpp"

namespace gyre::chaos {

struct QuorumLoadOptions {
  uint64_t seed = 1;
  unsigned clients = 6;
  unsigned keys = 300;
  unsigned cold_keys =
      300;  // more keys, which are written as often and read by nobody but read_all
  std::chrono::milliseconds patience{1000};
  bool large_values = true;  // some of up to 200 KiB; else at most 20 KiB
};

// What the clients saw of the requests that began in a stretch of time.
struct StretchFigures {
  double seconds = 0;
  size_t answered = 0;    // 200, 201, 202 and 404
  size_t refused = 0;     // 503
  size_t impossible = 0;  // 504
  size_t unanswered = 0;  // too late, or the connection ended
  // Of all of them, an unanswered one with the time until its client gave it up, ms.
  double p50_ms = 0;
  double p99_ms = 0;
  double max_ms = 0;
  double lowest_per_second = 0;  // answers, in the worst quarter of a second

  size_t requests() const { return answered + refused + impossible + unanswered; }
  double answered_per_second() const {
    return seconds > 0 ? static_cast<double>(answered) / seconds : 0;
  }
  std::string text() const;
};

class QuorumLoad {
 public:
  // Of one key; a value's content follows from its number.
  static std::string key_text(unsigned key);
  static std::string value_text(uint64_t number, size_t size_bytes);
  // The number, if the text is exactly such a value.
  static std::optional<uint64_t> number_of(std::string_view text);
  // ns of the clock of all events.
  static int64_t now();

  QuorumLoad(const LabCluster& cluster, const QuorumLoadOptions& options);
  ~QuorumLoad();
  QuorumLoad(const QuorumLoad&) = delete;
  QuorumLoad& operator=(const QuorumLoad&) = delete;

  void start();
  void stop();
  uint64_t answered() const { return answered_; }

  // After stop, of all starts together:
  const QuorumHistory& history() const { return history_; }
  const std::vector<std::string>& problems() const { return problems_; }
  // Of requests that began in [from, to), through all nodes or all but one.
  StretchFigures figures(int64_t from, int64_t to, std::optional<size_t> without_node = {}) const;

  // Reads every key through every node with this quorum, adds that to the history, and gives the
  // last reads back; those that were not answered with 200 or 404 are problems.
  std::vector<QuorumRead> read_all(const std::string& replicas);

 private:
  struct Client;
  struct Request {
    int64_t begun = 0;
    int64_t ended = 0;
    uint32_t node = 0;
    int status = 0;  // 0: none
  };

  const LabCluster& cluster_;
  QuorumLoadOptions options_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> answered_{0};
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::thread> threads_;
  QuorumHistory history_;
  std::vector<Request> requests_;
  std::vector<std::string> problems_;
};

}  // namespace gyre::chaos
