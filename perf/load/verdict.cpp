#include "load/verdict.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace gyre::load {

namespace {

constexpr double lag_share_max = 0.1;    // of the latency at a percentile
constexpr double busy_share_max = 0.85;  // of a thread's time, own work and others on its CPU

bool is_late_at(const Recorder& recorder, double percentile) {
  return static_cast<double>(recorder.send_lag.at_percentile(percentile)) >
         lag_share_max * static_cast<double>(recorder.latency.at_percentile(percentile));
}

void judge_generator(const Options& options, const Recorder& recorder, Verdict& verdict) {
  if (options.closed || recorder.latency.empty()) return;
  const auto latency = static_cast<double>(recorder.latency.at_percentile(99));
  const auto lag = static_cast<double>(recorder.send_lag.at_percentile(99));
  const auto wait = static_cast<double>(recorder.queue_wait.at_percentile(99));
  if (is_late_at(recorder, 99)) {
    verdict.generator_limited = true;
    verdict.generator_text = fmt::format(
        "send lag p99 ({:.3f} ms) is over a tenth of latency p99 ({:.3f} ms): this machine or this "
        "process could not keep to the schedule. Give it a CPU of its own, or a lower --rate",
        lag / 1e6, latency / 1e6);
  } else if (recorder.busy_share_max + recorder.starved_share_max > busy_share_max &&
             wait > lag_share_max * latency) {
    // Connections look busy while their answers wait for the generator.
    verdict.generator_limited = true;
    verdict.generator_text = fmt::format(
        "a thread of it was busy {:.0f} % of the time, and others had its CPU for {:.0f} %, while "
        "requests queued: its limit, perhaps not the server's, was measured. Give it CPUs of its "
        "own, more --threads, or a lower --rate",
        100 * recorder.busy_share_max, 100 * recorder.starved_share_max);
  }
  if (verdict.generator_limited) verdict.generator_limited_at.push_back("p99");
  static constexpr std::pair<const char*, double> beyond[] = {{"p999", 99.9}, {"p9999", 99.99}};
  for (const auto& [name, percentile] : beyond) {
    if (is_supported(recorder.latency.total(), percentile) && is_late_at(recorder, percentile)) {
      verdict.generator_limited_at.push_back(name);
    }
  }
}

double errors_percent(const Recorder& recorder) {
  const uint64_t whole = recorder.sent + recorder.unfinished_queued;
  const uint64_t bad = recorder.errors.unanswered() + recorder.errors.status -
                       recorder.errors.not_found + recorder.errors.wrong +
                       recorder.unfinished_sent + recorder.unfinished_queued;
  return whole == 0 ? 0 : 100 * static_cast<double>(bad) / static_cast<double>(whole);
}

// What was never answered would have taken at least its age. Answers that are not good have no
// latency here, so that whoever asks for a latency asks for no errors, if not for a share of them.
void judge_objectives(const Options& options, const Recorder& recorder, Verdict& verdict) {
  Histogram all(largest_ns);
  all.add(recorder.latency);
  all.add(recorder.incomplete);
  for (const Objective& objective : options.objectives) {
    ObjectiveResult result;
    result.name = objective.percentile == 100 ? "max" : fmt::format("p{:g}", objective.percentile);
    result.limit = static_cast<double>(objective.limit) / 1e3;
    const uint64_t value =
        objective.percentile == 100 ? all.max() : all.at_percentile(objective.percentile);
    result.value = static_cast<double>(value) / 1e3;
    result.samples = all.total();
    result.samples_needed = samples_needed(objective.percentile);
    result.supported = is_supported(all.total(), objective.percentile);
    result.met = result.supported && result.value <= result.limit;
    verdict.objectives.push_back(result);
  }
  if (options.errors_percent_max >= 0 || !options.objectives.empty()) {
    const double limit = std::max(0.0, options.errors_percent_max);
    const double percent = errors_percent(recorder);
    verdict.objectives.push_back({.name = "errors",
                                  .limit = limit,
                                  .value = percent,
                                  .supported = true,
                                  .met = percent <= limit});
  }
  for (const ObjectiveResult& result : verdict.objectives) verdict.breached |= !result.met;
}

}  // namespace

bool is_supported(uint64_t samples, double percentile) {
  if (percentile >= 100) return samples > 0;
  return static_cast<double>(samples) * (100 - percentile) / 100 >= samples_above_min - 1e-6;
}

uint64_t samples_needed(double percentile) {
  if (percentile >= 100) return 1;
  return static_cast<uint64_t>(std::ceil(samples_above_min * 100 / (100 - percentile) - 1e-6));
}

Verdict judge(const Options& options, const Outcome& outcome) {
  Verdict verdict;
  const Recorder& recorder = outcome.recorder;
  verdict.interrupted = outcome.stopped != Stop::none;
  verdict.unanswered = recorder.good() == 0 && recorder.sent + recorder.unfinished_queued > 0;
  if (outcome.loaded) {
    judge_generator(options, recorder, verdict);
    judge_objectives(options, recorder, verdict);
  }
  switch (outcome.stopped) {
    case Stop::none:
      // Of an interrupted run nothing is demanded.
      if (verdict.unanswered) verdict.exit_code = exit_failed;
      if (verdict.breached || recorder.errors.wrong > 0) verdict.exit_code = exit_breach;
      break;
    case Stop::sigint:
      verdict.exit_code = exit_sigint;
      break;
    case Stop::sigterm:
      verdict.exit_code = exit_sigterm;
      break;
    case Stop::server_lost:
    case Stop::failed:
      verdict.exit_code = exit_failed;
      break;
  }
  return verdict;
}

}  // namespace gyre::load
