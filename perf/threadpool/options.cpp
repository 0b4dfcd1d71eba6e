#include "options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "http/client.hpp"
#include "node/machine.hpp"
#include "node/memory_plan.hpp"
#include "placement.hpp"

namespace gyre::threadpool {

namespace {

// The text of one flag into its field; the detail of a failure continues `--name TEXT …`.
using Assign = Result<void> (*)(Options&, std::string_view);

template <auto field>
Result<void> assign_size(Options& options, std::string_view text) {
  const Result<uint64_t> size = parse_size(text);
  if (!size) return fail(size.error());
  if (*size == 0) return fail(Errc::invalid, "must be more than nothing");
  options.*field = *size;
  return {};
}

template <auto field>
Result<void> assign_timeout(Options& options, std::string_view text) {
  const Result<uint64_t> time = parse_duration_ms(text);
  if (!time) return fail(time.error());
  if (*time == 0) return fail(Errc::invalid, "must be more than 0");
  options.*field = *time;
  return {};
}

template <auto field, uint64_t least, uint64_t most>
Result<void> assign_count(Options& options, std::string_view text) {
  const Result<uint64_t> count = parse_count(text);
  if (!count) return fail(count.error());
  if (*count < least || *count > most) {
    return fail(Errc::invalid, fmt::format("must be from {} to {}", least, most));
  }
  options.*field = static_cast<std::remove_reference_t<decltype(options.*field)>>(*count);
  return {};
}

Result<void> assign_listen(Options& options, std::string_view text) {
  Result<Address> address = parse_address(text);
  if (!address) return fail(address.error());
  options.listen = std::move(*address);
  return {};
}

Result<void> assign_data(Options& options, std::string_view text) {
  if (text.empty()) return fail(Errc::invalid, "must name a directory");
  options.data = text;
  return {};
}

Result<void> assign_durability(Options& options, std::string_view text) {
  if (text == "group") {
    options.durability = Durability::group;
  } else if (text == "interval") {
    options.durability = Durability::interval;
  } else if (text == "none") {
    options.durability = Durability::none;
  } else {
    return fail(Errc::invalid, "is not known: group, interval or none");
  }
  return {};
}

Result<void> assign_overflow(Options& options, std::string_view text) {
  if (text == "reject") {
    options.overflow = Overflow::reject;
  } else if (text == "block") {
    options.overflow = Overflow::block;
  } else {
    return fail(Errc::invalid, "is not known: reject or block");
  }
  return {};
}

Result<void> assign_peers(Options& options, std::string_view text) {
  std::vector<std::string> peers;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view url = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (const auto endpoint = http::parse_endpoint(url); !endpoint) return fail(endpoint.error());
    if (std::ranges::find(peers, url) != peers.end()) {
      return fail(Errc::invalid, fmt::format("names {} twice", url));
    }
    peers.emplace_back(url);
  }
  options.peers = std::move(peers);
  return {};
}

Result<void> assign_advertise(Options& options, std::string_view text) {
  options.advertise = text;
  return {};
}

Result<void> assign_admin(Options&, std::string_view text) {
  if (text != "off") return fail(Errc::invalid, "is not known: this node has none, so only off");
  return {};
}

template <auto field>
Result<void> assign_switch(Options& options, std::string_view text) {
  const Result<bool> value = parse_switch(text);
  if (!value) return fail(value.error());
  options.*field = *value;
  return {};
}

struct Flag {
  std::string_view name;
  std::string_view value_name;  // "": a switch, which may stand alone
  std::string_view help;
  Assign assign;
};

using O = Options;
constexpr Flag flags[] = {
    {"listen", "ADDR:PORT", "where to serve HTTP (default 127.0.0.1:8080)", assign_listen},
    {"data", "DIR", "where the data is; created if missing (default data)", assign_data},
    {"cores", "N", "CPUs to use, which the defaults below depend on (default: all)",
     assign_count<&O::cores, 1, 1024>},
    {"pin", "", "keep to the first N of the CPUs that are allowed", assign_switch<&O::pin>},
    {"selectors", "N", "threads that read and parse (default: one for every two cores)",
     assign_count<&O::selectors, 1, 256>},
    {"workers", "N",
     "threads that execute (default: 64 with durability group, else 2 per core, with peers 4)",
     assign_count<&O::workers, 1, 4096>},
    {"queue", "N", "tasks that may wait for a worker (default 65536)",
     assign_count<&O::queue_tasks_max, 1, 1u << 20>},
    {"overflow", "reject|block",
     "when the queue is full: answer 503, or stop reading (default reject)", assign_overflow},
    {"durability", "group|interval|none",
     "when a write is acknowledged: synced, or synced every 100 ms, or never synced (default "
     "group)",
     assign_durability},
    {"memory", "SIZE", "budget of the process (default: a quarter of the memory)",
     assign_size<&O::memory_bytes>},
    {"max-value", "SIZE", "the largest value (default 16M)", assign_size<&O::value_bytes_max>},
    {"max-connections", "N", "most connections at a time (default: what --memory allows)",
     assign_count<&O::connections_max, 1, 1u << 20>},
    {"head-timeout", "TIME", "for a request's header (default 10s)",
     assign_timeout<&O::head_timeout_ms>},
    {"body-timeout", "TIME", "for a request's body (default 30s)",
     assign_timeout<&O::body_timeout_ms>},
    {"idle-timeout", "TIME", "for a connection without a request (default 75s)",
     assign_timeout<&O::idle_timeout_ms>},
    {"send-timeout", "TIME", "for a client that reads nothing of its answer (default 30s)",
     assign_timeout<&O::send_timeout_ms>},
    {"peers", "URL,URL,...", "all nodes of the cluster, this one included, in any order",
     assign_peers},
    {"advertise", "URL", "which of them this one is", assign_advertise},
    {"replication", "N", "copies of a key unless the request says otherwise (default 3)",
     assign_count<&O::replication, 1, copies_max>},
    {"internal-workers", "N",
     "threads that do what peers ask (default: 64 with durability group, else 2 per core)",
     assign_count<&O::internal_workers, 1, 4096>},
    {"threads-per-peer", "N",
     "that ask a peer, each over its own connection (default: for all peers together 64 with "
     "durability group, else 8 per core; at least 4)",
     assign_count<&O::threads_per_peer, 1, 1024>},
    {"peer-timeout", "TIME", "for an answer of a peer (default 1s)",
     assign_timeout<&O::peer_timeout_ms>},
    {"admin", "off", "taken for gyre's sake", assign_admin},
    {"pipelined-write", "", "RocksDB writes its log and its memtable in two stages",
     assign_switch<&O::pipelined_write>},
    {"direct", "", "RocksDB reads and writes tables past the page cache, which --memory leaves out",
     assign_switch<&O::direct>},
    {"recycled-logs", "N", "RocksDB's log files that are kept to be written over (default 0)",
     assign_count<&O::log_files_recycled, 0, 64>},
};

std::string unknown_flag(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Flag& flag : flags) names.push_back(flag.name);
  const std::string_view near = closest(name, names);
  std::string text = fmt::format("--{} is not known", name);
  if (!near.empty()) text += fmt::format("; did you mean --{}?", near);
  return text + " Try gyre-threadpool --help.";
}

