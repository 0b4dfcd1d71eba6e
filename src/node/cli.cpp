// The only file that sees CLI11, which is slow to compile. CLI11 splits the command line and
// prints help; what values mean, and which layer wins, is decided in config.cpp (CLI11 would let
// a configuration file beat the environment).
#include "node/cli.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <deque>
#include <filesystem>
#include <memory>

#include "base/limits.hpp"
#include "node/proxy_config.hpp"

#ifndef GYRE_VERSION
#define GYRE_VERSION "unknown"
#endif

namespace gyre {
namespace {

using Environment = std::map<std::string, std::string>;

// Also what the proxy listens to; each command picks its own.
bool is_ours(std::string_view variable) {
  return variable.starts_with("GYRE_") || variable.starts_with("PROXY_") ||
         variable.starts_with("REDIS_");
}

Environment read_environment(const char* const* environment) {
  Environment values;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    const size_t equals = entry.find('=');
    if (equals != std::string_view::npos && is_ours(entry)) {
      values.emplace(entry.substr(0, equals), entry.substr(equals + 1));
    }
  }
  return values;
}

Finished usage_error(const std::string& text) {
  return {exit_usage, text};
}

// Every subcommand with the variables that CLI11 fills in. One instance parses one command line.
class CommandLine {
 public:
  CommandLine() {
    app_.require_subcommand(0, 1);
    app_.allow_extras();
    app_.set_version_flag("--version", "gyre " GYRE_VERSION);
    app_.footer("Try: gyre serve    then: curl -i 'http://127.0.0.1:8080/v0/status'");
    add_serve();
    add_clients();
    add_admin();
    add_cluster();
    inspect_ = add("inspect", "print and check a table, log segment, manifest or data directory");
    inspect_->add_option("FILE", inspect_command_.file, "the file or directory")->required();
    inspect_->add_flag("--records", inspect_command_.records, "print every record too");
    add_proxy();
  }

