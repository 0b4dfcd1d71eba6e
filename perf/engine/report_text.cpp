#include <fmt/format.h>

#include "engine/summary.hpp"
#include "load/verdict.hpp"

namespace gyre::engine {

namespace {

std::string cell(const Histogram& latency, double percentile) {
  if (!load::is_supported(latency.total(), percentile)) return "-";
  return fmt::format("{:.0f}", static_cast<double>(latency.at_percentile(percentile)) / 1e3);
}

std::string cell(std::optional<double> value) {
  return value ? fmt::format("{:.2f}", *value) : "-";
}

std::string row(const Step& step, Engine engine) {
  const Merged merged = merge(step, engine);
  const Histogram& latency = merged.operations.latency();
  const uint64_t operations = merged.all_operations();
  const Usage& usage = merged.usage;
  return fmt::format("  {:<8} {:>9.0f} {:>8} {:>8} {:>8} {:>9.0f} {:>8} {:>8} {:>7} {:>7}\n",
                     to_string(engine), merged.per_s_median, cell(latency, 50), cell(latency, 99),
                     cell(latency, 99.9), static_cast<double>(latency.max()) / 1e3,
                     cell(per_operation(usage.user_us + usage.kernel_us, operations)),
                     cell(per_operation(usage.system_us, operations)),
                     cell(write_amplification(merged.counters)),
                     cell(step.space[static_cast<size_t>(engine)]));
}

}  // namespace

std::string table_text(const Step& step) {
  std::string text = fmt::format("{}, {} loop: {}\n", step.workload->name, to_string(step.loop),
                                 step.workload->title);
  if (step.rate > 0) text += fmt::format("  {:.0f} operations per second\n", step.rate);
  if (!step.trials.empty()) {
    text += "  RocksDB's threads:";
    for (const Step::Trial& trial : step.trials) {
      text += step.loop == Loop::closed
                  ? fmt::format(" {}: {:.0f}/s", trial.threads, trial.per_s)
                  : fmt::format(" {}: p99.9 {:.0f} us", trial.threads, trial.p999_us);
    }
    text += "\n";
  }
  text += fmt::format("  {} lanes, {} threads\n", step.concurrency[0], step.concurrency[1]);
  text += fmt::format("  {:<8} {:>9} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>7} {:>7}\n", "engine",
                      "per s", "p50 us", "p99 us", "p99.9 us", "max us", "process", "system",
                      "write A", "space A");
  for (const Engine engine : {Engine::gyre, Engine::rocksdb}) {
    if (merge(step, engine).runs > 0) text += row(step, engine);
  }
  for (const Ratio& ratio : ratios(step)) {
    text += fmt::format("  {:<20} to {} {:.2f} ({:.2f}–{:.2f})", ratio.metric, ratio.to,
                        ratio.median, ratio.low, ratio.high);
    if (ratio.aim) {
      text += fmt::format("   aim {} {:g}: {}", ratio.aim->at_least ? "≥" : "≤", ratio.aim->limit,
                          ratio.met ? "met" : "missed");
    }
    text += "\n";
  }
  return text + "\n";
}

}  // namespace gyre::engine
