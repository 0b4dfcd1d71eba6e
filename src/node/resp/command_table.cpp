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
     "Tells the name that this connection gave itself.", run::client_getname},
    {"client|help", 2, look, 0, 0, 0, "connection", "5.0.0", "O(1)",
     "Lists the subcommands of CLIENT.", run::client_help},
    {"client|id", 2, session, 0, 0, 0, "connection", "5.0.0", "O(1)",
     "Tells this connection's number, which no other one gets.", run::client_id},
    {"client|info", 2, session, 0, 0, 0, "connection", "6.2.0", "O(1)",
     "Describes this connection in one line.", run::client_info},
    {"client|kill", -3, manage, 0, 0, 0, "connection", "2.4.0", "O(N) with the connections",
     "Closes connections, chosen by address, number or other marks.", run::client_kill},
    {"client|list", -2, manage, 0, 0, 0, "connection", "2.4.0", "O(N) with the connections",
     "Describes every open connection, a line each.", run::client_list},
    {"client|no-evict", 3, manage, 0, 0, 0, "connection", "7.0.0", "O(1)",
     "Accepted, without effect: no client is closed for want of memory in its turn.",
     run::client_no_evict},
    {"client|no-touch", 3, session, 0, 0, 0, "connection", "7.2.0", "O(1)",
     "Accepted, without effect: nothing depends on when a key was read.", run::client_no_touch},
    {"client|reply", 3, session, 0, 0, 0, "connection", "3.2.0", "O(1)",
     "Turns replies to this connection off, on, or off for one command.", run::client_reply},
    {"client|setinfo", 4, session, 0, 0, 0, "connection", "7.2.0", "O(1)",
     "Notes the client library's name or version.", run::client_setinfo},
    {"client|setname", 3, session, 0, 0, 0, "connection", "2.6.9", "O(1)",
     "Gives this connection a name for CLIENT LIST.", run::client_setname},
};

constexpr CommandSpec command_subcommands[] = {
    {"command|count", 2, look, 0, 0, 0, "server", "2.8.13", "O(1)",
     "Tells how many commands there are.", run::command_count},
    {"command|docs", -2, look, 0, 0, 0, "server", "7.0.0", "O(N) with the commands",
     "Describes commands: summary, group, cost.", run::command_docs},
    {"command|getkeys", -3, look, 0, 0, 0, "server", "2.8.13", "O(N) with the arguments",
     "Tells which words of a command are keys.", run::command_getkeys},
    {"command|info", -2, look, 0, 0, 0, "server", "2.8.13", "O(N) with the commands",
     "Tells arity, flags and places of the keys of commands.", run::command_info},
    {"command|list", -2, look, 0, 0, 0, "server", "7.0.0", "O(N) with the commands",
     "Names all commands.", run::command_list},
};

constexpr CommandSpec config_subcommands[] = {
    {"config|get", -3, manage, 0, 0, 0, "server", "2.0.0", "O(N) with the parameters",
     "Tells settings whose names match patterns.", run::config_get},
    {"config|resetstat", 2, manage, 0, 0, 0, "server", "2.0.0", "O(1)",
     "Sets the counters of INFO back to zero.", run::config_resetstat},
    {"config|set", -4, manage, 0, 0, 0, "server", "2.0.0", "O(N) with the parameters",
     "Changes settings that may change while the node runs.", run::config_set},
};

constexpr CommandSpec function_subcommands[] = {
    {"function|flush", -2, write | no_script, 0, 0, 0, "scripting", "7.0.0", "O(1)",
     "Accepted, without effect: there are no functions.", run::function_flush},
};

constexpr CommandSpec memory_subcommands[] = {
    {"memory|usage", -3, readonly, 2, 2, 1, "server", "4.0.0", "O(1)",
     "Tells about how many bytes a key and its value take.", run::memory_usage},
};

constexpr CommandSpec object_subcommands[] = {
    {"object|encoding", 3, readonly, 2, 2, 1, "generic", "2.2.3", "O(1)",
     "Tells how Redis would have stored the value: int, embstr or raw.", run::object_encoding},
};

