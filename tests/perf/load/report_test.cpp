#include "load/report.hpp"

#include <doctest/doctest.h>

#include <sstream>
#include <string>

namespace gyre::load {
namespace {

Options options_of(std::vector<std::string> arguments) {
  arguments.push_back("http://127.0.0.1:80");
  const auto line = parse_command_line(arguments);
  REQUIRE(line);
  return line->options;
}

Outcome finished(Nanos elapsed) {
  Outcome outcome;
  outcome.loaded = true;
  outcome.elapsed = elapsed;
  return outcome;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("units are wrk2's: they change at 0.85 of the next one") {
  CHECK(format_time_us(849) == "849.00us");
  CHECK(format_time_us(850) == "0.85ms");
  CHECK(format_time_us(12'345) == "12.35ms");
  CHECK(format_time_us(999'999) == "1000.00ms");
  CHECK(format_time_us(1'000'000) == "1.00s");
  CHECK(format_time_us(50.9e6) == "50.90s");
  CHECK(format_time_us(51e6) == "0.85m");
  CHECK(format_time_us(7'075) == "7.07ms");  // as a double it is a little more than 7.075
  CHECK(format_metric(47'405) == "47.40k");
  CHECK(format_metric(849) == "849.00");
  CHECK(format_metric(10'000) == "10.00k");
  CHECK(format_metric(1.5e6) == "1.50M");
  CHECK(format_binary(870) == "870.00");
  CHECK(format_binary(871) == "0.85K");
  CHECK(format_binary(20.0 * 1024 * 1024) == "20.00M");
}

TEST_CASE("wrk2's text, to the space") {
  Options options = options_of({"-R1000", "-d30s", "-t2", "-c100"});
  Outcome outcome = finished(seconds(30));
  Recorder& recorder = outcome.recorder;
  recorder.warmup.record(2'000'000);
  recorder.latency.record(1'000'000, 3);
  recorder.latency.record(2'000'000, 1);
  recorder.answered = 60'018;
  recorder.bytes_read = 20'772'291;
  recorder.rate_samples = {990, 1010};
  recorder.errors.read = 1;
  recorder.errors.status = 7;
  CHECK(wrk2_text(options, outcome) ==
        "Running 30s test @ http://127.0.0.1:80\n"
        "  2 threads and 100 connections\n"
        "  Thread calibration: mean lat.: 2.000ms, rate sampling interval: 100ms\n"
        "  Thread calibration: mean lat.: 2.000ms, rate sampling interval: 100ms\n"
        "  Thread Stats   Avg      Stdev     Max   +/- Stdev\n"
        "    Latency     1.25ms  433.01us   2.00ms   75.00%\n"
        "    Req/Sec     1.00k    14.14     1.01k   100.00%\n"
        "  Latency Distribution (HdrHistogram - Recorded Latency)\n"
        " 50.000%    1.00ms\n"
        " 75.000%    1.00ms\n"
        " 90.000%    2.00ms\n"
        " 99.000%    2.00ms\n"
        " 99.900%    2.00ms\n"
        " 99.990%    2.00ms\n"
        " 99.999%    2.00ms\n"
        "100.000%    2.00ms\n"
        "\n"
        "  Detailed Percentile spectrum:\n"
        "       Value   Percentile   TotalCount 1/(1-Percentile)\n"
        "\n"
        "       1.000     0.000000            3         1.00\n"
        "       1.000     0.100000            3         1.11\n"
        "       1.000     0.200000            3         1.25\n"
        "       1.000     0.300000            3         1.43\n"
        "       1.000     0.400000            3         1.67\n"
        "       1.000     0.500000            3         2.00\n"
        "       1.000     0.550000            3         2.22\n"
        "       1.000     0.600000            3         2.50\n"
        "       1.000     0.650000            3         2.86\n"
        "       1.000     0.700000            3         3.33\n"
        "       1.000     0.750000            3         4.00\n"
        "       2.000     0.775000            4         4.44\n"
        "       2.000     1.000000            4          inf\n"
        "#[Mean    =        1.250, StdDeviation   =        0.433]\n"
        "#[Max     =        2.000, Total count    =            4]\n"
        "#[Buckets =           27, SubBuckets     =         2048]\n"
        "----------------------------------------------------------\n"
        "  60018 requests in 30.00s, 19.81MB read\n"
        "  Socket errors: connect 0, read 1, write 0, timeout 0\n"
        "  Non-2xx or 3xx responses: 7\n"
        "Requests/sec:   2000.60\n"
        "Transfer/sec:    676.18KB\n");
}

TEST_CASE("a duration that is not whole seconds is told as it is") {
  const auto first_line = [](const char* duration) {
    const std::string text =
        wrk2_text(options_of({"-R1", "-d", duration, "--warmup", "0s"}), finished(seconds(1)));
    return text.substr(0, text.find('\n'));
  };
  CHECK(first_line("250ms") == "Running 250.00ms test @ http://127.0.0.1:80");
  CHECK(first_line("1500ms") == "Running 1.50s test @ http://127.0.0.1:80");
  CHECK(first_line("51s") == "Running 1m test @ http://127.0.0.1:80");
  CHECK(first_line("50s") == "Running 50s test @ http://127.0.0.1:80");
}

TEST_CASE("-U adds the histogram of service times behind an empty line") {
  Options options = options_of({"-R1000", "-U"});
  Outcome outcome = finished(seconds(10));
  outcome.recorder.latency.record(5'000'000);
  outcome.recorder.service.record(1'000'000);
  CHECK(contains(wrk2_text(options, outcome),
                 "\n----------------------------------------------------------\n\n"
                 "  Latency Distribution (HdrHistogram - Uncorrected Latency (measured without "
                 "taking delayed starts into account))\n 50.000%    1.00ms\n"));
}

TEST_CASE("the duration in the first line is minutes from 51 s on") {
  Outcome outcome = finished(seconds(60));
  CHECK(contains(wrk2_text(options_of({"-R1", "-d50s"}), outcome), "Running 50s test"));
  CHECK(contains(wrk2_text(options_of({"-R1", "-d51s"}), outcome), "Running 1m test"));
  CHECK(contains(wrk2_text(options_of({"-R1", "-d10m"}), outcome), "Running 10m test"));
  CHECK(contains(wrk2_text(options_of({"-R1", "-d1h"}), outcome), "Running 60m test"));
}

TEST_CASE("a percentile needs 100 samples above it") {
  CHECK(is_supported(200, 50));
  CHECK_FALSE(is_supported(199, 50));
  CHECK(is_supported(10'000, 99));
  CHECK_FALSE(is_supported(9'999, 99));
  CHECK(is_supported(100'000, 99.9));
  CHECK_FALSE(is_supported(99'000, 99.9));
  CHECK(is_supported(1, 100));

  Outcome outcome = finished(seconds(10));
  outcome.recorder.latency.record(1'000'000, 10'000);
  const Options options = options_of({"-R1000"});
  const std::string text = summary_text(options, outcome, judge(options, outcome));
  CHECK(
      contains(text, "latency            1.000     1.000     1.000         -         -         -"));
  const std::string json = json_text(options, outcome, judge(options, outcome));
  CHECK(contains(json, "\"p99\":1000.447,\"p999\":null,\"p9999\":null"));
}

TEST_CASE("a late generator stamps the run") {
  const Options options = options_of({"-R1000"});
  Outcome outcome = finished(seconds(10));
  outcome.recorder.latency.record(10'000'000, 1000);
  outcome.recorder.send_lag.record(900'000, 1000);
  CHECK_FALSE(judge(options, outcome).generator_limited);
  outcome.recorder.send_lag.record(1'100'000, 20);
  CHECK(judge(options, outcome).generator_limited);
}

TEST_CASE(
    "a generator that is late beyond p99 stamps these percentiles, where they are supported") {
  const Options options = options_of({"-R1000"});
  const auto stamped = [&](uint64_t samples, uint64_t late) {
    Outcome outcome = finished(seconds(10));
    outcome.recorder.latency.record(1'000'000, samples - late);
    outcome.recorder.latency.record(10'000'000, late);
    outcome.recorder.send_lag.record(1'000, samples - late);
    outcome.recorder.send_lag.record(9'000'000, late);
    const Verdict verdict = judge(options, outcome);
    CHECK(contains(json_text(options, outcome, verdict), "\"generator_limited_at\":["));
    CHECK(contains(summary_text(options, outcome, verdict), "latency at p999:") ==
          (verdict.generator_limited_at == std::vector<std::string>{"p999"}));
    CHECK(verdict.generator_limited ==
          (!verdict.generator_limited_at.empty() && verdict.generator_limited_at[0] == "p99"));
    return verdict.generator_limited_at;
  };
  using Names = std::vector<std::string>;
  CHECK(stamped(99'000, 500) == Names{});
  CHECK(stamped(100'000, 50) == Names{});
  CHECK(stamped(100'000, 500) == Names{"p999"});
  CHECK(stamped(1'000'000, 500) == Names{"p9999"});
  CHECK(stamped(1'000'000, 5000) == Names{"p999", "p9999"});
  CHECK(stamped(1'000'000, 20'000) == Names{"p99", "p999", "p9999"});
}

TEST_CASE("requests that queue stamp the run only if the generator had no time left") {
  const Options options = options_of({"-R1000"});
  Outcome outcome = finished(seconds(10));
  outcome.recorder.latency.record(10'000'000, 1000);
  outcome.recorder.queue_wait.record(9'000'000, 1000);
  outcome.recorder.busy_share_max = 0.6;
  CHECK_FALSE(judge(options, outcome).generator_limited);
  outcome.recorder.busy_share_max = 0.99;
  CHECK(judge(options, outcome).generator_limited);
  outcome.recorder.busy_share_max = 0.5;  // or if others had its CPU
  outcome.recorder.starved_share_max = 0.49;
  CHECK(judge(options, outcome).generator_limited);
}

TEST_CASE("objectives count what was never answered with its age") {
  const Options options = options_of({"-R1000", "--slo-p99=5ms"});
  Outcome outcome = finished(seconds(10));
  outcome.recorder.latency.record(1'000'000, 10'000);
  CHECK(judge(options, outcome).exit_code == exit_ok);
  outcome.recorder.incomplete.record(3'000'000'000, 200);
  const Verdict verdict = judge(options, outcome);
  CHECK(verdict.exit_code == exit_breach);
  REQUIRE(verdict.objectives.size() == 2);
  CHECK(verdict.objectives[0].supported);
  CHECK_FALSE(verdict.objectives[0].met);
}

TEST_CASE("an objective that too few samples support is not met, and the text says so") {
  const Options options = options_of({"-R1000", "--slo-p99.9=5ms"});
  Outcome outcome = finished(seconds(10));
  outcome.recorder.latency.record(1'000'000, 99'999);
  const Verdict verdict = judge(options, outcome);
  CHECK(verdict.exit_code == exit_breach);
  CHECK_FALSE(verdict.objectives[0].met);
  CHECK(contains(summary_text(options, outcome, verdict),
                 "Objective p99.9 <= 5 ms: NOT SUPPORTED by 99999 samples; it needs 100000, so"));
  outcome.recorder.latency.record(1'000'000);
  CHECK(judge(options, outcome).exit_code == exit_ok);
  CHECK(contains(summary_text(options, outcome, judge(options, outcome)),
                 "Objective p99.9 <= 5 ms: met"));
}

TEST_CASE("who asks for a latency asks for no errors, unless told otherwise") {
  Outcome outcome = finished(seconds(10));
  outcome.recorder.sent = outcome.recorder.answered = 1000;
  outcome.recorder.latency.record(1'000'000, 999);
  outcome.recorder.failed.record(1000);
  outcome.recorder.errors.status = 1;
  CHECK(judge(options_of({"-R1000"}), outcome).exit_code == exit_ok);
  CHECK(judge(options_of({"-R1000", "--slo-p50=1s"}), outcome).exit_code == exit_breach);
  CHECK(judge(options_of({"-R1000", "--slo-p50=1s", "--slo-errors=0.1"}), outcome).exit_code ==
        exit_ok);
  CHECK(judge(options_of({"-R1000", "--slo-p50=1s", "--slo-errors=0.05"}), outcome).exit_code ==
        exit_breach);
}

TEST_CASE("a run without a good answer did not succeed") {
  const Options options = options_of({"-R1000"});
  Outcome outcome = finished(seconds(10));
  outcome.recorder.sent = outcome.recorder.answered = 1000;
  outcome.recorder.failed.record(1000, 1000);
  CHECK(judge(options, outcome).exit_code == exit_failed);
  CHECK(contains(summary_text(options, outcome, judge(options, outcome)), "NOT A SINGLE ANSWER"));
}

TEST_CASE("an objective without a single answer is missed") {
  const Options options = options_of({"-R1000", "--slo-max=5ms"});
  CHECK(judge(options, finished(seconds(10))).exit_code == exit_breach);
}

TEST_CASE("errors are an objective of their own; a 404 is not an error") {
  const Options options = options_of({"-R1000", "--slo-errors=1"});
  Outcome outcome = finished(seconds(10));
  outcome.recorder.sent = outcome.recorder.answered = 1000;
  outcome.recorder.errors.status = outcome.recorder.errors.not_found = 500;
  CHECK(judge(options, outcome).exit_code == exit_ok);
  outcome.recorder.errors.timeout = 11;
  CHECK(judge(options, outcome).exit_code == exit_breach);
}

TEST_CASE("exit codes: wrong answers, interruption, a lost server") {
  const Options options = options_of({"-R1000", "--slo-p99=1us"});
  Outcome outcome = finished(seconds(10));
  outcome.recorder.latency.record(1'000'000, 10);
  CHECK(judge(options, outcome).exit_code == exit_breach);
  outcome.stopped = Stop::sigint;  // no demands on an interrupted run
  CHECK(judge(options, outcome).exit_code == exit_sigint);
  CHECK(judge(options, outcome).interrupted);
  outcome.stopped = Stop::sigterm;
  CHECK(judge(options, outcome).exit_code == exit_sigterm);
  outcome.stopped = Stop::server_lost;
  CHECK(judge(options, outcome).exit_code == exit_failed);
  Outcome wrong = finished(seconds(10));
  wrong.recorder.errors.wrong = 1;
  CHECK(judge(options_of({"-R1000"}), wrong).exit_code == exit_breach);
}

TEST_CASE("a run in which nothing was answered did not succeed") {
  const Options options = options_of({"-R1000"});
  Outcome outcome = finished(seconds(10));
  outcome.recorder.unfinished_queued = 1;
  CHECK(judge(options, outcome).exit_code == exit_failed);
  CHECK(contains(summary_text(options, outcome, judge(options, outcome)), "NOT A SINGLE"));
  outcome.recorder.sent = outcome.recorder.answered = 1;
  CHECK(judge(options, outcome).exit_code == exit_ok);
  CHECK_FALSE(contains(summary_text(options, outcome, judge(options, outcome)), "NOT A SINGLE"));
  // With objectives that is a breach.
  outcome.recorder.answered = 0;
  CHECK(judge(options_of({"-R1000", "--slo-max=1s"}), outcome).exit_code == exit_breach);
}

TEST_CASE("threads are merged, never averaged") {
  Recorder one, other;
  one.latency.record(1000, 99);
  other.latency.record(1'000'000, 1);
  one.seconds = {{.answers = 99, .errors = 0, .service_max = 900, .latencies = {{1000, 99}}}};
  other.seconds = {{.answers = 1, .errors = 2, .service_max = 70'000, .latencies = {{999'424, 1}}},
                   {}};
  one.merge(other);
  CHECK(one.latency.total() == 100);
  CHECK(one.latency.at_percentile(99) == 1000);
  CHECK(one.latency.max() == 1'000'000);
  REQUIRE(one.seconds.size() == 2);
  CHECK(one.seconds[0].answers == 100);
  CHECK(one.seconds[0].errors == 2);
  Outcome outcome = finished(seconds(2));
  outcome.recorder.seconds = std::move(one.seconds);
  const std::string series = series_text(outcome);
  CHECK(std::count(series.begin(), series.end(), '\n') == 2);
  CHECK(contains(series, "{\"t\":0,\"answers\":100,\"errors\":2,\"p50\":null"));
  CHECK(contains(series, "\"service_max\":70.000}"));
}

TEST_CASE("errors are told by their status") {
  Recorder one, other;
  one.statuses[200] = 5;
  one.statuses[404] = 2;
  one.errors.not_found = 1;
  one.errors.status = 2;
  other.statuses[503] = 7;
  other.errors.status = 7;
  one.merge(other);
  one.answered = 14;
  Outcome outcome = finished(seconds(1));
  outcome.recorder = std::move(one);
  const Options options = options_of({"-R14", "-d1s"});
  const Verdict verdict = judge(options, outcome);
  const std::string json = json_text(options, outcome, verdict);
  CHECK(contains(json, R"("status":9,"unavailable":7,"not_found":1,)"));
  CHECK(contains(json, R"("statuses":{"200":5,"404":2,"503":7})"));
  CHECK(contains(summary_text(options, outcome, verdict),
                 "9: 2 times 404 (1 to a GET), 7 times 503 (unavailable)"));
  CHECK(contains(wrk2_text(options, outcome), "  Non-2xx or 3xx responses: 9\n"));
}

TEST_CASE("a server that refuses fast doesn't look fast, but for wrk2's readers") {
  const Options options = options_of({"-R1000", "-U"});
  Outcome outcome = finished(seconds(1));
  Recorder& recorder = outcome.recorder;
  recorder.answered = 1000;
  recorder.latency.record(8'000'000, 500);
  recorder.service.record(8'000'000, 500);
  recorder.failed.record(1'000'000, 500);
  recorder.failed_service.record(1'000'000, 500);
  const Verdict verdict = judge(options, outcome);
  CHECK(recorder.good() == 500);
  const std::string text = wrk2_text(options, outcome);
  CHECK(contains(text, "- Recorded Latency)\n 50.000%    1.00ms\n 75.000%    8.00ms\n"));
  CHECK(contains(text, "into account))\n 50.000%    1.00ms\n 75.000%    8.00ms\n"));
  const std::string summary = summary_text(options, outcome, verdict);
  CHECK(contains(summary, "  latency            8.00"));
  CHECK(contains(summary, "  error answers      1.000"));
  CHECK(contains(summary, "as wrk2 does"));
  const std::string json = json_text(options, outcome, verdict);
  CHECK(contains(json, R"("intended":{"n":500,"min":8000.000)"));
  CHECK(contains(json, R"("failed":{"n":500,"min":1000.000)"));
  CHECK(contains(hgrm_text(outcome), "Max     =        8.00"));
  recorder.failed.clear();
  CHECK_FALSE(contains(summary_text(options, outcome, verdict), "as wrk2 does"));
}

TEST_CASE("text in the JSON is escaped") {
  Options options = options_of({"-R1"});
  options.note = "a \"b\" \\ \n";
  const Outcome outcome = finished(seconds(1));
  CHECK(contains(json_text(options, outcome, judge(options, outcome)),
                 R"("note":"a \"b\" \\ \u000a")"));
}

}  // namespace
}  // namespace gyre::load
