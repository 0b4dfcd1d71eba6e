// What Redis says, word for word: clients and their tests compare the texts.
#pragma once

#include <string>
#include <string_view>

namespace gyre::error_text {

inline constexpr std::string_view syntax = "ERR syntax error";
inline constexpr std::string_view not_integer = "ERR value is not an integer or out of range";
inline constexpr std::string_view not_float = "ERR value is not a valid float";
inline constexpr std::string_view not_finite = "ERR increment would produce NaN or Infinity";
inline constexpr std::string_view overflow = "ERR increment or decrement would overflow";
inline constexpr std::string_view decrement_overflow = "ERR decrement would overflow";
inline constexpr std::string_view string_too_long =
    "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
inline constexpr std::string_view offset_out_of_range = "ERR offset is out of range";
inline constexpr std::string_view no_such_key = "ERR no such key";
inline constexpr std::string_view same_object = "ERR source and destination objects are the same";
inline constexpr std::string_view database_out_of_range = "ERR DB index is out of range";
inline constexpr std::string_view invalid_cursor = "ERR invalid cursor";
inline constexpr std::string_view nx_and_others =
    "ERR NX and XX, GT or LT options at the same time are not compatible";
inline constexpr std::string_view gt_and_lt =
    "ERR GT and LT options at the same time are not compatible";

// `command` in small letters.
inline std::string invalid_expire_time(std::string_view command) {
  return "ERR invalid expire time in '" + std::string(command) + "' command";
}

}  // namespace gyre::error_text
