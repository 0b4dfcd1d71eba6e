// The command line of gyre-threadpool. Flags that `gyre serve` has too mean the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <gyre/store_options.hpp>

#include "node/config_values.hpp"

namespace gyre::threadpool {

// What happens to a request that finds the task queue full.
enum class Overflow : uint8_t {
  reject,  // it is answered 503, with Retry-After
  block,   // its selector waits for room, and reads nothing meanwhile
};

struct Options {
  Address listen{"127.0.0.1", 8080};
  std::string data = "data";
  unsigned cores = 0;      // CPUs to use; 0: all
  unsigned selectors = 0;  // threads; 0: what measured best for the cores
  unsigned workers = 0;    // threads; 0: what measured best for the cores and the durability
  size_t queue_tasks_max = 65'536;  // one for each connection: a shorter one measured worse
  Overflow overflow = Overflow::reject;
  Durability durability = Durability::group;
  bool pin = false;
  bool pipelined_write = false;  // RocksDB's option
  bool direct = false;           // tables past the page cache
  unsigned log_files_recycled = 0;
  uint64_t memory_bytes = 0;  // 0: a quarter of the machine's
  uint64_t value_bytes_max = 16u << 20;
  uint64_t connections_max = 0;  // 0: what the memory allows
  uint64_t head_timeout_ms = 10'000;
  uint64_t body_timeout_ms = 30'000;
  uint64_t idle_timeout_ms = 75'000;
  uint64_t send_timeout_ms = 30'000;

  // A cluster, if there are peers.
  std::vector<std::string> peers;  // URLs of all nodes, this one included
  std::string advertise;           // which of them it is
  unsigned replication = 3;        // copies, where a request doesn't say
  unsigned internal_workers = 0;   // threads for what peers ask; 0: as `workers`
  unsigned threads_per_peer = 0;   // that ask it; 0: what measured best
  uint64_t peer_timeout_ms = 1'000;

  uint64_t open_tables_max = 1000;

  // What --memory is spent on.
  uint64_t cache_bytes = 0;
  uint64_t memtable_bytes = 0;
  uint64_t transit_bytes = 0;  // bodies that arrive and answers that wait for their readers
};

struct CommandLine {
  Options options;
  bool help = false;
  std::string problem;  // one line; empty: none
};
CommandLine parse_command_line(const std::vector<std::string>& arguments);

std::string help_text();

}  // namespace gyre::threadpool
