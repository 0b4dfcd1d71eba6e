#include "node/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include <gyre/version.hpp>

#include "base/limits.hpp"

namespace gyre {
namespace {

constexpr std::string_view prefix = "GYRE_";

// --- the table's building blocks -----------------------------------------------------------------

Result<uint64_t> in_range(Result<uint64_t> number, uint64_t low, uint64_t high) {
  if (number && (*number < low || *number > high)) {
    return fail(Errc::invalid, fmt::format("is out of range: {} to {} are accepted", low, high));
  }
  if (!number)
    return fail(Errc::invalid, fmt::format("{} from {} to {}", number.error().detail, low, high));
  return number;
}

// A failure of `parsed`, or its value stored in `field`.
template <class Field, class Value>
Result<void> store(Field& field, Result<Value> parsed) {
  if (!parsed) return fail(std::move(parsed.error()));
  field = static_cast<Field>(std::move(*parsed));
  return {};
}

template <uint64_t ServeConfig::* field, uint64_t low, uint64_t high>
Result<void> assign_size(ServeConfig& config, std::string_view text) {
  const auto bytes = parse_size(text);
  if (bytes && (*bytes < low || *bytes > high)) {
    return fail(Errc::invalid, fmt::format("is out of range: {} to {} are accepted",
                                           format_size(low), format_size(high)));
  }
  return store(config.*field, bytes);
}

template <uint64_t ServeConfig::* field>
std::string print_size(const ServeConfig& config) {
  return format_size(config.*field);
}

template <auto field, uint64_t low, uint64_t high>
Result<void> assign_count(ServeConfig& config, std::string_view text) {
  return store(config.*field, in_range(parse_count(text), low, high));
}

template <auto field>
std::string print_count(const ServeConfig& config) {
  return std::to_string(config.*field);
}

template <uint64_t ServeConfig::* field>
Result<void> assign_timeout(ServeConfig& config, std::string_view text) {
  const auto ms = parse_duration_ms(text);
  if (ms && (*ms < 1 || *ms > 24 * 3'600'000ull)) {
    return fail(Errc::invalid, "is out of range: 1ms to 24h are accepted");
  }
  return store(config.*field, ms);
}

template <uint64_t ServeConfig::* field>
std::string print_duration(const ServeConfig& config) {
  return format_duration_ms(config.*field);
}

template <std::optional<Address> ServeConfig::* field>
Result<void> assign_optional_address(ServeConfig& config, std::string_view text) {
  return store(config.*field, parse_address(text));
}

template <std::optional<Address> ServeConfig::* field>
std::string print_optional_address(const ServeConfig& config) {
  return config.*field ? (config.*field)->to_string() : "";
}

template <std::string ServeConfig::* field>
Result<void> assign_text(ServeConfig& config, std::string_view text) {
  if (text.empty()) return fail(Errc::invalid, "is empty");
  config.*field = text;
  return {};
}

template <std::string ServeConfig::* field>
std::string print_text(const ServeConfig& config) {
  return config.*field;
}

// One of the names that to_string gives to the values from the first to `last`.
template <auto field, auto last>
Result<void> assign_choice(ServeConfig& config, std::string_view text) {
  using Choice = decltype(last);
  std::string names;
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    const auto choice = static_cast<Choice>(i);
    if (text == to_string(choice)) {
      config.*field = choice;
      return {};
    }
    names += fmt::format("{}{}",
                         i == 0                        ? ""
                         : i == static_cast<int>(last) ? " or "
                                                       : ", ",
                         to_string(choice));
  }
  return fail(Errc::invalid, "is not one of " + names);
}

template <auto field>
std::string print_choice(const ServeConfig& config) {
  return std::string(to_string(config.*field));
}

Result<void> assign_pin(ServeConfig& config, std::string_view text) {
  return store(config.pin, parse_switch(text));
}

std::string print_pin(const ServeConfig& config) {
  return config.pin ? "true" : "false";
}

Result<void> assign_admin(ServeConfig& config, std::string_view text) {
  config.admin_is_default = false;
  config.admin.reset();
  if (text == "off") return {};
  auto address = parse_address(text);
  if (!address) return fail(Errc::invalid, address.error().detail + ", or off");
  config.admin = std::move(*address);
  return {};
}

std::string print_admin(const ServeConfig& config) {
  return config.admin ? config.admin->to_string() : "off";
}

Result<void> assign_listen(ServeConfig& config, std::string_view text) {
  return store(config.listen, parse_address(text));
}

std::string print_listen(const ServeConfig& config) {
  return config.listen.to_string();
}

Result<void> assign_shards(ServeConfig& config, std::string_view text) {
  return store(config.shards, in_range(parse_count(text), 1, 1024));
}

std::string print_shards(const ServeConfig& config) {
  return config.shards ? std::to_string(*config.shards) : "";
}

Result<void> assign_advertise(ServeConfig& config, std::string_view text) {
  return store(config.advertise, parse_node_url(text));
}

Result<void> assign_peers(ServeConfig& config, std::string_view text) {
  std::vector<std::string> peers;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    auto url = parse_node_url(text.substr(at, comma - at));
    if (!url) return fail(std::move(url.error()));
    if (std::ranges::find(peers, *url) != peers.end()) {
      return fail(Errc::invalid, "names " + *url + " twice");
    }
    peers.push_back(std::move(*url));
    at = comma + 1;
  }
  config.peers = std::move(peers);
  return {};
}