  Command parse(int argc, const char* const* argv, const Environment& environment,
                const Machine& machine) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::Success& request) {  // --help, --version
      return Finished{exit_ok, is_version(request) ? std::string(request.what()) + "\n" : help()};
    } catch (const CLI::ParseError& error) {
      if (auto unknown = unknown_argument()) return usage_error(*unknown);
      return usage_error(fmt::format("gyre: {}\nTry {} --help.\n", error.what(), path()));
    }
    if (auto unknown = unknown_argument()) return usage_error(*unknown);
    return command(environment, machine);
  }

 private:
  CLI::App* add(const std::string& name, const std::string& description,
                CLI::App* parent = nullptr) {
    CLI::App* sub = (parent == nullptr ? &app_ : parent)->add_subcommand(name, description);
    sub->allow_extras();  // reported by unknown_argument, with a suggestion
    return sub;
  }

  void add_serve() {
    serve_ = add("serve", "run a node");
    serve_->add_option("--config", config_path_, "TOML file with these settings")
        ->type_name("FILE")
        ->group("Configuration");
    serve_->add_flag("--print-config", print_config_, "print every value and where it came from")
        ->group("Configuration");
    serve_->footer(
        "Every flag is also an environment variable (--max-value is GYRE_MAX_VALUE) and a key of "
        "the file (max-value). Flags beat environment beats file.");
    for (const Setting& setting : settings()) {
      std::string& text = setting_texts_.emplace_back();
      const std::string flag = "--" + std::string(setting.name);
      CLI::Option* option = setting.value_name.empty()
                                ? serve_->add_flag(flag, text, std::string(setting.help))
                                : serve_->add_option(flag, text, std::string(setting.help))
                                      ->type_name(std::string(setting.value_name));
      option->group("Settings");
      setting_options_.push_back(option);
    }
  }

  void add_proxy() {
    proxy_ = add("proxy", "run the caching proxy in front of Redis");
    proxy_->add_flag("--print-config", print_config_, "print every value and where it came from");
    proxy_->footer("Every flag is also an environment variable, named in brackets; flags beat it.");
    for (const ProxySetting& setting : proxy_settings()) {
      std::string& text = proxy_texts_.emplace_back();
      const std::string flag = "--" + std::string(setting.name);
      const std::string help = fmt::format("{} [{}]", setting.help, setting.variable);
      CLI::Option* option =
          setting.value_name.empty()
              ? proxy_->add_flag(flag, text, help)
              : proxy_->add_option(flag, text, help)->type_name(std::string(setting.value_name));
      option->group("Settings");
      proxy_options_.push_back(option);
    }
  }

  void add_target(CLI::App* sub, ClientTarget& target) {
    sub->add_option("--url", target.url, "the node (default GYRE_URL or http://127.0.0.1:8080)")
        ->type_name("URL");
    sub->add_option("--timeout", timeout_, "give up after this time (default 10s)")
        ->type_name("TIME");
  }

  void add_clients() {
    get_ = add("get", "print the value of a key");
    get_->add_option("KEY", get_command_.key, "the key")->required();
    add_target(get_, get_command_.target);

    put_ = add("put", "store a value");
    put_->add_option("KEY", put_command_.key, "the key")->required();
    put_->add_option("VALUE", put_command_.value, "the value; - reads standard input")->required();
    put_->add_option("--ttl", ttl_, "let the value expire after this time")->type_name("TIME");
    add_target(put_, put_command_.target);

    del_ = add("del", "delete a key");
    del_->add_option("KEY", del_command_.key, "the key")->required();
    add_target(del_, del_command_.target);

    scan_ = add("scan", "print the records from START up to END, in key order");
    scan_->add_option("START", scan_command_.start, "first key")->required();
    scan_->add_option("END", end_, "end of the range, not included");
    scan_->add_option("--limit", limit_, "stop after so many records")->type_name("N");
    scan_->add_flag("--keys", scan_command_.keys_only, "print keys only");
    add_target(scan_, scan_command_.target);

    load_ = add("load", "store the records of a file as `scan` prints them");
    load_->add_option("FILE", load_command_.file, "the file; - reads standard input")->required();
    load_->add_option("--connections", connections_, "requests at a time (default 16)")
        ->type_name("N");
    add_target(load_, load_command_.target);
  }

  void add_admin() {
    using Verb = AdminCommand::Verb;
    constexpr std::array<std::pair<const char*, const char*>, 5> verbs = {{
        {"status", "show the cluster as the node sees it, and what the node is doing"},
        {"flush", "write the memtables to tables"},
        {"compact", "merge all tables into the deepest level"},
        {"checkpoint", "make a copy of the data in DIR, while the node serves, by hard links"},
        {"verify", "read all tables and check them"},
    }};
    admin_ = add("admin", "look after a node");
    admin_->require_subcommand(1);
    for (size_t i = 0; i < verbs.size(); ++i) {
      CLI::App* sub = add(verbs[i].first, verbs[i].second, admin_);
      if (static_cast<Verb>(i) == Verb::checkpoint) {
        sub->add_option("DIR", admin_command_.directory, "where to")->required();
      }
      if (static_cast<Verb>(i) == Verb::status) {
        sub->add_flag("--json", admin_command_.json, "what it knows of the cluster, as JSON");
      }
      add_target(sub, admin_command_.target);
      admin_verbs_.push_back(sub);
    }
    add_topology();
  }

  void add_topology() {
    topology_ =
        add("topology", "make and change the file that says which nodes hold a key", admin_);
    topology_->require_subcommand(1);
    topology_->footer(
        "A topology has 16384 slots of keys; each has a list of up to 5 nodes, of which the first "
        "hold its copies. Add nodes with: gyre admin topology plan --file F --add URL, look at "
        "what "
        "moves, and do it with: gyre admin topology apply --file F --add URL");
    topology_new_ = add("new", "make the file of a new cluster", topology_);
    topology_new_
        ->add_option("--peers", topology_peers_,
                     "all nodes, each with a weight and a zone if it has any, in any order")
        ->type_name("URL[,weight=W][,zone=Z],URL...")
        ->required();
    topology_plan_ = add("plan", "show what a change would move; changes nothing", topology_);
    add_changes(topology_plan_);
    topology_plan_
        ->add_option("--out", topology_command_.out, "keep the planned topology in a file")
        ->type_name("FILE");
    topology_apply_ = add("apply", "make the change: the file becomes its next epoch", topology_);
    add_changes(topology_apply_);
    topology_apply_
        ->add_option("--plan", topology_command_.planned,
                     "instead of a change: what plan --out has kept")
        ->type_name("FILE");
    topology_apply_
        ->add_option("--expect-epoch", expected_epoch_, "do nothing if the file has another epoch")
        ->type_name("N");
    for (CLI::App* sub : {topology_new_, topology_plan_, topology_apply_}) {
      sub->add_option("--file", topology_command_.file, "the topology")
          ->type_name("FILE")
          ->required();
      sub->add_option("--replication", copies_, "show figures for so many copies (default 3)")
          ->type_name("N");
    }
  }

  void add_cluster() {
    cluster_ = add("cluster", "run some nodes on this machine, to try a cluster out");
    const auto option = [this](const char* flag, std::string& text, const char* help) {
      cluster_->add_option(flag, text, help)->type_name("N");
    };
    option("--nodes", cluster_nodes_, "how many (default 3, or as --dir has)");
    option("--cores", cluster_cores_, "cores of each (default 1)");
    option("--replication", copies_, "copies of a key (default 3, or as many as there are nodes)");
    option("--base-port", base_port_, "port of the first; the others follow (default: free ones)");
    cluster_
        ->add_option("--memory", cluster_memory_,
                     "memory of each (default: a quarter of what there is, divided by the nodes)")
        ->type_name("SIZE");
    cluster_
        ->add_option(
            "--dir", cluster_command_.directory,
            "where their data is, and stays (default: a new directory, removed at the end)")
        ->type_name("DIR");
    cluster_->footer(
        "Prints the nodes' URLs when all are ready, and then their log lines. Ctrl-C stops them "
        "all; "
        "again, it doesn't wait for them. One that dies is reported, the others go on.");
  }

  void add_changes(CLI::App* sub) {
    sub->add_option("--add", topology_add_, "a node that comes; may be repeated")
        ->type_name("URL[,weight=W][,zone=Z]")
        ->allow_extra_args(false);
    sub->add_option("--remove", topology_remove_, "a node that goes; may be repeated")
        ->type_name("URL")
        ->allow_extra_args(false);
    sub->add_option("--reweight", topology_reweight_, "a node's new weight; may be repeated")
        ->type_name("URL=W")
        ->allow_extra_args(false);
  }

  static bool is_version(const CLI::Success& request) {
    return dynamic_cast<const CLI::CallForVersion*>(&request) != nullptr;
  }

  // The innermost subcommand that was named, or the program itself.
  const CLI::App& innermost() const {
    const CLI::App* app = &app_;
    while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
    return *app;
  }

  // "gyre", "gyre admin", "gyre admin flush": as far as subcommands were named.
  std::string path() const {
    std::string text = "gyre";
    for (const CLI::App* app = &app_; !app->get_subcommands().empty();) {
      app = app->get_subcommands().front();
      text += " " + app->get_name();
    }
    return text;
  }

  std::string help() const {
    const std::string text = path();
    const size_t space = text.rfind(' ');  // CLI11 appends the last name itself
    return innermost().help(space == std::string::npos ? "" : text.substr(0, space));
  }

  std::optional<std::string> unknown_argument() const {
    std::vector<std::string> extra = app_.remaining(true);
    std::erase(extra, "--");
    if (extra.empty()) return {};
    const std::string word = extra.front().substr(0, extra.front().find('='));
    std::vector<std::string> known;
    for (const CLI::Option* option : innermost().get_options()) {
      if (!option->get_lnames().empty()) known.push_back("--" + option->get_lnames().front());
    }
    for (const CLI::App* sub : innermost().get_subcommands(nullptr))
      known.push_back(sub->get_name());
    const std::vector<std::string_view> candidates(known.begin(), known.end());
    const std::string_view near = closest(word, candidates);
    return fmt::format("gyre: {} is not known to {}{}\nTry {} --help.\n", word, path(),
                       near.empty() ? "." : fmt::format("; did you mean {}?", near), path());
  }

  // --- from what CLI11 found to a command --------------------------------------------------------

  Command command(const Environment& environment, const Machine& machine) {
    if (*serve_) return serve(environment, machine);
    if (*inspect_) return inspect_command_;
    if (*cluster_) return cluster(machine);
    if (*proxy_) return proxy(environment, machine);
    if (*get_) return with_target(get_command_, environment);
    if (*put_) {
      put_command_.value_from_stdin = put_command_.value == "-";
      if (auto bad = read(ttl_, "--ttl", parse_duration_ms, put_command_.ttl_ms)) return *bad;
      return with_target(put_command_, environment);
    }
    if (*del_) return with_target(del_command_, environment);
    if (*scan_) {
      if (scan_->count("END") > 0) scan_command_.end = end_;
      if (auto bad = read(limit_, "--limit", parse_count, scan_command_.limit)) return *bad;
      return with_target(scan_command_, environment);
    }
    if (*load_) return load(environment);
    if (*topology_) return topology();
    if (*admin_) {
      for (size_t i = 0; i < admin_verbs_.size(); ++i) {
        if (*admin_verbs_[i]) admin_command_.verb = static_cast<AdminCommand::Verb>(i);
      }
      if (admin_command_.verb == AdminCommand::Verb::checkpoint) {
        // The node works elsewhere.
        admin_command_.directory =
            std::filesystem::absolute(admin_command_.directory).lexically_normal();
      }
      return with_target(admin_command_, environment);
    }
    return usage_error(help());
  }

  Command serve(const Environment& environment, const Machine& machine) const {
    ConfigInput input{.flags = {}, .environment = environment, .machine = machine};
    for (size_t i = 0; i < setting_options_.size(); ++i) {
      if (setting_options_[i]->count() == 0) continue;
      input.flags.push_back({Layer::flag, std::string(settings()[i].name), setting_texts_[i], ""});
    }
    if (serve_->count("--config") > 0) {
      input.flags.push_back({Layer::flag, "config", config_path_, ""});
    }
    auto config = load_serve_config(input);
    if (!config) {
      std::string text;
      for (const std::string& line : config.error().lines) text += "gyre: " + line + "\n";
      return usage_error(text);
    }
    if (print_config_) return Finished{exit_ok, gyre::print_config(*config)};
    return std::move(*config);
  }

  Command proxy(const Environment& environment, const Machine& machine) const {
    ProxyConfigInput input{.flags = {}, .environment = environment, .machine = machine};
    for (size_t i = 0; i < proxy_options_.size(); ++i) {
      if (proxy_options_[i]->count() == 0) continue;
      input.flags.emplace_back(proxy_settings()[i].name, proxy_texts_[i]);
    }
    auto options = load_proxy_config(input);
    if (!options) {
      std::string text;
      for (const std::string& line : options.error().lines) text += "gyre: " + line + "\n";
      return usage_error(text);
    }
    if (print_config_) return Finished{exit_ok, print_proxy_config(*options)};
    return std::move(*options);
  }

  Command topology() {
    using Verb = TopologyCommand::Verb;
    TopologyCommand& command = topology_command_;
    command.verb = *topology_new_ ? Verb::create : *topology_plan_ ? Verb::plan : Verb::apply;
    const auto wrong = [](const char* flag, const Error& error) {
      return usage_error(fmt::format("gyre: {} {}\n", flag, error.detail));
    };
    if (!topology_peers_.empty()) {
      auto peers = cluster::parse_node_list(topology_peers_);
      if (peers) peers = cluster::checked_nodes(std::move(*peers));
      if (!peers) return wrong("--peers", peers.error());
      command.peers = std::move(*peers);
    }
    for (const std::string& text : topology_add_) {
      auto nodes = cluster::parse_node_list(text);
      if (!nodes) return wrong("--add", nodes.error());
      for (cluster::NodeEntry& node : *nodes) command.changes.add.push_back(std::move(node));
    }
    for (const std::string& text : topology_remove_) {
      auto url = parse_node_url(text);
      if (!url) return usage_error(fmt::format("gyre: --remove {} {}\n", text, url.error().detail));
      command.changes.remove.push_back(std::move(*url));
    }
    for (const std::string& text : topology_reweight_) {
      auto reweight = cluster::parse_reweight(text);
      if (!reweight) return wrong("--reweight", reweight.error());
      command.changes.reweight.push_back(std::move(*reweight));
    }
    if (command.verb == Verb::apply && command.planned.empty() == command.changes.empty()) {
      return usage_error(
          "gyre: gyre admin topology apply takes either --plan or changes: --add, --remove, "
          "--reweight\n");
    }
    if (auto bad = read(expected_epoch_, "--expect-epoch", parse_count, command.expected_epoch)) {
      return *bad;
    }
    std::optional<uint64_t> copies;
    if (auto bad = read_between(copies_, "--replication", 1, limits::cluster_replicas_max, copies))
      return *bad;
    if (copies) command.copies = static_cast<unsigned>(*copies);
    return command;
  }

  Command cluster(const Machine& machine) {
    ClusterCommand& command = cluster_command_;
    std::optional<uint64_t> nodes;
    std::optional<uint64_t> cores;
    std::optional<uint64_t> copies;
    std::optional<uint64_t> base_port;
    std::optional<uint64_t> memory_bytes;
    constexpr uint64_t nodes_max = 32;
    if (auto bad = read_between(cluster_nodes_, "--nodes", 1, nodes_max, nodes)) return *bad;
    if (auto bad = read_between(cluster_cores_, "--cores", 1, 1024, cores)) return *bad;
    if (auto bad = read_between(copies_, "--replication", 1, limits::cluster_replicas_max, copies))
      return *bad;
    const uint64_t count = nodes.value_or(ClusterCommand::nodes_default);
    if (auto bad = read_between(base_port_, "--base-port", 1, 65536 - count, base_port))
      return *bad;
    if (auto bad = read(cluster_memory_, "--memory", parse_size, memory_bytes)) return *bad;
    if (nodes) command.nodes = static_cast<unsigned>(*nodes);
    if (cores) command.cores = static_cast<unsigned>(*cores);
    if (copies) command.replication = static_cast<unsigned>(*copies);
    if (base_port) command.base_port = static_cast<uint16_t>(*base_port);
    if (copies && *copies > count) {
      return usage_error(fmt::format("gyre: --replication {} takes as many nodes: there are {}\n",
                                     *copies, count));
    }
    // What one node takes by default, divided; not less than what it can begin to work with.
    constexpr uint64_t mebibyte = 1u << 20;
    const uint64_t needed = memory_needed_bytes({.cores = command.cores,
                                                 .shards = command.cores,
                                                 .value_bytes_max = limits::value_bytes_max_default,
                                                 .connections_max = 4096});
    const uint64_t share = machine.memory_bytes / 4 / count;
    command.memory_bytes =
        memory_bytes.value_or(std::max(share, needed + needed / 4) / mebibyte * mebibyte);
    if (!command.directory.empty()) {
      command.directory = std::filesystem::absolute(command.directory).lexically_normal();
    }
    return command;
  }

  Command load(const Environment& environment) {
    std::optional<uint64_t> connections;
    if (auto bad = read_between(connections_, "--connections", 1, 1024, connections)) return *bad;
    if (connections) load_command_.connections = static_cast<unsigned>(*connections);
    return with_target(load_command_, environment);
  }

  template <class ClientCommand>
  Command with_target(ClientCommand& command, const Environment& environment) {
    ClientTarget& target = command.target;
    std::string source = "--url ";
    if (target.url.empty()) {
      const auto variable = environment.find("GYRE_URL");
      source = "GYRE_URL=";
      target.url = variable != environment.end() ? variable->second : "http://127.0.0.1:8080";
    }
    auto url = parse_node_url(target.url);
    if (!url) {
      return usage_error(fmt::format("gyre: {}{} {}\n", source, target.url, url.error().detail));
    }
    target.url = std::move(*url);
    std::optional<uint64_t> timeout_ms;
    if (auto bad = read(timeout_, "--timeout", parse_duration_ms, timeout_ms)) return *bad;
    if (timeout_ms) target.timeout_ms = *timeout_ms;
    return command;
  }

  // Reads `text` into `value` if the flag was given; what is wrong with it otherwise.
  static std::optional<Finished> read(const std::string& text, const char* flag,
                                      Result<uint64_t> (*parse)(std::string_view),
                                      std::optional<uint64_t>& value) {
    if (text.empty()) return {};
    const auto parsed = parse(text);
    if (!parsed) {
      return usage_error(fmt::format("gyre: {} {} {}\n", flag, text, parsed.error().detail));
    }
    value = *parsed;
    return {};
  }

  // As read, within bounds.
  static std::optional<Finished> read_between(const std::string& text, const char* flag,
                                              uint64_t low, uint64_t high,
                                              std::optional<uint64_t>& value) {
    if (auto bad = read(text, flag, parse_count, value)) return bad;
    if (!value || (*value >= low && *value <= high)) return {};
    return usage_error(fmt::format("gyre: {} {} is out of range: {} to {} are accepted\n", flag,
                                   *value, low, high));
  }

  CLI::App app_{"Gyre, a replicated key-value store on one event loop per core.", "gyre"};
  CLI::App* serve_ = nullptr;
  CLI::App* proxy_ = nullptr;
  CLI::App* get_ = nullptr;
  CLI::App* put_ = nullptr;
  CLI::App* del_ = nullptr;
  CLI::App* scan_ = nullptr;
  CLI::App* load_ = nullptr;
  CLI::App* admin_ = nullptr;
  CLI::App* inspect_ = nullptr;
  CLI::App* cluster_ = nullptr;
  std::vector<CLI::App*> admin_verbs_;
  CLI::App* topology_ = nullptr;
  CLI::App* topology_new_ = nullptr;
  CLI::App* topology_plan_ = nullptr;
  CLI::App* topology_apply_ = nullptr;

  std::string config_path_;
  bool print_config_ = false;
  std::deque<std::string> setting_texts_;  // stable addresses, in the order of settings()
  std::vector<CLI::Option*> setting_options_;
  std::deque<std::string> proxy_texts_;  // in the order of proxy_settings()
  std::vector<CLI::Option*> proxy_options_;

  std::string timeout_;
  std::string ttl_;
  std::string limit_;
  std::string end_;
  std::string connections_;
  std::string topology_peers_;
  std::vector<std::string> topology_add_;
  std::vector<std::string> topology_remove_;
  std::vector<std::string> topology_reweight_;
  std::string expected_epoch_;
  std::string copies_;
  GetCommand get_command_;
  PutCommand put_command_;
  DelCommand del_command_;
  ScanCommand scan_command_;
  LoadCommand load_command_;
  AdminCommand admin_command_;
  TopologyCommand topology_command_;
  InspectCommand inspect_command_;
  std::string cluster_nodes_;
  std::string cluster_cores_;
  std::string cluster_memory_;
  std::string base_port_;
  ClusterCommand cluster_command_;
};

}  // namespace

Command parse_command_line(int argc, const char* const* argv, const char* const* environment,
                           const Machine& machine) {
  return CommandLine().parse(argc, argv, read_environment(environment), machine);
}

}  // namespace gyre
