// What the figures of a run are worth: was the generator itself in the way, were the objectives
// met, which percentiles do the samples support. Pure.
#pragma once

#include <string>
#include <vector>

#include "load/session.hpp"

namespace gyre::load {

// A percentile rests on the samples above it: fewer than 100 say little (their number varies by a
// tenth of itself from run to run, 95 times of 100 by a fifth).
constexpr double samples_above_min = 100;
bool is_supported(uint64_t samples, double percentile);
uint64_t samples_needed(double percentile);

struct ObjectiveResult {
  std::string name;  // "p99", "max", "errors"
  double limit = 0;  // microseconds, or percent
  double value = 0;
  bool supported = false;  // enough samples lie above it
  bool met = false;        // only if supported
  uint64_t samples = 0;
  uint64_t samples_needed = 0;
};

struct Verdict {
  bool generator_limited = false;  // at p99
  std::string generator_text;      // why
  // Percentiles ("p99", "p999" …) that the generator had a part in.
  std::vector<std::string> generator_limited_at;
  bool unanswered = false;  // requests were due, and none had a good answer
  bool interrupted = false;
  std::vector<ObjectiveResult> objectives;
  bool breached = false;
  int exit_code = 0;
};
Verdict judge(const Options& options, const Outcome& outcome);

}  // namespace gyre::load
