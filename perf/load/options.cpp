#include "load/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/limits.hpp"

#ifndef GYRE_VERSION
#define GYRE_VERSION "unknown"
#endif

namespace gyre::load {

namespace {

// --- values --------------------------------------------------------------------------------------

std::optional<double> read_number(std::string_view text, bool with_scale) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value) || value < 0) return std::nullopt;
  const std::string_view rest(end, static_cast<size_t>(text.data() + text.size() - end));
  if (rest.empty()) return value;
  if (with_scale && rest == "k") return value * 1e3;
  if (with_scale && (rest == "m" || rest == "M")) return value * 1e6;
  return std::nullopt;
}

std::optional<uint64_t> read_count(std::string_view text) {
  const auto value = read_number(text, true);
  if (!value || *value != std::floor(*value) || *value > 1e15) return std::nullopt;
  return static_cast<uint64_t>(*value);
}

std::optional<Nanos> read_time(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 6> units{
      {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
  for (const auto& [unit, scale] : units) {
    if (!text.ends_with(unit)) continue;
    if (const auto value = read_number(text.substr(0, text.size() - unit.size()), false)) {
      return *value * scale < 1e18 ? std::optional(static_cast<Nanos>(*value * scale))
                                   : std::nullopt;
    }
  }
  if (const auto value = read_number(text, false); value && *value < 1e9) {
    return static_cast<Nanos>(*value * 1e9);
  }
  return std::nullopt;
}

// Splits "a..b".
std::optional<std::pair<std::string_view, std::string_view>> split_span(std::string_view text) {
  const size_t dots = text.find("..");
  if (dots == std::string_view::npos) return std::nullopt;
  return std::pair(text.substr(0, dots), text.substr(dots + 2));
}

// --- flags: each answers what is accepted, if the value isn't -----------------------------------

using Complaint = std::string_view;
using Set = Complaint (*)(Options&, std::string_view);

Complaint set_count(std::string_view text, uint64_t low, uint64_t high, uint64_t& to,
                    Complaint accepted) {
  const auto value = read_count(text);
  if (!value || *value < low || *value > high) return accepted;
  to = *value;
  return {};
}
Complaint set_unsigned(std::string_view text, uint64_t high, unsigned& to, Complaint accepted) {
  uint64_t value = 0;
  const Complaint complaint = set_count(text, 1, high, value, accepted);
  if (complaint.empty()) to = static_cast<unsigned>(value);
  return complaint;
}
Complaint set_time(std::string_view text, Nanos& to) {
  const auto value = read_time(text);
  if (!value) return "a time such as 30s, 5m, 250ms";
  to = *value;
  return {};
}

// Far more than can be sent. What was due and not sent is counted one by one at the end.
constexpr double rate_max = 1e7;

Complaint set_rate(Options& options, std::string_view text) {
  constexpr Complaint accepted =
      "requests per second such as 10000, 10k, or a ramp 1k..20k, at most 10m";
  options.rate_given = true;
  if (const auto span = split_span(text)) {
    const auto from = read_number(span->first, true);
    const auto to = read_number(span->second, true);
    if (!from || !to || *from + *to == 0 || *from > rate_max || *to > rate_max) return accepted;
    options.profile.rate_from = *from;
    options.profile.rate_to = *to;
    return {};
  }
  const auto rate = read_number(text, true);
  if (!rate || *rate > rate_max) return accepted;
  options.profile.rate_from = options.profile.rate_to = *rate;
  if (*rate == 0) options.closed = true;
  return {};
}

Complaint set_arrival(Options& options, std::string_view text) {
  constexpr Complaint accepted = "constant, poisson or burst:N";
  if (text == "constant") {
    options.profile.arrival = Arrival::constant;
  } else if (text == "poisson") {
    options.profile.arrival = Arrival::poisson;
  } else if (text.starts_with("burst:")) {
    options.profile.arrival = Arrival::burst;
    return set_count(text.substr(6), 1, 1'000'000, options.profile.burst, accepted);
  } else {
    return accepted;
  }
  return {};
}

Complaint set_mix(Options& options, std::string_view text) {
  constexpr Complaint accepted =
      "get, put, delete and range with weights, such as get=90,put=10 or put";
  static constexpr std::array<std::string_view, 4> names{"get", "put", "delete", "range"};
  std::fill(std::begin(options.weights), std::end(options.weights), 0);
  options.mix_given = true;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const size_t equals = std::min(part.find('='), part.size());
    const auto name = std::find(names.begin(), names.end(), part.substr(0, equals));
    uint64_t weight = 1;
    if (name == names.end()) return accepted;
    if (equals < part.size() &&
        !set_count(part.substr(equals + 1), 0, 1'000'000, weight, accepted).empty()) {
      return accepted;
    }
    options.weights[name - names.begin()] = static_cast<uint32_t>(weight);
  }
  return options.weight_sum() == 0 ? accepted : Complaint();
}

Complaint set_key_order(Options& options, std::string_view text) {
  constexpr Complaint accepted =
      "uniform, sequential, latest, zipfian or zipfian:S with S from 0.1 to 10";
  if (text == "uniform") {
    options.distribution = Distribution::uniform;
  } else if (text == "sequential") {
    options.distribution = Distribution::sequential;
  } else if (text == "latest") {
    options.distribution = Distribution::latest;
  } else if (text == "zipfian" || text.starts_with("zipfian:")) {
    options.distribution = Distribution::zipfian;
    if (text.size() > 7) {
      const auto exponent = read_number(text.substr(8), false);
      if (!exponent || *exponent < 0.1 || *exponent > 10) return accepted;
      options.zipf_exponent = *exponent;
    }
  } else {
    return accepted;
  }
  return {};
}

Complaint set_prefix(Options& options, std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~';
  });
  if (!plain || text.size() > 200) return "at most 200 letters, digits or any of -_.~";
  options.prefix = text;
  return {};
}

