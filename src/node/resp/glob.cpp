#include "node/resp/glob.hpp"

#include <utility>

namespace gyre {

namespace {

// What stands for one byte at the front of the pattern: how long it is, and whether `byte` fits.
struct Piece {
  size_t size = 1;
  bool fits = false;
};

Piece match_class(std::string_view pattern, char byte) {
  size_t at = 1;
  const bool negated = at < pattern.size() && pattern[at] == '^';
  at += negated ? 1 : 0;
  bool fits = false;
  for (; at < pattern.size() && pattern[at] != ']'; ++at) {
    if (pattern[at] == '\\' && at + 1 < pattern.size()) {
      fits |= pattern[++at] == byte;
    } else if (at + 2 < pattern.size() && pattern[at + 1] == '-') {
      auto low = static_cast<signed char>(pattern[at]);
      auto high = static_cast<signed char>(pattern[at + 2]);
      if (low > high) std::swap(low, high);
      const auto value = static_cast<signed char>(byte);
      fits |= value >= low && value <= high;
      at += 2;
    } else {
      fits |= pattern[at] == byte;
    }
  }
  return {at < pattern.size() ? at + 1 : at, fits != negated};
}

Piece match_piece(std::string_view pattern, char byte) {
  switch (pattern.front()) {
    case '?':
      return {1, true};
    case '[':
      return match_class(pattern, byte);
    case '\\':
      if (pattern.size() > 1) return {2, pattern[1] == byte};
      break;
    default:
      break;
  }
  return {1, pattern.front() == byte};
}

bool only_stars(std::string_view pattern) {
  return pattern.find_first_not_of('*') == std::string_view::npos;
}

}  // namespace

GlobMatch glob_match(std::string_view pattern, std::string_view text, size_t steps_max) {
  // Redis doesn't even look at the pattern then.
  if (text.empty()) return pattern.empty() ? GlobMatch::yes : GlobMatch::no;
  size_t at = 0;                         // in the text
  size_t next = 0;                       // in the pattern
  size_t star = std::string_view::npos;  // behind the last one
  size_t star_at = 0;                    // where what follows it was tried
  size_t class_steps = 0;
  for (size_t steps = 0; at < text.size(); ++steps) {
    if (steps + class_steps > steps_max) return GlobMatch::too_long;
    if (next < pattern.size() && pattern[next] == '*') {
      star = ++next;
      star_at = at;
      continue;
    }
    if (next < pattern.size()) {
      const Piece piece = match_piece(pattern.substr(next), text[at]);
      class_steps += piece.size - 1;
      if (piece.fits) {
        next += piece.size;
        ++at;
        continue;
      }
    }
    if (star == std::string_view::npos) return GlobMatch::no;
    if (star == pattern.size()) return GlobMatch::yes;
    next = star;
    at = ++star_at;
  }
  return only_stars(pattern.substr(next)) ? GlobMatch::yes : GlobMatch::no;
}

std::string_view glob_literal_prefix(std::string_view pattern) {
  return pattern.substr(0, pattern.find_first_of("*?[\\"));
}

}  // namespace gyre
