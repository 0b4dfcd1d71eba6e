// What INFO says, gathered from all cores.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/task.hpp>

#include "node/core.hpp"
#include "node/resp/resp_server.hpp"

namespace gyre {

// Of one core, at one moment.
struct RespReport {
  RespStats stats;
  resp::ConnectionCounters counters;
  uint64_t clients = 0;
  uint64_t http_connections = 0;
  uint64_t memory_used_bytes = 0;  // writes, values on their way, cached blocks
  uint64_t output_bytes = 0;
  uint64_t forwarded = 0;
  uint64_t entries = 0;  // in tables and memtables, as far as can be told without reading them
  bool read_only = false;

  void add(const RespReport& other);
};

RespReport resp_report(Core& core);

struct InfoText {
  RespReport sum;
  unsigned cores = 1;
  uint64_t uptime_s = 0;
  uint64_t connections_max = 0;
  uint64_t memory_bytes = 0;
  uint16_t port = 0;
  bool loading = false;
  bool in_cluster = false;
  std::string_view run_id;
  std::string_view durability;

  // The sections that are asked for by name (all of them for "all", "everything", "default" or
  // nothing).
  std::string write(const std::vector<std::string_view>& sections) const;
};

}  // namespace gyre