Complaint set_value(Options& options, std::string_view text) {
  constexpr Complaint accepted =
      "bytes such as 100, 64..1024 or exp:500, at most 16777216 (16 MiB)";
  constexpr uint64_t most = 16u << 20;
  ValueSizes& values = options.values;
  if (text.starts_with("exp:")) {
    values.kind = ValueSizes::Kind::exponential;
    values.high = most;
    return set_count(text.substr(4), value_header_bytes, most, values.low, accepted);
  }
  if (const auto span = split_span(text)) {
    values.kind = ValueSizes::Kind::uniform;
    if (!set_count(span->first, 0, most, values.low, accepted).empty()) return accepted;
    return set_count(span->second, values.low, most, values.high, accepted);
  }
  values.kind = ValueSizes::Kind::fixed;
  const Complaint complaint = set_count(text, 0, most, values.low, accepted);
  values.high = values.low;
  return complaint;
}

// Whether a service takes it, the service says.
Complaint set_replicas(Options& options, std::string_view text) {
  const size_t slash = std::min(text.find('/'), text.size());
  const auto ack = read_count(text.substr(0, slash));
  const auto from = read_count(text.substr(std::min(slash + 1, text.size())));
  if (!ack || !from || *ack < 1 || *ack > *from || *from > 99) {
    return "answers and copies such as 2/3";
  }
  options.replicas = fmt::format("{}/{}", *ack, *from);
  return {};
}

Complaint set_get(Options& options, std::string_view text) {
  if (!text.starts_with('/') || text.find_first_of(" \t\r\n#") != std::string_view::npos) {
    return "a path and query that a key can follow, such as /lookup?key=";
  }
  options.get_path = text;
  return {};
}

Complaint set_expected(Options& options, std::string_view text) {
  const auto status = read_count(text);
  if (!status || *status < 400 || *status > 599) return "a status from 400 to 599";
  options.expected = static_cast<unsigned>(*status);
  return {};
}

// An empty one is a variable that a script forgot to set.
Complaint set_file(std::string_view text, std::string& to) {
  if (text.empty()) return "the name of a file";
  to = text;
  return {};
}