constexpr CommandSpec table[] = {
    {"append", 3, write | denyoom | fast, 1, 1, 1, "string", "2.0.0", "O(1)",
     "Adds bytes to the end of a value, or makes it of them.", run::append},
    {"auth", -2, handshake, 0, 0, 0, "connection", "1.0.0", "O(1)", "Tells the password.",
     run::auth},
    {"client", -2, session, 0, 0, 0, "connection", "2.4.0", "Depends on subcommand.",
     "About connections: see its subcommands.", nullptr, client_subcommands},
    {"command", -1, look, 0, 0, 0, "server", "2.8.13", "O(N) with the commands",
     "About commands: without a subcommand, all of them.", run::command, command_subcommands},
    {"config", -2, manage, 0, 0, 0, "server", "2.0.0", "Depends on subcommand.",
     "About settings: see its subcommands.", nullptr, config_subcommands},
    {"copy", -3, write | denyoom, 1, 2, 1, "generic", "6.2.0", "O(1)",
     "Stores the value of one key under another, in this or another database.", run::copy},
    {"dbsize", 1, readonly, 0, 0, 0, "server", "1.0.0", "O(N) with the keys",
     "Counts the keys of the database by walking over them.", run::dbsize},
    {"decr", 2, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Subtracts one from a whole number; none there counts as 0.", run::decr},
    {"decrby", 3, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Subtracts from a whole number; none there counts as 0.", run::decrby},
    {"del", -2, write, 1, -1, 1, "generic", "1.0.0", "O(N) with the keys",
     "Removes keys and tells how many were there.", run::del},
    {"echo", 2, fast | loading | stale, 0, 0, 0, "connection", "1.0.0", "O(1)",
     "Answers its argument.", run::echo},
    {"exists", -2, readonly | fast, 1, -1, 1, "generic", "1.0.0", "O(N) with the keys",
     "Counts which of these keys are there; one named twice counts twice.", run::exists},
    {"expire", -3, write | fast, 1, 1, 1, "generic", "1.0.0", "O(1)",
     "Lets a key end after so many seconds.", run::expire},
    {"expireat", -3, write | fast, 1, 1, 1, "generic", "1.2.0", "O(1)",
     "Lets a key end at a Unix time in seconds.", run::expireat},
    {"expiretime", 2, readonly | fast, 1, 1, 1, "generic", "7.0.0", "O(1)",
     "Tells the Unix time in seconds at which a key ends.", run::expiretime},
    {"flushall", -1, write, 0, 0, 0, "server", "1.0.0", "O(N) with the keys",
     "Removes every key of every database, one by one.", run::flushall},
    {"flushdb", -1, write, 0, 0, 0, "server", "1.0.0", "O(N) with the keys",
     "Removes every key of the database, one by one.", run::flushdb},
    {"function", -2, no_script, 0, 0, 0, "scripting", "7.0.0", "Depends on subcommand.",
     "Only FUNCTION FLUSH, which does nothing.", nullptr, function_subcommands},
    {"get", 2, readonly | fast, 1, 1, 1, "string", "1.0.0", "O(1)", "Reads a value.", run::get},
    {"getdel", 2, write | fast, 1, 1, 1, "string", "6.2.0", "O(1)",
     "Reads a value and removes it, in one step.", run::getdel},
    {"getex", -2, write | fast, 1, 1, 1, "string", "6.2.0", "O(1)",
     "Reads a value and changes when it ends, in one step.", run::getex},
    {"getrange", 4, readonly, 1, 1, 1, "string", "2.4.0", "O(N) with the bytes",
     "Reads a part of a value; negative offsets count from its end.", run::getrange},
    {"getset", 3, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Stores a value and answers the one before, in one step.", run::getset},
    {"hello", -1, handshake, 0, 0, 0, "connection", "6.0.0", "O(1)",
     "Chooses the version of the protocol; may tell the password and a name, too.", run::hello},
    {"incr", 2, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Adds one to a whole number; none there counts as 0.", run::incr},
    {"incrby", 3, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Adds to a whole number; none there counts as 0.", run::incrby},
    {"incrbyfloat", 3, write | denyoom | fast, 1, 1, 1, "string", "2.6.0", "O(1)",
     "Adds to a number with a fraction; none there counts as 0.", run::incrbyfloat},
    {"info", -1, look, 0, 0, 0, "server", "1.0.0", "O(1)",
     "Tells about the node in lines of name:value, by sections.", run::info},
    {"keys", 2, readonly, 0, 0, 0, "generic", "1.0.0", "O(N) with the keys",
     "Names all keys that match a pattern, by walking over all of them.", run::keys},
    {"memory", -2, readonly, 0, 0, 0, "server", "4.0.0", "Depends on subcommand.",
     "About memory: see its subcommand.", nullptr, memory_subcommands},
    {"mget", -2, readonly | fast, 1, -1, 1, "string", "1.0.0", "O(N) with the keys",
     "Reads several values, each at its own moment.", run::mget},
    {"mset", -3, write | denyoom, 1, -1, 2, "string", "1.0.1", "O(N) with the keys",
     "Stores several values, each in its own step.", run::mset},
    {"msetnx", -3, write | denyoom, 1, -1, 2, "string", "1.0.1", "O(N) with the keys",
     "Stores several values if none of the keys is there.", run::msetnx},
    {"object", -2, readonly, 0, 0, 0, "generic", "2.2.3", "Depends on subcommand.",
     "About values: see its subcommand.", nullptr, object_subcommands},
    {"persist", 2, write | fast, 1, 1, 1, "generic", "2.2.0", "O(1)",
     "Lets a key last that would have ended.", run::persist},
    {"pexpire", -3, write | fast, 1, 1, 1, "generic", "2.6.0", "O(1)",
     "Lets a key end after so many milliseconds.", run::pexpire},
    {"pexpireat", -3, write | fast, 1, 1, 1, "generic", "2.6.0", "O(1)",
     "Lets a key end at a Unix time in milliseconds.", run::pexpireat},
    {"pexpiretime", 2, readonly | fast, 1, 1, 1, "generic", "7.0.0", "O(1)",
     "Tells the Unix time in milliseconds at which a key ends.", run::pexpiretime},
    {"ping", -1, fast, 0, 0, 0, "connection", "1.0.0", "O(1)", "Answers PONG, or its argument.",
     run::ping},
    {"psetex", 4, write | denyoom, 1, 1, 1, "string", "2.6.0", "O(1)",
     "Stores a value that ends after so many milliseconds.", run::psetex},
    {"pttl", 2, readonly | fast, 1, 1, 1, "generic", "2.6.0", "O(1)",
     "Tells how many milliseconds a key has left.", run::pttl},
    {"quit", -1, handshake, 0, 0, 0, "connection", "1.0.0", "O(1)",
     "Ends the connection after its answer.", run::quit},
    {"randomkey", 1, readonly, 0, 0, 0, "generic", "1.0.0", "O(N) with the keys",
     "Names some key of the database.", run::randomkey},
    {"rename", 3, write, 1, 2, 1, "generic", "1.0.0", "O(1)",
     "Moves a value to another key, whatever was there.", run::rename},
    {"renamenx", 3, write | fast, 1, 2, 1, "generic", "1.0.0", "O(1)",
     "Moves a value to another key if that one is free.", run::renamenx},
    {"reset", 1, handshake, 0, 0, 0, "connection", "6.2.0", "O(1)",
     "Puts the connection back as it was when it began.", run::reset},
    {"scan", -2, readonly, 0, 0, 0, "generic", "2.8.0", "O(1) for every call",
     "Names keys page by page, from a cursor on.", run::scan},
    {"select", 2, fast | loading | stale, 0, 0, 0, "connection", "1.0.0", "O(1)",
     "Changes the database that this connection works on.", run::select},
    {"set", -3, write | denyoom, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Stores a value; options say under which condition and until when.", run::set},
    {"setex", 4, write | denyoom, 1, 1, 1, "string", "2.0.0", "O(1)",
     "Stores a value that ends after so many seconds.", run::setex},
    {"setnx", 3, write | denyoom | fast, 1, 1, 1, "string", "1.0.0", "O(1)",
     "Stores a value if the key is free.", run::setnx},
    {"setrange", 4, write | denyoom, 1, 1, 1, "string", "2.2.0", "O(1)",
     "Overwrites a part of a value, which grows by zero bytes if it is too short.", run::setrange},
    {"strlen", 2, readonly | fast, 1, 1, 1, "string", "2.2.0", "O(1)",
     "Tells the size of a value in bytes.", run::strlen},
    {"substr", 4, readonly, 1, 1, 1, "string", "1.0.0", "O(N) with the bytes",
     "An old name of GETRANGE.", run::getrange},
    {"time", 1, fast | loading | stale, 0, 0, 0, "server", "2.6.0", "O(1)",
     "Tells the node's clock: seconds and microseconds.", run::time},
    {"touch", -2, readonly | fast, 1, -1, 1, "generic", "3.2.1", "O(N) with the keys",
     "Counts which of these keys are there.", run::exists},
    {"ttl", 2, readonly | fast, 1, 1, 1, "generic", "1.0.0", "O(1)",
     "Tells how many seconds a key has left.", run::ttl},
    {"type", 2, readonly | fast, 1, 1, 1, "generic", "1.0.0", "O(1)",
     "Tells whether a key holds a string, or none.", run::type},
    {"unlink", -2, write | fast, 1, -1, 1, "generic", "4.0.0", "O(N) with the keys", "As DEL.",
     run::del},
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
