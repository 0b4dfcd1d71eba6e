#include "node/observe.hpp"

#include <fmt/format.h>

#include <iterator>

#include <gyre/call.hpp>

#include "node/node.hpp"
#include "node/replication/coordinator.hpp"

namespace gyre {

namespace {

CoreReport report_of(Core& core) {
  Reactor& reactor = Reactor::current();
  CoreReport report;
  report.core = core.index();
  report.state = core.state();
  report.stats = core.stats();
  report.reactor = reactor.stats();
  report.backend = reactor.backend().stats();
  report.frames = frames_live();
  report.output_bytes = output_bytes_live();
  if (core.has_coordinator()) report.cluster = cluster_report_of(core);
  if (core.resp() != nullptr) report.resp = resp_report(core);
  if (core.state() != NodeState::serving) return report;
  if (core.node().membership().has_peers())
    report.clock_refusal = core.coordinator().clock_refusal();
  report.write_memory_total = core.write_memory().capacity();
  report.write_memory_used = core.write_memory().capacity() - core.write_memory().available();
  report.transit_memory_used = core.transit_memory().capacity() - core.transit_memory().available();
  for (uint32_t number = 0; number < core.shards().size(); ++number) {
    if (!core.has_shard(number)) continue;
    const Shard& shard = core.shard(number);
    CoreReport::ShardReport& out = report.shards.emplace_back();
    out.number = number;
    out.read_only = shard.read_only();
    out.read_only_reason = shard.read_only_reason();
    out.full_disk_reason = shard.full_disk_reason();
    out.stats = shard.stats();
    out.log = shard.log_stats();
    out.log_disk_bytes = shard.log_disk_bytes();
    out.removal_waiting_bytes = shard.remover().waiting_bytes();
    out.removal = shard.remover().stats();
    out.memtable_bytes = shard.memtable_bytes();
    out.cache_used_bytes = shard.cache().used_bytes();
    out.cache_capacity_bytes = shard.cache().capacity_bytes();
    out.values = shard.tables().value_totals();
    out.cache = shard.cache().stats();
    out.damaged = shard.damaged_tables();
    for (unsigned level = 0; level < limits::table_level_count; ++level) {
      out.levels.push_back(shard.level_report(level, reactor.wall_ms()));
    }
  }
  return report;
}

// Prometheus text format: one family at a time.
class MetricsText {
 public:
  explicit MetricsText(std::string& out) : out_(out) {}

  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    fmt::format_to(std::back_inserter(out_), "# HELP gyre_{} {}\n# TYPE gyre_{} {}\n", name, help,
                   name, type);
  }
  template <class Value>
  void sample(std::string_view labels, Value value) {
    fmt::format_to(std::back_inserter(out_), "gyre_{}{{{}}} {}\n", name_, labels, value);
  }

