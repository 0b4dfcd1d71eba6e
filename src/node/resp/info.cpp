#include "node/resp/info.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "node/node.hpp"
#include "node/resp/compatibility.hpp"
#include "resp/number_text.hpp"

namespace gyre {

RespReport resp_report(Core& core) {
  RespReport report;
  RespServer& server = *core.resp();
  report.stats = server.stats();
  report.counters = server.limits().counters;
  report.clients = server.client_count();
  report.http_connections = core.stats().connections_open;
  report.output_bytes = output_bytes_live();
  report.forwarded = core.stats().requests_forwarded;
  if (core.state() == NodeState::recovering) return report;
  const auto used = [](const Semaphore& memory) { return memory.capacity() - memory.available(); };
  report.memory_used_bytes = used(core.write_memory()) + used(core.transit_memory());
  for (const auto& shard : core.shards()) {
    if (!shard) continue;
    report.memory_used_bytes += shard->cache().used_bytes();
    report.read_only |= shard->read_only();
    for (unsigned level = 0; level < limits::table_level_count; ++level) {
      const LevelReport tables = shard->level_report(level, Reactor::current().wall_ms());
      report.entries += tables.entries - std::min(tables.entries, 2 * tables.tombstones);
    }
  }
  return report;
}

void RespReport::add(const RespReport& other) {
  stats.connections_accepted += other.stats.connections_accepted;
  stats.connections_refused += other.stats.connections_refused;
  stats.keyspace_hits += other.stats.keyspace_hits;
  stats.keyspace_misses += other.stats.keyspace_misses;
  stats.passwords_wrong += other.stats.passwords_wrong;
  stats.commands_unknown += other.stats.commands_unknown;
  counters.commands += other.counters.commands;
  counters.commands_at_once += other.counters.commands_at_once;
  counters.protocol_errors += other.counters.protocol_errors;
  counters.foreigners_cut_off += other.counters.foreigners_cut_off;
  counters.output_pauses += other.counters.output_pauses;
  counters.timeouts += other.counters.timeouts;
  clients += other.clients;
  http_connections += other.http_connections;
  memory_used_bytes += other.memory_used_bytes;
  output_bytes += other.output_bytes;
  forwarded += other.forwarded;
  entries += other.entries;
  read_only |= other.read_only;
}

namespace {

class Sections {
 public:
  Sections(std::string& out, const std::vector<std::string_view>& wanted)
      : out_(out), wanted_(wanted) {}

  // Whether the section that begins here was asked for.
  bool begin(std::string_view name) {
    const bool wanted =
        wanted_.empty() || std::ranges::any_of(wanted_, [&](std::string_view section) {
          return is_all(section) || resp::is_word(section, lower(name));
        });
    if (wanted) {
      if (!out_.empty()) out_ += "\r\n";
      fmt::format_to(std::back_inserter(out_), "# {}\r\n", name);
    }
    return wanted;
  }
  template <class Value>
  void line(std::string_view name, const Value& value) {
    fmt::format_to(std::back_inserter(out_), "{}:{}\r\n", name, value);
  }

 private:
  static bool is_all(std::string_view section) {
    return resp::is_word(section, "all") || resp::is_word(section, "everything") ||
           resp::is_word(section, "default");
  }
  static std::string lower(std::string_view name) {
    std::string text(name);
    std::ranges::transform(text, text.begin(), resp::to_lower);
    return text;
  }

  std::string& out_;
  const std::vector<std::string_view>& wanted_;
};

}  // namespace

std::string InfoText::write(const std::vector<std::string_view>& wanted) const {
  std::string out;
  Sections text(out, wanted);
  if (text.begin("Server")) {
    text.line("redis_version", redis_version);
    text.line("gyre_version", GYRE_VERSION);
    text.line("redis_mode", "standalone");
    text.line("os", "Linux");
    text.line("arch_bits", sizeof(void*) * 8);
    text.line("multiplexing_api", "io_uring");
    text.line("run_id", run_id);
    text.line("tcp_port", port);
    text.line("uptime_in_seconds", uptime_s);
    text.line("uptime_in_days", uptime_s / 86'400);
    text.line("io_threads_active", cores > 1 ? 1 : 0);
    text.line("gyre_cores", cores);
  }
  if (text.begin("Clients")) {
    text.line("connected_clients", sum.clients);
    text.line("http_connections", sum.http_connections);
    text.line("cluster_connections", 0);
    text.line("maxclients", connections_max);
    text.line("blocked_clients", 0);
    text.line("tracking_clients", 0);
  }
  if (text.begin("Memory")) {
    text.line("used_memory", sum.memory_used_bytes);
    text.line("maxmemory", memory_bytes);
    text.line("maxmemory_policy", "noeviction");
    text.line("client_output_bytes", sum.output_bytes);
  }
  if (text.begin("Persistence")) {
    text.line("loading", loading ? 1 : 0);
    text.line("aof_enabled", 1);
    text.line("aof_last_write_status", sum.read_only ? "err" : "ok");
    text.line("rdb_bgsave_in_progress", 0);
    text.line("gyre_durability", durability);
  }
  if (text.begin("Stats")) {
    text.line("total_connections_received", sum.stats.connections_accepted);
    text.line("rejected_connections", sum.stats.connections_refused);
    text.line("total_commands_processed", sum.counters.commands);
    text.line("commands_answered_at_once", sum.counters.commands_at_once);
    text.line("commands_forwarded", sum.forwarded);
    text.line("keyspace_hits", sum.stats.keyspace_hits);
    text.line("keyspace_misses", sum.stats.keyspace_misses);
    text.line("evicted_keys", 0);
    text.line("protocol_errors", sum.counters.protocol_errors);
    text.line("foreigners_cut_off", sum.counters.foreigners_cut_off);
    text.line("output_pauses", sum.counters.output_pauses);
    text.line("client_timeouts", sum.counters.timeouts);
    text.line("acl_access_denied_auth", sum.stats.passwords_wrong);
    text.line("unknown_commands", sum.stats.commands_unknown);
  }
  if (text.begin("Replication")) {
    text.line("role", "master");
    text.line("connected_slaves", 0);
    text.line("gyre_in_cluster", in_cluster ? 1 : 0);
  }
  if (text.begin("Cluster")) text.line("cluster_enabled", 0);
  if (text.begin("Keyspace") && sum.entries != 0) {
    out += fmt::format("db0:keys={},expires=0,avg_ttl=0\r\n", sum.entries);
  }
  return out;
}

}  // namespace gyre