// Defaults that depend on the machine or on other flags.
std::string complete(Options& options) {
  const Machine machine = read_machine();
  if (options.cores == 0) options.cores = machine.cpus;
  if (options.selectors == 0) options.selectors = (options.cores + 1) / 2;
  const bool clustered = !options.peers.empty();
  if (clustered != !options.advertise.empty()) {
    return "--peers and --advertise belong together: give both, or none";
  }
  if (clustered && std::ranges::find(options.peers, options.advertise) == options.peers.end()) {
    return fmt::format("--advertise {} is none of --peers", options.advertise);
  }
  // Workers that wait are many: for the disk, and a few more for peers.
  const bool synced = options.durability == Durability::group;
  if (options.workers == 0) options.workers = synced ? 64 : (clustered ? 4 : 2) * options.cores;
  if (options.internal_workers == 0) options.internal_workers = synced ? 64 : 2 * options.cores;
  if (options.threads_per_peer == 0 && options.peers.size() > 1) {
    const unsigned together = synced ? 64 : 8 * options.cores;
    options.threads_per_peer =
        std::max(4u, together / static_cast<unsigned>(options.peers.size() - 1));
  }
  if (options.memory_bytes == 0) options.memory_bytes = machine.memory_bytes / 4;
  if (options.connections_max == 0) {
    options.connections_max = default_connections_max(options.memory_bytes);
  }
  // The split that `gyre serve` makes of the same budget.
  const Result<MemoryPlan> plan = plan_memory({.budget_bytes = options.memory_bytes,
                                               .cores = options.cores,
                                               .shards = options.cores,
                                               .value_bytes_max = options.value_bytes_max,
                                               .connections_max = options.connections_max});
  if (!plan) return plan.error().detail;
  options.cache_bytes = plan->cache_bytes_per_shard * options.cores;
  options.memtable_bytes = plan->memtable_bytes_per_shard * options.cores;
  options.transit_bytes = plan->transit_bytes_per_core * options.cores;
  return {};
}

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& arguments) {
  CommandLine line;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string_view argument = arguments[i];
    if (i == 0 && argument == "serve") continue;
    if (argument == "--help" || argument == "-h") {
      line.help = true;
      return line;
    }
    if (!argument.starts_with("--")) {
      line.problem = fmt::format("{} is not understood. Try gyre-threadpool --help.", argument);
      return line;
    }
    argument.remove_prefix(2);
    const size_t equals = argument.find('=');
    const std::string_view name = argument.substr(0, equals);
    const auto* flag = std::ranges::find(flags, name, &Flag::name);
    if (flag == std::end(flags)) {
      line.problem = unknown_flag(name);
      return line;
    }
    std::string_view text = "on";
    if (equals != std::string_view::npos) {
      text = argument.substr(equals + 1);
    } else if (!flag->value_name.empty()) {
      if (++i == arguments.size()) {
        line.problem = fmt::format("--{} needs a value: {}", name, flag->value_name);
        return line;
      }
      text = arguments[i];
    }
    if (const Result<void> assigned = flag->assign(line.options, text); !assigned) {
      line.problem = fmt::format("--{} {} {}", name, text, assigned.error().detail);
      return line;
    }
  }
  line.problem = complete(line.options);
  return line;
}

std::string help_text() {
  std::string text =
      "usage: gyre-threadpool [serve] [FLAGS]\n\n"
      "One node of the HTTP contract in the classic architecture: selector threads, a bounded "
      "task\n"
      "queue, a pool of workers, RocksDB. The lab compares gyre with it.\n\n";
  for (const Flag& flag : flags) {
    const std::string left = flag.value_name.empty()
                                 ? fmt::format("--{}", flag.name)
                                 : fmt::format("--{} {}", flag.name, flag.value_name);
    text += fmt::format("  {:<34} {}\n", left, flag.help);
  }
  return text + "  --help                             this text\n";
}

}  // namespace gyre::threadpool
