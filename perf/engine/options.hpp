// The command line of gyre-engine-bench.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/store_options.hpp>

#include "engine/workload.hpp"

namespace gyre::engine {

enum class Engine : uint8_t { gyre, rocksdb };
inline constexpr unsigned engine_count = 2;
std::string_view to_string(Engine engine);

struct Options {
  std::vector<const Workload*> workloads;  // in the order of workload.hpp
  std::vector<Engine> engines = {Engine::gyre, Engine::rocksdb};
  std::vector<Loop> loops = {Loop::closed, Loop::open};
  unsigned pairs = 6;
  double seconds = 3;
  double sweep_seconds = 1.5;
  uint64_t keys = 2'000'000;
  uint64_t value_bytes = 100;
  std::vector<int> cpus;                                   // empty: all that this process may use
  unsigned lanes = 128;                                    // of ours
  std::vector<unsigned> threads = {1, 2, 4, 16, 64, 128};  // of RocksDB; the best is taken
  uint64_t cache_bytes = 0;                                // 0: what the workload says
  uint64_t write_buffer_bytes = 48u << 20;
  uint64_t block_bytes = 8192;
  unsigned bloom_bits = 10;
  bool compress = true;
  bool direct_io = true;
  uint64_t blob_bytes_min = 0;
  uint64_t separate_bytes_min = separate_value_bytes_min_default;
  bool any_core = true;
  double open_share = 0.7;
  double rate = 0;  // of the open loop; 0: open_share of what the slower engine can do
  double write_rate = 10'000;
  // Of rates. Not a part of the kernel's tick, which counts the CPUs' time: it would always find
  // them at the same point between two bursts.
  double burst_us = 97;
  double overwrites = 2;  // times the keys, before the first run of overwrite
  uint64_t seed = 1;
  std::string directory;  // empty: the system's for temporary files
  std::string json_file;
  bool quiet = false;

  uint64_t data_bytes() const { return keys * (key_bytes + value_bytes); }
};

struct CommandLine {
  Options options;
  std::string print;  // instead of a run
};
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments);

std::string help_text();

}  // namespace gyre::engine
