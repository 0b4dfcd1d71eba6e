// The texts that a run ends with. Pure.
#pragma once

#include <string>

#include "load/session.hpp"
#include "load/verdict.hpp"

namespace gyre::load {

// wrk2's text, to the space and the last digit for the same data. Its rows of percentiles are all
// printed, as its readers expect them; summary_text says which of them too few samples support.
// Latencies are those of all answers, also of errors; everywhere else those of good ones only.
// On purpose it differs here:
//   - wrk2 leaves its first 10 s out of the latencies but not out of the requests; the warm-up is in
//     neither. "Thread calibration" shows its mean over all threads, and rates are sampled every
//     100 ms always.
//   - Req/Sec is about all samples; wrk2 keeps the last ten.
//   - A connection that breaks with a request under way is a read error, also where wrk2 waits for
//     ever. A timeout counts once per request, not once per look.
//   - The distribution is printed without -L too. Where nothing was measured stands 0, not "-nan".
std::string wrk2_text(const Options& options, const Outcome& outcome);
// What wrk2 doesn't tell: how the latency comes about, what was never answered, the generator's own
// accuracy, objectives, the verdict. Percentiles only where the samples support them.
std::string summary_text(const Options& options, const Outcome& outcome, const Verdict& verdict);
// perf/load/report.schema.json describes it.
std::string json_text(const Options& options, const Outcome& outcome, const Verdict& verdict);
// A JSON object per second and line.
std::string series_text(const Outcome& outcome);
// The latencies in milliseconds, as HistogramLogAnalyzer and the hgrm plotters read them.
std::string hgrm_text(const Outcome& outcome);

// wrk2's units, for tests: "123.45us", "1.20ms", "2.50m"; "10.0k"; "1.50M".
std::string format_time_us(long double us);
std::string format_metric(long double number);
std::string format_binary(long double bytes);

}  // namespace gyre::load