 private:
  std::string& out_;
  std::string_view name_;
};

constexpr std::string_view kind_names[] = {"get", "put", "delete", "range", "status", "other"};

template <class Value>
void per_core(MetricsText& text, const std::vector<CoreReport>& reports, std::string_view name,
              std::string_view type, std::string_view help, Value value) {
  text.family(name, type, help);
  for (const CoreReport& report : reports) {
    text.sample(fmt::format("core=\"{}\"", report.core), value(report));
  }
}

template <class Value>
void per_shard(MetricsText& text, const std::vector<CoreReport>& reports, std::string_view name,
               std::string_view type, std::string_view help, Value value) {
  text.family(name, type, help);
  for (const CoreReport& report : reports) {
    for (const CoreReport::ShardReport& shard : report.shards) {
      text.sample(fmt::format("shard=\"{}\"", shard.number), value(shard));
    }
  }
}

void level_metrics(MetricsText& text, const std::vector<CoreReport>& reports) {
  struct Family {
    const char* name;
    const char* type;
    const char* help;
    uint64_t (*value)(const LevelReport&);
  };
  static constexpr Family families[] = {
      {"level_tables", "gauge", "Tables by level.", [](const LevelReport& l) { return l.tables; }},
      {"level_bytes", "gauge", "Bytes of tables by level.",
       [](const LevelReport& l) { return l.bytes; }},
      {"level_entries", "gauge", "Entries of these tables, tombstones included.",
       [](const LevelReport& l) { return l.entries; }},
      {"level_tombstones", "gauge", "Tombstones of these tables.",
       [](const LevelReport& l) { return l.tombstones; }},
      {"level_expired_table_bytes", "gauge", "Bytes of tables in which a value has expired.",
       [](const LevelReport& l) { return l.expired_table_bytes; }},
      {"level_lookups_total", "counter", "Tables asked for a key.",
       [](const LevelReport& l) { return l.reads.asked; }},
      {"level_filter_negatives_total", "counter", "Of these, said no by the filter.",
       [](const LevelReport& l) { return l.reads.filtered; }},
      {"level_filter_false_positives_total", "counter",
       "Of these, passed by the filter though the key was not there.",
       [](const LevelReport& l) { return l.reads.false_positives; }},
      {"level_block_reads_total", "counter",
       "Blocks read from the disk one by one, for lookups and scans.",
       [](const LevelReport& l) { return l.reads.block_reads; }},
      {"level_written_bytes_total", "counter", "Tables put here by flushes and merges.",
       [](const LevelReport& l) { return l.writes.written_bytes; }},
      {"level_merged_bytes_total", "counter", "Tables taken from here by merges.",
       [](const LevelReport& l) { return l.writes.merged_bytes; }},
  };
  for (const Family& family : families) {
    text.family(family.name, family.type, family.help);
    for (const CoreReport& report : reports) {
      for (const CoreReport::ShardReport& shard : report.shards) {
        for (size_t level = 0; level < shard.levels.size(); ++level) {
          text.sample(fmt::format("shard=\"{}\",level=\"{}\"", shard.number, level),
                      family.value(shard.levels[level]));
        }
      }
    }
  }
}

struct CoordinatorFamily {
  const char* name;
  const char* type;
  const char* help;
  uint64_t (*value)(const ClusterReport&);
};
constexpr CoordinatorFamily coordinator_families[] = {
    {"replicated_writes_total", "counter", "Writes of clients that this node coordinated.",
     [](const ClusterReport& c) { return c.coordinator.writes; }},
    {"replicated_writes_failed_total", "counter", "Of these, taken by fewer replicas than asked.",
     [](const ClusterReport& c) { return c.coordinator.writes_failed; }},
    {"replicated_writes_restamped_total", "counter",
     "Of these, stamped anew since a replica held something newer.",
     [](const ClusterReport& c) { return c.coordinator.writes_restamped; }},
    {"replica_writes_missed_total", "counter",
     "Copies that a replica did not take of writes that were answered.",
     [](const ClusterReport& c) { return c.coordinator.replicas_missed; }},
    {"replicated_reads_total", "counter", "Reads of clients that this node coordinated.",
     [](const ClusterReport& c) { return c.coordinator.reads; }},
    {"replicated_reads_failed_total", "counter", "Of these, answered by too few replicas.",
     [](const ClusterReport& c) { return c.coordinator.reads_failed; }},
    {"replicated_reads_hedged_total", "counter",
     "Of these, for which one replica more was asked since one was slow.",
     [](const ClusterReport& c) { return c.coordinator.reads_hedged; }},
    {"replicated_modifies_total", "counter",
     "Commands that read and write one key at once: of this node's clients, or come from others.",
     [](const ClusterReport& c) { return c.coordinator.modifies; }},
    {"replicated_modifies_failed_total", "counter",
     "Of these, answered by an error of the cluster.",
     [](const ClusterReport& c) { return c.coordinator.modifies_failed; }},
    {"replica_repairs_total", "counter", "Copies written since a read found them to be old.",
     [](const ClusterReport& c) { return c.coordinator.repairs; }},
    {"clocks_ahead_total", "counter", "Frames whose clock was too far ahead of this node's.",
     [](const ClusterReport& c) { return c.coordinator.clocks_ahead; }},
    {"unconfirmed_writes", "gauge", "Writes that not all replicas are known to have, yet.",
     [](const ClusterReport& c) { return c.unconfirmed; }},
    {"peer_connections", "gauge", "Connections that other nodes have made.",
     [](const ClusterReport& c) { return static_cast<uint64_t>(c.peers_connected); }},
    {"peer_requests_total", "counter", "Requests of other nodes.",
     [](const ClusterReport& c) { return c.served.requests; }},
    {"peer_requests_busy_total", "counter", "Of these, refused: too much was under way.",
     [](const ClusterReport& c) { return c.served.busy; }},
    {"peer_requests_expired_total", "counter", "Of these, dropped: their time was over.",
     [](const ClusterReport& c) { return c.served.expired; }},
    {"peer_requests_corrupt_total", "counter", "Of these, damaged on their way.",
     [](const ClusterReport& c) { return c.served.corrupt; }},
    {"peer_notices_total", "counter", "Batches in which coordinators told what became of writes.",
     [](const ClusterReport& c) { return c.coordinator.notices_served; }},
    {"peer_offers_total", "counter", "Entries that other nodes offered to replay.",
     [](const ClusterReport& c) { return c.coordinator.offers_served; }},
    {"peer_offers_lacked_total", "counter", "Of these, lacked here.",
     [](const ClusterReport& c) { return c.coordinator.offers_lacked; }},
};

struct LinkFamily {
  const char* name;
  const char* type;
  const char* help;
  uint64_t (*value)(const LinkReport&);
};
constexpr LinkFamily link_families[] = {
    {"link_up", "gauge", "1 while this core is connected to the node.",
     [](const LinkReport& l) { return uint64_t{l.state == peer::LinkState::connected}; }},
    {"link_peer_dead", "gauge", "1 while this core takes the node for dead.",
     [](const LinkReport& l) { return uint64_t{l.health == PeerHealth::dead}; }},
    {"link_owed_writes", "gauge", "Writes that the node has missed and is to get.",
     [](const LinkReport& l) { return l.owed.writes; }},
    {"link_owed_slots", "gauge", "Slots to be compared with the node.",
     [](const LinkReport& l) { return l.owed.slots; }},
    {"link_replayed_total", "counter", "Entries sent to the node since it lacked them.",
     [](const LinkReport& l) { return l.replayed; }},
    {"link_calls_under_way", "gauge", "Calls that the node has not answered yet.",
     [](const LinkReport& l) { return static_cast<uint64_t>(l.calls_under_way); }},
    {"link_queue_bytes", "gauge", "Calls that are not sent yet.",
     [](const LinkReport& l) { return static_cast<uint64_t>(l.queue_bytes); }},
    {"link_calls_total", "counter", "Calls to the node.",
     [](const LinkReport& l) { return l.stats.calls; }},
    {"link_replies_total", "counter", "Of these, answered.",
     [](const LinkReport& l) { return l.stats.replies; }},
    {"link_replies_late_total", "counter", "Answers to calls that had ended.",
     [](const LinkReport& l) { return l.stats.replies_late; }},
    {"link_timeouts_total", "counter", "Calls whose time was over.",
     [](const LinkReport& l) { return l.stats.timed_out; }},
    {"link_refused_total", "counter", "Calls not taken: too much waited to be sent.",
     [](const LinkReport& l) { return l.stats.refused_here; }},
    {"link_retries_total", "counter", "Calls sent once more since their connection ended.",
     [](const LinkReport& l) { return l.stats.retried; }},
    {"link_connects_total", "counter", "Attempts to connect.",
     [](const LinkReport& l) { return l.stats.attempts; }},
    {"link_connected_total", "counter", "Of these, successful.",
     [](const LinkReport& l) { return l.stats.connected; }},
    {"link_sent_bytes_total", "counter", "Bytes sent to the node.",
     [](const LinkReport& l) { return l.stats.bytes_sent; }},
    {"link_received_bytes_total", "counter", "Bytes received from it.",
     [](const LinkReport& l) { return l.stats.bytes_received; }},
};

// `nodes`: all of the cluster; a single node says nothing here.
void cluster_metrics(MetricsText& text, const std::vector<CoreReport>& reports,
                     const std::vector<cluster::NodeEntry>& nodes) {
  if (nodes.size() < 2) return;
  for (const CoordinatorFamily& family : coordinator_families) {
    text.family(family.name, family.type, family.help);
    for (const CoreReport& report : reports) {
      if (!report.cluster) continue;
      text.sample(fmt::format("core=\"{}\"", report.core), family.value(*report.cluster));
    }
  }
  for (const LinkFamily& family : link_families) {
    text.family(family.name, family.type, family.help);
    for (const CoreReport& report : reports) {
      if (!report.cluster) continue;
      for (const LinkReport& link : report.cluster->links) {
        text.sample(fmt::format("core=\"{}\",peer=\"{}\"", report.core, nodes[link.peer].url),
                    family.value(link));
      }
    }
  }
}

struct RespFamily {
  const char* name;
  const char* type;
  const char* help;
  uint64_t (*value)(const RespReport&);
};
constexpr RespFamily resp_families[] = {
    {"resp_connections", "gauge", "Open connections of Redis clients.",
     [](const RespReport& r) { return r.clients; }},
    {"resp_connections_accepted_total", "counter", "Connections of Redis clients accepted.",
     [](const RespReport& r) { return r.stats.connections_accepted; }},
    {"resp_connections_refused_total", "counter",
     "Of Redis clients, refused: too many, too many without a password, or shutting down.",
     [](const RespReport& r) { return r.stats.connections_refused; }},
    {"resp_commands_total", "counter", "Commands of Redis clients.",
     [](const RespReport& r) { return r.counters.commands; }},
    {"resp_commands_at_once_total", "counter", "Of these, answered from this core's memory.",
     [](const RespReport& r) { return r.counters.commands_at_once; }},
    {"resp_protocol_errors_total", "counter", "Connections ended since they made no sense.",
     [](const RespReport& r) { return r.counters.protocol_errors; }},
    {"resp_foreigners_cut_off_total", "counter",
     "Connections of browsers and TLS clients, cut off.",
     [](const RespReport& r) { return r.counters.foreigners_cut_off; }},
    {"resp_output_pauses_total", "counter",
     "Times that nothing more was read from a client since it had not read its replies.",
     [](const RespReport& r) { return r.counters.output_pauses; }},
    {"resp_timeouts_total", "counter", "Connections ended since their client took too long.",
     [](const RespReport& r) { return r.counters.timeouts; }},
    {"resp_passwords_wrong_total", "counter", "Wrong passwords told.",
     [](const RespReport& r) { return r.stats.passwords_wrong; }},
};

void resp_metrics(MetricsText& text, const std::vector<CoreReport>& reports) {
  if (reports.empty() || !reports.front().resp) return;
  for (const RespFamily& family : resp_families) {
    text.family(family.name, family.type, family.help);
    for (const CoreReport& report : reports) {
      text.sample(fmt::format("core=\"{}\"", report.core), family.value(*report.resp));
    }
  }
}

double seconds_of(Nanos nanos) {
  return static_cast<double>(nanos) / 1e9;
}

}  // namespace

