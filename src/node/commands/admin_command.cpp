// `gyre admin`: what a node says of its cluster and itself, from its clients' address, and the verbs that make it
// do something (admin_verbs.cpp).
#include <fmt/format.h>

#include <charconv>
#include <map>

#include "base/limits.hpp"
#include "node/commands/admin_verbs.hpp"
#include "node/commands/client_commands.hpp"
#include "node/progress.hpp"

namespace gyre {

namespace {

constexpr size_t metrics_bytes_max = 16u << 20;

// Samples of the Prometheus text format, added up over cores and shards, by name; and by name and
// one label where that tells more.
class Metrics {
 public:
  explicit Metrics(std::string_view text) {
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size());
      take(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }

  double sum(const std::string& name) const {
    const auto found = sums_.find(name);
    return found == sums_.end() ? 0 : found->second;
  }
  uint64_t count(const std::string& name) const { return static_cast<uint64_t>(sum(name)); }
  double greatest(const std::string& name) const {
    const auto found = greatest_.find(name);
    return found == greatest_.end() ? 0 : found->second;
  }
  // `kind="get"` of requests_total, summed over cores.
  uint64_t with(const std::string& name, const std::string& label) const {
    const auto found = sums_.find(name + "|" + label);
    return found == sums_.end() ? 0 : static_cast<uint64_t>(found->second);
  }
  size_t samples(const std::string& name) const {
    const auto found = samples_.find(name);
    return found == samples_.end() ? 0 : found->second;
  }

 private:
  void take(std::string_view line) {
    constexpr std::string_view prefix = "gyre_";
    const size_t space = line.rfind(' ');
    if (!line.starts_with(prefix) || space == std::string_view::npos) return;
    double value = 0;
    const std::string_view number = line.substr(space + 1);
    if (std::from_chars(number.data(), number.data() + number.size(), value).ec != std::errc()) {
      return;
    }
    std::string_view sample = line.substr(prefix.size(), space - prefix.size());
    const size_t brace = std::min(sample.find('{'), sample.size());
    const std::string name(sample.substr(0, brace));
    sums_[name] += value;
    ++samples_[name];
    greatest_[name] = std::max(greatest_[name], value);
    std::string_view labels = sample.substr(std::min(brace + 1, sample.size()));
    if (labels.ends_with('}')) labels.remove_suffix(1);
    while (!labels.empty()) {
      const size_t comma = std::min(labels.find(','), labels.size());
      sums_[name + "|" + std::string(labels.substr(0, comma))] += value;
      labels.remove_prefix(std::min(comma + 1, labels.size()));
    }
  }

