// What the proxy tells of itself: /stats as JSON, /metrics for Prometheus, /readyz, and, for the
// administration only, the hot keys. Keys are never labels of a metric.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "http/connection.hpp"
#include "proxy/http_front.hpp"
#include "proxy/origin.hpp"
#include "proxy/resp_front.hpp"

namespace gyre::proxy {

class Proxy;

// Paths that only report. /hotkeys is the administration's.
bool is_reported(std::string_view path);

// One core's figures, taken on that core.
struct CoreReport {
  bool draining = false;  // of core 0
  FrontStats front;
  RespFrontStats resp;  // zeros without --resp
  uint64_t resp_pushes_cut_off = 0;
  OriginStats origin;
  bool faults_active = false;
  CacheStats cache;
  uint64_t cache_keys = 0;
  uint64_t cache_bytes = 0;
  resp::ClientStats client;
  UpstreamStats upstream;
  bool up = false;
  bool coherent = false;
  uint64_t nodes = 0;
  uint64_t nodes_up = 0;
  uint64_t slots_covered = 0;
  struct Node {
    std::string address;
    bool up = false;
    uint64_t slots = 0;
    std::string trouble;
  };
  std::vector<Node> cluster;  // of a cluster
  std::string trouble;
  std::string server_version;
  uint64_t breakers_open = 0;
  uint64_t breaker_opened = 0;
  uint64_t breaker_refused = 0;
  std::vector<HotKeys::Counted> hot_keys;  // if asked for
};

// Asks every core, then answers.
class ReportExchange final : public http::Exchange {
 public:
  ReportExchange(http::Connection& connection, Proxy& proxy, std::string_view path,
                 std::string_view query);

  void begin() override;
  void respond(http::Connection& to) override;

 private:
  Task<void> gather();
  void answer_ready(const std::vector<CoreReport>& reports);
  void answer_stats(const std::vector<CoreReport>& reports);
  void answer_metrics(const std::vector<CoreReport>& reports);
  void answer_hot_keys(const std::vector<CoreReport>& reports);

  Proxy& proxy_;
  std::string path_;
  bool verbose_;
  uint16_t status_ = 200;
  std::string body_;
  http::ContentType type_ = http::ContentType::text;
};

}  // namespace gyre::proxy
