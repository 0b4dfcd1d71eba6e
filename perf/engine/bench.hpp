// Runs the workloads: data first, RocksDB's best thread count, then runs in turns (gyre, RocksDB,
// RocksDB, gyre, …), so that what drifts drifts for both. Only one engine has work at a time: the
// other is closed, or open and settled.
//
//   directory/gyre-data, rocksdb-data     filled once for all workloads but the fills
//   directory/gyre-fill, rocksdb-fill     of one run
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "engine/options.hpp"
#include "engine/session.hpp"
#include "engine/summary.hpp"

namespace gyre::engine {

struct BenchEvents {
  std::function<void(const std::string&)> progress;  // what is being done now
  std::function<void(const Report&)> run_ended;
  std::function<void(const Step&)> step_ended;
};

class Bench {
 public:
  Bench(const Options& options, std::string directory, const Interruption& interrupted,
        Report& report, BenchEvents events);

  // Ends early, without an error, when interrupted.
  Result<void> run();

 private:
  struct Contender {
    std::string name;
    std::string data;  // directory
    bool filled = false;
    bool aged = false;
    std::unique_ptr<Session> held;
  };

  Contender& contender(Engine engine) { return contenders_[static_cast<size_t>(engine)]; }
  bool takes_part(Engine engine) const;
  Settings settings(const Workload& workload, std::string directory) const;
  Result<std::unique_ptr<Session>> open(Engine engine, const Settings& settings) const;
  Result<LoadResult> load(Session& session, const Load& load) const;

  Result<void> fill(Engine engine);
  Result<void> hold(const Workload& workload);
  Result<void> warm(const Workload& workload, Engine engine);
  Result<void> let_go();
  Result<void> run_workload(const Workload& workload);
  Result<void> run_step(Step& step);
  Result<void> choose_threads(Step& step);
  Result<double> choose_rate(const Workload& workload);
  Result<Run> one_run(const Step& step, Engine engine, unsigned concurrency, double seconds);
  Result<Run> measure(Session& session, const Step& step, Engine engine, unsigned concurrency,
                      double seconds) const;
  Result<Run> run_on_empty(const Step& step, Engine engine, unsigned concurrency, double seconds);
  Result<Run> run_aged(const Step& step, Engine engine, unsigned concurrency, double seconds);
  Result<void> measure_space(Step& step);

  const Options& options_;
  std::string directory_;
  const Interruption& interrupted_;
  Report& report_;
  BenchEvents events_;
  UsageMeter meter_;
  std::array<Contender, engine_count> contenders_;
  // Of the workload at hand, in the closed loop; 0: not known.
  std::array<double, engine_count> capacity_per_s_{};
};

}  // namespace gyre::engine
