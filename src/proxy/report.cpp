#include "proxy/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include <gyre/call.hpp>

#include "base/json.hpp"
#include "base/text_encoding.hpp"
#include "proxy/proxy.hpp"

namespace gyre::proxy {

namespace {

constexpr size_t hot_keys_shown = 50;

CoreReport report_of(Proxy& proxy, unsigned core, bool with_hot_keys) {
  const Origin& origin = proxy.origin(core);
  CoreReport report;
  report.draining = core == 0 && proxy.is_draining();
  report.front = proxy.front(core).stats();
  if (const RespFront* resp = proxy.resp_front(core); resp != nullptr) {
    report.resp = resp->stats();
    report.resp_pushes_cut_off = resp->pushes_cut_off();
  }
  report.origin = origin.stats();
  report.faults_active = origin.faults.active(Reactor::current().now());
  report.cache = origin.cache().stats();
  report.cache_keys = origin.cache().keys();
  report.cache_bytes = origin.cache().bytes();
  const Upstream& upstream = origin.upstream();
  report.client = upstream.client_stats();
  report.upstream = upstream.stats();
  report.up = upstream.is_up();
  report.coherent = upstream.is_coherent();
  report.trouble = upstream.trouble();
  report.server_version = upstream.server_version();
  report.breakers_open = upstream.breakers_open();
  report.breaker_opened = upstream.breakers_opened();
  report.breaker_refused = upstream.breakers_refused();
  report.nodes_up = upstream.nodes_up();
  report.slots_covered = upstream.slots_covered();
  const std::vector<UpstreamNode*> masters = upstream.masters();
  report.nodes = masters.size();
  for (const UpstreamNode* node : masters) {
    if (!upstream.is_cluster()) break;
    report.cluster.push_back({Upstream::address_of(*node).to_string(),
                              node->client.state() == resp::ClientState::ready,
                              upstream.slots_of(*node).size(), node->client.trouble()});
  }
  if (with_hot_keys) report.hot_keys = origin.hot_keys().top(hot_keys_shown);
  return report;
}

bool is_up(const CoreReport& report) {
  return report.up;
}

// Both answers are made from this table: /stats sums over cores, /metrics has a sample per core.
struct Figure {
  std::string_view group;  // of /stats
  std::string_view name;
  std::string_view metric;  // gyre_proxy_…
  bool counter;
  std::string_view help;
  uint64_t (*value)(const CoreReport& report);
};

using R = const CoreReport&;
constexpr Figure figures[] = {
    {"requests", "lookup", "lookup_requests_total", true, "Requests for /lookup.",
     [](R r) { return r.front.lookups; }},
    {"requests", "entity", "entity_requests_total", true, "Requests for /v1/entity.",
     [](R r) { return r.front.entities; }},
    {"requests", "other", "other_requests_total", true, "Requests for other paths.",
     [](R r) { return r.front.other; }},
    {"requests", "found", "found_total", true, "Lookups answered with a value.",
     [](R r) { return r.front.found; }},
    {"requests", "absent", "absent_total", true, "Lookups of keys that Redis has not.",
     [](R r) { return r.front.absent; }},
    {"requests", "unavailable", "unavailable_total", true, "Lookups answered 503 or 429.",
     [](R r) { return r.front.unavailable; }},
    {"requests", "bad", "bad_requests_total", true, "Requests answered 400, 403 or 405.",
     [](R r) { return r.front.bad; }},
    {"requests", "forwarded", "forwarded_total", true, "Lookups that went to another core.",
     [](R r) { return r.front.forwarded; }},
    {"resp", "commands", "resp_commands_total", true, "Commands of Redis clients.",
     [](R r) { return r.resp.commands; }},
    {"resp", "cached_reads", "resp_cached_reads_total", true,
     "Of these, reads that may be answered from memory.", [](R r) { return r.resp.cached_reads; }},
    {"resp", "passed_on", "resp_passed_on_total", true, "Of these, passed on to Redis.",
     [](R r) { return r.resp.passed_on; }},
    {"resp", "sessions", "resp_sessions_total", true,
     "Connections to Redis made for one client alone.", [](R r) { return r.resp.sessions; }},
    {"resp", "subscribers", "resp_subscribers", false, "Redis clients subscribed to something.",
     [](R r) { return r.resp.subscribers; }},
    {"resp", "pushes", "resp_pushes_total", true, "Messages sent on to them, and confirmations.",
     [](R r) { return r.resp.pushes; }},
    {"resp", "pushes_cut_off", "resp_pushes_cut_off_total", true,
     "Subscribers cut off, as they did not read.", [](R r) { return r.resp_pushes_cut_off; }},
    {"resp", "throttled", "resp_throttled_total", true, "Commands over a rate.",
     [](R r) { return r.resp.throttled; }},
    {"resp", "connections", "resp_connections_open", false, "Connections of Redis clients.",
     [](R r) { return r.resp.connections_open; }},
    {"throttled", "client", "throttled_client_total", true,
     "Requests over the rate of their client.", [](R r) { return r.front.throttled_client; }},
    {"throttled", "total", "throttled_total", true, "Requests over the rate of all clients.",
     [](R r) { return r.front.throttled_total; }},
    {"throttled", "waiting", "throttled_waiting_total", true,
     "Requests while too many lookups waited.", [](R r) { return r.front.throttled_waiting; }},
    {"connections", "open", "connections_open", false, "Connections of clients.",
     [](R r) { return r.front.connections_open; }},
    {"connections", "accepted", "connections_accepted_total", true, "Connections of clients.",
     [](R r) { return r.front.connections_accepted; }},
    {"connections", "refused", "connections_refused_total", true,
     "Connections over the bound, closed at once.",
     [](R r) { return r.front.connections_refused; }},
    {"cache", "keys", "cache_keys", false, "Entries of the cache.",
     [](R r) { return r.cache_keys; }},
    {"cache", "bytes", "cache_bytes", false, "Memory of the cache.",
     [](R r) { return r.cache_bytes; }},
    {"cache", "hits", "cache_hits_total", true, "Lookups answered by a fresh entry.",
     [](R r) { return r.cache.hits; }},
    {"cache", "negative_hits", "cache_negative_hits_total", true,
     "Of these, that Redis has no such key.", [](R r) { return r.cache.negative_hits; }},
    {"cache", "stale_hits", "cache_stale_hits_total", true,
     "Lookups answered by an entry that was fetched anew meanwhile.",
     [](R r) { return r.cache.stale_hits; }},
    {"cache", "misses", "cache_misses_total", true, "Lookups without a usable entry.",
     [](R r) { return r.cache.misses; }},
    {"cache", "inserted", "cache_inserted_total", true, "Entries made.",
     [](R r) { return r.cache.inserted; }},
    {"cache", "outdated", "cache_outdated_total", true,
     "Answers not cached: the key was invalidated meanwhile.",
     [](R r) { return r.cache.outdated; }},
    {"cache", "too_large", "cache_too_large_total", true, "Answers not cached: too large.",
     [](R r) { return r.cache.too_large; }},
    {"cache", "evicted", "cache_evicted_total", true, "Entries that made room.",
     [](R r) { return r.cache.evicted; }},
    {"cache", "expired", "cache_expired_total", true, "Entries whose time was over.",
     [](R r) { return r.cache.expired; }},
    {"cache", "invalidated", "cache_invalidated_total", true, "Entries whose key was changed.",
     [](R r) { return r.cache.invalidated; }},
    {"redis", "fetches", "redis_fetches_total", true, "Keys asked of Redis.",
     [](R r) { return r.origin.fetches; }},
    {"redis", "refreshes", "redis_refreshes_total", true,
     "Of these, of entries that were served meanwhile.", [](R r) { return r.origin.refreshes; }},
    {"redis", "joined", "redis_joined_total", true, "Lookups that waited for another's fetch.",
     [](R r) { return r.origin.joined; }},
    {"redis", "failed", "redis_fetches_failed_total", true, "Fetches that failed.",
     [](R r) { return r.origin.fetches_failed; }},
    {"redis", "timed_out", "redis_fetches_timed_out_total", true, "Of these, by their deadline.",
     [](R r) { return r.origin.fetches_timed_out; }},
    {"redis", "error_replies", "redis_error_replies_total", true, "Of these, by an error reply.",
     [](R r) { return r.origin.error_replies; }},
    {"redis", "too_long", "redis_replies_too_long_total", true,
     "Replies longer than --max-value allows, of which nothing was kept.",
     [](R r) { return r.client.replies_too_long; }},
    {"redis", "refused", "redis_refused_total", true, "Lookups for which Redis was not asked.",
     [](R r) { return r.origin.refused; }},
    {"redis", "served_on_error", "served_on_error_total", true,
     "Lookups answered by what was known, as Redis did not answer.",
     [](R r) { return r.origin.served_on_error; }},
    {"redis", "invalidations", "redis_invalidations_total", true, "Keys that Redis invalidated.",
     [](R r) { return r.origin.invalidations; }},
    {"redis", "flushes", "cache_flushes_total", true,
     "Times that all entries were dropped: by Redis, or with a lost connection.",
     [](R r) { return r.origin.flushes; }},
    {"redis", "connected", "redis_connected_total", true, "Connections made to Redis.",
     [](R r) { return r.client.connected; }},
    {"redis", "lost", "redis_lost_total", true, "Connections to Redis that were lost.",
     [](R r) { return r.client.lost; }},
    {"redis", "replies_late", "redis_replies_late_total", true,
     "Replies that came after their deadline.", [](R r) { return r.client.replies_late; }},
    {"redis", "nodes", "redis_nodes", false, "Redis nodes that have keys of the core.",
     [](R r) { return r.nodes; }},
    {"redis", "nodes_up", "redis_nodes_up", false, "Of these, connected.",
     [](R r) { return r.nodes_up; }},
    {"redis", "up", "redis_up", false, "1 while the core is connected to Redis.",
     [](R r) { return uint64_t{is_up(r)}; }},
    {"redis", "coherent", "redis_coherent", false, "1 while Redis tells the core of changes.",
     [](R r) { return uint64_t{r.coherent}; }},
    {"cluster", "slots_covered", "cluster_slots_covered", false,
     "Slots of a Redis Cluster whose node is known.", [](R r) { return r.slots_covered; }},
    {"cluster", "moved", "cluster_moved_total", true, "Redirects of a slot that was moved.",
     [](R r) { return r.upstream.moved; }},
    {"cluster", "asked", "cluster_asked_total", true, "Redirects of a slot that is on its way.",
     [](R r) { return r.upstream.asked; }},
    {"cluster", "topology_reads", "cluster_topology_reads_total", true,
     "Times that the topology was read.", [](R r) { return r.upstream.topology_reads; }},
    {"cluster", "topology_failed", "cluster_topology_failed_total", true,
     "Nodes that could not tell it.", [](R r) { return r.upstream.topology_failed; }},
    {"cluster", "topology_changes", "cluster_topology_changes_total", true,
     "Readings after which a slot had another node.",
     [](R r) { return r.upstream.topology_changes; }},
    {"faults", "active", "faults_active", false,
     "1 while the core makes faults that it was told to.",
     [](R r) { return uint64_t{r.faults_active}; }},
    {"faults", "failures", "faults_failures_total", true, "Fetches that failed by such a fault.",
     [](R r) { return r.origin.injected_failures; }},
    {"faults", "delays", "faults_delays_total", true, "Fetches that such a fault delayed.",
     [](R r) { return r.origin.injected_delays; }},
    {"breaker", "open", "breaker_open", false, "Redis nodes that are not asked.",
     [](R r) { return r.breakers_open; }},
    {"breaker", "opened", "breaker_opened_total", true, "Times that it opened.",
     [](R r) { return r.breaker_opened; }},
    {"breaker", "refused", "breaker_refused_total", true, "Fetches that it refused.",
     [](R r) { return r.breaker_refused; }},
};

uint64_t sum_of(const std::vector<CoreReport>& reports, const Figure& figure) {
  uint64_t sum = 0;
  for (const CoreReport& report : reports) sum += figure.value(report);
  return sum;
}

// As core 0 sees them.
void append_nodes(Json& json, const CoreReport& report) {
  json.open("nodes", '[');
  for (const CoreReport::Node& node : report.cluster) {
    json.open("", '{');
    json.string("address", node.address);
    json.boolean("up", node.up);
    json.count("slots", node.slots);
    json.string("trouble", node.trouble);
    json.close('}');
  }
  json.close(']');
}

double seconds_since(Nanos start) {
  return static_cast<double>(Reactor::current().now() - start) / 1e9;
}

}  // namespace

bool is_reported(std::string_view path) {
  return path == "/stats" || path == "/metrics" || path == "/livez" || path == "/readyz";
}

ReportExchange::ReportExchange(http::Connection& connection, Proxy& proxy, std::string_view path,
                               std::string_view query)
    : Exchange(connection),
      proxy_(proxy),
      path_(path),
      verbose_(query == "verbose" || query.starts_with("verbose&") ||
               query.find("&verbose") != std::string_view::npos) {}

void ReportExchange::begin() {
  connection().scope().spawn(gather());
}

Task<void> ReportExchange::gather() {
  std::vector<CoreReport> reports;
  const bool hot_keys = path_ == "/hotkeys";
  for (unsigned core = 0; core < proxy_.cores(); ++core) {
    reports.push_back(co_await call_on(
        core, [proxy = &proxy_, core, hot_keys] { return report_of(*proxy, core, hot_keys); }));
  }
  if (path_ == "/readyz") {
    answer_ready(reports);
  } else if (path_ == "/stats") {
    answer_stats(reports);
  } else if (hot_keys) {
    answer_hot_keys(reports);
  } else {
    answer_metrics(reports);
  }
  connection().finished(*this);
}

void ReportExchange::answer_ready(const std::vector<CoreReport>& reports) {
  const bool draining = reports.front().draining;
  bool up = true;
  std::string trouble;
  for (const CoreReport& report : reports) {
    if (is_up(report)) continue;
    up = false;
    trouble = report.trouble.empty() ? "connecting" : report.trouble;
  }
  if (!up || draining) status_ = 503;
  const Options& options = proxy_.options();
  const std::string redis =
      up ? "[+]redis ok\n" : fmt::format("[-]redis {}: {}\n", redis_name(options), trouble);
  if (verbose_) {
    body_ = redis + (draining ? "[-]serving: shutting down\n" : "[+]serving ok\n");
  } else {
    body_ = status_ == 200 ? "ok\n" : draining ? "shutting down\n" : redis;
  }
}

void ReportExchange::answer_stats(const std::vector<CoreReport>& reports) {
  const Options& options = proxy_.options();
  Json json;
  json.open("", '{');
  json.number("uptime_s", seconds_since(proxy_.started_at()));
  json.count("cores", proxy_.cores());
  std::string_view group;
  uint64_t hits = 0;
  uint64_t misses = 0;
  for (const Figure& figure : figures) {
    if (figure.group == "cluster" && options.redis_cluster.empty()) continue;
    if (figure.group != group) {
      if (!group.empty()) json.close('}');
      group = figure.group;
      json.open(group, '{');
      if (group == "cache") {
        json.count("keys_max", options.keys_max);
        json.count("bytes_max", options.cache_bytes_max);
        json.string("eviction", options.eviction == Eviction::lru ? "lru" : "s3-fifo");
      }
      if (group == "redis") {
        json.string("address", redis_name(options));
        json.boolean("tls", options.redis_tls);
        json.string("version", reports.front().server_version);
        const auto troubled = std::ranges::find_if(reports, [](R r) { return !r.trouble.empty(); });
        json.string("trouble", troubled == reports.end() ? "" : troubled->trouble);
      }
    }
    const uint64_t sum = sum_of(reports, figure);
    // What is a state is told for all cores together: up means all of them.
    if (figure.name == "up" || figure.name == "coherent") {
      json.boolean(figure.name, sum == reports.size());
    } else if (figure.name == "active" || (figure.name == "open" && figure.group == "breaker")) {
      json.boolean(figure.name, sum != 0);
    } else {
      json.count(figure.name, sum);
    }
    if (figure.name == "topology_changes") append_nodes(json, reports.front());
    if (figure.name == "hits" || figure.name == "stale_hits") hits += sum;
    if (figure.name == "misses") misses = sum;
  }
  json.close('}');
  json.number("hit_ratio", hits + misses == 0
                               ? 0.0
                               : static_cast<double>(hits) / static_cast<double>(hits + misses));
  json.close('}');
  body_ = json.take() + "\n";
  type_ = http::ContentType::json;
}

void ReportExchange::answer_metrics(const std::vector<CoreReport>& reports) {
  auto out = std::back_inserter(body_);
  const bool is_cluster = !proxy_.options().redis_cluster.empty();
  for (const Figure& figure : figures) {
    if (figure.group == "cluster" && !is_cluster) continue;
    fmt::format_to(out, "# HELP gyre_proxy_{0} {1}\n# TYPE gyre_proxy_{0} {2}\n", figure.metric,
                   figure.help, figure.counter ? "counter" : "gauge");
    for (size_t core = 0; core < reports.size(); ++core) {
      fmt::format_to(out, "gyre_proxy_{}{{core=\"{}\"}} {}\n", figure.metric, core,
                     figure.value(reports[core]));
    }
  }
  type_ = http::ContentType::prometheus;
}

void ReportExchange::answer_hot_keys(const std::vector<CoreReport>& reports) {
  std::vector<HotKeys::Counted> keys;
  for (const CoreReport& report : reports) {
    keys.insert(keys.end(), report.hot_keys.begin(), report.hot_keys.end());
  }
  std::ranges::sort(keys, [](const auto& a, const auto& b) { return a.count > b.count; });
  if (keys.size() > hot_keys_shown) keys.resize(hot_keys_shown);
  Json json;
  json.open("", '[');
  for (const HotKeys::Counted& key : keys) {
    json.open("", '{');
    std::string text = key.key;
    if (!is_utf8(text)) {
      text.clear();
      append_base64(text, key.key);
      json.string("encoding", "base64");
    }
    json.string("key", text);
    json.count("count", key.count);
    json.count("over", key.over);
    json.close('}');
  }
  json.close(']');
  body_ = json.take() + "\n";
  type_ = http::ContentType::json;
}

void ReportExchange::respond(http::Connection& to) {
  Socket& out = to.socket();
  char* at = out.reserve(http::response_head_bytes_max);
  char* end = http::write_response_head(at, {.status = status_,
                                             .close = style.close,
                                             .say_keep_alive = style.say_keep_alive,
                                             .content_type = type_,
                                             .content_length = body_.size(),
                                             .retry_after_s = status_ == 503 ? 1u : 0u,
                                             .date_line = to.date_line()});
  out.commit(static_cast<size_t>(end - at));
  if (!style.head_only) out.append(body_);
}

}  // namespace gyre::proxy
