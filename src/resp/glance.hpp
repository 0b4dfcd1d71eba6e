// A look at commands that have come and whose turn is next, so that what they need can be fetched
// ahead: of a pipeline the cache misses of all commands overlap, instead of following one another.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace gyre::resp {

struct Glance {
  size_t keys = 0;   // found
  size_t bytes = 0;  // that the commands looked at take
};

// Walks over whole commands in their usual form, arrays of bulk strings, at the start of `bytes`
// and notes the second word of each that has one: most often a key. Ends at anything else, which is left to
// CommandParser, and when `keys` is full.
Glance glance_at(std::string_view bytes, std::span<std::string_view> keys);

}  // namespace gyre::resp
