#include "engine/summary.hpp"

#include <doctest/doctest.h>

using namespace gyre;
using namespace gyre::engine;

namespace {

// `count` operations in a second, each of `latency_us`.
Run run_of(Engine engine, unsigned pair, uint64_t count, int64_t latency_us) {
  Run run{.engine = engine, .pair = pair};
  run.result.operations = Recorder(0);
  for (uint64_t i = 0; i < count; ++i) {
    run.result.operations.record(0, microseconds(latency_us));
  }
  run.result.operations.finish();
  run.result.elapsed = seconds(1);
  run.usage = {.user_us = 3 * count, .kernel_us = count, .system_us = 8 * count};
  run.result.counters = {
      .user_bytes = count * 100, .flushed_bytes = count * 50, .compacted_bytes = count * 100};
  return run;
}

Step step_of(std::string_view workload, Loop loop) {
  Step step{.workload = find_workload(workload), .loop = loop};
  REQUIRE(step.workload != nullptr);
  return step;
}

const Ratio* find(const std::vector<Ratio>& all, std::string_view metric) {
  for (const Ratio& ratio : all) {
    if (ratio.metric == metric) return &ratio;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("a ratio is one pair's, and its median and range are reported") {
  Step step = step_of("fillrandom", Loop::closed);
  const uint64_t ours[] = {300, 100, 400};
  const uint64_t theirs[] = {100, 100, 200};
  for (unsigned pair = 0; pair < 3; ++pair) {
    step.runs.push_back(run_of(Engine::gyre, pair, ours[pair], 10));
    step.runs.push_back(run_of(Engine::rocksdb, pair, theirs[pair], 10));
  }
  step.runs.push_back(run_of(Engine::gyre, 3, 9999, 10));  // its pair was interrupted
  const auto all = ratios(step);
  const Ratio* throughput = find(all, "answered_per_s");
  REQUIRE(throughput != nullptr);
  CHECK(throughput->pairs == 3);
  CHECK(throughput->median == doctest::Approx(2));
  CHECK(throughput->low == doctest::Approx(1));
  CHECK(throughput->high == doctest::Approx(3));
  REQUIRE(throughput->aim);
  CHECK(throughput->met);               // at least 1.3
  CHECK(find(all, "p999") == nullptr);  // says nothing in a closed loop
  CHECK(find(all, "process_us")->median == doctest::Approx(1));
}

TEST_CASE("percentiles are compared where the samples support them, against their aim") {
  Step step = step_of("overwrite", Loop::open);
  step.runs.push_back(run_of(Engine::gyre, 0, 200'000, 50));
  step.runs.push_back(run_of(Engine::rocksdb, 0, 200'000, 200));
  const auto all = ratios(step);
  const Ratio* p999 = find(all, "p999");
  REQUIRE(p999 != nullptr);
  CHECK(p999->median == doctest::Approx(0.25).epsilon(0.01));
  CHECK(!p999->met);  // at most 0.2
  Step few = step_of("overwrite", Loop::open);
  few.runs.push_back(run_of(Engine::gyre, 0, 5000, 50));
  few.runs.push_back(run_of(Engine::rocksdb, 0, 5000, 200));
  const auto weak = ratios(few);
  CHECK(find(weak, "p99") == nullptr);
  CHECK(find(weak, "p50") != nullptr);
}

TEST_CASE("what all runs together have written, and the space it takes") {
  Step step = step_of("overwrite", Loop::closed);
  step.runs.push_back(run_of(Engine::gyre, 0, 1000, 10));
  step.runs.push_back(run_of(Engine::rocksdb, 0, 1000, 10));
  step.runs.back().result.counters.compacted_bytes *= 3;
  step.space[0] = 1.1;
  const auto all = ratios(step);
  const Ratio* writes = find(all, "write_amplification");
  REQUIRE(writes != nullptr);
  CHECK(writes->median == doctest::Approx(1.5 / 3.5));
  CHECK(writes->met);
  const Ratio* space = find(all, "space_amplification");
  REQUIRE(space != nullptr);
  CHECK(space->median == doctest::Approx(1.1));
  CHECK(space->met);
}

TEST_CASE("wrong answers and undone work are findings") {
  Report report;
  report.steps.push_back(step_of("readrandom", Loop::open));
  report.steps[0].runs.push_back(run_of(Engine::rocksdb, 0, 10, 10));
  CHECK(!has_wrong_answers(report));
  CHECK(findings(report).empty());
  report.steps[0].runs[0].result.operations.wrong = 2;
  report.steps[0].runs[0].result.operations.unfinished = 3;
  CHECK(has_wrong_answers(report));
  REQUIRE(findings(report).size() == 2);
  CHECK(findings(report)[0] == "readrandom, open loop: rocksdb gave 2 WRONG answers");
}

TEST_CASE("a report of one engine, or of nothing yet, is written all the same") {
  Report report;
  CHECK(json_text({}, report).find("\"steps\":[]") != std::string::npos);
  report.steps.push_back(step_of("readrandom", Loop::closed));
  report.steps[0].runs.push_back(run_of(Engine::gyre, 0, 1000, 10));
  CHECK(json_text({}, report).find("\"ratios\":[]") != std::string::npos);
  CHECK(table_text(report.steps[0]).find("rocksdb") == std::string::npos);
}
