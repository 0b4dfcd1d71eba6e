// Runs the command parser over a stream that is cut into pieces, and says what came out in a form
// that can be compared.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "resp/command_parser.hpp"

namespace gyre::test {

struct ParsedCommands {
  std::vector<std::vector<std::string>> commands;
  std::vector<bool> inline_forms;
  std::string error;
  bool idle = true;
  size_t held_bytes_most = 0;
  std::string broken;  // an invariant of the parser

  friend bool operator==(const ParsedCommands& a, const ParsedCommands& b) {
    return a.commands == b.commands && a.inline_forms == b.inline_forms && a.error == b.error &&
           a.idle == b.idle && a.broken == b.broken;
  }
};

// Each piece is fed as a copy of exactly its size, which is gone when the next one is fed.
inline ParsedCommands parse_commands(std::string_view bytes, size_t piece_bytes,
                                     const resp::CommandLimits& limits = {}) {
  using Event = resp::CommandParser::Event;
  resp::CommandParser parser(limits);
  ParsedCommands out;
  while (out.error.empty() && out.broken.empty() && !bytes.empty()) {
    const size_t size_bytes = std::min(piece_bytes, bytes.size());
    const auto exact = std::make_unique<char[]>(size_bytes);
    std::copy_n(bytes.data(), size_bytes, exact.get());
    std::string_view piece(exact.get(), size_bytes);
    bytes.remove_prefix(size_bytes);
    for (bool more = true; more;) {
      const resp::CommandParser::Step step = parser.feed(piece);
      out.held_bytes_most = std::max(out.held_bytes_most, parser.held_bytes());
      if (step.consumed > piece.size()) out.broken = "consumed more than it was given";
      if (parser.held_bytes() > parser.held_bytes_soon()) out.broken = "holds more than it said";
      piece.remove_prefix(std::min(step.consumed, piece.size()));
      switch (step.event) {
        case Event::need_more:
          if (!piece.empty()) out.broken = "wants more, but left bytes";
          more = false;
          break;
        case Event::command:
          if (parser.command().empty()) out.broken = "a command without words";
          if (!parser.idle()) out.broken = "not idle after a command";
          out.commands.emplace_back(parser.command().begin(), parser.command().end());
          out.inline_forms.push_back(parser.is_inline());
          break;
        case Event::error:
          out.error = parser.error();
          if (parser.feed("*1\r\n$4\r\nPING\r\n").event != Event::error) {
            out.broken = "went on after an error";
          }
          more = false;
          break;
      }
      if (!out.broken.empty()) break;
    }
  }
  out.idle = parser.idle();
  return out;
}

}  // namespace gyre::test