bool is_header(std::string_view name, std::string_view lower_case) {
  return std::equal(name.begin(), name.end(), lower_case.begin(), lower_case.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
}

Complaint set_header(Options& options, std::string_view text) {
  constexpr std::string_view no_token = "\"(),/:;<=>?@[\\]{}";
  const std::string_view name = text.substr(0, text.find(':'));
  const bool is_token = std::all_of(name.begin(), name.end(), [&](char c) {
    return c > ' ' && c < 127 && no_token.find(c) == std::string_view::npos;
  });
  if (name.empty() || !is_token || !text.substr(name.size()).starts_with(": ") ||
      text.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
    return "a line \"Name: value\"";
  }
  if (is_header(name, "content-length") || is_header(name, "transfer-encoding")) {
    return "headers that don't say how long the request is";
  }
  if (is_header(name, "host")) {
    options.host = text.substr(name.size() + 2);
  } else {
    options.headers.emplace_back(text);
  }
  return {};
}

struct Flag {
  std::string_view name;
  char letter;
  bool takes_value;
  Set set;
};

constexpr Flag flags[] = {
    {"--rate", 'R', true, set_rate},
    {"--closed", 0, false,
     [](Options& o, std::string_view) -> Complaint {
       o.closed = true;
       return {};
     }},
    {"--arrival", 0, true, set_arrival},
    {"--duration", 'd', true,
     [](Options& o, std::string_view text) { return set_time(text, o.profile.duration); }},
    {"--warmup", 0, true,
     [](Options& o, std::string_view text) { return set_time(text, o.profile.warmup); }},
    {"--connections", 'c', true,
     [](Options& o, std::string_view text) {
       return set_unsigned(text, 60'000, o.connections, "a number from 1 to 60000");
     }},
    {"--pipeline", 0, true,
     [](Options& o, std::string_view text) {
       return set_unsigned(text, 1024, o.pipeline, "a number from 1 to 1024");
     }},
    {"--threads", 't', true,
     [](Options& o, std::string_view text) {
       return set_unsigned(text, 64, o.threads, "a number from 1 to 64");
     }},
    {"--timeout", 'T', true,
     [](Options& o, std::string_view text) { return set_time(text, o.timeout); }},
    {"--drain", 0, true, [](Options& o, std::string_view text) { return set_time(text, o.drain); }},
    {"--keep-going", 0, false,
     [](Options& o, std::string_view) -> Complaint {
       o.keep_going = true;
       return {};
     }},
    {"--mix", 0, true, set_mix},
    {"--keys", 0, true,
     [](Options& o, std::string_view text) {
       return set_count(text, 1, keys_max / 10, o.keys, "a number from 1 to 1000000000");
     }},
    {"--key-order", 0, true, set_key_order},
    {"--key-prefix", 0, true, set_prefix},
    {"--value", 0, true, set_value},
    {"--range-records", 0, true,
     [](Options& o, std::string_view text) {
       return set_count(text, 1, 10'000'000, o.range_records, "a number from 1 to 10000000");
     }},
    {"--replicas", 0, true, set_replicas},
    {"--get", 0, true, set_get},
    {"--expect", 0, true, set_expected},
    {"--fill", 0, true,
     [](Options& o, std::string_view text) {
       return set_count(text, 1, keys_max / 10, o.fill, "a number from 1 to 1000000000");
     }},
    {"--filled", 0, true,
     [](Options& o, std::string_view text) {
       return set_count(text, 1, keys_max / 10, o.filled, "a number from 1 to 1000000000");
     }},
    {"--verify", 0, false,
     [](Options& o, std::string_view) -> Complaint {
       o.verify = true;
       return {};
     }},
    {"--seed", 0, true,
     [](Options& o, std::string_view text) {
       return set_count(text, 0, 1'000'000'000'000'000, o.profile.seed, "a whole number");
     }},
    {"--header", 'H', true, set_header},
    {"--json", 0, true,
     [](Options& o, std::string_view text) { return set_file(text, o.json_file); }},
    {"--hdr", 0, true,
     [](Options& o, std::string_view text) { return set_file(text, o.hdr_file); }},
    {"--series", 0, true,
     [](Options& o, std::string_view text) { return set_file(text, o.series_file); }},
    {"--note", 0, true,
     [](Options& o, std::string_view text) -> Complaint {
       o.note = text;
       return {};
     }},
    {"--latency", 'L', false, [](Options&, std::string_view) -> Complaint { return {}; }},
    {"--u_latency", 'U', false,
     [](Options& o, std::string_view) -> Complaint {
       o.uncorrected = true;
       return {};
     }},
    {"--quiet", 'q', false,
     [](Options& o, std::string_view) -> Complaint {
       o.quiet = true;
       return {};
     }},
    {"--slo-errors", 0, true,
     [](Options& o, std::string_view text) -> Complaint {
       if (text.ends_with('%')) text.remove_suffix(1);
       const auto percent = read_number(text, false);
       if (!percent || *percent > 100) return "a percentage such as 0.1";
       o.errors_percent_max = *percent;
       return {};
     }},
};

// --slo-p99.9=5ms, --slo-max=50ms
std::optional<Complaint> set_objective(Options& options, std::string_view name,
                                       std::string_view value) {
  double percentile = 100;
  if (name != "--slo-max") {
    if (!name.starts_with("--slo-p")) return std::nullopt;
    const auto number = read_number(name.substr(7), false);
    if (!number || *number <= 0 || *number >= 100) return std::nullopt;
    percentile = *number;
  }
  Nanos limit = 0;
  if (!set_time(value, limit).empty() || limit <= 0) return "a time such as 5ms or 800us";
  options.objectives.push_back({percentile, limit});
  return Complaint();
}

std::string closest_flag(std::string_view given) {
  const auto distance = [](std::string_view a, std::string_view b) {
    std::vector<size_t> row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
      size_t diagonal = std::exchange(row[0], i);
      for (size_t j = 1; j <= b.size(); ++j) {
        const size_t changed = diagonal + (a[i - 1] != b[j - 1] ? 1 : 0);
        diagonal = row[j];
        row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
      }
    }
    return row[b.size()];
  };
  std::string_view best;
  size_t least = std::min<size_t>(4, given.size() / 2);
  for (const Flag& flag : flags) {
    if (const size_t d = distance(given, flag.name); d < least) {
      least = d;
      best = flag.name;
    }
  }
  return best.empty() ? "" : fmt::format(" Did you mean {}?", best);
}

tl::unexpected<Error> usage(std::string text) {
  return fail(Errc::invalid, std::move(text));
}

Result<void> add_target(Options& options, std::string_view url) {
  constexpr std::string_view scheme = "http://";
  constexpr std::string_view redis_scheme = "redis://";
  Target target{.url = std::string(url), .endpoint = {}};
  std::string_view path;
  const bool redis = url.starts_with(redis_scheme);
  if (!options.targets.empty() && options.redis != redis) {
    return usage("all URLs must be of the same protocol, http or redis");
  }
  options.redis = redis;
  std::string as_http;
  if (redis) {
    as_http = std::string(scheme) + std::string(url.substr(redis_scheme.size()));
    url = as_http;
    if (url.find('/', scheme.size()) != std::string_view::npos) {
      return usage(fmt::format("{} must end behind its port", target.url));
    }
  }
  if (url.starts_with(scheme)) {
    const size_t slash = url.find('/', scheme.size());
    if (slash != std::string_view::npos && slash + 1 < url.size()) {
      path = url.substr(slash);
      url = url.substr(0, slash);
    }
  }
  Result<http::Endpoint> endpoint = http::parse_endpoint(url);
  if (!endpoint) {
    return usage(fmt::format("{} is not a URL such as {}127.0.0.1:{} ({})", target.url,
                             redis ? redis_scheme : scheme, redis ? 6379 : 8080,
                             endpoint.error().detail));
  }
  if (path.find_first_of(" \t\r\n#") != std::string_view::npos) {
    return usage(
        fmt::format("the path of {} has a character that must be written as %XX", target.url));
  }
  if (!options.targets.empty() && options.path != path) {
    return usage("all URLs must have the same path");
  }
  options.path = path;
  target.endpoint = std::move(*endpoint);
  options.targets.push_back(std::move(target));
  return {};
}

// What only makes sense, or not, together.
Result<void> check_whole(Options& options) {
  if (options.targets.empty()) {
    return usage("which server? Give its URL, such as http://127.0.0.1:8080");
  }
  if (!options.path.empty()) {
    if (options.mix_given || options.fill > 0 || options.verify || !options.replicas.empty()) {
      return usage(
          "a URL with a path asks for that path only: leave the path out for --mix, --fill, "
          "--replicas or --verify");
    }
    std::fill(std::begin(options.weights), std::end(options.weights), 0);
    options.weights[static_cast<size_t>(Operation::path)] = 1;
  }
  if (options.redis &&
      (options.uses(Operation::range) || !options.replicas.empty() || !options.headers.empty() ||
       !options.host.empty() || !options.get_path.empty() || options.expected != 0)) {
    return usage("the Redis protocol has no ranges, --replicas, --header, --get or --expect");
  }
  if (!options.get_path.empty() && (options.verify || !options.path.empty())) {
    return usage("--get asks another service: leave out --verify and the URL's path");
  }
  const bool has_rate = options.profile.rate_from + options.profile.rate_to > 0;
  if (options.closed && has_rate) {
    return usage("--closed has no rate: leave one of --closed and --rate out");
  }
  if (options.runs() && !options.closed && !has_rate) {
    return usage(
        "how many requests per second? Give --rate (such as --rate 10000), or --closed for as many "
        "as are answered");
  }
  if (!options.runs() && options.fill == 0) {
    return usage("--duration 0 only fills: give --fill N, or a duration such as 10s");
  }
  if (!options.runs() && !(options.json_file + options.hdr_file + options.series_file).empty()) {
    return usage("--duration 0 only fills: there is nothing for --json, --hdr or --series");
  }
  if (options.connections < std::max<size_t>(options.threads, options.targets.size())) {
    return usage(fmt::format("{} connections are fewer than threads or URLs: give at least {}",
                             options.connections,
                             std::max<size_t>(options.threads, options.targets.size())));
  }
  if (options.verify && options.values.smallest() < value_header_bytes) {
    return usage("--verify needs values of at least 16 bytes: they carry a check");
  }
  if (options.verify && std::max(options.keys, options.stored()) > 50'000'000) {
    return usage("--verify remembers every key: give at most 50000000 to --keys and --fill");
  }
  if (options.filled > 0 && !options.verify) {
    return usage("--filled says what --verify may rely on: give --verify too, or --fill to store");
  }
  if (options.timeout <= 0) return usage("--timeout takes a time over 0");
  if (options.profile.warmup < 0) {
    options.profile.warmup = std::min<Nanos>(options.profile.duration / 10, seconds(5));
  }
  return {};
}

}  // namespace

Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments) {
  CommandLine line;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string_view name = arguments[i];
    if (name == "--help" || name == "-h") {
      line.print = help_text();
      return line;
    }
    if (name == "--version") {
      line.print = "gyre-load " GYRE_VERSION "\n";
      return line;
    }
    if (!name.starts_with('-') || name == "-") {
      if (auto added = add_target(line.options, name); !added) return fail(added.error());
      continue;
    }
    std::optional<std::string_view> value;
    if (const size_t equals = name.find('='); name.starts_with("--") && equals < name.size()) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    const auto flag = std::find_if(std::begin(flags), std::end(flags), [&](const Flag& f) {
      return name == f.name ||
             (name.size() >= 2 && name[0] == '-' && name[1] == f.letter && f.letter != 0);
    });
    const bool objective = name.starts_with("--slo-p") || name == "--slo-max";
    if (flag == std::end(flags) && !objective) {
      return usage(
          fmt::format("{} is not known.{} See gyre-load --help", name, closest_flag(name)));
    }
    if (flag != std::end(flags) && !name.starts_with("--") && name.size() > 2) {
      value = name.substr(2);  // -R10000
      name = name.substr(0, 2);
    }
    const bool takes_value = objective || flag->takes_value;
    if (!takes_value && value) return usage(fmt::format("{} takes no value", name));
    if (takes_value && !value) {
      if (i + 1 == arguments.size()) return usage(fmt::format("{} needs a value", name));
      value = arguments[++i];
    }
    Complaint complaint;
    if (objective) {
      const auto done = set_objective(line.options, name, *value);
      if (!done) {
        return usage(fmt::format("{} is not known: --slo-p50 to --slo-p99.999, --slo-max", name));
      }
      complaint = *done;
    } else {
      complaint = flag->set(line.options, value.value_or(std::string_view()));
    }
    if (!complaint.empty()) {
      return usage(fmt::format("{} takes {}, not '{}'", name, complaint, *value));
    }
  }
  if (auto checked = check_whole(line.options); !checked) return fail(checked.error());
  return line;
}

}  // namespace gyre::load
