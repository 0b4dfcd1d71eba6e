// What was measured, and what follows from it. Pure but for the data.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "engine/options.hpp"
#include "engine/usage.hpp"
#include "load/machine.hpp"

namespace gyre::engine {

// One engine, one stretch.
struct Run {
  Engine engine = Engine::gyre;
  unsigned pair = 0;
  unsigned order = 0;  // position within the step
  unsigned concurrency = 0;
  double rate = 0;
  LoadResult result;
  Usage usage;

  uint64_t operations() const { return result.operations.latency().total(); }
  // What its costs are counted against.
  uint64_t all_operations() const { return operations() + result.writes.latency().total(); }
  double per_s() const {
    return result.elapsed > 0
               ? static_cast<double>(operations()) * 1e9 / static_cast<double>(result.elapsed)
               : 0;
  }
};

// A workload in one loop.
struct Step {
  const Workload* workload = nullptr;
  Loop loop = Loop::closed;
  double rate = 0;
  std::array<unsigned, engine_count> concurrency{};
  struct Trial {
    unsigned threads;
    double per_s;
    double p999_us;
  };
  std::vector<Trial> trials;  // of RocksDB's thread counts
  std::vector<Run> runs;
  std::array<std::optional<double>, engine_count> space;  // amplification
  std::optional<double> probe_reads_per_s;
};

struct Report {
  std::string started;
  std::string finished;
  bool interrupted = false;
  std::string why;
  std::string command;
  load::Machine machine;
  std::string rocksdb_version;
  std::vector<Step> steps;
};

// All runs of an engine in a step as one.
struct Merged {
  unsigned runs = 0;
  Recorder operations;
  Recorder writes;
  EngineCounters counters;
  Usage usage;
  Nanos elapsed = 0;
  double per_s_median = 0;

  uint64_t all_operations() const {
    return operations.latency().total() + writes.latency().total();
  }
};
Merged merge(const Step& step, Engine engine);

struct Ratio {
  std::string metric;
  std::string to;  // "rocksdb", or what else ours is compared with
  double median = 0;
  double low = 0;
  double high = 0;
  unsigned pairs = 0;
  std::optional<Aim> aim;
  bool met = false;
};
// Of pairs that are complete. For space and disk there is one value.
std::vector<Ratio> ratios(const Step& step);

// A line per aim, and per thing that makes figures worthless.
std::vector<std::string> findings(const Report& report);
bool has_wrong_answers(const Report& report);

std::string table_text(const Step& step);
// The form of the lab's reports: schema "gyre-lab/1".
std::string json_text(const Options& options, const Report& report);

}  // namespace gyre::engine
