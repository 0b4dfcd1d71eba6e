// Patterns of KEYS and SCAN, as Redis reads them:
//
//   *        any bytes, none too          ?   one byte
//   [ab-z]   one of these                 [^ab-z]   none of these
//   \x       x itself, in [] too
//
// A `[` that is never closed is closed at the end. Bytes are compared as they are; a range is one of
// signed bytes, as in Redis.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gyre {

enum class GlobMatch : uint8_t { no, yes, too_long };

// Comparing of a byte with a piece of the pattern, per call: patterns of many stars take the product
// of both lengths. A key of usual length never gets there.
inline constexpr size_t glob_steps_max = 1u << 20;

// Iterative: the last star takes one byte more when what follows it does not fit.
GlobMatch glob_match(std::string_view pattern, std::string_view text,
                     size_t steps_max = glob_steps_max);

// The bytes that every matching text begins with.
std::string_view glob_literal_prefix(std::string_view pattern);

}  // namespace gyre