bool is_observed(std::string_view path) {
  return path == "/v0/status" || path == "/v0/cluster" || path == "/livez" || path == "/readyz" ||
         path == "/metrics" || path == "/debug/tasks";
}

ObserveExchange::ObserveExchange(http::Connection& connection, Core& core, std::string_view path,
                                 std::string_view query)
    : Exchange(connection),
      core_(core),
      path_(path),
      verbose_(query == "verbose" || query.starts_with("verbose=") ||
               query.starts_with("verbose&")),
      query_(query) {}

void ObserveExchange::begin() {
  if (path_ == "/livez") {
    body_ = "ok\n";
    connection().finished(*this);
    return;
  }
  connection().scope().spawn(gather());
}

Task<void> ObserveExchange::gather() {
  Node& node = core_.node();
  if (path_ == "/debug/tasks") {
    for (unsigned core = 0; core < node.cores(); ++core) {
      body_ += fmt::format("core {}\n", core);
      body_ += co_await call_on(core, [] { return Reactor::current().dump_tasks(); });
    }
    connection().finished(*this);
    co_return;
  }
  std::vector<CoreReport> reports;
  for (unsigned core = 0; core < node.cores(); ++core) {
    reports.push_back(co_await call_on(core, [&node, core] { return report_of(node.core(core)); }));
  }
  if (path_ == "/readyz") {
    answer_ready(reports);
  } else if (path_ == "/v0/cluster") {
    answer_cluster(reports);
  } else {
    answer_metrics(reports);
  }
  connection().finished(*this);
}

