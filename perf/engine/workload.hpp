// The workloads, by the names that RocksDB's db_bench gave them, and what is aimed at in each.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "engine/session.hpp"

namespace gyre::engine {

enum class Loop : uint8_t { closed, open };

// Where the data of a run comes from.
enum class Start : uint8_t {
  empty,  // every run begins with nothing
  aged,   // filled, then overwritten; runs go on where the one before ended, debt included
  held,   // filled and compacted; the engines stay open, their caches warm
};

enum class Metric : uint8_t { throughput, p999, write_amplification, space_amplification, disk };

// A ratio of ours to RocksDB's; space is ours to its own compacted size, disk to the probe's reads.
struct Aim {
  Metric metric;
  Loop loop;
  double limit;
  bool at_least;
};

struct Workload {
  std::string_view name;
  std::string_view title;
  Operation operation;
  Start start;
  bool sync = false;
  bool quarter_cache = false;
  bool writes_beside = false;
  std::span<const Aim> aims;
};

std::span<const Workload> workloads();
const Workload* find_workload(std::string_view name);
std::string_view to_string(Metric metric);
std::string_view to_string(Loop loop);

}  // namespace gyre::engine
