// What a node says about itself: /v0/status, /v0/cluster, /livez, /readyz, /metrics, and
// /debug/tasks: every task and where it waits, for finding out why a node is stuck.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/connection.hpp"
#include "node/core.hpp"
#include "node/replication/cluster_report.hpp"
#include "node/resp/info.hpp"

namespace gyre {

// Paths that only report.
bool is_observed(std::string_view path);

// One core's figures, taken on that core.
struct CoreReport {
  unsigned core = 0;
  NodeState state = NodeState::recovering;
  CoreStats stats;
  std::optional<std::string> clock_refusal;  // in a cluster; empty: there is none
  ReactorStats reactor;
  BackendStats backend;
  int64_t frames = 0;
  uint64_t write_memory_used = 0;
  uint64_t write_memory_total = 0;
  uint64_t transit_memory_used = 0;
  uint64_t output_bytes = 0;
  struct ShardReport {
    uint32_t number = 0;
    bool read_only = false;
    std::string read_only_reason;
    std::string full_disk_reason;
    ShardStats stats;
    LogStats log;
    uint64_t log_disk_bytes = 0;
    uint64_t removal_waiting_bytes = 0;
    FileRemover::Stats removal;
    uint64_t memtable_bytes = 0;
    ValueFileTotals values;
    std::vector<DamagedTable> damaged;
    uint64_t cache_used_bytes = 0;
    uint64_t cache_capacity_bytes = 0;
    BlockCacheStats cache;
    std::vector<LevelReport> levels;
  };
  std::vector<ShardReport> shards;
  std::optional<ClusterReport> cluster;  // of a core that has joined one
  std::optional<RespReport> resp;        // with --resp
};

// Asks every core, then answers.
class ObserveExchange final : public http::Exchange {
 public:
  ObserveExchange(http::Connection& connection, Core& core, std::string_view path,
                  std::string_view query);

  void begin() override;
  void respond(http::Connection& to) override;

 private:
  Task<void> gather();
  void answer_ready(const std::vector<CoreReport>& reports);
  void answer_metrics(const std::vector<CoreReport>& reports);
  void answer_cluster(const std::vector<CoreReport>& reports);

  Core& core_;
  std::string path_;
  bool verbose_;
  std::string query_;
  uint16_t status_ = 200;
  uint32_t retry_after_s_ = 0;
  std::string body_;
  http::ContentType type_ = http::ContentType::text;
};

}  // namespace gyre
