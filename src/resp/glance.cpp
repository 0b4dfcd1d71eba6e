#include "resp/glance.hpp"

#include <cstdint>

namespace gyre::resp {

namespace {

constexpr size_t digits_max = 9;

// Of `head`, such as '$': the number behind it, with its end of line, at `at`, which moves behind it.
bool take_number(std::string_view bytes, size_t& at, char head, size_t& number) {
  if (at >= bytes.size() || bytes[at] != head) return false;
  size_t place = at + 1;
  const size_t digits_end = place + digits_max;
  number = 0;
  while (place < bytes.size() && place < digits_end && bytes[place] >= '0' && bytes[place] <= '9') {
    number = number * 10 + static_cast<size_t>(bytes[place++] - '0');
  }
  if (place == at + 1 || bytes.size() - place < 2) return false;
  if (bytes[place] != '\r' || bytes[place + 1] != '\n') return false;
  at = place + 2;
  return true;
}

}  // namespace

Glance glance_at(std::string_view bytes, std::span<std::string_view> keys) {
  Glance seen;
  while (seen.keys < keys.size()) {
    size_t at = seen.bytes;
    size_t words = 0;
    if (!take_number(bytes, at, '*', words) || words == 0) break;
    std::string_view key;
    for (size_t word = 0; word < words; ++word) {
      size_t length = 0;
      if (!take_number(bytes, at, '$', length)) return seen;
      if (bytes.size() - at < length + 2) return seen;
      if (word == 1) key = bytes.substr(at, length);
      at += length + 2;
    }
    seen.bytes = at;
    if (words > 1) keys[seen.keys++] = key;
  }
  return seen;
}

}  // namespace gyre::resp
