#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <vector>

#include "load/report.hpp"

namespace gyre::load {

namespace {

constexpr uint64_t day_us = 86'400'000'000;

Histogram in_microseconds(const Histogram& nanoseconds, const Histogram* others = nullptr) {
  Histogram histogram(day_us);
  if (others != nullptr) histogram.add_scaled(*others, 1000);
  histogram.add_scaled(nanoseconds, 1000);
  return histogram;
}

// In long doubles as wrk2, because a half rounds another way in doubles; with printf, because fmt 9
// prints 9.9996L as "10.0".
std::string format_fixed(long double number, int precision) {
  char text[64];
  const int size = std::snprintf(text, sizeof text, "%.*Lf", precision, number);
  return {text, std::min(static_cast<size_t>(size), sizeof text - 1)};
}

// A number goes over to the next unit at 0.85 of it; the last unit of the list is never reached,
// as in wrk2.
std::string format_units(long double number, long double scale, std::string_view base,
                         std::initializer_list<std::string_view> units, int precision) {
  const long double limit = static_cast<double>(scale) * 0.85;
  std::string_view unit = base;
  for (auto next = units.begin(); next + 1 < units.end() && number >= limit; ++next) {
    number /= scale;
    unit = *next;
  }
  return format_fixed(number, precision).append(unit);
}

// wrk2 knows whole seconds only.
std::string format_duration(Nanos duration) {
  if (duration % seconds(1) != 0) return format_time_us(static_cast<long double>(duration) / 1000);
  return format_units(static_cast<long double>(duration / seconds(1)), 60, "s", {"m", "h"}, 0);
}

// Right-aligned so that the digits line up whatever the unit's length.
std::string in_column(const std::string& text, size_t width) {
  size_t pad = 2;
  const size_t size = text.size();
  if (std::isalpha(static_cast<unsigned char>(text[size - 1])) != 0) --pad;
  if (std::isalpha(static_cast<unsigned char>(text[size - 2])) != 0) --pad;
  return fmt::format("{:>{}}{:{}}", text, width - pad, "", pad);
}

struct Spread {
  long double mean = 0;
  long double deviation = 0;
  long double max = 0;
  double within_percent = 0;
};

// Of no samples at all wrk2 prints "-nan"; here they are zeros.
Spread spread_of(const std::vector<uint64_t>& samples) {
  Spread spread;
  if (samples.empty()) return spread;
  const auto count = static_cast<long double>(samples.size());
  uint64_t sum = 0;
  for (uint64_t sample : samples) sum += sample;
  spread.mean = static_cast<long double>(sum) / count;
  spread.max = static_cast<long double>(*std::max_element(samples.begin(), samples.end()));
  long double squares = 0;
  for (uint64_t sample : samples) {
    const long double distance = static_cast<long double>(sample) - spread.mean;
    squares += distance * distance;
  }
  if (samples.size() > 1) spread.deviation = std::sqrt(squares / (count - 1));
  const auto within = std::count_if(samples.begin(), samples.end(), [&](uint64_t sample) {
    const auto value = static_cast<long double>(sample);
    return value >= spread.mean - spread.deviation && value <= spread.mean + spread.deviation;
  });
  spread.within_percent = static_cast<double>(100 * static_cast<long double>(within) / count);
  return spread;
}

std::string stats_row(std::string_view name, const Spread& spread,
                      std::string (*format)(long double)) {
  return fmt::format("    {:<10}{}{}{}{:8.2f}%\n", name, in_column(format(spread.mean), 8),
                     in_column(format(spread.deviation), 10), in_column(format(spread.max), 9),
                     spread.within_percent);
}

std::string distribution(const Histogram& us, std::string_view title) {
  std::string text = fmt::format("  Latency Distribution (HdrHistogram - {})\n", title);
  for (double percent : {50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0}) {
    const auto value = static_cast<long double>(us.at_percentile(percent));
    text += fmt::format("{:7.3f}%{}\n", percent, in_column(format_time_us(value), 10));
  }
  text += "\n  Detailed Percentile spectrum:\n" + percentile_text(us, 1000.0, 5, true);
  text += std::string(58, '-') + "\n";
  return text;
}

}  // namespace

std::string format_time_us(long double us) {
  if (us >= 1'000'000) return format_units(us / 1e6L, 60, "s", {"m", "h"}, 2);
  return format_units(us, 1000, "us", {"ms", "s"}, 2);
}
std::string format_metric(long double number) {
  return format_units(number, 1000, "", {"k", "M", "G", "T", "P"}, 2);
}
std::string format_binary(long double bytes) {
  return format_units(bytes, 1024, "", {"K", "M", "G", "T", "P"}, 2);
}

std::string wrk2_text(const Options& options, const Outcome& outcome) {
  const Recorder& recorder = outcome.recorder;
  std::string urls;
  for (const Target& target : options.targets) urls += (urls.empty() ? "" : " ") + target.url;
  std::string text = fmt::format("Running {} test @ {}\n  {} threads and {} connections\n",
                                 format_duration(options.profile.duration), urls, options.threads,
                                 options.connections);
  for (unsigned i = 0; i < options.threads && !recorder.warmup.empty(); ++i) {
    text +=
        fmt::format("  Thread calibration: mean lat.: {:.3f}ms, rate sampling interval: 100ms\n",
                    std::floor(recorder.warmup.mean() / 1e3) / 1e3);
  }
  const Histogram us = in_microseconds(recorder.latency, &recorder.failed);
  text += fmt::format("  Thread Stats{:>6}{:>11}{:>8}{:>12}\n", "Avg", "Stdev", "Max", "+/- Stdev");
  text += stats_row("Latency",
                    {.mean = us.mean(),
                     .deviation = us.standard_deviation(),
                     .max = static_cast<long double>(us.lowest_equivalent(us.max())),
                     .within_percent = us.percent_within_deviation()},
                    format_time_us);
  text += stats_row("Req/Sec", spread_of(recorder.rate_samples), format_metric);
  text += distribution(us, "Recorded Latency");
  if (options.uncorrected) {
    text += "\n" + distribution(in_microseconds(recorder.service, &recorder.failed_service),
                                "Uncorrected Latency (measured without taking delayed starts into "
                                "account)");
  }
  const auto elapsed_s = static_cast<long double>(outcome.elapsed) / 1e9L;
  const auto answered = static_cast<long double>(recorder.answered);
  const auto bytes = static_cast<long double>(recorder.bytes_read);
  text += fmt::format("  {} requests in {}, {}B read\n", recorder.answered,
                      format_time_us(static_cast<long double>(outcome.elapsed / 1000)),
                      format_binary(bytes));
  const Errors& errors = recorder.errors;
  if (errors.connect + errors.unanswered() > 0) {
    text +=
        fmt::format("  Socket errors: connect {}, read {}, write {}, timeout {}\n", errors.connect,
                    errors.read + errors.malformed, errors.write, errors.timeout);
  }
  if (errors.status > 0) text += fmt::format("  Non-2xx or 3xx responses: {}\n", errors.status);
  text += fmt::format("Requests/sec: {:>9}\n", format_fixed(answered / elapsed_s, 2));
  text += fmt::format("Transfer/sec: {:>10}B\n", format_binary(bytes / elapsed_s));
  return text;
}

// --- what wrk2 doesn't tell ---------------------------------------------------------------------

namespace {

constexpr double shown_percentiles[] = {50, 90, 99, 99.9, 99.99, 99.999};

std::string milliseconds_text(uint64_t ns) {
  return fmt::format("{:.3f}", static_cast<double>(ns) / 1e6);
}

std::string row(std::string_view name, const Histogram& histogram) {
  std::string text = fmt::format("  {:<14}", name);
  for (double percent : shown_percentiles) {
    text += fmt::format("{:>10}", is_supported(histogram.total(), percent)
                                      ? milliseconds_text(histogram.at_percentile(percent))
                                      : "-");
  }
  return text + fmt::format("{:>10}{:>11}\n",
                            histogram.empty() ? "-" : milliseconds_text(histogram.max()),
                            histogram.total());
}

std::string table(const Options& options, const Recorder& recorder) {
  std::string text = fmt::format("  {:<14}", "milliseconds");
  for (double percent : shown_percentiles)
    text += fmt::format("{:>10}", fmt::format("{:g}%", percent));
  text += fmt::format("{:>10}{:>11}\n", "max", "samples");
  text += row("latency", recorder.latency);
  for (size_t i = 0; i < operation_count; ++i) {
    if (recorder.by_operation[i] == nullptr) continue;
    text +=
        row(fmt::format("  {}", to_string(static_cast<Operation>(i))), *recorder.by_operation[i]);
  }
  if (!options.closed) {
    text += row("send lag", recorder.send_lag);
    text += row("queue wait", recorder.queue_wait);
    text += row("service", recorder.service);
  }
  if (!recorder.failed.empty()) text += row("error answers", recorder.failed);
  text += row("hiccups", recorder.hiccups);
  if (!recorder.failed.empty()) {
    text +=
        "  Note: the text above this table counts error answers as answers, as wrk2 does; the "
        "table "
        "has\n  them apart, and the latency of good answers only\n";
  }
  text += "  -: fewer than 100 samples lie above; the same rows of the text above mean as little\n";
  return text;
}

// "12 times 404 (12 to a GET), 3 times 503"
std::string statuses_text(const Recorder& recorder) {
  std::string text;
  for (size_t i = 400; i < recorder.statuses.size(); ++i) {
    if (recorder.statuses[i] == 0) continue;
    text += fmt::format("{}{} times {}", text.empty() ? "" : ", ", recorder.statuses[i], i);
    if (i == 404) text += fmt::format(" ({} to a GET)", recorder.errors.not_found);
    if (i == 503) text += " (unavailable)";
  }
  return text;
}

std::string troubles(const Recorder& recorder) {
  std::string text;
  if (const uint64_t count = recorder.unfinished_sent + recorder.unfinished_queued; count > 0) {
    text += fmt::format(
        "  Unfinished at the end: {} sent, {} not sent; the oldest is {} ms old, half are over {} "
        "ms\n",
        recorder.unfinished_sent, recorder.unfinished_queued,
        milliseconds_text(static_cast<uint64_t>(recorder.unfinished_oldest)),
        milliseconds_text(recorder.incomplete.at_percentile(50)));
  }
  const Errors& errors = recorder.errors;
  if (errors.unanswered() + errors.connect > 0) {
    text += fmt::format(
        "  Errors: {} connections refused or failed, {} broken while reading, {} while writing, {} "
        "timed out, {} answers that are not HTTP\n",
        errors.connect, errors.read, errors.write, errors.timeout, errors.malformed);
  }
  if (errors.status > 0) {
    text +=
        fmt::format("  Answers of 4xx and 5xx: {}: {}\n", errors.status, statuses_text(recorder));
  }
  if (errors.wrong > 0) {
    text += fmt::format("  WRONG ANSWERS: {}\n", errors.wrong);
    for (const std::string& example : recorder.examples) text += "    " + example + "\n";
  }
  if (recorder.reconnects > 0) {
    text += fmt::format("  Connections that ended and were made again: {}\n", recorder.reconnects);
  }
  return text;
}

std::string objective_text(const ObjectiveResult& objective) {
  const bool errors = objective.name == "errors";
  const double scale = errors ? 1 : 1e3;
  std::string text = fmt::format("  Objective {} <= {:g} {}: ", objective.name,
                                 objective.limit / scale, errors ? "%" : "ms");
  if (!objective.supported) {
    return text + fmt::format("NOT SUPPORTED by {} samples; it needs {}, so run longer\n",
                              objective.samples, objective.samples_needed);
  }
  return text +
         fmt::format("{} ({:g})\n", objective.met ? "met" : "MISSED", objective.value / scale);
}

// Of the warm-up too: a wrong answer is one whenever it comes.
std::string verified_text(const Recorder& recorder) {
  if (recorder.verified == 0) {
    return "  NOTHING WAS VERIFIED: no answer held a value, or lacked one that is known to be "
           "there\n";
  }
  return fmt::format("  VERIFIED: {} answers checked, {} WRONG\n", recorder.verified,
                     recorder.errors.wrong == 0 ? "none" : std::to_string(recorder.errors.wrong));
}

}  // namespace

std::string summary_text(const Options& options, const Outcome& outcome, const Verdict& verdict) {
  const Recorder& recorder = outcome.recorder;
  std::string text = fmt::format("\n{}: {}\n", describe_load(options), describe_workload(options));
  text += table(options, recorder);
  text += troubles(recorder);
  text += fmt::format(
      "  Generator: {:.0f} % of a CPU, busiest thread {:.0f} % without watching the clock, {:.0f} "
      "% "
      "kept waiting by others; load average {:.2f} on {} CPUs\n",
      100 * recorder.cpu_share, 100 * recorder.busy_share_max, 100 * recorder.starved_share_max,
      outcome.machine.load_average, outcome.machine.cpus);
  for (const ObjectiveResult& objective : verdict.objectives) {
    text += objective_text(objective);
  }
  if (verdict.generator_limited) text += "  GENERATOR-LIMITED: " + verdict.generator_text + "\n";
  if (const auto& at = verdict.generator_limited_at; !at.empty() && at.back() != "p99") {
    text += fmt::format("  Send lag is over a tenth of the latency at {}: not the server's alone\n",
                        fmt::join(at, ", "));
  }
  if (options.verify) text += verified_text(recorder);
  if (verdict.unanswered) {
    text += recorder.answered == 0 ? "  NOT A SINGLE REQUEST WAS ANSWERED\n"
                                   : "  NOT A SINGLE ANSWER WAS GOOD\n";
  }
  if (verdict.interrupted) text += "  INTERRUPTED: " + outcome.stop_text + "\n";
  return text;
}

std::string hgrm_text(const Outcome& outcome) {
  return percentile_text(in_microseconds(outcome.recorder.latency), 1000.0);
}

}  // namespace gyre::load
