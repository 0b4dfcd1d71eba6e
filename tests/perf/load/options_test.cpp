#include "load/options.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace gyre::load {
namespace {

const std::string url = "http://127.0.0.1:8080";

Options accepted(std::vector<std::string> arguments) {
  arguments.push_back(url);
  const auto line = parse_command_line(arguments);
  REQUIRE_MESSAGE(line.has_value(), (line ? "" : line.error().detail));
  return line->options;
}
std::string refused(const std::vector<std::string>& arguments) {
  const auto line = parse_command_line(arguments);
  REQUIRE_FALSE(line.has_value());
  return line.error().detail;
}
bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("rates, times and sizes in all their spellings") {
  CHECK(accepted({"-R", "10k"}).profile.rate_from == 10'000);
  CHECK(accepted({"-R2500"}).profile.rate_from == 2500);
  CHECK(accepted({"--rate=0.5"}).profile.rate_to == 0.5);
  const Options ramp = accepted({"-R", "1k..20k", "-d", "5m"});
  CHECK(ramp.profile.rate_from == 1000);
  CHECK(ramp.profile.rate_to == 20'000);
  CHECK(ramp.profile.duration == seconds(300));
  CHECK(ramp.profile.warmup == seconds(5));
  CHECK(accepted({"-R1", "-d", "10"}).profile.warmup == seconds(1));
  CHECK(accepted({"-R1", "--warmup", "250ms"}).profile.warmup == milliseconds(250));
  CHECK(accepted({"-R", "0"}).closed);
  CHECK(accepted({"--closed"}).closed);
  const Options burst = accepted({"-R1k", "--arrival", "burst:50"});
  CHECK(burst.profile.arrival == Arrival::burst);
  CHECK(burst.profile.burst == 50);
  CHECK(accepted({"-R1", "--value", "64..1024"}).values.high == 1024);
  CHECK(accepted({"-R1"}).pipeline == 1);
  CHECK(accepted({"-R1", "--pipeline", "16"}).pipeline == 16);
  CHECK(accepted({"-R1", "--value", "exp:500"}).values.kind == ValueSizes::Kind::exponential);
}

TEST_CASE("wrk2's own flags do what they do there") {
  const Options options =
      accepted({"-t2", "-c100", "-d30s", "-R2000", "-L", "-U", "-T", "2s", "-H", "X-Test: 1"});
  CHECK(options.threads == 2);
  CHECK(options.connections == 100);
  CHECK(options.profile.rate_from == 2000);
  CHECK(options.uncorrected);
  CHECK(options.timeout == seconds(2));
  CHECK(options.headers == std::vector<std::string>{"X-Test: 1"});
}

TEST_CASE("the mix gives each operation its weight") {
  const Options options = accepted({"-R1", "--mix", "get=90,put=10"});
  CHECK(options.weights[0] == 90);
  CHECK(options.weights[1] == 10);
  CHECK(options.weights[2] == 0);
  CHECK(accepted({"-R1", "--mix", "range"}).uses(Operation::range));
  CHECK(contains(refused({"-R1", "--mix", "get=0", url}), "weights"));
  CHECK(contains(refused({"-R1", "--mix", "patch", url}), "get, put, delete and range"));
}

TEST_CASE("a Redis server has a URL of its own, and none of what only HTTP has") {
  const std::string redis = "redis://127.0.0.1:6379";
  const auto line = parse_command_line({"-R1", redis});
  REQUIRE(line.has_value());
  CHECK(line->options.redis);
  CHECK(line->options.targets[0].endpoint.port == 6379);
  CHECK(line->options.targets[0].url == redis);
  CHECK(contains(refused({"-R1", redis + "/path"}), "behind its port"));
  CHECK(contains(refused({"-R1", redis, url}), "same protocol"));
  CHECK(contains(refused({"-R1", "--mix", "range", redis}), "no ranges"));
  CHECK(contains(refused({"-R1", "--replicas", "1/2", redis}), "--replicas"));
  CHECK(contains(refused({"-R1", "redis://"}), "redis://127.0.0.1:6379"));
}

TEST_CASE("a URL with a path asks for that path only") {
  const auto line = parse_command_line({"--closed", url + "/v0/status"});
  REQUIRE(line);
  CHECK(line->options.path == "/v0/status");
  CHECK(line->options.uses(Operation::path));
  CHECK_FALSE(line->options.uses(Operation::get));
  CHECK(contains(refused({"--closed", "--verify", url + "/x"}), "leave the path out"));
}

TEST_CASE("replicas are asked for as answers of copies") {
  CHECK(accepted({"--closed"}).replicas.empty());
  CHECK(accepted({"--closed", "--replicas", "2/3"}).replicas == "2/3");
  CHECK(contains(describe_workload(accepted({"--closed", "--replicas=1/1"})), "replicas=1/1"));
  for (const std::string bad : {"2", "3/2", "0/3", "a/b", "2/3/4", "2/", "/3", "", "1.5/3"}) {
    CHECK(contains(refused({"--closed", "--replicas=" + bad, url}), "answers and copies"));
  }
  CHECK(contains(refused({"--closed", "--replicas=1/1", url + "/x"}), "leave the path out"));
}

TEST_CASE("objectives name any percentile") {
  const Options options = accepted(
      {"-R1", "--slo-p99=5ms", "--slo-p99.9", "800us", "--slo-max=1s", "--slo-errors=0.1"});
  REQUIRE(options.objectives.size() == 3);
  CHECK(options.objectives[0].percentile == 99);
  CHECK(options.objectives[0].limit == milliseconds(5));
  CHECK(options.objectives[1].percentile == 99.9);
  CHECK(options.objectives[1].limit == microseconds(800));
  CHECK(options.objectives[2].percentile == 100);
  CHECK(options.errors_percent_max == 0.1);
  CHECK(contains(refused({"-R1", "--slo-pxx=5ms", url}), "--slo-p50"));
  CHECK(contains(refused({"-R1", "--slo-p99=soon", url}), "5ms"));
}

TEST_CASE("a mistake is answered with what is accepted") {
  CHECK(contains(refused({}), "which server"));
  CHECK(contains(refused({url}), "--rate"));
  CHECK(contains(refused({"-R", "fast", url}), "10k"));
  CHECK(contains(refused({"-R", "10000001", url}), "at most 10m"));
  CHECK(contains(refused({"--ratee", "5", url}), "Did you mean --rate?"));
  CHECK(contains(refused({"-R"}), "needs a value"));
  CHECK(contains(refused({"--closed=yes", url}), "takes no value"));
  CHECK(contains(refused({"--closed", "-R", "10", url}), "leave one"));
  CHECK(contains(refused({"-R1", "ftp://x"}), "not a URL"));
  CHECK(contains(refused({"-R1", "-c1", "-t2", url}), "at least 2"));
  CHECK(contains(refused({"-R1", "--verify", "--value", "8", url}), "16 bytes"));
  CHECK(contains(refused({"-d0", "-R1", url}), "--fill"));
  CHECK(contains(refused({"-R1", "--filled", "9", url}), "--verify"));
  CHECK(contains(refused({"-R1", "--verify", "--fill", "60m", url}), "50000000"));
  CHECK(contains(refused({"-R1", "-H", "no colon", url}), "Name: value"));
  CHECK(contains(refused({"-R1", "--key-prefix", "a b", url}), "letters"));
  CHECK(contains(refused({"-R1", "-c", "0", url}), "1 to 60000"));
}

TEST_CASE("headers are added, but for Host, which takes the place of ours") {
  const Options options = accepted({"-R1", "-H", "X-A: b: c", "-H", "hOST: example", "-HX-B: "});
  CHECK(options.headers == std::vector<std::string>{"X-A: b: c", "X-B: "});
  CHECK(options.host == "example");
  for (const std::string line : {"", ":", ": b", "a", "a b: c", "a:b", "a: b\r\nc: d"}) {
    CHECK(contains(refused({"-R1", "-H", line, url}), "Name: value"));
  }
  for (const std::string line : {"content-LENGTH: 1", "Transfer-Encoding: chunked"}) {
    CHECK(contains(refused({"-R1", "-H", line, url}), "how long"));
  }
}

TEST_CASE("what is not near to any flag is not taken for one") {
  CHECK(contains(refused({"--rat", "1", url}), "Did you mean --rate?"));
  CHECK_FALSE(contains(refused({"--", url}), "Did you mean"));
  CHECK_FALSE(contains(refused({"--abc", url}), "Did you mean"));
}

TEST_CASE("another service's GETs and answers") {
  const Options options = accepted({"-R1", "--get", "/lookup?key=", "--expect=400"});
  CHECK(options.get_path == "/lookup?key=");
  CHECK(options.expected == 400);
  CHECK(contains(refused({"-R1", "--get", "lookup", url}), "a path"));
  CHECK(contains(refused({"-R1", "--get", "/a b", url}), "a path"));
  CHECK(contains(refused({"-R1", "--expect", "200", url}), "400 to 599"));
  CHECK(contains(refused({"-R1", "--get", "/lookup?key=", "--verify", url}), "leave out"));
  CHECK(contains(refused({"-R1", "--get", "/lookup?key=", url + "/path"}), "leave out"));
  CHECK(contains(refused({"-R1", "--get", "/lookup?key=", "redis://127.0.0.1:6379"}), "--get"));
}

TEST_CASE("help and version are printed instead of a run") {
  CHECK(contains(parse_command_line({"--help"})->print, "Examples"));
  CHECK(contains(parse_command_line({"--version"})->print, "gyre-load "));
}

}  // namespace
}  // namespace gyre::load
