#include "http/etag.hpp"

#include "http/chars.hpp"

namespace gyre::http {

namespace {

constexpr size_t half_digits = 16;

char* write_half(char* out, uint64_t value) {
  for (unsigned i = 0; i < half_digits; ++i) {
    *out++ = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
  }
  return out;
}

bool parse_half(std::string_view digits, uint64_t& value) {
  value = 0;
  for (char c : digits) {
    const int digit = hex_value(c);
    if (digit < 0 || (c >= 'A' && c <= 'F')) return false;  // we never write capitals
    value = value << 4 | static_cast<uint64_t>(digit);
  }
  return true;
}

}  // namespace

char* write_etag(char* out, Version version) {
  *out++ = '"';
  out = write_half(out, version.hlc);
  out = write_half(out, version.origin);
  *out++ = '"';
  return out;
}

std::optional<Version> parse_etag(std::string_view opaque) {
  Version version;
  if (opaque.size() != 2 * half_digits || !parse_half(opaque.substr(0, half_digits), version.hlc) ||
      !parse_half(opaque.substr(half_digits), version.origin)) {
    return std::nullopt;
  }
  return version;
}

bool if_none_match_matches(std::string_view field, Version version) {
  field = trim_blanks(field);
  if (field == "*") return true;
  while (!field.empty()) {
    if (field.front() == ',' || is_blank(field.front())) {
      field.remove_prefix(1);
      continue;
    }
    if (field.starts_with("W/")) field.remove_prefix(2);
    if (field.empty() || field.front() != '"') return false;
    const size_t end = field.find('"', 1);
    if (end == std::string_view::npos) return false;
    if (parse_etag(field.substr(1, end - 1)) == version) return true;
    field.remove_prefix(end + 1);
    field = trim_blanks(field);
    if (!field.empty() && field.front() != ',') return false;
  }
  return false;
}

}  // namespace gyre::http
