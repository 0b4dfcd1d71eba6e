#include "node/proxy_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/limits.hpp"
#include "node/config_values.hpp"
#include "proxy/allowed_hosts.hpp"

namespace gyre {

namespace {

using proxy::Eviction;
using proxy::ListenAddress;
using proxy::Options;

constexpr uint64_t mebibyte = 1ull << 20;
constexpr uint64_t month_ms = 30ull * 86'400'000;

template <class Field>
Result<void> assign_number(Field& field, std::string_view text, uint64_t low, uint64_t high) {
  const auto number = parse_count(text);
  if (!number || *number < low || *number > high) {
    return fail(Errc::invalid, fmt::format("is not a whole number from {} to {}", low, high));
  }
  field = static_cast<Field>(*number);
  return {};
}

template <auto field, uint64_t low, uint64_t high>
Result<void> assign_count(Options& options, std::string_view text) {
  return assign_number(options.*field, text, low, high);
}

template <auto field>
std::string print_count(const Options& options) {
  return std::to_string(options.*field);
}

template <Nanos proxy::Policy::* field, uint64_t low>
Result<void> assign_ms(Options& options, std::string_view text) {
  uint64_t ms = 0;
  if (auto assigned = assign_number(ms, text, low, month_ms); !assigned) return assigned;
  options.others.*field = milliseconds(static_cast<int64_t>(ms));
  return {};
}

template <Nanos proxy::Policy::* field>
std::string print_ms(const Options& options) {
  return std::to_string(options.others.*field / milliseconds(1));
}

template <uint64_t Options::* field, uint64_t low, uint64_t high>
Result<void> assign_size(Options& options, std::string_view text) {
  const auto bytes = parse_size(text);
  if (!bytes) return fail(bytes.error());
  if (*bytes < low || *bytes > high) {
    return fail(Errc::invalid, fmt::format("is out of range: {} to {} are accepted",
                                           format_size(low), format_size(high)));
  }
  options.*field = *bytes;
  return {};
}

template <uint64_t Options::* field>
std::string print_size(const Options& options) {
  return format_size(options.*field);
}

template <std::string Options::* field>
Result<void> assign_text(Options& options, std::string_view text) {
  if (text.empty()) return fail(Errc::invalid, "is empty");
  options.*field = text;
  return {};
}

template <std::string Options::* field>
std::string print_text(const Options& options) {
  return options.*field;
}

template <bool Options::* field>
Result<void> assign_switch(Options& options, std::string_view text) {
  const auto on = parse_switch(text);
  if (!on) return fail(on.error());
  options.*field = *on;
  return {};
}

template <bool Options::* field>
std::string print_switch(const Options& options) {
  return options.*field ? "true" : "false";
}

Result<ListenAddress> parse_listen(std::string_view text) {
  auto address = parse_address(text);
  if (!address) return fail(address.error());
  return ListenAddress{std::move(address->host), address->port};
}

Result<void> assign_host(Options& options, std::string_view text) {
  const bool v6 = text.find(':') != std::string_view::npos && !text.starts_with('[');
  const auto address = parse_listen(fmt::format(fmt::runtime(v6 ? "[{}]:0" : "{}:0"), text));
  if (!address) {
    return fail(Errc::invalid, "is not a numeric address, such as 127.0.0.1, 0.0.0.0 or ::1");
  }
  options.listen.host = address->host;
  return {};
}

std::string print_host(const Options& options) {
  return options.listen.host;
}

Result<void> assign_port(Options& options, std::string_view text) {
  return assign_number(options.listen.port, text, 0, 65535);
}

std::string print_port(const Options& options) {
  return std::to_string(options.listen.port);
}

Result<void> assign_admin(Options& options, std::string_view text) {
  options.admin_is_default = false;
  options.admin.reset();
  if (text == "off") return {};
  auto address = parse_listen(text);
  if (!address) return fail(Errc::invalid, address.error().detail + ", or off");
  options.admin = std::move(*address);
  return {};
}

std::string print_address(const std::optional<ListenAddress>& address) {
  return address ? Address{address->host, address->port}.to_string() : "off";
}

std::string print_admin(const Options& options) {
  return print_address(options.admin);
}

Result<void> assign_eviction(Options& options, std::string_view text) {
  if (text != "s3-fifo" && text != "lru") return fail(Errc::invalid, "is neither s3-fifo nor lru");
  options.eviction = text == "lru" ? Eviction::lru : Eviction::s3_fifo;
  return {};
}

std::string print_eviction(const Options& options) {
  return options.eviction == Eviction::lru ? "lru" : "s3-fifo";
}

// After all others: what a prefix does not say is as for other keys.
Result<void> assign_prefixes(Options& options, std::string_view text) {
  auto policies = proxy::parse_policies(text, options.others);
  if (!policies) return fail(policies.error());
  options.policies = std::move(*policies);
  return {};
}

std::string print_prefixes(const Options& options) {
  return proxy::format_policies(options.policies, options.others);
}

// Kubernetes gives every container beside a service called redis a REDIS_PORT that is an URL.
Result<void> assign_redis_port(Options& options, std::string_view text) {
  if (text.starts_with("tcp://")) {
    return fail(Errc::invalid,
                "is not a port but what Kubernetes sets for a service called redis: set "
                "REDIS_PORT yourself, or give --redis-port");
  }
  return assign_number(options.redis_port, text, 1, 65535);
}

std::string print_redis_port(const Options& options) {
  return std::to_string(options.redis_port);
}

Result<void> assign_redis_cluster(Options& options, std::string_view text) {
  options.redis_cluster.clear();
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    auto node = resp::parse_node_address(text.substr(at, end - at));
    if (!node || node->host.empty()) {
      return fail(Errc::invalid,
                  "is not HOST:PORT[,HOST:PORT…], some nodes of a cluster, such as "
                  "10.0.0.1:6379,10.0.0.2:6379");
    }
    options.redis_cluster.push_back(std::move(*node));
    at = end + 1;
  }
  return {};
}

std::string print_redis_cluster(const Options& options) {
  return options.redis_cluster.empty() ? "" : proxy::redis_name(options);
}

using O = Options;
using P = proxy::Policy;

constexpr uint64_t rate_max = 1'000'000'000;

constexpr ProxySetting table[] = {
    {"host", "PROXY_HOST", "ADDR", "numeric address to listen on", assign_host, print_host},
    {"port", "PROXY_PORT", "PORT", "port for clients, over HTTP (0: a free one)", assign_port,
     print_port},
    {"max-keys", "PROXY_MAX_KEYS", "N", "most keys that are remembered",
     assign_count<&O::keys_max, 1, 1'000'000'000>, print_count<&O::keys_max>},
    {"ttl-ms", "PROXY_TTL_MS", "MS", "longest time for which a value is remembered",
     assign_ms<&P::ttl_max, 1>, print_ms<&P::ttl_max>},
    {"redis-host", "REDIS_HOST", "HOST", "where Redis is; a name or an address",
     assign_text<&O::redis_host>, print_text<&O::redis_host>},
    {"redis-port", "REDIS_PORT", "PORT", "its port", assign_redis_port, print_redis_port},
    {"redis-cluster", "REDIS_CLUSTER", "HOST:PORT[,…]",
     "some nodes of a Redis Cluster, from which the others are learnt; instead of the two above",
     assign_redis_cluster, print_redis_cluster},
    {"admin", "PROXY_ADMIN", "ADDR:PORT|off",
     "address for administration (default: 127.0.0.1 and --port + 10000)", assign_admin,
     print_admin},
    {"cores", "PROXY_CORES", "N", "cores to use (default: all)", assign_count<&O::cores, 1, 1024>,
     print_count<&O::cores>},
    {"pin", "PROXY_PIN", "", "pin each core's thread to a CPU", assign_switch<&O::pin>,
     print_switch<&O::pin>},
    {"max-bytes", "PROXY_MAX_BYTES", "SIZE", "most memory of what is remembered",
     assign_size<&O::cache_bytes_max, mebibyte, 1ull << 50>, print_size<&O::cache_bytes_max>},
    {"eviction", "PROXY_EVICTION", "s3-fifo|lru", "what makes room", assign_eviction,
     print_eviction},
    {"negative-ttl-ms", "PROXY_NEGATIVE_TTL_MS", "MS",
     "longest time for which it is remembered that Redis has no such key",
     assign_ms<&P::negative_ttl, 0>, print_ms<&P::negative_ttl>},
    {"revalidate-ms", "PROXY_REVALIDATE_MS", "MS",
     "so long after its time a value is served while it is fetched anew; 0 is off",
     assign_ms<&P::revalidate, 0>, print_ms<&P::revalidate>},
    {"on-error-ms", "PROXY_ON_ERROR_MS", "MS",
     "so long after its time a value is served while Redis does not answer; 0 is off",
     assign_ms<&P::on_error, 0>, print_ms<&P::on_error>},
    {"prefixes", "PROXY_PREFIXES", "LIST",
     "other times for keys by prefix: PREFIX[,ttl-ms=N][,negative-ttl-ms=N][,revalidate-ms=N]"
     "[,on-error-ms=N][,cache=on|off][;PREFIX…]",
     assign_prefixes, print_prefixes},
    {"redis-user", "REDIS_USER", "NAME", "user for AUTH", assign_text<&O::redis_user>,
     print_text<&O::redis_user>},
    {"redis-password-file", "REDIS_PASSWORD_FILE", "FILE", "a file with the password for AUTH",
     assign_text<&O::redis_password_file>, print_text<&O::redis_password_file>},
    {"redis-database", "REDIS_DATABASE", "N", "database to SELECT",
     assign_count<&O::redis_database, 0, 1'000'000>, print_count<&O::redis_database>},
    {"redis-timeout-ms", "REDIS_TIMEOUT_MS", "MS", "longest wait for Redis",
     assign_count<&O::redis_timeout_ms, 1, 600'000>, print_count<&O::redis_timeout_ms>},
    {"tracking", "PROXY_TRACKING", "on|off",
     "let Redis tell of changes (CLIENT TRACKING), where it can", assign_switch<&O::tracking>,
     print_switch<&O::tracking>},
    {"client-rate", "PROXY_CLIENT_RATE", "N", "lookups per second of one client address; 0 is off",
     assign_count<&O::client_rate_per_s, 0, rate_max>, print_count<&O::client_rate_per_s>},
    {"total-rate", "PROXY_TOTAL_RATE", "N", "lookups per second of all clients; 0 is off",
     assign_count<&O::total_rate_per_s, 0, rate_max>, print_count<&O::total_rate_per_s>},
    {"stats-rate", "PROXY_STATS_RATE", "N",
     "requests per second of one client address for /stats and /metrics; 0 is off",
     assign_count<&O::stats_rate_per_s, 0, rate_max>, print_count<&O::stats_rate_per_s>},
    {"max-waiting", "PROXY_MAX_WAITING", "N", "most lookups that wait for Redis",
     assign_count<&O::in_flight_max, 1, 10'000'000>, print_count<&O::in_flight_max>},
    {"max-waiting-per-key", "PROXY_MAX_WAITING_PER_KEY", "N", "most of these for one key",
     assign_count<&O::waiters_max, 1, 10'000'000>, print_count<&O::waiters_max>},
    {"max-connections", "PROXY_MAX_CONNECTIONS", "N", "most connections of clients",
     assign_count<&O::connections_max, 1, 1'000'000>, print_count<&O::connections_max>},
    {"max-value", "PROXY_MAX_VALUE", "SIZE",
     "longest value that is taken from Redis; a longer one is refused, by itself",
     assign_size<&O::value_bytes_max, 1024, limits::value_bytes_max_hard>,
     print_size<&O::value_bytes_max>},
    {"resp", "PROXY_RESP", "ADDR:PORT", "address for Redis clients (off unless given)",
     [](Options& options, std::string_view text) -> Result<void> {
       auto address = parse_listen(text);
       if (!address) return fail(address.error());
       options.resp = std::move(*address);
       return {};
     },
     [](const Options& options) { return options.resp ? print_address(options.resp) : ""; }},
    {"resp-password-file", "PROXY_RESP_PASSWORD_FILE", "FILE",
     "a file with the password that Redis clients have to tell",
     assign_text<&O::resp_password_file>, print_text<&O::resp_password_file>},
    {"allowed-hosts", "PROXY_ALLOWED_HOSTS", "LIST",
     "names, separated by commas, that the Host field of HTTP requests may have, beside addresses "
     "and localhost; * is any (default: any, but none on a loopback address)",
     [](Options& options, std::string_view text) -> Result<void> {
       if (auto sound = proxy::AllowedHosts::check(text); !sound) return sound;
       options.allowed_hosts = text;
       return {};
     },
     print_text<&O::allowed_hosts>},
    {"redis-tls", "REDIS_TLS", "", "speak TLS to Redis", assign_switch<&O::redis_tls>,
     print_switch<&O::redis_tls>},
    {"redis-ca", "REDIS_CA", "FILE",
     "certificates (PEM) of who may have signed Redis' (default: who the system trusts)",
     assign_text<&O::redis_ca_file>, print_text<&O::redis_ca_file>},
    {"redis-cert", "REDIS_CERT", "FILE", "a certificate (PEM) to show to Redis, if it wants one",
     assign_text<&O::redis_cert_file>, print_text<&O::redis_cert_file>},
    {"redis-key", "REDIS_KEY", "FILE", "its private key (PEM, without a password)",
     assign_text<&O::redis_key_file>, print_text<&O::redis_key_file>},
    {"redis-server-name", "REDIS_SERVER_NAME", "NAME",
     "name or address that Redis' certificate has to be for (default: --redis-host)",
     assign_text<&O::redis_server_name>, print_text<&O::redis_server_name>},
    {"redis-tls-insecure", "REDIS_TLS_INSECURE", "",
     "take any certificate of Redis: whoever is in between can read and change all",
     assign_switch<&O::redis_tls_insecure>, print_switch<&O::redis_tls_insecure>},
};

void check_tls(const Options& options, ConfigProblems& problems) {
  const std::pair<std::string_view, bool> only_with_tls[] = {
      {"--redis-ca", !options.redis_ca_file.empty()},
      {"--redis-cert", !options.redis_cert_file.empty()},
      {"--redis-key", !options.redis_key_file.empty()},
      {"--redis-server-name", !options.redis_server_name.empty()},
      {"--redis-tls-insecure", options.redis_tls_insecure},
  };
  for (const auto& [name, given] : only_with_tls) {
    if (given && !options.redis_tls) {
      problems.lines.push_back(fmt::format("{} needs --redis-tls", name));
    }
  }
  if (options.redis_cert_file.empty() != options.redis_key_file.empty()) {
    problems.lines.push_back("--redis-cert and --redis-key need each other");
  }
  if (options.redis_tls_insecure &&
      !(options.redis_ca_file.empty() && options.redis_server_name.empty())) {
    problems.lines.push_back(
        "--redis-tls-insecure looks at no certificate: leave it out, or --redis-ca and "
        "--redis-server-name");
  }
}

void check_together(Options& options, ConfigProblems& problems) {
  if (options.admin && *options.admin == options.listen && options.listen.port != 0) {
    problems.lines.push_back(
        fmt::format("--admin {} is where --host and --port are: choose another port, so that "
                    "clients can't reach the administration",
                    print_address(options.admin)));
  }
  if (options.resp && options.resp_password_file.empty() && options.resp->host != "::1" &&
      !options.resp->host.starts_with("127.")) {
    problems.lines.push_back(
        fmt::format("--resp {} is open to other machines: give --resp-password-file too, or an "
                    "address that begins with 127.",
                    print_address(options.resp)));
  }
  if (!options.redis_cluster.empty()) {
    for (const char* other : {"redis-host", "redis-port"}) {
      if (const std::string& from = options.origin[other]; from.starts_with("--")) {
        problems.lines.push_back(
            fmt::format("--redis-cluster and {} are both given: choose one", from));
      }
    }
    if (options.redis_database != 0) {
      problems.lines.push_back(
          "--redis-database must be 0 with --redis-cluster: a Redis Cluster has no others");
    }
  }
  if (!options.redis_user.empty() && options.redis_password_file.empty()) {
    problems.lines.push_back("--redis-user needs --redis-password-file");
  }
  check_tls(options, problems);
}

}  // namespace

std::span<const ProxySetting> proxy_settings() {
  return table;
}

tl::expected<Options, ConfigProblems> load_proxy_config(const ProxyConfigInput& input) {
  ConfigProblems problems;
  Options options;
  options.cores = std::max(input.machine.cpus, 1u);
  const auto apply = [&](const ProxySetting& setting) {
    options.origin[std::string(setting.name)] = "default";
    const auto flag =
        std::ranges::find(input.flags, setting.name, &std::pair<std::string, std::string>::first);
    const auto variable = input.environment.find(std::string(setting.variable));
    const bool by_flag = flag != input.flags.end();
    if (!by_flag && variable == input.environment.end()) return;
    const std::string& text = by_flag ? flag->second : variable->second;
    // As a shell leaves it behind: set to nothing is not set.
    if (!by_flag && text.empty()) return;
    if (const Result<void> assigned = setting.assign(options, text); !assigned) {
      problems.lines.push_back(
          by_flag ? fmt::format("--{} {} {}", setting.name, text.empty() ? "\"\"" : text,
                                assigned.error().detail)
                  : fmt::format("{}={} {}", setting.variable, text, assigned.error().detail));
    }
    options.origin[std::string(setting.name)] =
        by_flag ? fmt::format("--{}", setting.name) : std::string(setting.variable);
  };
  for (const ProxySetting& setting : table) {
    if (setting.name != "prefixes") apply(setting);
  }
  for (const ProxySetting& setting : table) {
    if (setting.name == "prefixes") apply(setting);
  }
  if (options.admin_is_default) {
    const Address address = default_admin_address(options.listen.port);
    options.admin = ListenAddress{address.host, address.port};
    options.origin["admin"] = "default: --port + 10000; if it is taken a free one";
  }
  if (problems.lines.empty()) check_together(options, problems);
  if (!problems.lines.empty()) return tl::unexpected(std::move(problems));
  return options;
}

std::string print_proxy_config(const Options& options) {
  std::string text;
  for (const ProxySetting& setting : table) {
    const std::string value = setting.print(options);
    const bool plain = value.find_first_of(" \t\"'\\$&;()<>|*?#~`") == std::string::npos;
    const std::string line = value.empty() ? fmt::format("# {} is not set", setting.variable)
                             : plain       ? fmt::format("{}={}", setting.variable, value)
                                           : fmt::format("{}='{}'", setting.variable, value);
    text += fmt::format("{:<40} # {}\n", line, options.origin.find(setting.name)->second);
  }
  return text;
}

}  // namespace gyre
