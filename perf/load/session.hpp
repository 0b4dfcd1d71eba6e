// A whole run: its threads, Ctrl-C, the progress line; and what came out of it.
#pragma once

#include <string>

#include "load/machine.hpp"
#include "load/options.hpp"
#include "load/recorder.hpp"
#include "load/shared.hpp"

namespace gyre::load {

struct Outcome {
  Recorder recorder;
  Stop stopped = Stop::none;
  std::string stop_text;
  bool loaded = false;      // the schedule began, so there is something to report
  Nanos measured_from = 0;  // CLOCK_MONOTONIC
  Nanos elapsed = 0;        // of the measured part: to its end or to the last answer
  uint64_t filled = 0;
  std::string started;
  Machine machine;
};

// Blocks until the run is over.
Outcome run_session(const Options& options);

}  // namespace gyre::load
