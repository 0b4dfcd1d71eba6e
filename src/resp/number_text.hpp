// Numbers and names as Redis reads them.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace gyre::resp {

// Most bytes of an integer as text: "-9223372036854775808".
inline constexpr size_t integer_text_bytes_max = 20;

// A whole number in its one spelling: no sign "+", no leading zeros, no blanks, no "-0" (as Redis'
// string2ll). Nothing if it is no such number or doesn't fit.
inline std::optional<int64_t> parse_integer(std::string_view text) {
  const size_t sign = !text.empty() && text.front() == '-' ? 1 : 0;
  if (text.size() == sign || text.size() > integer_text_bytes_max) return {};
  const char first = text[sign];
  if (first == '0' ? text.size() != 1 : first < '1' || first > '9') return {};
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return value;
}

inline char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Whether `text` is `lower`, which has no capital letters, in any case.
inline bool is_word(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (to_lower(text[i]) != lower[i]) return false;
  }
  return true;
}

}  // namespace gyre::resp