  std::map<std::string, double> sums_;
  std::map<std::string, double> greatest_;
  std::map<std::string, size_t> samples_;
};

class Table {
 public:
  void heading(std::string_view text) { text_ += fmt::format("\n{}\n", text); }
  void row(std::string_view name, std::string_view value) {
    text_ += fmt::format("  {:<24} {}\n", name, value);
  }
  void count(std::string_view name, uint64_t value) { row(name, format_number(value)); }
  void bytes(std::string_view name, uint64_t value) { row(name, format_bytes(value)); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string share(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  return fmt::format("{:.1f}%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string ratio(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  return fmt::format("{:.2f}", static_cast<double>(part) / static_cast<double>(whole));
}

void describe_levels(const Metrics& metrics, Table& table) {
  table.heading("tables");
  table.count("tables", metrics.count("level_tables"));
  table.bytes("bytes", metrics.count("level_bytes"));
  table.count("entries", metrics.count("level_entries"));
  table.count("tombstones", metrics.count("level_tombstones"));
  table.bytes("with expired values", metrics.count("level_expired_table_bytes"));
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    const auto of = [&](const char* name) {
      return metrics.with(name, fmt::format("level=\"{}\"", level));
    };
    const uint64_t asked = of("level_lookups_total");
    if (of("level_tables") == 0 && asked == 0 && of("level_written_bytes_total") == 0) continue;
    const uint64_t passed = asked - std::min(asked, of("level_filter_negatives_total"));
    table.row(fmt::format("level {}", level),
              fmt::format("{} tables, {}, {} tombstones", format_number(of("level_tables")),
                          format_bytes(of("level_bytes")), format_number(of("level_tombstones"))));
    table.row(
        "", fmt::format("{} written, {} merged away", format_bytes(of("level_written_bytes_total")),
                        format_bytes(of("level_merged_bytes_total"))));
    table.row("", fmt::format("asked {} times, past the filter {}, of these in vain {}; {} block "
                              "reads",
                              format_number(asked), format_number(passed),
                              format_number(of("level_filter_false_positives_total")),
                              format_number(of("level_block_reads_total"))));
  }
}

std::string describe(const Metrics& metrics) {
  Table table;
  table.heading("requests");
  for (const char* kind : {"get", "put", "delete", "range", "status", "other"}) {
    table.count(kind, metrics.with("requests_total", fmt::format("kind=\"{}\"", kind)));
  }
  for (const char* status : {"2xx", "4xx", "5xx"}) {
    table.count(fmt::format("answered {}", status),
                metrics.with("responses_total", fmt::format("class=\"{}\"", status)));
  }
  table.count("connections open", metrics.count("connections"));
  table.count("connections refused", metrics.count("connections_refused_total"));

  table.heading("cores");
  table.count("cores", metrics.samples("reactor_ticks_total"));
  table.count("stalls over 10 ms", metrics.count("reactor_stalls_total"));
  table.row("longest stall",
            fmt::format("{:.1f} ms", 1e3 * metrics.greatest("reactor_stall_longest_seconds")));
  table.row("write memory",
            fmt::format("{} of {}", format_bytes(metrics.count("write_memory_used_bytes")),
                        format_bytes(metrics.count("write_memory_bytes"))));
  table.bytes("bodies in transit", metrics.count("transit_memory_used_bytes"));
  table.bytes("output queues", metrics.count("output_bytes"));

  table.heading("store");
  table.count("shards", metrics.samples("shard_read_only"));
  table.count("shards read-only", metrics.count("shard_read_only"));
  table.count("writes", metrics.count("shard_writes_total"));
  table.count("writes refused", metrics.count("shard_writes_refused_total"));
  table.bytes("memtables", metrics.count("memtable_bytes"));
  table.bytes("log on disk", metrics.count("log_disk_bytes"));
  const uint64_t record_bytes = metrics.count("log_record_bytes_total");
  const uint64_t written_bytes = metrics.count("log_written_bytes_total");
  table.row("log amplification", ratio(written_bytes, record_bytes));
  table.count("flushes", metrics.count("flushes_total"));
  table.count("compactions", metrics.count("compactions_total"));
  const uint64_t flushed = metrics.count("flushed_bytes_total");
  table.row("write amplification",
            ratio(flushed + metrics.count("compaction_written_bytes_total"), flushed));
  const uint64_t hits = metrics.count("cache_hits_total");
  table.row("block cache",
            fmt::format("{} of {}, {} hits", format_bytes(metrics.count("cache_used_bytes")),
                        format_bytes(metrics.count("cache_capacity_bytes")),
                        share(hits, hits + metrics.count("cache_misses_total"))));
  const uint64_t reads =
      metrics.count("shard_reads_memory_total") + metrics.count("shard_reads_waited_total");
  table.row("tables asked per read", ratio(metrics.count("level_lookups_total"), reads));
  table.count("tables checked by scrub", metrics.count("scrubbed_tables_total"));
  table.count("tables damaged", metrics.count("damaged_tables"));
  describe_levels(metrics, table);
  return table.text();
}

Task<Result<std::string>> fetch(http::Client& client, std::string target) {
  client.send_request("GET", target);
  if (Result<void> answered = co_await client.answer(); !answered) {
    co_return fail(std::move(answered.error()));
  }
  co_return co_await client.text(metrics_bytes_max);
}

// Prints what GET /v0/cluster answers.
Task<int> show_json(http::Client& client, const AdminCommand& command) {
  Result<std::string> json = co_await fetch(client, "/v0/cluster");
  if (!json) co_return co_await complain_about(command.target, std::move(json.error()));
  if (client.status() != 200) {
    co_return co_await complain(fmt::format(
        "{}: /v0/cluster was answered with {}: is that a Gyre node? Give another one with --url.",
        command.target.url, client.status()));
  }
  Result<void> written = co_await write_stream(stdout_fd, *json);
  if (!written) co_return co_await complain_about_output(std::move(written.error()));
  co_return exit_ok;
}

Task<int> show_status(http::Client& client, const AdminCommand& command) {
  Result<std::string> ready = co_await fetch(client, "/readyz?verbose");
  if (!ready) co_return co_await complain_about(command.target, std::move(ready.error()));
  const uint16_t ready_status = client.status();
  if (ready_status != 200 && ready_status != 503) {
    co_return co_await complain(fmt::format(
        "{}: /readyz was answered with {}: is that a Gyre node? Give another one with --url.",
        command.target.url, ready_status));
  }
  std::string text =
      fmt::format("{} is {}\n", command.target.url, ready_status == 200 ? "ready" : "not ready");
  text += *ready;
  if (!text.ends_with('\n')) text += '\n';
  if (client.reusable()) {
    Result<std::string> cluster = co_await fetch(client, "/v0/cluster?format=table");
    if (!cluster) co_return co_await complain_about(command.target, std::move(cluster.error()));
    if (client.status() == 200) text += "\n" + *cluster;
  }
  if (client.reusable()) {
    Result<std::string> metrics = co_await fetch(client, "/metrics");
    if (!metrics) co_return co_await complain_about(command.target, std::move(metrics.error()));
    if (client.status() == 200) text += describe(Metrics(*metrics));
  }
  Result<void> written = co_await write_stream(stdout_fd, text);
  if (!written) co_return co_await complain_about_output(std::move(written.error()));
  co_return ready_status == 200 ? exit_ok : exit_failed;
}

}  // namespace

int run_admin(const AdminCommand& command) {
  if (command.verb != AdminCommand::Verb::status) {
    return run_on_reactor([&command] { return run_admin_verb(command); });
  }
  return run_on_reactor(
      [&command] { return with_client(command, command.json ? &show_json : &show_status); });
}

}  // namespace gyre