void ObserveExchange::answer_ready(const std::vector<CoreReport>& reports) {
  const auto check = [this](bool good, const std::string& name, const std::string& why) {
    if (!good) status_ = 503;
    if (verbose_ || !good) {
      body_ +=
          good ? fmt::format("[+] {} ok\n", name) : fmt::format("[-] {} failed: {}\n", name, why);
    }
  };
  bool serving = true;
  for (const CoreReport& report : reports) serving = serving && report.state == NodeState::serving;
  check(serving, "serving", "recovering or shutting down");
  if (!serving)
    retry_after_s_ = 1;  // a read-only shard stays so: there is no point in asking again
  std::optional<std::string> clock;
  for (const CoreReport& report : reports) clock = std::max(clock, report.clock_refusal);
  if (clock) check(clock->empty(), "clock", *clock);
  for (const CoreReport& report : reports) {
    for (const CoreReport::ShardReport& shard : report.shards) {
      const bool full = !shard.full_disk_reason.empty();
      check(!shard.read_only && !full, fmt::format("shard-{:03}", shard.number),
            shard.read_only ? shard.read_only_reason : shard.full_disk_reason);
      if (full) retry_after_s_ = 1;  // somebody may make room
      // Everything else of the shard is served: no reason to take the node away.
      for (const DamagedTable& damaged : shard.damaged) {
        if (!verbose_) break;
        body_ += fmt::format("[!] shard-{:03} damaged at {} places: {}\n", shard.number,
                             damaged.places, damaged.first);
      }
    }
  }
  if (body_.empty()) body_ = "ok\n";
}

