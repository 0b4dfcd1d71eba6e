// Character classes of RFC 9110 and 9112, and the two scans that every head goes through. Both
// scans look at 16 bytes at a time where the processor can, because a head may be 264 KiB long.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <array>

namespace gyre::http {

namespace detail {
constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (char c : std::string_view("!#$%&'*+-.^_`|~0123456789"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")) {
    table[static_cast<unsigned char>(c)] = true;
  }
  return table;
}
constexpr std::array<int8_t, 256> make_hex_table() {
  std::array<int8_t, 256> table{};
  for (auto& value : table) value = -1;
  for (unsigned i = 0; i < 10; ++i) table['0' + i] = static_cast<int8_t>(i);
  for (unsigned i = 0; i < 6; ++i) {
    table['a' + i] = static_cast<int8_t>(10 + i);
    table['A' + i] = static_cast<int8_t>(10 + i);
  }
  return table;
}
inline constexpr std::array<bool, 256> token_table = make_token_table();
inline constexpr std::array<int8_t, 256> hex_table = make_hex_table();
}  // namespace detail

inline bool is_token_char(char c) {
  return detail::token_table[static_cast<unsigned char>(c)];
}
// The value of a hexadecimal digit, or -1.
inline int hex_value(char c) {
  return detail::hex_table[static_cast<unsigned char>(c)];
}
inline bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
inline bool is_blank(char c) {
  return c == ' ' || c == '\t';
}
inline bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

// The first control character (HTAB counts) in [at, end), or `end`.
inline const char* find_control(const char* at, const char* end) {
#if defined(__SSE2__)
  const __m128i highest = _mm_set1_epi8(0x1f);
  const __m128i del = _mm_set1_epi8(0x7f);
  for (; end - at >= 16; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, highest), bytes);
    const auto mask =
        static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(low, _mm_cmpeq_epi8(bytes, del))));
    if (mask != 0) return at + __builtin_ctz(mask);
  }
#endif
  while (at < end && !is_control(*at)) ++at;
  return at;
}

// The first byte in [at, end) that can't stand in a request target: a control character, a space,
// '#', DEL or a byte over 0x7f. Characters such as '|' or '{' that a URI has to encode but every
// client sends raw are let through: they can't be mistaken for anything else.
inline const char* find_target_end(const char* at, const char* end) {
#if defined(__SSE2__)
  const __m128i first_visible = _mm_set1_epi8(0x21);
  const __m128i del = _mm_set1_epi8(0x7f);
  const __m128i hash = _mm_set1_epi8('#');
  for (; end - at >= 16; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    // Signed: bytes over 0x7f are negative, so they count as low.
    const __m128i low = _mm_cmplt_epi8(bytes, first_visible);
    const __m128i named = _mm_or_si128(_mm_cmpeq_epi8(bytes, del), _mm_cmpeq_epi8(bytes, hash));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(low, named)));
    if (mask != 0) return at + __builtin_ctz(mask);
  }
#endif
  while (at < end && static_cast<signed char>(*at) > 0x20 && *at != 0x7f && *at != '#') ++at;
  return at;
}

// Compares without regard to the case of ASCII letters; `lower` is given in lower case.
inline bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
    if (c != lower[i]) return false;
  }
  return true;
}

inline std::string_view trim_blanks(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace gyre::http
