// The command line of gyre-load, as plain values. Pure: nothing is looked up or opened here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/backend.hpp>
#include <gyre/result.hpp>

#include "http/client.hpp"
#include "load/keys.hpp"
#include "load/schedule.hpp"
#include "load/values.hpp"

namespace gyre::load {

enum ExitCode : int {
  exit_ok = 0,
  exit_failed = 1,    // the run could not start, was not completed, or no answer was good
  exit_usage = 2,     // the command line makes no sense
  exit_breach = 3,    // completed, but an objective was missed or not supported, or an answer wrong
  exit_sigint = 130,  // interrupted; the report is about the part that ran
  exit_sigterm = 143,
};

enum class Operation : uint8_t { get, put, remove, range, path };
constexpr size_t operation_count = 5;
std::string_view to_string(Operation operation);

struct Target {
  std::string url;  // as it was given
  http::Endpoint endpoint;
};

// At most `limit` at this percentile (100: the maximum).
struct Objective {
  double percentile = 99;
  Nanos limit = 0;
};

struct Options {
  std::vector<Target> targets;
  bool redis = false;  // all targets speak the Redis protocol
  std::string path;    // of Operation::path
  unsigned threads = 1;
  unsigned connections = 64;
  unsigned pipeline = 1;  // requests under way on a connection
  Profile profile{.rate_from = 0, .rate_to = 0, .warmup = -1, .duration = seconds(10)};
  bool rate_given = false;
  bool closed = false;  // no schedule: every connection asks as fast as it is answered
  uint32_t weights[operation_count] = {1, 0, 0, 0, 0};
  bool mix_given = false;
  uint64_t keys = 10'000;
  Distribution distribution = Distribution::uniform;
  double zipf_exponent = 0.99;
  std::string prefix = "key";
  ValueSizes values;
  uint64_t range_records = 100;
  std::string replicas;   // "A/F", asked for with every entity and range; empty: the service's own
  std::string get_path;   // of GETs, the key behind it; empty: the contract's
  unsigned expected = 0;  // a status that is good, too
  uint64_t fill = 0;
  uint64_t filled = 0;  // by an earlier run
  bool verify = false;
  Nanos timeout = seconds(10);
  Nanos drain = seconds(2);
  bool keep_going = false;
  std::vector<std::string> headers;
  std::string host;  // in place of the target's
  std::string json_file;
  std::string hdr_file;
  std::string series_file;
  std::string note;
  bool uncorrected = false;  // also wrk2's second histogram
  bool quiet = false;
  std::vector<Objective> objectives;
  double errors_percent_max = -1;  // below 0: none, if there is another objective

  uint64_t weight_sum() const {
    uint64_t sum = 0;
    for (uint32_t weight : weights) sum += weight;
    return sum;
  }
  bool uses(Operation operation) const { return weights[static_cast<size_t>(operation)] > 0; }
  bool runs() const { return profile.duration > 0; }  // false: it only fills
  // The keys below were stored before the run, and are there until it deletes them.
  uint64_t stored() const { return std::max(fill, filled); }
  bool stays(uint64_t key) const { return key < stored() && !uses(Operation::remove); }
};

// What has been asked for: a run, or text to print (help, version) before exiting with 0. A
// mistake is an Error whose detail says what is accepted.
struct CommandLine {
  Options options;
  std::string print;
};
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments);

std::string help_text();
std::string describe_load(const Options& options);      // "open loop, constant 10000/s"
std::string describe_workload(const Options& options);  // "put 50 %, get 50 %, 10000 uniform keys"

}  // namespace gyre::load
