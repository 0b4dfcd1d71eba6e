#include "engine/bench.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "engine/disk_probe.hpp"
#include "engine/gyre_session.hpp"
#include "engine/rocksdb_session.hpp"
#include "load/verdict.hpp"

namespace gyre::engine {

namespace {

constexpr unsigned fill_threads = 4;  // of RocksDB, where it is not measured
constexpr unsigned warm_threads = 4;
constexpr double capacity_share_min = 0.99;  // of the rate, to count as having kept it
constexpr uint64_t cache_bytes_min = 64u << 20;
constexpr uint64_t probe_bytes = 256u << 20;
constexpr double probe_seconds = 2;

Nanos nanos(double in_seconds) {
  return static_cast<Nanos>(in_seconds * 1e9);
}

std::string describe(const Step& step) {
  return fmt::format("{}, {} loop", step.workload->name, to_string(step.loop));
}

}  // namespace

Bench::Bench(const Options& options, std::string directory, const Interruption& interrupted,
             Report& report, BenchEvents events)
    : options_(options),
      directory_(std::move(directory)),
      interrupted_(interrupted),
      report_(report),
      events_(std::move(events)),
      meter_(directory_) {
  for (const Engine engine : {Engine::gyre, Engine::rocksdb}) {
    contender(engine).name = to_string(engine);
    contender(engine).data = fmt::format("{}/{}-data", directory_, to_string(engine));
  }
}

bool Bench::takes_part(Engine engine) const {
  return std::find(options_.engines.begin(), options_.engines.end(), engine) !=
         options_.engines.end();
}

Settings Bench::settings(const Workload& workload, std::string directory) const {
  const uint64_t data_bytes = options_.data_bytes();
  Settings settings;
  settings.directory = std::move(directory);
  settings.cpus = static_cast<unsigned>(options_.cpus.size());
  settings.keys = options_.keys;
  settings.value_bytes = options_.value_bytes;
  settings.sync = workload.sync;
  settings.cache_bytes = options_.cache_bytes;
  if (settings.cache_bytes == 0) {
    settings.cache_bytes =
        workload.quarter_cache ? data_bytes / 4 : std::max(2 * data_bytes, cache_bytes_min);
  }
  settings.cache_holds_all = settings.cache_bytes > data_bytes + data_bytes / 4;
  settings.write_buffer_bytes = options_.write_buffer_bytes;
  settings.block_bytes = static_cast<unsigned>(options_.block_bytes);
  settings.bloom_bits = options_.bloom_bits;
  settings.compress = options_.compress;
  settings.direct_io = options_.direct_io;
  settings.blob_bytes_min = options_.blob_bytes_min;
  settings.separate_bytes_min = options_.separate_bytes_min;
  settings.any_core = options_.any_core;
  return settings;
}

Result<std::unique_ptr<Session>> Bench::open(Engine engine, const Settings& settings) const {
  return engine == Engine::gyre ? open_gyre(settings) : open_rocksdb(settings);
}

Result<LoadResult> Bench::load(Session& session, const Load& load) const {
  Result<LoadResult> result = session.run(load, interrupted_);
  if (result && !result->problem.empty()) return fail(Errc::io, result->problem);
  return result;
}

// --- data ---------------------------------------------------------------------------------------

// Every key once, in random order, then all of it in the deepest level.
Result<void> Bench::fill(Engine engine) {
  Contender& filled = contender(engine);
  if (filled.filled || interrupted_()) return {};
  events_.progress(fmt::format("filling {} with {} keys", filled.name, options_.keys));
  Workload plain = workloads().front();
  plain.sync = false;
  auto session = open(engine, settings(plain, filled.data));
  if (!session) return fail(session.error());
  const Load all{.operation = Operation::put,
                 .order = KeyOrder::once,
                 .concurrency = engine == Engine::gyre ? options_.lanes : fill_threads,
                 .seed = options_.seed};
  Result<LoadResult> loaded = load(**session, all);
  if (!loaded) return fail(loaded.error());
  if (!interrupted_()) {
    events_.progress(fmt::format("compacting {}", filled.name));
    if (auto done = (*session)->compact(); !done) return done;
  }
  filled.filled = true;
  return (*session)->close();
}

// Opens both engines over their data.
Result<void> Bench::hold(const Workload& workload) {
  for (const Engine engine : options_.engines) {
    if (interrupted_()) return {};
    Contender& holder = contender(engine);
    auto session = open(engine, settings(workload, holder.data));
    if (!session) return fail(session.error());
    holder.held = std::move(*session);
    if (auto warmed = warm(workload, engine); !warmed) return warmed;
  }
  return {};
}

// Reads until the cache holds what it can.
Result<void> Bench::warm(const Workload& workload, Engine engine) {
  Contender& cold = contender(engine);
  events_.progress(fmt::format("{}: warming {}", workload.name, cold.name));
  Load reads{.operation = Operation::get,
             .order = workload.quarter_cache ? KeyOrder::random : KeyOrder::once,
             .concurrency = engine == Engine::gyre ? options_.lanes : warm_threads,
             .seed = options_.seed + 7};
  if (workload.quarter_cache) reads.operations = options_.keys / 2;
  Result<LoadResult> warmed = load(*cold.held, reads);
  if (!warmed) return fail(warmed.error());
  return {};
}

Result<void> Bench::let_go() {
  Result<void> done{};
  for (Contender& each : contenders_) {
    if (!each.held) continue;
    if (auto closed = each.held->close(); !closed && done) done = closed;
    each.held.reset();
  }
  return done;
}

// --- runs ---------------------------------------------------------------------------------------

Result<Run> Bench::measure(Session& session, const Step& step, Engine engine, unsigned concurrency,
                           double seconds) const {
  const Workload& workload = *step.workload;
  const Load measured{.operation = workload.operation,
                      .concurrency = concurrency,
                      .rate = step.rate,
                      .duration = nanos(seconds),
                      .write_rate = workload.writes_beside ? options_.write_rate : 0,
                      .burst = static_cast<Nanos>(options_.burst_us * 1e3),
                      .seed = options_.seed + 1000 * (step.runs.size() + 1)};
  Run run{.engine = engine, .concurrency = concurrency, .rate = step.rate};
  const UsageSample before = meter_.sample();
  Result<LoadResult> result = load(session, measured);
  if (!result) return fail(result.error());
  run.usage = usage_between(before, meter_.sample());
  run.result = std::move(*result);
  return run;
}

Result<Run> Bench::run_on_empty(const Step& step, Engine engine, unsigned concurrency,
                                double seconds) {
  const std::string directory = fmt::format("{}/{}-fill", directory_, to_string(engine));
  auto session = open(engine, settings(*step.workload, directory));
  if (!session) return fail(session.error());
  Result<Run> run = measure(**session, step, engine, concurrency, seconds);
  const Result<void> closed = (*session)->close();
  std::filesystem::remove_all(directory);
  if (run && !closed) return fail(closed.error());
  return run;
}

Result<Run> Bench::run_aged(const Step& step, Engine engine, unsigned concurrency, double seconds) {
  Contender& aged = contender(engine);
  auto session = open(engine, settings(*step.workload, aged.data));
  if (!session) return fail(session.error());
  const auto overwrites =
      static_cast<uint64_t>(options_.overwrites * static_cast<double>(options_.keys));
  if (!std::exchange(aged.aged, true) && overwrites > 0) {
    events_.progress(fmt::format("{}: {} PUTs before the first run of {}", describe(step),
                                 overwrites, aged.name));
    const Load first{.operation = Operation::put,
                     .concurrency = engine == Engine::gyre ? options_.lanes : fill_threads,
                     .operations = overwrites,
                     .seed = options_.seed + 99};
    if (auto done = load(**session, first); !done) return fail(done.error());
  }
  Result<Run> run = measure(**session, step, engine, concurrency, seconds);
  const Result<void> closed = (*session)->close();
  if (run && !closed) return fail(closed.error());
  return run;
}

Result<Run> Bench::one_run(const Step& step, Engine engine, unsigned concurrency, double seconds) {
  switch (step.workload->start) {
    case Start::empty:
      return run_on_empty(step, engine, concurrency, seconds);
    case Start::aged:
      return run_aged(step, engine, concurrency, seconds);
    case Start::held:
      break;
  }
  Session& session = *contender(engine).held;
  Result<Run> run = measure(session, step, engine, concurrency, seconds);
  if (run && step.workload->writes_beside && !interrupted_()) {
    // Tables that were merged are not in the cache; and nothing goes on while the other one runs.
    if (auto settled = session.settle(); !settled) return fail(settled.error());
    if (auto warmed = warm(*step.workload, engine); !warmed) return fail(warmed.error());
  }
  return run;
}

// RocksDB's best: the highest throughput, or in the open loop the lowest p99.9 of those that keep
// the rate.
Result<void> Bench::choose_threads(Step& step) {
  unsigned& chosen = step.concurrency[static_cast<size_t>(Engine::rocksdb)];
  chosen = options_.threads.front();
  if (options_.threads.size() == 1 || !takes_part(Engine::rocksdb)) return {};
  for (const unsigned threads : options_.threads) {
    if (interrupted_()) return {};
    events_.progress(fmt::format("{}: rocksdb with {} threads", describe(step), threads));
    Result<Run> run = one_run(step, Engine::rocksdb, threads, options_.sweep_seconds);
    if (!run) return fail(run.error());
    const Histogram& latency = run->result.operations.latency();
    step.trials.push_back({.threads = threads,
                           .per_s = run->per_s(),
                           .p999_us = static_cast<double>(latency.at_percentile(99.9)) / 1e3});
  }
  const auto better = [&](const Step::Trial& a, const Step::Trial& b) {
    if (step.loop == Loop::closed) return a.per_s > b.per_s;
    const bool a_keeps = a.per_s >= capacity_share_min * step.rate;
    const bool b_keeps = b.per_s >= capacity_share_min * step.rate;
    if (a_keeps != b_keeps) return a_keeps;
    return a_keeps ? a.p999_us < b.p999_us : a.per_s > b.per_s;
  };
  chosen = std::min_element(step.trials.begin(), step.trials.end(), better)->threads;
  return {};
}

// A rate that both keep.
Result<double> Bench::choose_rate(const Workload& workload) {
  if (options_.rate > 0) return options_.rate;
  double least = 0;
  for (const Engine engine : options_.engines) {
    double& capacity = capacity_per_s_[static_cast<size_t>(engine)];
    if (capacity == 0 && !interrupted_()) {
      Step closed{.workload = &workload, .loop = Loop::closed};
      closed.concurrency[0] = options_.lanes;
      if (engine == Engine::rocksdb) {
        if (auto chosen = choose_threads(closed); !chosen) return fail(chosen.error());
      }
      const unsigned concurrency = closed.concurrency[static_cast<size_t>(engine)];
      events_.progress(fmt::format("{}: how fast is {}?", workload.name, to_string(engine)));
      Result<Run> run = one_run(closed, engine, concurrency, options_.sweep_seconds);
      if (!run) return fail(run.error());
      capacity = run->per_s();
    }
    least = least == 0 ? capacity : std::min(least, capacity);
  }
  return std::max(1.0, options_.open_share * least);
}

Result<void> Bench::run_step(Step& step) {
  step.concurrency[0] = options_.lanes;
  if (step.loop == Loop::open) {
    Result<double> rate = choose_rate(*step.workload);
    if (!rate) return fail(rate.error());
    step.rate = *rate;
  }
  if (auto chosen = choose_threads(step); !chosen) return chosen;
  if (step.workload->quarter_cache && !interrupted_()) {
    events_.progress(fmt::format("{}: the disk itself", describe(step)));
    Result<double> probed = probe_random_reads(directory_, probe_bytes, nanos(probe_seconds));
    if (!probed) return fail(probed.error());
    step.probe_reads_per_s = *probed;
  }
  for (unsigned pair = 0; pair < options_.pairs; ++pair) {
    std::vector<Engine> order = options_.engines;
    if (pair % 2 == 1) std::reverse(order.begin(), order.end());
    for (const Engine engine : order) {
      if (interrupted_()) return {};
      events_.progress(fmt::format("{}: pair {} of {}, {}", describe(step), pair + 1,
                                   options_.pairs, to_string(engine)));
      Result<Run> run =
          one_run(step, engine, step.concurrency[static_cast<size_t>(engine)], options_.seconds);
      if (!run) {
        return fail(Errc::io, fmt::format("{}, {}: {}", describe(step), to_string(engine),
                                          run.error().message()));
      }
      run->pair = pair;
      run->order = static_cast<unsigned>(step.runs.size());
      step.runs.push_back(std::move(*run));
    }
    events_.run_ended(report_);
  }
  return {};
}

Result<void> Bench::measure_space(Step& step) {
  for (const Engine engine : options_.engines) {
    if (interrupted_()) return {};
    events_.progress(fmt::format("{}: the space of {}", describe(step), to_string(engine)));
    auto session = open(engine, settings(*step.workload, contender(engine).data));
    if (!session) return fail(session.error());
    const uint64_t bytes = (*session)->table_bytes();
    if (auto done = (*session)->compact(); !done) return done;
    step.space[static_cast<size_t>(engine)] = space_amplification(bytes, (*session)->table_bytes());
    contender(engine).aged = false;
    if (auto closed = (*session)->close(); !closed) return closed;
  }
  return {};
}

Result<void> Bench::run_workload(const Workload& workload) {
  capacity_per_s_ = {};
  if (workload.start != Start::empty) {
    for (const Engine engine : options_.engines) {
      if (auto filled = fill(engine); !filled) return filled;
    }
  }
  if (workload.start == Start::held) {
    if (auto holding = hold(workload); !holding) return holding;
  }
  for (const Loop loop : options_.loops) {
    if (interrupted_()) break;
    report_.steps.push_back({.workload = &workload, .loop = loop});
    Step& step = report_.steps.back();
    if (auto done = run_step(step); !done) return done;
    if (loop == Loop::closed) {
      for (const Engine engine : options_.engines) {
        capacity_per_s_[static_cast<size_t>(engine)] = merge(step, engine).per_s_median;
      }
      if (workload.start == Start::aged) {
        if (auto done = measure_space(step); !done) return done;
      }
    }
    events_.step_ended(step);
  }
  return let_go();
}

Result<void> Bench::run() {
  Result<void> done{};
  for (const Workload* workload : options_.workloads) {
    if (interrupted_() || !done) break;
    done = run_workload(*workload);
  }
  const Result<void> let = let_go();
  return done ? let : done;
}

}  // namespace gyre::engine