std::string print_peers(const ServeConfig& config) {
  return fmt::format("{}", fmt::join(config.peers, ","));
}

// --- the table -----------------------------------------------------------------------------------

using C = ServeConfig;

constexpr uint64_t mebibyte = 1ull << 20;
constexpr uint64_t pebibyte = 1ull << 50;

constexpr std::array<Setting, 24> table = {{
    {"listen", "ADDR:PORT", "address for clients, over HTTP (port 0: a free one)", assign_listen,
     print_listen},
    {"data", "DIR", "data directory, created if missing", assign_text<&C::data>,
     print_text<&C::data>},
    {"cores", "N", "cores to use (default: all)",
     assign_count<&C::cores, 1, HybridClock::cores_max>, print_count<&C::cores>},
    {"shards", "N", "storage shards; fixed when the directory is made (default: as cores)",
     assign_shards, print_shards},
    {"pin", "", "pin each core's thread to a CPU (default: when all CPUs are used)", assign_pin,
     print_pin},
    {"durability", "group|interval|none",
     "a write waits for its sync (group), is synced later (interval), or not (none)",
     assign_choice<&C::durability, Durability::none>, print_choice<&C::durability>},
    {"memory", "SIZE", "budget of the whole process (default: a quarter of what there is)",
     assign_size<&C::memory_bytes, 16 * mebibyte, pebibyte>, print_size<&C::memory_bytes>},
    {"max-value", "SIZE", "largest value",
     assign_size<&C::value_bytes_max, 1024, limits::value_bytes_max_hard>,
     print_size<&C::value_bytes_max>},
    {"max-connections", "N", "most connections at a time (default: what --memory allows)",
     assign_count<&C::connections_max, 1, 1'000'000>, print_count<&C::connections_max>},
    {"rate-limit", "N", "requests per second of one client address; 0 is off",
     assign_count<&C::rate_limit_per_s, 0, 1'000'000'000>, print_count<&C::rate_limit_per_s>},
    {"scrub-days", "N", "check every table on the disk once in this many days; 0 is off",
     assign_count<&C::scrub_days, 0, 3650>, print_count<&C::scrub_days>},
    {"head-timeout", "TIME", "a request's header must be complete within this time",
     assign_timeout<&C::head_timeout_ms>, print_duration<&C::head_timeout_ms>},
    {"body-timeout", "TIME", "a request's body must be complete within this time",
     assign_timeout<&C::body_timeout_ms>, print_duration<&C::body_timeout_ms>},
    {"idle-timeout", "TIME", "a connection without a request is closed after this time",
     assign_timeout<&C::idle_timeout_ms>, print_duration<&C::idle_timeout_ms>},
    {"send-timeout", "TIME", "a client that reads nothing of its response for this time is dropped",
     assign_timeout<&C::send_timeout_ms>, print_duration<&C::send_timeout_ms>},
    {"log-level", "debug|info|warn|error", "least severity that is logged",
     assign_choice<&C::log_level, LogLevel::error>, print_choice<&C::log_level>},
    {"advertise", "URL", "where other nodes reach this one; must be one of --peers",
     assign_advertise, print_text<&C::advertise>},
    {"peers", "URL,URL,...", "all nodes of the cluster, this one included, in any order",
     assign_peers, print_peers},
    {"topology", "FILE", "the cluster's nodes and table of slots (gyre admin topology)",
     assign_text<&C::topology>, print_text<&C::topology>},
    {"secret-file", "FILE", "a secret that all nodes of the cluster share; others are refused",
     assign_text<&C::secret_file>, print_text<&C::secret_file>},
    {"replication", "N", "copies of a key unless the request says otherwise",
     assign_count<&C::replication, 1, 5>, print_count<&C::replication>},
    {"resp", "ADDR:PORT", "address for Redis clients (off unless given)",
     assign_optional_address<&C::resp>, print_optional_address<&C::resp>},
    {"resp-password-file", "FILE", "a password that Redis clients must tell first",
     assign_text<&C::resp_password_file>, print_text<&C::resp_password_file>},
    {"admin", "ADDR:PORT|off",
     "address for administration (default: 127.0.0.1 and --listen's port + 10000)", assign_admin,
     print_admin},
}};

const Setting* find_setting(std::string_view name) {
  const auto* found = std::ranges::find(table, name, &Setting::name);
  return found == table.end() ? nullptr : found;
}

std::string environment_name(std::string_view name) {
  std::string variable(prefix);
  for (const char c : name) {
    variable += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  }
  return variable;
}

std::string setting_name(std::string_view variable) {
  std::string name;
  for (const char c : variable) {
    name += c == '_' ? '-' : static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return name;
}

// Variables that begin with GYRE_ and are none of `serve`'s settings: those of the client commands
// and of the tests, and what Kubernetes sets in every container beside a service called gyre.
bool is_foreign_variable(std::string_view name) {
  return name == "GYRE_URL" || name == "GYRE_CONFIG" || name.starts_with("GYRE_TEST_") ||
         name.starts_with("GYRE_SERVICE_") || name == "GYRE_PORT" || name.starts_with("GYRE_PORT_");
}

// --- layers --------------------------------------------------------------------------------------

struct Layers {
  std::map<std::string, RawSetting, std::less<>> strongest;  // by setting name
  ConfigProblems problems;

  void add(std::vector<RawSetting> values) {
    for (RawSetting& value : values) {
      if (find_setting(value.name) == nullptr) {
        report_unknown(value);
        continue;
      }
      const auto found = strongest.find(value.name);
      if (found == strongest.end() || value.layer < found->second.layer) {
        std::string name = value.name;
        strongest.insert_or_assign(std::move(name), std::move(value));
      }
    }
  }

  void report_unknown(const RawSetting& value) {
    std::vector<std::string_view> names;
    for (const Setting& setting : table) names.push_back(setting.name);
    const std::string_view near = closest(value.name, names);
    const auto spelled = [&](std::string_view name) {
      return value.layer == Layer::environment ? environment_name(name)
             : value.layer == Layer::flag      ? "--" + std::string(name)
                                               : std::string(name);
    };
    const std::string place = value.layer == Layer::file ? value.place + ": " : "";
    problems.lines.push_back(fmt::format(
        "{}{} is not a setting{}; gyre serve --help lists all", place, spelled(value.name),
        near.empty() ? "" : fmt::format(", did you mean {}?", spelled(near))));
  }
};

std::string as_given(const RawSetting& value) {
  switch (value.layer) {
    case Layer::flag:
      return fmt::format("--{} {}", value.name, value.text.empty() ? "\"\"" : value.text);
    case Layer::environment:
      return fmt::format("{}={}", environment_name(value.name), value.text);
    case Layer::file:
      return fmt::format("{}: {} = {}", value.place, value.name, value.text);
  }
  return {};
}

std::string origin_of(const RawSetting& value) {
  switch (value.layer) {
    case Layer::flag:
      return "--" + value.name;
    case Layer::environment:
      return environment_name(value.name);
    case Layer::file:
      return value.place;
  }
  return {};
}

std::vector<RawSetting> from_environment(const std::map<std::string, std::string>& environment) {
  std::vector<RawSetting> values;
  for (const auto& [variable, text] : environment) {
    if (!variable.starts_with(prefix) || is_foreign_variable(variable)) continue;
    values.push_back({Layer::environment,
                      setting_name(std::string_view(variable).substr(prefix.size())), text, ""});
  }
  return values;
}

// The path that --config or GYRE_CONFIG names. The flag is taken out of `flags`.
std::optional<std::string> take_config_path(std::vector<RawSetting>& flags,
                                            const std::map<std::string, std::string>& environment) {
  const auto flag = std::ranges::find(flags, "config", &RawSetting::name);
  if (flag != flags.end()) {
    std::string path = std::move(flag->text);
    flags.erase(flag);
    return path;
  }
  const auto variable = environment.find("GYRE_CONFIG");
  if (variable != environment.end()) return variable->second;
  return {};
}

Layers collect(const ConfigInput& input) {
  Layers layers;
  std::vector<RawSetting> flags = input.flags;
  const auto path = take_config_path(flags, input.environment);
  layers.add(std::move(flags));
  layers.add(from_environment(input.environment));
  if (!path) return layers;
  auto file = read_config_file(*path);
  if (file) {
    for (RawSetting& value : *file) std::ranges::replace(value.name, '_', '-');
    layers.add(std::move(*file));
  } else {
    for (std::string& line : file.error().lines) {
      layers.problems.lines.push_back(std::move(line));
    }
  }
  return layers;
}

// --- defaults and checks between settings --------------------------------------------------------

ServeConfig defaults(const Machine& machine) {
  ServeConfig config;
  config.cores = std::min(machine.cpus, HybridClock::cores_max);
  config.memory_bytes = std::max(machine.memory_bytes / 4 / mebibyte, uint64_t{16}) * mebibyte;
  config.value_bytes_max = limits::value_bytes_max_default;
  config.head_timeout_ms = 10'000;
  config.body_timeout_ms = 30'000;
  config.idle_timeout_ms = 75'000;
  config.send_timeout_ms = 30'000;
  for (const Setting& setting : table) config.origin.emplace(setting.name, "default");
  config.origin["cores"] = fmt::format("default: all of {}", machine.cpus_source);
  config.origin["memory"] = fmt::format("default: a quarter of {}", machine.memory_source);
  return config;
}

bool is_default(const ServeConfig& config, std::string_view name) {
  return config.origin.find(name)->second.starts_with("default");
}

// What follows from other settings, for what nobody set.
void derive(ServeConfig& config, const Machine& machine) {
  if (is_default(config, "cores") && config.shards && *config.shards < config.cores) {
    config.cores = *config.shards;
    config.origin["cores"] = "default: as many as shards";
  }
  if (is_default(config, "pin") && config.cores == machine.cpus_online) {
    config.pin = true;
    config.origin["pin"] = "default: all CPUs are used";
  }
  if (is_default(config, "admin")) {
    config.admin = default_admin_address(config.listen.port);
    config.origin["admin"] = "default: the port of --listen + 10000; if it is taken a free one";
  }
  if (is_default(config, "max-connections")) {
    config.connections_max = default_connections_max(config.memory_bytes);
    config.origin["max-connections"] = "default: a twelfth of --memory";
  }
}

// Whoever reaches the port can read, change and delete everything.
void check_resp(const ServeConfig& config, ConfigProblems& problems) {
  if (!config.resp) {
    if (!config.resp_password_file.empty()) {
      problems.lines.push_back(
          "--resp-password-file is for Redis clients: give --resp ADDR:PORT too");
    }
    return;
  }
  if (config.resp_password_file.empty() && !is_loopback_address(config.resp->host)) {
    problems.lines.push_back(
        fmt::format("--resp {} would let everybody in who reaches it: give a password with "
                    "--resp-password-file FILE, or listen on 127.0.0.1",
                    config.resp->to_string()));
  }
  for (const auto& [flag, other] :
       {std::pair<std::string_view, const Address*>{"listen", &config.listen},
        {"admin", config.admin ? &*config.admin : nullptr}}) {
    if (other == nullptr || *other != *config.resp || other->port == 0) continue;
    problems.lines.push_back(fmt::format("--resp {} is the address of --{}: choose another port",
                                         config.resp->to_string(), flag));
  }
}

void check_together(ServeConfig& config, ConfigProblems& problems) {
  check_resp(config, problems);
  if (config.admin && *config.admin == config.listen && config.listen.port != 0) {
    problems.lines.push_back(fmt::format(
        "--admin {} is the address of --listen: choose another port, so that clients can't reach "
        "the administration",
        config.admin->to_string()));
  }
  if (config.shards && config.cores > *config.shards) {
    problems.lines.push_back(fmt::format(
        "--cores {} is more than --shards {}, but a shard is served by one core: lower --cores to "
        "{}, or raise --shards",
        config.cores, *config.shards, *config.shards));
  }
  if (!config.peers.empty() && !config.topology.empty()) {
    problems.lines.push_back(
        "--peers and --topology both say which nodes there are: give one of them");
  }
  if (!config.peers.empty() && !config.advertise.empty() &&
      std::ranges::find(config.peers, config.advertise) == config.peers.end()) {
    problems.lines.push_back(fmt::format("--advertise {} is none of --peers {}", config.advertise,
                                         fmt::join(config.peers, ",")));
  }
  auto plan = plan_memory({.budget_bytes = config.memory_bytes,
                           .cores = config.cores,
                           .shards = config.shards.value_or(config.cores),
                           .value_bytes_max = config.value_bytes_max,
                           .connections_max = config.connections_max});
  if (plan) {
    config.memory_plan = *plan;
  } else {
    problems.lines.push_back(std::move(plan.error().detail));
  }
}

std::string toml_value(std::string_view text) {
  const bool number = !text.empty() && text.size() < 19 && (text == "0" || text.front() != '0') &&
                      text.find_first_not_of("0123456789") == std::string_view::npos;
  if (number || text == "true" || text == "false") return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      quoted += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
      continue;
    }
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

}  // namespace

Address default_admin_address(uint16_t listen_port) {
  constexpr unsigned distance = 10'000;
  if (listen_port == 0) return {"127.0.0.1", 0};
  const unsigned port =
      listen_port + distance <= 65'535 ? listen_port + distance : listen_port - distance;
  return {"127.0.0.1", static_cast<uint16_t>(port)};
}

std::string_view to_string(Durability durability) {
  switch (durability) {
    case Durability::group:
      return "group";
    case Durability::interval:
      return "interval";
    case Durability::none:
      return "none";
  }
  return "";
}

std::string_view to_string(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warn:
      return "warn";
    case LogLevel::error:
      return "error";
  }
  return "";
}

