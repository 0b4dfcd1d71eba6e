#include "node/resp/command_table.hpp"

#include <array>
#include <cstddef>

#include "node/resp/commands.hpp"
#include "resp/number_text.hpp"

namespace gyre {

namespace {

namespace run = resp_commands;
using namespace command_flag;

constexpr uint32_t session = fast | loading | stale | no_script;
constexpr uint32_t handshake = session | no_auth;
constexpr uint32_t look = loading | stale;
constexpr uint32_t manage = admin | no_script | loading | stale;

constexpr CommandSpec client_subcommands[] = {
    {"client|getname", 2, session, 0, 0, 0, "connection", "2.6.9", "O(1)",
     "Returns the name of the connection.", run::client_getname},
    {"client|help", 2, look, 0, 0, 0, "connection", "5.0.0", "O(1)",
     "Returns helpful text about the different subcommands.", run::client_help},
    {"client|id", 2, session, 0, 0, 0, "connection", "5.0.0", "O(1)",
     "Returns the unique client ID of the connection.", run::client_id},
    {"client|info", 2, session, 0, 0, 0, "connection", "6.2.0", "O(1)",
     "Returns information about the connection.", run::client_info},
    {"client|kill", -3, manage, 0, 0, 0, "connection", "2.4.0", "O(N) with the connections",
     "Terminates open connections.", run::client_kill},
    {"client|list", -2, manage, 0, 0, 0, "connection", "2.4.0", "O(N) with the connections",
     "Lists open connections.", run::client_list},
    {"client|no-evict", 3, manage, 0, 0, 0, "connection", "7.0.0", "O(1)",
     "Sets the client eviction mode of the connection.", run::client_no_evict},
    {"client|no-touch", 3, session, 0, 0, 0, "connection", "7.2.0", "O(1)",
     "Controls whether commands affect the LRU/LFU of accessed keys.", run::client_no_touch},
    {"client|reply", 3, session, 0, 0, 0, "connection", "3.2.0", "O(1)",
     "Instructs the server whether to reply to commands.", run::client_reply},
    {"client|setinfo", 4, session, 0, 0, 0, "connection", "7.2.0", "O(1)",
     "Sets information specific to the client or connection.", run::client_setinfo},
    {"client|setname", 3, session, 0, 0, 0, "connection", "2.6.9", "O(1)",
     "Sets the connection name.", run::client_setname},
};

constexpr CommandSpec command_subcommands[] = {
    {"command|count", 2, look, 0, 0, 0, "server", "2.8.13", "O(1)", "Returns a count of commands.",
     run::command_count},
    {"command|docs", -2, look, 0, 0, 0, "server", "7.0.0", "O(N) with the commands",
     "Returns documentary information about commands.", run::command_docs},
    {"command|getkeys", -3, look, 0, 0, 0, "server", "2.8.13", "O(N) with the arguments",
     "Extracts the key names from an arbitrary command.", run::command_getkeys},
    {"command|info", -2, look, 0, 0, 0, "server", "2.8.13", "O(N) with the commands",
     "Returns information about one, multiple or all commands.", run::command_info},
    {"command|list", -2, look, 0, 0, 0, "server", "7.0.0", "O(N) with the commands",
     "Returns a list of command names.", run::command_list},
};

constexpr CommandSpec config_subcommands[] = {
    {"config|get", -3, manage, 0, 0, 0, "server", "2.0.0", "O(N) with the parameters",
     "Returns the effective values of configuration parameters.", run::config_get},
    {"config|resetstat", 2, manage, 0, 0, 0, "server", "2.0.0", "O(1)",
     "Resets the server's statistics.", run::config_resetstat},
    {"config|set", -4, manage, 0, 0, 0, "server", "2.0.0", "O(N) with the parameters",
     "Sets configuration parameters in-flight.", run::config_set},
};

constexpr CommandSpec function_subcommands[] = {
    {"function|flush", -2, write | no_script, 0, 0, 0, "scripting", "7.0.0", "O(1)",
     "Deletes all libraries and functions, of which there are none.", run::function_flush},
};

constexpr CommandSpec table[] = {
    {"auth", -2, handshake, 0, 0, 0, "connection", "1.0.0", "O(1)", "Authenticates the connection.",
     run::auth},
    {"client", -2, session, 0, 0, 0, "connection", "2.4.0", "Depends on subcommand.",
     "A container for client connection commands.", nullptr, client_subcommands},
    {"command", -1, look, 0, 0, 0, "server", "2.8.13", "O(N) with the commands",
     "Returns detailed information about all commands.", run::command, command_subcommands},
    {"config", -2, manage, 0, 0, 0, "server", "2.0.0", "Depends on subcommand.",
     "A container for server configuration commands.", nullptr, config_subcommands},
    {"del", -2, write, 1, -1, 1, "generic", "1.0.0", "O(N) with the keys",
     "Deletes one or more keys.", run::del},
    {"echo", 2, fast | loading | stale, 0, 0, 0, "connection", "1.0.0", "O(1)",
     "Returns the given string.", run::echo},
    {"exists", -2, readonly | fast, 1, -1, 1, "generic", "1.0.0", "O(N) with the keys",
     "Determines whether one or more keys exist.", run::exists},
    {"function", -2, no_script, 0, 0, 0, "scripting", "7.0.0", "Depends on subcommand.",
     "A container for function commands.", nullptr, function_subcommands},
    {"get", 2, readonly | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Returns the string value of a key.", run::get},
    {"hello", -1, handshake, 0, 0, 0, "connection", "6.0.0", "O(1)", "Handshakes with the server.",
     run::hello},
    {"info", -1, look, 0, 0, 0, "server", "1.0.0", "O(1)",
     "Returns information and statistics about the server.", run::info},
    {"mget", -2, readonly | fast, 1, -1, 1, "string", "1.0.0", "O(N) with the keys",
     "Returns the string values of one or more keys.", run::mget},
    {"mset", -3, write | denyoom, 1, -1, 2, "string", "1.0.1", "O(N) with the keys",
     "Creates or modifies the string values of one or more keys.", run::mset},
    {"ping", -1, fast, 0, 0, 0, "connection", "1.0.0", "O(1)",
     "Returns the server's liveliness response.", run::ping},
    {"quit", -1, handshake, 0, 0, 0, "connection", "1.0.0", "O(1)", "Closes the connection.",
     run::quit},
    {"reset", 1, handshake, 0, 0, 0, "connection", "6.2.0", "O(1)", "Resets the connection.",
     run::reset},
    {"select", 2, fast | loading | stale, 0, 0, 0, "connection", "1.0.0", "O(1)",
     "Changes the selected database.", run::select},
    {"set", -3, write | denyoom, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Sets the string value of a key, ignoring its type.", run::set},
    {"time", 1, fast | loading | stale, 0, 0, 0, "server", "2.6.0", "O(1)",
     "Returns the server time.", run::time},
};

// Names by a hash of theirs; collisions go on to the next place.
class NameIndex {
 public:
  NameIndex() {
    for (const CommandSpec& command : table) {
      size_t place = place_of(command.name);
      while (places_[place] != nullptr) place = (place + 1) % places_.size();
      places_[place] = &command;
    }
  }
  const CommandSpec* find(std::string_view name) const {
    for (size_t place = place_of(name); places_[place] != nullptr;
         place = (place + 1) % places_.size()) {
      if (resp::is_word(name, places_[place]->name)) return places_[place];
    }
    return nullptr;
  }

 private:
  static size_t place_of(std::string_view name) {
    uint32_t hash = 2166136261u;  // FNV-1a
    for (const char c : name) {
      hash = (hash ^ static_cast<unsigned char>(resp::to_lower(c))) * 16777619u;
    }
    return (hash ^ (hash >> 15)) % place_count;
  }
  static constexpr size_t place_count = 512;
  static_assert(std::size(table) < place_count / 2);
  std::array<const CommandSpec*, place_count> places_{};
};

const NameIndex name_index;

}  // namespace

std::span<const CommandSpec> command_table() {
  return table;
}

const CommandSpec* find_command(std::string_view name) {
  return name_index.find(name);
}

const CommandSpec* find_subcommand(const CommandSpec& command, std::string_view name) {
  for (const CommandSpec& subcommand : command.subcommands) {
    if (resp::is_word(name, subcommand.subcommand_name())) return &subcommand;
  }
  return nullptr;
}

}  // namespace gyre
