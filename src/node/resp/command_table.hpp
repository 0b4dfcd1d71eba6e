// What the RESP front end knows to do: one entry per command, and per subcommand, from which requests
// are dispatched and COMMAND is answered.
//
// To add a command: declare its function in commands.hpp, and give it an entry in the table.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "resp/connection.hpp"

namespace gyre {

struct Invocation;

// Either answers through invocation.out() and returns nullptr, or returns what will answer.
using CommandFunction = resp::Exchange* (*)(Invocation& invocation);

namespace command_flag {
inline constexpr uint32_t write = 1u << 0;
inline constexpr uint32_t readonly = 1u << 1;
inline constexpr uint32_t denyoom = 1u << 2;  // may need memory
inline constexpr uint32_t admin = 1u << 3;
inline constexpr uint32_t fast = 1u << 4;     // O(1) or O(log n)
inline constexpr uint32_t loading = 1u << 5;  // also before the node serves
inline constexpr uint32_t stale = 1u << 6;
inline constexpr uint32_t no_auth = 1u << 7;  // also before the password was told
inline constexpr uint32_t no_script = 1u << 8;
}  // namespace command_flag

struct CommandSpec {
  std::string_view name;  // lower case; of a subcommand "client|id"
  int arity = 0;          // words, the name (of a subcommand: both) among them; negative: at least
  uint32_t flags = 0;     // command_flag
  // Which words are keys: from the first to the last (negative: from the end) in steps; 0: none.
  int first_key = 0;
  int last_key = 0;
  int key_step = 0;
  std::string_view group;
  std::string_view since;  // the version of Redis that brought it
  std::string_view complexity;
  std::string_view summary;
  CommandFunction run = nullptr;
  std::span<const CommandSpec> subcommands{};  // then `run` is not called, but that of one of these

  std::string_view subcommand_name() const { return name.substr(name.find('|') + 1); }
  bool allows_words(size_t count) const {
    return arity >= 0 ? count == static_cast<size_t>(arity) : count >= static_cast<size_t>(-arity);
  }
};

std::span<const CommandSpec> command_table();
// By its name in any case; nullptr: unknown.
const CommandSpec* find_command(std::string_view name);
const CommandSpec* find_subcommand(const CommandSpec& command, std::string_view name);

}  // namespace gyre
