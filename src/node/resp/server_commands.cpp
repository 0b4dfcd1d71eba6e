// What is said of the server: COMMAND, CONFIG, INFO, TIME.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include <gyre/call.hpp>
#include <gyre/time.hpp>

#include "node/node.hpp"
#include "node/resp/commands.hpp"
#include "node/resp/info.hpp"
#include "node/resp/resp_server.hpp"
#include "node/resp/task_exchange.hpp"
#include "resp/number_text.hpp"

namespace gyre::resp_commands {

namespace {

// --- COMMAND ------------------------------------------------------------------------------------

struct FlagName {
  uint32_t flag;
  std::string_view name;
};
constexpr FlagName flag_names[] = {
    {command_flag::write, "write"},        {command_flag::readonly, "readonly"},
    {command_flag::denyoom, "denyoom"},    {command_flag::admin, "admin"},
    {command_flag::no_script, "noscript"}, {command_flag::loading, "loading"},
    {command_flag::stale, "stale"},        {command_flag::fast, "fast"},
    {command_flag::no_auth, "no_auth"},
};

void write_info(resp::ReplyWriter& out, const CommandSpec& spec) {
  out.array(10);
  out.bulk(spec.name);
  out.integer(spec.arity);
  out.set(static_cast<size_t>(std::ranges::count_if(
      flag_names, [&](const FlagName& of) { return (spec.flags & of.flag) != 0; })));
  for (const FlagName& of : flag_names) {
    if ((spec.flags & of.flag) != 0) out.simple(of.name);
  }
  out.integer(spec.first_key);
  out.integer(spec.last_key);
  out.integer(spec.key_step);
  std::vector<std::string_view> categories;
  if ((spec.flags & command_flag::write) != 0) categories.push_back("@write");
  if ((spec.flags & command_flag::readonly) != 0) categories.push_back("@read");
  if (spec.group == "string") categories.push_back("@string");
  if (spec.group == "generic") categories.push_back("@keyspace");
  if (spec.group == "connection") categories.push_back("@connection");
  if ((spec.flags & command_flag::admin) != 0) categories.push_back("@admin");
  categories.push_back((spec.flags & command_flag::fast) != 0 ? "@fast" : "@slow");
  out.set(categories.size());
  for (const std::string_view category : categories) out.simple(category);
  out.array(0);  // tips
  out.array(0);  // key specifications
  out.array(spec.subcommands.size());
  for (const CommandSpec& subcommand : spec.subcommands) write_info(out, subcommand);
}

void write_docs(resp::ReplyWriter& out, const CommandSpec& spec) {
  const bool has_subcommands = !spec.subcommands.empty();
  out.bulk(spec.name);
  out.map(has_subcommands ? 5 : 4);
  out.bulk("summary");
  out.bulk(spec.summary);
  out.bulk("since");
  out.bulk(spec.since);
  out.bulk("group");
  out.bulk(spec.group);
  out.bulk("complexity");
  out.bulk(spec.complexity);
  if (!has_subcommands) return;
  out.bulk("subcommands");
  out.map(spec.subcommands.size());
  for (const CommandSpec& subcommand : spec.subcommands) write_docs(out, subcommand);
}

// A command, or a subcommand as "client|id".
const CommandSpec* find_any(std::string_view name) {
  const size_t bar = name.find('|');
  const CommandSpec* command = find_command(name.substr(0, bar));
  if (command == nullptr || bar == std::string_view::npos) return command;
  return find_subcommand(*command, name.substr(bar + 1));
}

// --- CONFIG -------------------------------------------------------------------------------------

struct Parameter {
  std::string_view name;
  std::string (*value)(RespServer& server);
  // Whether the text is one that can be set; nullptr: none can. It is then set on every core.
  bool (*is_valid)(RespServer& server, std::string_view text);
  void (*set)(RespServer& server, std::string_view text);
};

std::string text_of(uint64_t number) {
  return fmt::format("{}", number);
}

// Sizes as Redis reads them: a number with b, k, kb, m, mb, g or gb.
std::optional<uint64_t> size_of(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = resp::parse_integer(text.substr(0, digits));
  if (!number || *number > (1ll << 40)) return {};
  const std::string_view unit = text.substr(digits);
  uint64_t factor = 0;
  if (unit.empty() || resp::is_word(unit, "b")) factor = 1;
  if (resp::is_word(unit, "k")) factor = 1000;
  if (resp::is_word(unit, "kb")) factor = 1u << 10;
  if (resp::is_word(unit, "m")) factor = 1'000'000;
  if (resp::is_word(unit, "mb")) factor = 1u << 20;
  if (resp::is_word(unit, "g")) factor = 1'000'000'000;
  if (resp::is_word(unit, "gb")) factor = 1u << 30;
  if (factor == 0) return {};
  return static_cast<uint64_t>(*number) * factor;
}

constexpr int64_t timeout_s_max = 365 * 86'400;

// What can be asked, and the little that can be changed while the node runs: never a path, a
// password or an address.
constexpr Parameter parameters[] = {
    {"appendfsync",
     [](RespServer& server) -> std::string {
       switch (server.node().config().durability) {
         case Durability::group:
           return "always";
         case Durability::interval:
           return "everysec";
         case Durability::none:
           return "no";
       }
       return "";
     },
     nullptr, nullptr},
    {"appendonly", [](RespServer&) -> std::string { return "yes"; }, nullptr, nullptr},
    {"bind", [](RespServer& server) { return server.node().config().resp->host; }, nullptr,
     nullptr},
    {"databases", [](RespServer&) { return text_of(RespServer::databases); }, nullptr, nullptr},
    {"maxclients",
     [](RespServer& server) { return text_of(server.node().config().connections_max); }, nullptr,
     nullptr},
    {"maxmemory", [](RespServer& server) { return text_of(server.node().config().memory_bytes); },
     nullptr, nullptr},
    {"maxmemory-policy", [](RespServer&) -> std::string { return "noeviction"; }, nullptr, nullptr},
    {"port", [](RespServer& server) { return text_of(server.port()); }, nullptr, nullptr},
    {"proto-max-bulk-len",
     [](RespServer& server) { return text_of(server.limits().command.bulk_bytes_max); },
     [](RespServer& server, std::string_view text) {
       const auto bytes = size_of(text);
       return bytes && *bytes >= (64u << 10) && *bytes <= server.node().config().value_bytes_max;
     },
     [](RespServer& server, std::string_view text) {
       server.limits().command.bulk_bytes_max = *size_of(text);
     }},
    {"save", [](RespServer&) -> std::string { return ""; }, nullptr, nullptr},
    {"timeout",
     [](RespServer& server) {
       return text_of(static_cast<uint64_t>(server.limits().idle_timeout / seconds(1)));
     },
     [](RespServer&, std::string_view text) {
       const auto time = resp::parse_integer(text);
       return time && *time >= 0 && *time <= timeout_s_max;
     },
     [](RespServer& server, std::string_view text) {
       server.limits().idle_timeout = seconds(*resp::parse_integer(text));
     }},
};

const Parameter* find_parameter(std::string_view name) {
  const auto* found = std::ranges::find_if(
      parameters, [&](const Parameter& of) { return resp::is_word(name, of.name); });
  return found == std::end(parameters) ? nullptr : found;
}

// "*" for any bytes, "?" for one.
bool matches(std::string_view pattern, std::string_view text) {
  size_t star = std::string_view::npos;
  size_t resume = 0;
  size_t p = 0;
  for (size_t t = 0; t < text.size();) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || resp::to_lower(pattern[p]) == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

// --- what asks every core -----------------------------------------------------------------------

Task<void> write_info_text(TaskExchange& in) {
  Node& node = in.server().node();
  InfoText text;
  for (unsigned core = 0; core < node.cores(); ++core) {
    const RespReport report =
        co_await call_on(core, [&node, core] { return resp_report(node.core(core)); });
    text.sum.add(report);
  }
  text.cores = node.cores();
  text.uptime_s =
      static_cast<uint64_t>((Reactor::current().now() - node.started_at()) / seconds(1));
  text.connections_max = node.config().connections_max;
  text.memory_bytes = node.config().memory_bytes;
  text.port = in.server().port();
  text.loading = in.server().core().state() == NodeState::recovering;
  text.in_cluster = node.membership().has_peers();
  const std::string run_id = node.run_id();
  text.run_id = run_id;
  text.durability = to_string(node.config().durability);
  std::vector<std::string_view> sections;
  for (size_t i = 1; i < in.size(); ++i) sections.push_back(in[i]);
  in.out().verbatim("txt", text.write(sections));
}

Task<void> set_parameters(TaskExchange& in) {
  Node& node = in.server().node();
  for (unsigned core = 0; core < node.cores(); ++core) {
    static_cast<void>(co_await call_on(core, [&node, &in, core] {
      for (size_t i = 2; i < in.size(); i += 2) {
        const Parameter& parameter = *find_parameter(in[i]);
        if (parameter.set != nullptr) parameter.set(*node.core(core).resp(), in[i + 1]);
      }
      return true;
    }));
  }
  in.out().ok();
}

Task<void> reset_statistics(TaskExchange& in) {
  Node& node = in.server().node();
  for (unsigned core = 0; core < node.cores(); ++core) {
    static_cast<void>(co_await call_on(core, [&node, core] {
      node.core(core).resp()->reset_stats();
      return true;
    }));
  }
  in.out().ok();
}

}  // namespace

resp::Exchange* command(Invocation& in) {
  resp::ReplyWriter out = in.out();
  out.array(command_table().size());
  for (const CommandSpec& spec : command_table()) write_info(out, spec);
  return nullptr;
}

resp::Exchange* command_count(Invocation& in) {
  in.out().integer(static_cast<int64_t>(command_table().size()));
  return nullptr;
}

resp::Exchange* command_info(Invocation& in) {
  if (in.size() == 2) return command(in);
  resp::ReplyWriter out = in.out();
  out.array(in.size() - 2);
  for (size_t i = 2; i < in.size(); ++i) {
    if (const CommandSpec* spec = find_any(in[i])) {
      write_info(out, *spec);
    } else {
      out.null_array();
    }
  }
  return nullptr;
}

resp::Exchange* command_docs(Invocation& in) {
  resp::ReplyWriter out = in.out();
  if (in.size() == 2) {
    out.map(command_table().size());
    for (const CommandSpec& spec : command_table()) write_docs(out, spec);
    return nullptr;
  }
  std::vector<const CommandSpec*> found;
  for (size_t i = 2; i < in.size(); ++i) {
    if (const CommandSpec* spec = find_any(in[i])) found.push_back(spec);
  }
  out.map(found.size());
  for (const CommandSpec* spec : found) write_docs(out, *spec);
  return nullptr;
}

// COMMAND LIST [FILTERBY ACLCAT category | PATTERN pattern | MODULE name]
resp::Exchange* command_list(Invocation& in) {
  std::string_view pattern = "*";
  if (in.size() != 2) {
    if (in.size() != 5 || !resp::is_word(in[2], "filterby")) return in.syntax_error();
    if (resp::is_word(in[3], "pattern")) {
      pattern = in[4];
    } else if (resp::is_word(in[3], "module") || resp::is_word(in[3], "aclcat")) {
      pattern = "";  // there are none
    } else {
      return in.syntax_error();
    }
  }
  std::vector<std::string_view> names;
  for (const CommandSpec& spec : command_table()) {
    if (matches(pattern, spec.name)) names.push_back(spec.name);
  }
  resp::ReplyWriter out = in.out();
  out.array(names.size());
  for (const std::string_view name : names) out.bulk(name);
  return nullptr;
}

resp::Exchange* command_getkeys(Invocation& in) {
  const resp::Command words = in.words.subspan(2);
  const CommandSpec* spec = find_command(words[0]);
  if (spec == nullptr) return in.error("ERR Invalid command specified");
  if (spec->first_key == 0) return in.error("ERR The command has no key arguments");
  if (!spec->allows_words(words.size())) {
    return in.error("ERR Invalid number of arguments specified for command");
  }
  const int count = static_cast<int>(words.size());
  const int last = spec->last_key < 0 ? count + spec->last_key : spec->last_key;
  std::vector<std::string_view> keys;
  for (int i = spec->first_key; i <= last && i < count; i += spec->key_step) {
    keys.push_back(words[static_cast<size_t>(i)]);
  }
  resp::ReplyWriter out = in.out();
  out.array(keys.size());
  for (const std::string_view key : keys) out.bulk(key);
  return nullptr;
}

resp::Exchange* config_get(Invocation& in) {
  std::vector<const Parameter*> found;
  for (const Parameter& parameter : parameters) {
    for (size_t i = 2; i < in.size(); ++i) {
      if (!matches(in[i], parameter.name)) continue;
      found.push_back(&parameter);
      break;
    }
  }
  resp::ReplyWriter out = in.out();
  out.map(found.size());
  for (const Parameter* parameter : found) {
    out.bulk(parameter->name);
    out.bulk(parameter->value(in.server));
  }
  return nullptr;
}

resp::Exchange* config_set(Invocation& in) {
  if (in.size() % 2 != 0) return in.wrong_arity();
  for (size_t i = 2; i < in.size(); i += 2) {
    const Parameter* parameter = find_parameter(in[i]);
    if (parameter == nullptr) {
      return in.error(fmt::format("ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                                  resp::echo(in[i])));
    }
    const auto fails = [&](std::string_view why) {
      return in.error(fmt::format("ERR CONFIG SET failed (possibly related to argument '{}') - {}",
                                  parameter->name, why));
    };
    // To what it is already anything may be set.
    if (parameter->is_valid == nullptr && parameter->value(in.server) != in[i + 1]) {
      return fails("can't set immutable config");
    }
    if (parameter->is_valid != nullptr && !parameter->is_valid(in.server, in[i + 1])) {
      return fails("argument must be within the bounds that this node was started with");
    }
  }
  return new TaskExchange(in, set_parameters);
}

resp::Exchange* config_resetstat(Invocation& in) {
  return new TaskExchange(in, reset_statistics);
}

resp::Exchange* function_flush(Invocation& in) {
  const bool how =
      in.size() == 2 ||
      (in.size() == 3 && (resp::is_word(in[2], "async") || resp::is_word(in[2], "sync")));
  if (!how) return in.error("ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
  return in.ok();
}

resp::Exchange* info(Invocation& in) {
  return new TaskExchange(in, write_info_text);
}

resp::Exchange* time(Invocation& in) {
  const uint64_t now_us = Reactor::current().wall_us();
  resp::ReplyWriter out = in.out();
  out.array(2);
  out.bulk(text_of(now_us / 1'000'000));
  out.bulk(text_of(now_us % 1'000'000));
  return nullptr;
}

}  // namespace gyre::resp_commands