void ObserveExchange::answer_cluster(const std::vector<CoreReport>& reports) {
  std::vector<ClusterReport> parts;
  for (const CoreReport& report : reports) {
    if (report.cluster) parts.push_back(*report.cluster);
  }
  const std::string_view state = to_string(core_.state());
  if (query_ == "format=table") {
    body_ = cluster_table(core_.node(), state, parts);
  } else if (query_.empty() || query_ == "format=json") {
    type_ = http::ContentType::json;
    body_ = cluster_json(core_.node(), state, parts);
  } else {
    status_ = 400;
    body_ = "use /v0/cluster with format=json, the default, or format=table\n";
  }
}

void ObserveExchange::answer_metrics(const std::vector<CoreReport>& reports) {
  type_ = http::ContentType::prometheus;
  MetricsText text(body_);
  text.family("requests_total", "counter", "Requests by kind.");
  for (const CoreReport& report : reports) {
    for (size_t kind = 0; kind < std::size(kind_names); ++kind) {
      text.sample(fmt::format("core=\"{}\",kind=\"{}\"", report.core, kind_names[kind]),
                  report.stats.requests_by_kind[kind]);
    }
  }
  text.family("responses_total", "counter", "Responses by class of status.");
  for (const CoreReport& report : reports) {
    for (unsigned status = 2; status <= 5; ++status) {
      text.sample(fmt::format("core=\"{}\",class=\"{}xx\"", report.core, status),
                  report.stats.responses_by_class[status]);
    }
  }
  per_core(text, reports, "connections", "gauge", "Open client connections.",
           [](const CoreReport& r) { return r.stats.connections_open; });
  per_core(text, reports, "connections_accepted_total", "counter", "Client connections accepted.",
           [](const CoreReport& r) { return r.stats.connections_accepted; });
  per_core(text, reports, "connections_refused_total", "counter",
           "Client connections closed at once: too many, or shutting down.",
           [](const CoreReport& r) { return r.stats.connections_refused; });
  per_core(text, reports, "connections_let_go_total", "counter",
           "Clients that held memory without moving while it was short.",
           [](const CoreReport& r) { return r.stats.connections_let_go; });
  per_core(text, reports, "requests_forwarded_total", "counter",
           "Requests worked on by another core of this node.",
           [](const CoreReport& r) { return r.stats.requests_forwarded; });
  per_core(text, reports, "reactor_busy_seconds_total", "counter", "Time inside ticks.",
           [](const CoreReport& r) { return seconds_of(r.reactor.busy); });
  per_core(text, reports, "reactor_ticks_total", "counter", "Turns of the event loop.",
           [](const CoreReport& r) { return r.reactor.ticks; });
  per_core(text, reports, "reactor_stalls_total", "counter",
           "Times that one task held the core for over 10 ms.",
           [](const CoreReport& r) { return r.reactor.stalls; });
  per_core(text, reports, "reactor_stall_longest_seconds", "gauge", "The longest of them.",
           [](const CoreReport& r) { return seconds_of(r.reactor.stall_longest); });
  per_core(text, reports, "backend_enters_total", "counter", "System calls into the ring.",
           [](const CoreReport& r) { return r.backend.enters; });
  per_core(text, reports, "backend_operations_total", "counter", "Operations submitted.",
           [](const CoreReport& r) { return r.backend.submitted; });
  per_core(text, reports, "log_lines_dropped_total", "counter",
           "Log lines dropped because nobody reads them fast enough.",
           [](const CoreReport& r) { return r.backend.log_lines_dropped; });
  per_core(text, reports, "coroutine_frames", "gauge", "Coroutine frames alive.",
           [](const CoreReport& r) { return r.frames; });
  per_core(text, reports, "write_memory_used_bytes", "gauge", "Memory of writes not yet in tables.",
           [](const CoreReport& r) { return r.write_memory_used; });
  per_core(text, reports, "write_memory_bytes", "gauge", "The reservation for them.",
           [](const CoreReport& r) { return r.write_memory_total; });
  per_core(text, reports, "transit_memory_used_bytes", "gauge",
           "Memory of bodies that arrive and values that leave.",
           [](const CoreReport& r) { return r.transit_memory_used; });
  per_core(text, reports, "output_bytes", "gauge", "Memory of output queues.",
           [](const CoreReport& r) { return r.output_bytes; });

  resp_metrics(text, reports);

  using ShardReport = CoreReport::ShardReport;
  per_shard(text, reports, "shard_read_only", "gauge", "1 after a storage error.",
            [](const ShardReport& s) { return s.read_only ? 1 : 0; });
  per_shard(text, reports, "shard_disk_full", "gauge",
            "1 while writes are refused because the disk is full.",
            [](const ShardReport& s) { return s.full_disk_reason.empty() ? 0 : 1; });
  per_shard(text, reports, "shard_writes_delayed_total", "counter",
            "Writes that waited their turn because merging was behind.",
            [](const ShardReport& s) { return s.stats.writes_delayed; });
  per_shard(text, reports, "shard_writes_total", "counter", "Writes taken.",
            [](const ShardReport& s) { return s.stats.writes; });
  per_shard(text, reports, "shard_writes_refused_total", "counter", "Writes answered with 503.",
            [](const ShardReport& s) { return s.stats.writes_refused; });
  per_shard(text, reports, "shard_reads_memory_total", "counter", "Reads answered from memory.",
            [](const ShardReport& s) { return s.stats.reads_memory; });
  per_shard(text, reports, "shard_reads_waited_total", "counter", "Reads that needed the disk.",
            [](const ShardReport& s) { return s.stats.reads_waited; });
  per_shard(text, reports, "log_frames_total", "counter", "Group commits.",
            [](const ShardReport& s) { return s.log.frames; });
  per_shard(text, reports, "log_frames_beside_total", "counter",
            "Group commits sent while another was under way.",
            [](const ShardReport& s) { return s.log.frames_beside; });
  per_shard(text, reports, "log_record_bytes_total", "counter", "Keys and values logged.",
            [](const ShardReport& s) { return s.log.record_bytes; });
  per_shard(text, reports, "log_written_bytes_total", "counter",
            "Log bytes written, padding included; over record bytes: log amplification.",
            [](const ShardReport& s) { return s.log.written_bytes; });
  per_shard(text, reports, "log_disk_bytes", "gauge", "Size of the log's files.",
            [](const ShardReport& s) { return s.log_disk_bytes; });
  per_shard(text, reports, "removal_waiting_bytes", "gauge",
            "Bytes of files that nobody uses any more and that are being removed, piece by piece.",
            [](const ShardReport& s) { return s.removal_waiting_bytes; });
  per_shard(text, reports, "removed_bytes_total", "counter", "Bytes of files removed.",
            [](const ShardReport& s) { return s.removal.bytes; });
  per_shard(text, reports, "memtable_bytes", "gauge", "Memory of memtables.",
            [](const ShardReport& s) { return s.memtable_bytes; });
  per_shard(text, reports, "flushes_total", "counter", "Memtables written to tables.",
            [](const ShardReport& s) { return s.stats.flushes; });
  per_shard(text, reports, "flushed_bytes_total", "counter",
            "Bytes of these tables and of their values.",
            [](const ShardReport& s) { return s.stats.flushed_bytes; });
  per_shard(text, reports, "compactions_total", "counter", "Merges of tables.",
            [](const ShardReport& s) { return s.stats.compactions; });
  per_shard(text, reports, "compaction_read_bytes_total", "counter", "Bytes of their inputs.",
            [](const ShardReport& s) { return s.stats.compacted_bytes_read; });
  per_shard(text, reports, "compaction_written_bytes_total", "counter", "Bytes of their outputs.",
            [](const ShardReport& s) { return s.stats.compacted_bytes_written; });
  per_shard(text, reports, "value_files", "gauge", "Files of values apart from tables.",
            [](const ShardReport& s) { return s.values.files; });
  per_shard(text, reports, "value_bytes", "gauge", "Values in them.",
            [](const ShardReport& s) { return s.values.bytes; });
  per_shard(text, reports, "value_live_bytes", "gauge", "Of these, named by a table.",
            [](const ShardReport& s) { return s.values.live_bytes; });
  per_shard(text, reports, "value_written_bytes_total", "counter",
            "Bytes of value files written; flushed and compaction_written have them too.",
            [](const ShardReport& s) { return s.stats.value_bytes_written; });
  per_shard(text, reports, "value_moved_bytes_total", "counter",
            "Values moved because half of their file was dead.",
            [](const ShardReport& s) { return s.stats.value_bytes_moved; });
  per_shard(text, reports, "scrubbed_tables_total", "counter",
            "Tables and value files checked by the scrub.",
            [](const ShardReport& s) { return s.stats.scrubbed_tables; });
  per_shard(text, reports, "scrubbed_bytes_total", "counter", "Bytes of these tables.",
            [](const ShardReport& s) { return s.stats.scrubbed_bytes; });
  per_shard(text, reports, "damaged_tables", "gauge",
            "Tables known to be damaged; /readyz?verbose names them.",
            [](const ShardReport& s) { return s.damaged.size(); });
  per_shard(text, reports, "cache_hits_total", "counter", "Blocks found in the cache.",
            [](const ShardReport& s) { return s.cache.hits; });
  per_shard(text, reports, "cache_misses_total", "counter", "Blocks not found in the cache.",
            [](const ShardReport& s) { return s.cache.misses; });
  per_shard(text, reports, "cache_used_bytes", "gauge", "Memory of cached blocks.",
            [](const ShardReport& s) { return s.cache_used_bytes; });
  per_shard(text, reports, "cache_capacity_bytes", "gauge", "The reservation for them.",
            [](const ShardReport& s) { return s.cache_capacity_bytes; });
  level_metrics(text, reports);
  cluster_metrics(text, reports, core_.node().membership().topology().nodes);
}

void ObserveExchange::respond(http::Connection& to) {
  core_.count_status(status_);
  Socket& out = to.socket();
  char* at = out.reserve(http::response_head_bytes_max);
  char* end = http::write_response_head(at, {.status = status_,
                                             .close = style.close,
                                             .say_keep_alive = style.say_keep_alive,
                                             .content_type = type_,
                                             .content_length = body_.size(),
                                             .retry_after_s = retry_after_s_,
                                             .date_line = to.date_line()});
  out.commit(static_cast<size_t>(end - at));
  if (!style.head_only) out.append(body_);
}

}  // namespace gyre
