// What people read: the help, and a run in words.
#include <fmt/format.h>

#include <array>

#include "load/options.hpp"

namespace gyre::load {

namespace {

constexpr std::string_view help = R"(usage: gyre-load [OPTION...] URL...

Loads an HTTP key-value service, or one that speaks the Redis protocol (redis://HOST:PORT), along a
fixed schedule and tells what it took, counted from when each request should have started. Several
URLs share the connections in turn.

Load
  -R, --rate N          requests per second over all connections; 10k is 10000, 1k..20k a ramp
                        over the duration, 0 the closed loop
      --closed          closed loop: every connection asks again as soon as it was answered
      --arrival KIND    constant (default), poisson, or burst:N (N at a time, at the same mean rate)
  -d, --duration TIME   measured part of the run: 30s, 5m, 1h (default 10s; 0 only fills)
      --warmup TIME     before it, at its first rate, not measured (default a tenth, at most 5s)
  -c, --connections N   (default 64)
      --pipeline N      requests that a connection sends before the first of them is answered
                        (default 1)
  -t, --threads N       threads, each with a part of connections and schedule (default 1)
      --timeout TIME    a request without its answer after that is an error (default 10s)
      --drain TIME      how long answers are awaited at the end (default 2s)
      --keep-going      go on when no server can be reached any more

Workload: a URL with a path asks for just that path; otherwise
      --mix LIST        get, put, delete, range with weights: get=90,put=10 (default get)
      --keys N          size of the key set (default 10000)
      --key-order KIND  uniform (default), sequential, zipfian[:S], latest
      --key-prefix TEXT before the ten digits of a key (default key)
      --value SIZE      bytes of a value: 100 (default), 64..1024 (uniform), exp:500 (mean)
      --range-records N records per range (default 100)
      --replicas A/F    ask for A answers of F copies (default: the service's own)
      --get PATH        GETs ask for this path and query with the key behind it, such as
                        /lookup?key= (default: the contract's /v0/entity?id=)
      --expect STATUS   this status from 400 to 599 is a good answer, too
      --fill N          first store the keys 0..N-1, as fast as it goes
      --filled N        for --verify: the keys 0..N-1 were stored by an earlier --fill with the same
                        --key-prefix and --value, and nobody has deleted any
      --verify          check every value that comes back, and that no GET misses a write of this
                        run or shows one before it; a wrong answer is an error and exit code 3
      --seed N          of keys, sizes and Poisson gaps (default 1)
  -H, --header LINE     a further header, "Name: value", or another Host; may be repeated

Output: wrk2's text, then what wrk2 doesn't tell
      --json FILE       everything, as perf/load/report.schema.json describes ("-": standard output
                        instead of the text)
      --hdr FILE        the latency spectrum as .hgrm
      --series FILE     a JSON line per second
      --note TEXT       kept in the JSON: build, machine, purpose
  -L, --latency         accepted as in wrk2; the distribution is always printed
  -U, --u_latency       also print the latency without time spent before sending
  -q, --quiet           no progress line

Objectives, for scripts
      --slo-p99=TIME    also p50, p75, p90, p95, p99.9, p99.99, max; 5ms, 800us
      --slo-errors=P    at most P percent of the requests without a good answer (default 0, if there
                        is any objective)

Exit codes: 0 done; 1 could not start or complete, or no answer was good; 2 bad command line; 3 an
objective was missed or the run too short to tell (100 samples must lie above a percentile), or an
answer was wrong; 130 and 143 interrupted, with a report of what ran.

Examples
  gyre-load -R 10000 -d 30s --mix put http://127.0.0.1:8080
  gyre-load -R 10k --arrival poisson --fill 1000000 --keys 1000000 --key-order zipfian \
            --mix get=95,put=5 --verify --slo-p99=5ms http://127.0.0.1:8080
  gyre-load -R 1k..30k -d 60s --series knee.ndjson http://127.0.0.1:8080
  gyre-load --closed -c 64 --json run.json http://127.0.0.1:8080/v0/status
  gyre-load -R 10000 -d 30s --mix get=90,put=10 --fill 10000 redis://127.0.0.1:6379
)";

}  // namespace

std::string help_text() {
  return std::string(help);
}

std::string_view to_string(Operation operation) {
  static constexpr std::array<std::string_view, operation_count> names{"get", "put", "delete",
                                                                       "range", "path"};
  return names[static_cast<size_t>(operation)];
}

std::string describe_load(const Options& options) {
  if (options.closed) return "closed loop";
  const Profile& profile = options.profile;
  std::string rate = fmt::format("{:g}/s", profile.rate_from);
  if (profile.rate_to != profile.rate_from) {
    rate = fmt::format("{:g}/s to {:g}/s", profile.rate_from, profile.rate_to);
  }
  switch (profile.arrival) {
    case Arrival::constant:
      return "open loop, constant " + rate;
    case Arrival::poisson:
      return "open loop, Poisson " + rate;
    case Arrival::burst:
      return fmt::format("open loop, bursts of {} at {}", profile.burst, rate);
  }
  return {};
}

std::string describe_workload(const Options& options) {
  if (!options.path.empty()) return "GET " + options.path;
  std::string text;
  const auto sum = static_cast<double>(options.weight_sum());
  for (size_t i = 0; i < operation_count; ++i) {
    if (options.weights[i] == 0) continue;
    text += fmt::format("{} {:g} %, ", to_string(static_cast<Operation>(i)),
                        100 * options.weights[i] / sum);
  }
  static constexpr std::array<std::string_view, 4> orders{"sequential", "uniform", "zipfian",
                                                          "latest"};
  text +=
      fmt::format("{} {} keys", options.keys, orders[static_cast<size_t>(options.distribution)]);
  if (options.uses(Operation::put) || options.fill > 0) {
    const ValueSizes& values = options.values;
    switch (values.kind) {
      case ValueSizes::Kind::fixed:
        text += fmt::format(", values of {} bytes", values.low);
        break;
      case ValueSizes::Kind::uniform:
        text += fmt::format(", values of {} to {} bytes", values.low, values.high);
        break;
      case ValueSizes::Kind::exponential:
        text += fmt::format(", values of {} bytes on average", values.low);
        break;
    }
  }
  if (options.uses(Operation::range)) {
    text += fmt::format(", ranges of {} records", options.range_records);
  }
  if (!options.replicas.empty()) text += ", replicas=" + options.replicas;
  if (options.redis) text += ", over the Redis protocol";
  return text;
}

}  // namespace gyre::load
