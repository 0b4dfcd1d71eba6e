#include <fmt/format.h>

#include "base/json.hpp"
#include "engine/summary.hpp"
#include "load/verdict.hpp"

namespace gyre::engine {

namespace {

struct Named {
  std::string_view name;
  double percentile;
};
constexpr Named latency_percentiles[] = {
    {"p50", 50}, {"p90", 90}, {"p99", 99}, {"p999", 99.9}, {"p9999", 99.99}};
constexpr Named series_percentiles[] = {{"p50", 50}, {"p99", 99}, {"p999", 99.9}};
constexpr unsigned spectrum_ticks = 3;  // rows per halving of what is left

void put_optional(Json& json, std::string_view name, std::optional<double> value) {
  if (value) {
    json.number(name, *value);
  } else {
    json.null(name);
  }
}

template <size_t count>
void put_percentiles(Json& json, const Histogram& histogram, const Named (&named)[count]) {
  for (const Named& each : named) {
    if (load::is_supported(histogram.total(), each.percentile)) {
      json.micros(each.name, static_cast<double>(histogram.at_percentile(each.percentile)));
    } else {
      json.null(each.name);
    }
  }
}

void put_latency(Json& json, std::string_view name, const Histogram& histogram) {
  if (histogram.empty()) return json.null(name);
  json.open(name, '{');
  json.count("n", histogram.total());
  json.micros("min", static_cast<double>(histogram.min()));
  json.micros("mean", histogram.mean());
  put_percentiles(json, histogram, latency_percentiles);
  json.micros("max", static_cast<double>(histogram.max()));
  json.close('}');
}

void put_spectrum(Json& json, const Histogram& histogram) {
  json.open("spectrum", '[');
  for (const PercentileRow& row : percentile_rows(histogram, spectrum_ticks)) {
    if (!load::is_supported(histogram.total(), 100 * row.percentile)) break;
    json.open("", '[');
    json.number("", 100 * row.percentile);
    json.micros("", static_cast<double>(row.value));
    json.count("", histogram.total() - row.count);
    json.close(']');
  }
  json.close(']');
}

void put_series(Json& json, const Recorder& recorder, Nanos elapsed) {
  const auto whole = static_cast<size_t>(elapsed / seconds(1));  // a part of one misleads
  json.open("series", '[');
  for (size_t i = 0; i < whole; ++i) {
    const Second second = i < recorder.series().size() ? recorder.series()[i] : Second();
    Histogram histogram(largest_ns, 2);
    for (const auto& [value, count] : second.latencies) histogram.record(value, count);
    json.open("", '{');
    json.count("t", i);
    json.count("answers", second.answers);
    json.count("errors", 0);
    put_percentiles(json, histogram, series_percentiles);
    json.micros("max", static_cast<double>(histogram.max()));
    json.close('}');
  }
  json.close(']');
}

void put_cpu(Json& json, const Run& run) {
  const Usage& usage = run.usage;
  const uint64_t operations = run.all_operations();
  json.open("cpu", '{');
  put_optional(json, "user_us", per_operation(usage.user_us, operations));
  put_optional(json, "kernel_us", per_operation(usage.kernel_us, operations));
  put_optional(json, "process_us", per_operation(usage.user_us + usage.kernel_us, operations));
  put_optional(json, "system_us", per_operation(usage.system_us, operations));
  json.number("server_cpus_used", run.result.elapsed > 0
                                      ? static_cast<double>(usage.user_us + usage.kernel_us) * 1e3 /
                                            static_cast<double>(run.result.elapsed)
                                      : 0);
  json.null("generator_cpus_used");
  json.close('}');
}

// What only engines have; the lab's other reports don't know it.
void put_engine(Json& json, const Run& run) {
  const EngineCounters& counters = run.result.counters;
  json.open("engine", '{');
  json.count("concurrency", run.concurrency);
  json.count("refused", run.result.operations.refused + run.result.writes.refused);
  json.count("user_bytes", counters.user_bytes);
  json.count("flushed_bytes", counters.flushed_bytes);
  json.count("compacted_bytes", counters.compacted_bytes);
  json.count("log_bytes", counters.log_bytes);
  put_optional(json, "write_amplification", write_amplification(counters));
  json.count("device_reads", run.usage.device_reads);
  json.count("device_read_bytes", run.usage.device_read_bytes);
  json.count("device_written_bytes", run.usage.device_written_bytes);
  put_latency(json, "write_latency_us", run.result.writes.latency());
  json.close('}');
}

void put_run(Json& json, const Run& run) {
  const Recorder& operations = run.result.operations;
  json.open("", '{');
  json.string("contender", to_string(run.engine));
  json.count("pair", run.pair);
  json.count("order", run.order);
  put_optional(json, "rate", run.rate > 0 ? std::optional(run.rate) : std::nullopt);
  json.number("answered_per_s", run.per_s());
  json.count("ok", run.operations() - std::min(run.operations(), operations.wrong));
  json.open("errors", '{');
  json.count("failed", operations.failed + run.result.writes.failed);
  json.close('}');
  json.count("unfinished", operations.unfinished + run.result.writes.unfinished);
  json.count("wrong", operations.wrong + run.result.writes.wrong);
  json.boolean("generator_limited", false);
  json.string("generator", "");
  put_latency(json, "latency_us", operations.latency());
  put_spectrum(json, operations.latency());
  put_series(json, operations, run.result.elapsed);
  json.null("hiccup_us");
  json.null("send_lag_us");
  put_cpu(json, run);
  json.null("memory");
  put_engine(json, run);
  json.close('}');
}

void put_ratio(Json& json, const Ratio& ratio) {
  json.open("", '{');
  json.string("contender", "gyre");
  json.string("to", ratio.to);
  json.string("metric", ratio.metric);
  json.number("median", ratio.median);
  json.number("low", ratio.low);
  json.number("high", ratio.high);
  json.count("pairs", ratio.pairs);
  if (ratio.aim) {
    json.number("aim", ratio.aim->limit);
    json.string("aim_text",
                fmt::format("{} {:g}", ratio.aim->at_least ? "≥" : "≤", ratio.aim->limit));
    json.boolean("met", ratio.met);
  } else {
    json.null("aim");
    json.string("aim_text", "");
    json.null("met");
  }
  json.close('}');
}

void put_plan(Json& json, const Options& options, const Step& step) {
  static constexpr std::string_view operations[] = {"put", "get", "scan of 10"};
  json.open("plan", '{');
  json.string("operation", operations[static_cast<size_t>(step.workload->operation)]);
  json.count("connections", step.concurrency[0]);
  put_optional(json, "rate", step.rate > 0 ? std::optional(step.rate) : std::nullopt);
  json.number("duration_s", options.seconds);
  json.count("keys", options.keys);
  json.count("value_bytes", options.value_bytes);
  json.string("durability", step.workload->sync ? "group" : "none");
  json.null("memory_bytes");
  json.string("args", "");
  json.number("burst_us", options.burst_us);
  json.count("lanes", step.concurrency[0]);
  json.count("threads", step.concurrency[1]);
  json.open("thread_trials", '[');
  for (const Step::Trial& trial : step.trials) {
    json.open("", '{');
    json.count("threads", trial.threads);
    json.number("answered_per_s", trial.per_s);
    json.number("p999", trial.p999_us);
    json.close('}');
  }
  json.close(']');
  put_optional(json, "disk_reads_per_s", step.probe_reads_per_s);
  json.close('}');
}

void put_step(Json& json, const Options& options, const Step& step) {
  json.open("", '{');
  json.string("name", fmt::format("{}, {} loop", step.workload->name, to_string(step.loop)));
  json.string("kind", step.loop == Loop::closed ? "closed" : "latency");
  put_plan(json, options, step);
  json.open("runs", '[');
  for (const Run& run : step.runs) put_run(json, run);
  json.close(']');
  json.open("merged", '{');
  for (const Engine engine : options.engines) {
    const Merged merged = merge(step, engine);
    if (merged.runs == 0) continue;
    json.open(to_string(engine), '{');
    put_latency(json, "latency_us", merged.operations.latency());
    put_spectrum(json, merged.operations.latency());
    put_optional(json, "write_amplification", write_amplification(merged.counters));
    put_optional(json, "space_amplification", step.space[static_cast<size_t>(engine)]);
    json.close('}');
  }
  json.close('}');
  json.null("knee");
  json.open("ratios", '[');
  for (const Ratio& ratio : ratios(step)) put_ratio(json, ratio);
  json.close(']');
  json.close('}');
}

void put_machine(Json& json, const load::Machine& machine) {
  json.open("machine", '{');
  json.string("cpu", machine.cpu);
  json.count("cores", machine.cpus);
  json.null("memory_bytes");
  json.string("kernel", machine.kernel);
  json.string("governor", machine.governor);
  json.string("thp", machine.huge_pages);
  json.null("filesystem");
  json.null("disk_interrupt_cpu");
  json.null("disk_sync_us");
  json.number("load_average", machine.load_average);
  json.close('}');
}

}  // namespace

std::string json_text(const Options& options, const Report& report) {
  Json json;
  json.open("", '{');
  json.string("schema", "gyre-lab/1");
  json.open("scenario", '{');
  json.string("name", "engine");
  json.string("title", "The storage engine against RocksDB");
  json.string("description",
              "Both as libraries in one harness: same keys, values, cache, filters, compression, "
              "sync, write buffers and CPUs; RocksDB at its best thread count.");
  json.string("reproduces", "");
  json.close('}');
  json.string("started", report.started);
  json.string("finished", report.finished);
  json.boolean("interrupted", report.interrupted);
  json.string("why", report.why);
  json.string("command", report.command);
  put_machine(json, report.machine);
  json.open("build", '{');
  json.null("commit");
  json.null("dirty");
  json.string("compiler", __VERSION__);
  json.null("options");
  json.close('}');
  json.open("pinning", '{');
  json.open("server_cpus", '[');
  for (const int cpu : options.cpus) json.count("", static_cast<uint64_t>(cpu));
  json.close(']');
  json.open("generator_cpus", '[');
  json.close(']');
  json.close('}');
  json.open("contenders", '[');
  for (const Engine engine : options.engines) {
    json.open("", '{');
    json.string("name", to_string(engine));
    json.string("version", engine == Engine::gyre ? GYRE_VERSION : report.rocksdb_version);
    json.string("command", "library");
    json.close('}');
  }
  json.close(']');
  json.open("steps", '[');
  for (const Step& step : report.steps) put_step(json, options, step);
  json.close(']');
  json.open("findings", '[');
  for (const std::string& line : findings(report)) json.string("", line);
  json.close(']');
  json.close('}');
  return json.take() + "\n";
}

}  // namespace gyre::engine