std::span<const Setting> settings() {
  return table;
}

tl::expected<ServeConfig, ConfigProblems> load_serve_config(const ConfigInput& input) {
  Layers layers = collect(input);
  ConfigProblems& problems = layers.problems;
  ServeConfig config = defaults(input.machine);
  for (const Setting& setting : table) {
    const auto given = layers.strongest.find(setting.name);
    if (given == layers.strongest.end()) continue;
    const auto assigned = setting.assign(config, given->second.text);
    if (!assigned) {
      problems.lines.push_back(
          fmt::format("{} {}", as_given(given->second), assigned.error().detail));
    }
    config.origin.insert_or_assign(std::string(setting.name), origin_of(given->second));
  }
  if (problems.lines.empty()) {
    derive(config, input.machine);
    check_together(config, problems);
  }
  if (!problems.lines.empty()) return tl::unexpected(std::move(problems));
  return config;
}

std::string print_config(const ServeConfig& config) {
  std::string text;
  for (const Setting& setting : table) {
    const std::string value = setting.print(config);
    const std::string line = value.empty()
                                 ? fmt::format("# {} is not set", setting.name)
                                 : fmt::format("{} = {}", setting.name, toml_value(value));
    text += fmt::format("{:<40} # {}\n", line, config.origin.find(setting.name)->second);
  }
  return text;
}

}  // namespace gyre
