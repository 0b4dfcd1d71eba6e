#include "engine/summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "load/verdict.hpp"

namespace gyre::engine {

namespace {

using Value = std::function<std::optional<double>(const Run&)>;

std::optional<double> percentile_of(const Run& run, double percentile) {
  const Histogram& latency = run.result.operations.latency();
  if (!load::is_supported(latency.total(), percentile)) return std::nullopt;
  return static_cast<double>(latency.at_percentile(percentile));
}

Ratio with_aim(Ratio ratio, const Step& step, Metric metric) {
  for (const Aim& aim : step.workload->aims) {
    if (aim.metric != metric || aim.loop != step.loop) continue;
    ratio.aim = aim;
    ratio.met = aim.at_least ? ratio.median >= aim.limit : ratio.median <= aim.limit;
  }
  return ratio;
}

// Ours over RocksDB's, pair by pair.
std::optional<Ratio> ratio_of(const Step& step, std::string metric, const Value& value) {
  std::vector<double> values;
  for (const Run& ours : step.runs) {
    if (ours.engine != Engine::gyre) continue;
    const auto theirs = std::find_if(step.runs.begin(), step.runs.end(), [&](const Run& other) {
      return other.engine == Engine::rocksdb && other.pair == ours.pair;
    });
    if (theirs == step.runs.end()) continue;
    const auto above = value(ours);
    const auto below = value(*theirs);
    if (above && below && *below > 0) values.push_back(*above / *below);
  }
  if (values.empty()) return std::nullopt;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return Ratio{.metric = std::move(metric),
               .to = "rocksdb",
               .median = median(values),
               .low = *low,
               .high = *high,
               .pairs = static_cast<unsigned>(values.size()),
               .aim = {}};
}

Ratio single(Metric metric, std::string to, double value) {
  return {.metric = std::string(to_string(metric)),
          .to = std::move(to),
          .median = value,
          .low = value,
          .high = value,
          .pairs = 1,
          .aim = {}};
}

void add_whole_step_ratios(const Step& step, std::vector<Ratio>& out) {
  const Merged ours = merge(step, Engine::gyre);
  const auto above = write_amplification(ours.counters);
  const auto below = write_amplification(merge(step, Engine::rocksdb).counters);
  if (above && below) {
    Ratio ratio = single(Metric::write_amplification, "rocksdb", *above / *below);
    out.push_back(with_aim(std::move(ratio), step, Metric::write_amplification));
  }
  if (const auto space = step.space[0]) {
    Ratio ratio = single(Metric::space_amplification, "its own data, compacted", *space);
    out.push_back(with_aim(std::move(ratio), step, Metric::space_amplification));
  }
  if (step.probe_reads_per_s && ours.elapsed > 0) {
    const double reads_per_s =
        static_cast<double>(ours.usage.device_reads) * 1e9 / static_cast<double>(ours.elapsed);
    Ratio ratio = single(Metric::disk, "the disk itself", reads_per_s / *step.probe_reads_per_s);
    out.push_back(with_aim(std::move(ratio), step, Metric::disk));
  }
}

}  // namespace

Merged merge(const Step& step, Engine engine) {
  Merged merged;
  std::vector<double> rates;
  for (const Run& run : step.runs) {
    if (run.engine != engine) continue;
    ++merged.runs;
    merged.operations.merge(run.result.operations);
    merged.writes.merge(run.result.writes);
    merged.counters = merged.counters + run.result.counters;
    merged.usage = merged.usage + run.usage;
    merged.elapsed += run.result.elapsed;
    rates.push_back(run.per_s());
  }
  merged.per_s_median = median(rates);
  return merged;
}

std::vector<Ratio> ratios(const Step& step) {
  std::vector<Ratio> out;
  const auto add = [&](std::optional<Metric> metric, std::string name, const Value& value) {
    auto ratio = ratio_of(step, std::move(name), value);
    if (!ratio) return;
    out.push_back(metric ? with_aim(std::move(*ratio), step, *metric) : std::move(*ratio));
  };
  add(Metric::throughput, "answered_per_s", [](const Run& run) { return run.per_s(); });
  if (step.loop == Loop::open) {  // in the closed loop they only tell how many asked at a time
    add({}, "p50", [](const Run& run) { return percentile_of(run, 50); });
    add({}, "p99", [](const Run& run) { return percentile_of(run, 99); });
    add(Metric::p999, "p999", [](const Run& run) { return percentile_of(run, 99.9); });
  }
  add({}, "process_us", [](const Run& run) {
    return per_operation(run.usage.user_us + run.usage.kernel_us, run.all_operations());
  });
  add({}, "system_us",
      [](const Run& run) { return per_operation(run.usage.system_us, run.all_operations()); });
  add_whole_step_ratios(step, out);
  return out;
}

bool has_wrong_answers(const Report& report) {
  for (const Step& step : report.steps) {
    for (const Run& run : step.runs) {
      if (run.result.operations.wrong + run.result.writes.wrong != 0) return true;
    }
  }
  return false;
}

std::vector<std::string> findings(const Report& report) {
  std::vector<std::string> lines;
  for (const Step& step : report.steps) {
    const std::string name = fmt::format("{}, {} loop", step.workload->name, to_string(step.loop));
    for (const Engine engine : {Engine::gyre, Engine::rocksdb}) {
      const Merged merged = merge(step, engine);
      const uint64_t wrong = merged.operations.wrong + merged.writes.wrong;
      const uint64_t unfinished = merged.operations.unfinished + merged.writes.unfinished;
      if (wrong != 0) {
        lines.push_back(
            fmt::format("{}: {} gave {} WRONG answers", name, to_string(engine), wrong));
      }
      if (unfinished != 0) {
        lines.push_back(fmt::format("{}: {} left {} operations undone: the rate was beyond it",
                                    name, to_string(engine), unfinished));
      }
    }
    for (const Ratio& ratio : ratios(step)) {
      if (!ratio.aim) continue;
      lines.push_back(fmt::format("{}: {} to {} {:.2f} ({:.2f}–{:.2f}), aim {} {:g}: {}", name,
                                  ratio.metric, ratio.to, ratio.median, ratio.low, ratio.high,
                                  ratio.aim->at_least ? "≥" : "≤", ratio.aim->limit,
                                  ratio.met ? "met" : "missed"));
    }
  }
  return lines;
}

}  // namespace gyre::engine
