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

constexpr CommandSpec memory_subcommands[] = {
    {"memory|usage", -3, readonly, 2, 2, 1, "server", "4.0.0", "O(1)",
     "Estimates the memory usage of a key.", run::memory_usage},
};

constexpr CommandSpec object_subcommands[] = {
    {"object|encoding", 3, readonly, 2, 2, 1, "generic", "2.2.3", "O(1)",
     "Returns the internal encoding of a Redis object.", run::object_encoding},
};

constexpr CommandSpec table[] = {
    {"append", 3, write | denyoom | fast, 1, 1, 1, "string", "2.0.0", "O(1)",
     "Appends a string to the value of a key. Creates the key if it doesn't exist.", run::append},
    {"auth", -2, handshake, 0, 0, 0, "connection", "1.0.0", "O(1)", "Authenticates the connection.",
     run::auth},
    {"client", -2, session, 0, 0, 0, "connection", "2.4.0", "Depends on subcommand.",
     "A container for client connection commands.", nullptr, client_subcommands},
    {"command", -1, look, 0, 0, 0, "server", "2.8.13", "O(N) with the commands",
     "Returns detailed information about all commands.", run::command, command_subcommands},
    {"config", -2, manage, 0, 0, 0, "server", "2.0.0", "Depends on subcommand.",
     "A container for server configuration commands.", nullptr, config_subcommands},
    {"copy", -3, write | denyoom, 1, 2, 1, "generic", "6.2.0", "O(1)",
     "Copies the value of a key to a new key.", run::copy},
    {"dbsize", 1, readonly, 0, 0, 0, "server", "1.0.0", "O(N) with the keys",
     "Returns the number of keys in the database.", run::dbsize},
    {"decr", 2, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't "
     "exist.",
     run::decr},
    {"decrby", 3, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Decrements a number from the integer value of a key. Uses 0 as initial value if the key "
     "doesn't exist.",
     run::decrby},
    {"del", -2, write, 1, -1, 1, "generic", "1.0.0", "O(N) with the keys",
     "Deletes one or more keys.", run::del},
    {"echo", 2, fast | loading | stale, 0, 0, 0, "connection", "1.0.0", "O(1)",
     "Returns the given string.", run::echo},
    {"exists", -2, readonly | fast, 1, -1, 1, "generic", "1.0.0", "O(N) with the keys",
     "Determines whether one or more keys exist.", run::exists},
    {"expire", -3, write | fast, 1, 1, 1, "generic", "1.0.0", "O(1)",
     "Sets the expiration time of a key in seconds.", run::expire},
    {"expireat", -3, write | fast, 1, 1, 1, "generic", "1.2.0", "O(1)",
     "Sets the expiration time of a key to a Unix timestamp.", run::expireat},
    {"expiretime", 2, readonly | fast, 1, 1, 1, "generic", "7.0.0", "O(1)",
     "Returns the expiration time of a key as a Unix timestamp.", run::expiretime},
    {"flushall", -1, write, 0, 0, 0, "server", "1.0.0", "O(N) with the keys",
     "Removes all keys from all databases.", run::flushall},
    {"flushdb", -1, write, 0, 0, 0, "server", "1.0.0", "O(N) with the keys",
     "Removes all keys from the current database.", run::flushdb},
    {"function", -2, no_script, 0, 0, 0, "scripting", "7.0.0", "Depends on subcommand.",
     "A container for function commands.", nullptr, function_subcommands},
    {"get", 2, readonly | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Returns the string value of a key.", run::get},
    {"getdel", 2, write | fast, 1, 1, 1, "string", "6.2.0", "O(1)",
     "Returns the string value of a key after deleting the key.", run::getdel},
    {"getex", -2, write | fast, 1, 1, 1, "string", "6.2.0", "O(1)",
     "Returns the string value of a key after setting its expiration time.", run::getex},
    {"getrange", 4, readonly, 1, 1, 1, "string", "2.4.0", "O(N) with the bytes",
     "Returns a substring of the string stored at a key.", run::getrange},
    {"getset", 3, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Returns the previous string value of a key after setting it to a new value.", run::getset},
    {"hello", -1, handshake, 0, 0, 0, "connection", "6.0.0", "O(1)", "Handshakes with the server.",
     run::hello},
    {"incr", 2, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't "
     "exist.",
     run::incr},
    {"incrby", 3, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Increments the integer value of a key by a number. Uses 0 as initial value if the key "
     "doesn't exist.",
     run::incrby},
    {"incrbyfloat", 3, write | denyoom | fast, 1, 1, 1, "string", "2.6.0", "O(1)",
     "Increments the floating point value of a key by a number. Uses 0 as initial value if the key "
     "doesn't exist.",
     run::incrbyfloat},
    {"info", -1, look, 0, 0, 0, "server", "1.0.0", "O(1)",
     "Returns information and statistics about the server.", run::info},
    {"keys", 2, readonly, 0, 0, 0, "generic", "1.0.0", "O(N) with the keys",
     "Returns all key names that match a pattern.", run::keys},
    {"memory", -2, readonly, 0, 0, 0, "server", "4.0.0", "Depends on subcommand.",
     "A container for memory diagnostics commands.", nullptr, memory_subcommands},
    {"mget", -2, readonly | fast, 1, -1, 1, "string", "1.0.0", "O(N) with the keys",
     "Returns the string values of one or more keys.", run::mget},
    {"mset", -3, write | denyoom, 1, -1, 2, "string", "1.0.1", "O(N) with the keys",
     "Creates or modifies the string values of one or more keys.", run::mset},
    {"msetnx", -3, write | denyoom, 1, -1, 2, "string", "1.0.1", "O(N) with the keys",
     "Modifies the string values of one or more keys only when all keys don't exist.", run::msetnx},
    {"object", -2, readonly, 0, 0, 0, "generic", "2.2.3", "Depends on subcommand.",
     "A container for object introspection commands.", nullptr, object_subcommands},
    {"persist", 2, write | fast, 1, 1, 1, "generic", "2.2.0", "O(1)",
     "Removes the expiration time of a key.", run::persist},
    {"pexpire", -3, write | fast, 1, 1, 1, "generic", "2.6.0", "O(1)",
     "Sets the expiration time of a key in milliseconds.", run::pexpire},
    {"pexpireat", -3, write | fast, 1, 1, 1, "generic", "2.6.0", "O(1)",
     "Sets the expiration time of a key to a Unix milliseconds timestamp.", run::pexpireat},
    {"pexpiretime", 2, readonly | fast, 1, 1, 1, "generic", "7.0.0", "O(1)",
     "Returns the expiration time of a key as a Unix milliseconds timestamp.", run::pexpiretime},
    {"ping", -1, fast, 0, 0, 0, "connection", "1.0.0", "O(1)",
     "Returns the server's liveliness response.", run::ping},
    {"psetex", 4, write | denyoom, 1, 1, 1, "string", "2.6.0", "O(1)",
     "Sets both string value and expiration time in milliseconds of a key. The key is created if "
     "it doesn't exist.",
     run::psetex},
    {"pttl", 2, readonly | fast, 1, 1, 1, "generic", "2.6.0", "O(1)",
     "Returns the expiration time in milliseconds of a key.", run::pttl},
    {"quit", -1, handshake, 0, 0, 0, "connection", "1.0.0", "O(1)", "Closes the connection.",
     run::quit},
    {"randomkey", 1, readonly, 0, 0, 0, "generic", "1.0.0", "O(N) with the keys",
     "Returns a random key name from the database.", run::randomkey},
    {"rename", 3, write, 1, 2, 1, "generic", "1.0.0", "O(1)",
     "Renames a key and overwrites the destination.", run::rename},
    {"renamenx", 3, write | fast, 1, 2, 1, "generic", "1.0.0", "O(1)",
     "Renames a key only when the target key name doesn't exist.", run::renamenx},
    {"reset", 1, handshake, 0, 0, 0, "connection", "6.2.0", "O(1)", "Resets the connection.",
     run::reset},
    {"scan", -2, readonly, 0, 0, 0, "generic", "2.8.0", "O(1) for every call",
     "Iterates over the key names in the database.", run::scan},
    {"select", 2, fast | loading | stale, 0, 0, 0, "connection", "1.0.0", "O(1)",
     "Changes the selected database.", run::select},
    {"set", -3, write | denyoom, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Sets the string value of a key, ignoring its type.", run::set},
    {"setex", 4, write | denyoom, 1, 1, 1, "string", "2.0.0", "O(1)",
     "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.",
     run::setex},
    {"setnx", 3, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Sets the string value of a key only when the key doesn't exist.", run::setnx},
    {"setrange", 4, write | denyoom, 1, 1, 1, "string", "2.2.0", "O(1)",
     "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't "
     "exist.",
     run::setrange},
    {"strlen", 2, readonly | fast, 1, 1, 1, "string", "2.2.0", "O(1)",
     "Returns the length of a string value.", run::strlen},
    {"substr", 4, readonly, 1, 1, 1, "string", "1.0.0", "O(N) with the bytes",
     "Returns a substring from a string value.", run::getrange},
    {"time", 1, fast | loading | stale, 0, 0, 0, "server", "2.6.0", "O(1)",
     "Returns the server time.", run::time},
    {"touch", -2, readonly | fast, 1, -1, 1, "generic", "3.2.1", "O(N) with the keys",
     "Returns the number of existing keys out of those specified after updating the time they were "
     "last accessed.",
     run::exists},
    {"ttl", 2, readonly | fast, 1, 1, 1, "generic", "1.0.0", "O(1)",
     "Returns the expiration time in seconds of a key.", run::ttl},
    {"type", 2, readonly | fast, 1, 1, 1, "generic", "1.0.0", "O(1)",
     "Determines the type of value stored at a key.", run::type},
    {"unlink", -2, write | fast, 1, -1, 1, "generic", "4.0.0", "O(N) with the keys",
     "Asynchronously deletes one or more keys.", run::del},
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
