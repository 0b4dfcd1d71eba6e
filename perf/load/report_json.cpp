#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/json.hpp"
#include "load/report.hpp"

#ifndef GYRE_VERSION
#define GYRE_VERSION "unknown"
#endif

namespace gyre::load {

namespace {

struct Named {
  std::string_view name;
  double percentile;
};
constexpr Named percentiles[] = {{"p50", 50}, {"p75", 75},    {"p90", 90},      {"p95", 95},
                                 {"p99", 99}, {"p999", 99.9}, {"p9999", 99.99}, {"p99999", 99.999}};

void put_percentiles(Json& json, const Histogram& histogram, size_t count, const Named* named) {
  for (size_t i = 0; i < count; ++i) {
    if (is_supported(histogram.total(), named[i].percentile)) {
      json.micros(named[i].name, static_cast<double>(histogram.at_percentile(named[i].percentile)));
    } else {
      json.null(named[i].name);
    }
  }
}

void put_histogram(Json& json, std::string_view name, const Histogram& histogram) {
  json.open(name, '{');
  json.count("n", histogram.total());
  json.micros("min", static_cast<double>(histogram.min()));
  json.micros("mean", histogram.mean());
  json.micros("stdev", histogram.standard_deviation());
  put_percentiles(json, histogram, std::size(percentiles), percentiles);
  json.micros("max", static_cast<double>(histogram.max()));
  json.string("hdr_b64", encode_base64(histogram));
  json.close('}');
}

Histogram of_second(const Second& second) {
  Histogram histogram(largest_ns);
  for (const auto& [value, count] : second.latencies) histogram.record(value, count);
  return histogram;
}

void put_second(Json& json, size_t index, const Second& second) {
  static constexpr Named named[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p999", 99.9}};
  const Histogram histogram = of_second(second);
  json.open("", '{');
  json.count("t", index);
  json.count("answers", second.answers);
  json.count("errors", second.errors);
  put_percentiles(json, histogram, std::size(named), named);
  json.micros("max", static_cast<double>(histogram.max()));
  json.micros("service_max", static_cast<double>(second.service_max));
  json.close('}');
}

void put_plan(Json& json, const Options& options) {
  static constexpr std::string_view arrivals[] = {"constant", "poisson", "burst"};
  static constexpr std::string_view orders[] = {"sequential", "uniform", "zipfian", "latest"};
  const Profile& profile = options.profile;
  json.open("plan", '{');
  json.string("model", options.closed ? "closed" : "open");
  json.string("arrival",
              options.closed ? "closed" : arrivals[static_cast<size_t>(profile.arrival)]);
  json.count("burst", profile.burst);
  json.number("rate", profile.rate_from);
  json.number("rate_to", profile.rate_to);
  json.number("duration_s", static_cast<double>(profile.duration) / 1e9);
  json.number("warmup_s", static_cast<double>(profile.warmup) / 1e9);
  json.count("connections", options.connections);
  json.count("pipeline", options.pipeline);
  json.count("threads", options.threads);
  json.open("mix", '{');
  for (size_t i = 0; i < operation_count; ++i) {
    json.count(to_string(static_cast<Operation>(i)), options.weights[i]);
  }
  json.close('}');
  json.count("keys", options.keys);
  json.string("key_order", orders[static_cast<size_t>(options.distribution)]);
  json.count("value_bytes", options.values.low);
  json.count("value_bytes_max", options.values.high);
  json.count("range_records", options.range_records);
  json.count("fill", options.fill);
  json.count("filled", options.filled);
  json.boolean("verify", options.verify);
  json.count("seed", profile.seed);
  json.close('}');
}

void put_errors(Json& json, const Recorder& recorder) {
  const Errors& errors = recorder.errors;
  json.open("errors", '{');
  json.count("connect", errors.connect);
  json.count("read", errors.read);
  json.count("write", errors.write);
  json.count("timeout", errors.timeout);
  json.count("malformed", errors.malformed);
  json.count("status", errors.status);
  json.count("unavailable", recorder.unavailable());
  json.count("not_found", errors.not_found);
  json.count("wrong", errors.wrong);
  json.close('}');
}

void put_statuses(Json& json, const Recorder& recorder) {
  json.open("statuses", '{');
  for (size_t i = 0; i < recorder.statuses.size(); ++i) {
    if (recorder.statuses[i] > 0) json.count(std::to_string(i), recorder.statuses[i]);
  }
  json.close('}');
}

void put_result(Json& json, const Options& options, const Outcome& outcome) {
  const Recorder& recorder = outcome.recorder;
  const double elapsed_s = static_cast<double>(outcome.elapsed) / 1e9;
  json.open("result", '{');
  json.count("sent", recorder.sent);
  json.count("answered", recorder.answered);
  json.count("ok", recorder.answered - std::min(recorder.answered, recorder.errors.status));
  put_errors(json, recorder);
  put_statuses(json, recorder);
  json.open("unfinished", '{');
  json.count("n", recorder.unfinished_sent + recorder.unfinished_queued);
  json.count("sent", recorder.unfinished_sent);
  json.count("queued", recorder.unfinished_queued);
  json.micros("oldest_us", static_cast<double>(recorder.unfinished_oldest));
  json.close('}');
  json.micros("measured_from_us", static_cast<double>(outcome.measured_from));
  json.number("elapsed_s", elapsed_s);
  json.number("rate_achieved",
              elapsed_s > 0 ? static_cast<double>(recorder.answered) / elapsed_s : 0);
  json.count("bytes_read", recorder.bytes_read);
  json.count("reconnects", recorder.reconnects);
  json.count("filled", outcome.filled);
  json.count("verified", recorder.verified);
  json.open("latency_us", '{');
  put_histogram(json, "intended", recorder.latency);
  put_histogram(json, "service", recorder.service);
  put_histogram(json, "send_lag", recorder.send_lag);
  put_histogram(json, "queue_wait", recorder.queue_wait);
  put_histogram(json, "failed", recorder.failed);
  put_histogram(json, "incomplete", recorder.incomplete);
  json.open("by_operation", '{');
  for (size_t i = 0; i < operation_count; ++i) {
    if (recorder.by_operation[i] == nullptr) continue;
    put_histogram(json, to_string(static_cast<Operation>(i)), *recorder.by_operation[i]);
  }
  json.close('}');
  json.close('}');
  put_histogram(json, "hiccup_us", recorder.hiccups);
  json.open("series", '[');
  for (size_t i = 0; i < recorder.seconds.size(); ++i) put_second(json, i, recorder.seconds[i]);
  json.close(']');
  json.open("cpu", '{');
  json.number("generator", recorder.cpu_share);
  json.number("generator_busiest", recorder.busy_share_max);
  json.number("generator_starved", recorder.starved_share_max);
  json.close('}');
  json.open("wrong_examples", '[');
  for (const std::string& example : recorder.examples) json.string("", example);
  json.close(']');
  json.close('}');
}

void put_verdict(Json& json, const Outcome& outcome, const Verdict& verdict) {
  json.open("verdict", '{');
  json.boolean("generator_limited", verdict.generator_limited);
  json.string("generator", verdict.generator_text);
  json.open("generator_limited_at", '[');
  for (const std::string& name : verdict.generator_limited_at) json.string("", name);
  json.close(']');
  json.boolean("interrupted", verdict.interrupted);
  json.string("why", outcome.stop_text);
  json.open("slo", '[');
  for (const ObjectiveResult& objective : verdict.objectives) {
    json.open("", '{');
    json.string("name", objective.name);
    json.number("limit", objective.limit);
    json.number("value", objective.value);
    json.boolean("met", objective.met);
    json.boolean("supported", objective.supported);
    json.close('}');
  }
  json.close(']');
  json.count("exit_code", static_cast<uint64_t>(verdict.exit_code));
  json.close('}');
}

}  // namespace

std::string json_text(const Options& options, const Outcome& outcome, const Verdict& verdict) {
  Json json;
  json.open("", '{');
  json.string("schema", "gyre-load/1");
  json.string("tool", "gyre-load");
  json.string("version", GYRE_VERSION);
  json.string("started", outcome.started);
  json.string("note", options.note);
  json.open("host", '{');
  json.string("cpu", outcome.machine.cpu);
  json.count("cores", outcome.machine.cpus);
  json.string("kernel", outcome.machine.kernel);
  json.string("governor", outcome.machine.governor);
  json.string("thp", outcome.machine.huge_pages);
  json.number("load_average", outcome.machine.load_average);
  json.close('}');
  json.open("target", '{');
  json.open("urls", '[');
  for (const Target& target : options.targets) json.string("", target.url);
  json.close(']');
  json.close('}');
  put_plan(json, options);
  put_result(json, options, outcome);
  put_verdict(json, outcome, verdict);
  json.close('}');
  return json.take() + "\n";
}

std::string series_text(const Outcome& outcome) {
  std::string text;
  for (size_t i = 0; i < outcome.recorder.seconds.size(); ++i) {
    Json json;
    put_second(json, i, outcome.recorder.seconds[i]);
    text += json.take() + "\n";
  }
  return text;
}

}  // namespace gyre::load
