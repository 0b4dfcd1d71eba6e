#include "base/text_encoding.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>

namespace gyre {

namespace {

unsigned byte_at(std::string_view bytes, size_t at) {
  return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0u;
}

bool continues(unsigned byte) {
  return (byte & 0xc0) == 0x80;
}

// Of the character beyond ASCII that `bytes` begins with; 0 if it is none.
size_t character_bytes(std::string_view bytes) {
  const unsigned lead = byte_at(bytes, 0);
  const unsigned second = byte_at(bytes, 1);
  if (!continues(second)) return 0;
  if (lead >= 0xc2 && lead < 0xe0) return 2;
  if (lead >= 0xe0 && lead < 0xf0) {
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return 0;
    return continues(byte_at(bytes, 2)) ? 3 : 0;
  }
  if (lead < 0xf0 || lead >= 0xf5) return 0;
  if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return 0;
  return continues(byte_at(bytes, 2)) && continues(byte_at(bytes, 3)) ? 4 : 0;
}

}  // namespace

bool is_utf8(std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    uint64_t word = 0;
    if (bytes.size() >= sizeof word) {
      std::memcpy(&word, bytes.data(), sizeof word);
      if ((word & 0x8080808080808080) == 0) {
        bytes.remove_prefix(sizeof word);
        continue;
      }
    }
    if (byte_at(bytes, 0) < 0x80) {
      bytes.remove_prefix(1);
      continue;
    }
    const size_t size_bytes = character_bytes(bytes);
    if (size_bytes == 0) return false;
    bytes.remove_prefix(size_bytes);
  }
  return true;
}

void append_base64(std::string& to, std::string_view bytes) {
  static constexpr char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  to.reserve(to.size() + (bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const unsigned group =
        byte_at(bytes, at) << 16 | byte_at(bytes, at + 1) << 8 | byte_at(bytes, at + 2);
    const size_t left = bytes.size() - at;
    to += digits[group >> 18];
    to += digits[group >> 12 & 63];
    to += left > 1 ? digits[group >> 6 & 63] : '=';
    to += left > 2 ? digits[group & 63] : '=';
  }
}

void append_json_string(std::string& to, std::string_view text) {
  to += '"';
  size_t plain_from = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c != '"' && c != '\\' && static_cast<unsigned char>(c) >= 0x20) continue;
    to.append(text.substr(plain_from, at - plain_from));
    plain_from = at + 1;
    if (c == '"' || c == '\\') {
      to += '\\';
      to += c;
    } else {
      to += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    }
  }
  to.append(text.substr(plain_from));
  to += '"';
}

}  // namespace gyre
