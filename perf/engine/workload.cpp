#include "engine/workload.hpp"

#include <algorithm>

namespace gyre::engine {

namespace {

constexpr Aim fill_aims[] = {{Metric::throughput, Loop::closed, 1.3, true}};
constexpr Aim sync_aims[] = {{Metric::throughput, Loop::closed, 1.5, true}};
constexpr Aim read_aims[] = {{Metric::throughput, Loop::closed, 1.2, true}};
constexpr Aim quarter_aims[] = {{Metric::throughput, Loop::closed, 1.3, true},
                                {Metric::disk, Loop::closed, 0.85, true}};
constexpr Aim seek_aims[] = {{Metric::throughput, Loop::closed, 1.1, true}};
constexpr Aim mixed_aims[] = {{Metric::throughput, Loop::closed, 1.2, true},
                              {Metric::p999, Loop::open, 0.5, false}};
constexpr Aim overwrite_aims[] = {{Metric::throughput, Loop::closed, 1.1, true},
                                  {Metric::p999, Loop::open, 0.2, false},
                                  {Metric::write_amplification, Loop::closed, 0.9, false},
                                  {Metric::space_amplification, Loop::closed, 1.15, false}};

constexpr Workload all[] = {
    {.name = "fillrandom",
     .title = "random PUTs into an empty store, log not synced",
     .operation = Operation::put,
     .start = Start::empty,
     .aims = fill_aims},
    {.name = "fillsync",
     .title = "random PUTs into an empty store, each on the disk before it is answered",
     .operation = Operation::put,
     .start = Start::empty,
     .sync = true,
     .aims = sync_aims},
    {.name = "readrandom",
     .title = "random GETs, everything in the cache",
     .operation = Operation::get,
     .start = Start::held,
     .aims = read_aims},
    {.name = "readrandom-quarter",
     .title = "random GETs, the cache a quarter of the data",
     .operation = Operation::get,
     .start = Start::held,
     .quarter_cache = true,
     .aims = quarter_aims},
    {.name = "seekrandom",
     .title = "seek to a random key and read ten records, everything in the cache",
     .operation = Operation::scan,
     .start = Start::held,
     .aims = seek_aims},
    {.name = "readwhilewriting",
     .title = "random GETs beside PUTs at a fixed rate",
     .operation = Operation::get,
     .start = Start::held,
     .writes_beside = true,
     .aims = mixed_aims},
    {.name = "overwrite",
     .title = "random PUTs over existing keys in the steady state, log not synced",
     .operation = Operation::put,
     .start = Start::aged,
     .aims = overwrite_aims},
};

}  // namespace

std::span<const Workload> workloads() {
  return all;
}

const Workload* find_workload(std::string_view name) {
  const auto* found = std::find_if(std::begin(all), std::end(all),
                                   [&](const Workload& each) { return each.name == name; });
  return found == std::end(all) ? nullptr : found;
}

std::string_view to_string(Metric metric) {
  switch (metric) {
    case Metric::throughput:
      return "answered_per_s";
    case Metric::p999:
      return "p999";
    case Metric::write_amplification:
      return "write_amplification";
    case Metric::space_amplification:
      return "space_amplification";
    case Metric::disk:
      return "disk_reads_per_s";
  }
  return {};
}

std::string_view to_string(Loop loop) {
  return loop == Loop::closed ? "closed" : "open";
}

}  // namespace gyre::engine
