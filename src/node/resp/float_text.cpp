#include "node/resp/float_text.hpp"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/assert.hpp"

namespace gyre {

namespace {

constexpr size_t float_text_bytes_max =
    5 * 1024;  // Redis' limit; the longest number has 4,933 digits

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

}  // namespace

std::optional<long double> parse_float(std::string_view text) {
  if (text.empty() || text.size() >= float_text_bytes_max || is_blank(text.front())) return {};
  const std::string copy(text);
  char* end = nullptr;
  errno = 0;
  const long double value = std::strtold(copy.c_str(), &end);
  if (end != copy.c_str() + copy.size() || std::isnan(value)) return {};
  if (errno == ERANGE && (std::isinf(value) || value == 0)) return {};
  return value;
}

std::string float_text(long double value) {
  GYRE_ASSERT(std::isfinite(value));
  char buffer[float_text_bytes_max];
  const int size = std::snprintf(buffer, sizeof buffer, "%.17Lf", value);
  GYRE_ASSERT(size > 0 && static_cast<size_t>(size) < sizeof buffer);
  std::string text(buffer, static_cast<size_t>(size));
  text.erase(text.find_last_not_of('0') + 1);  // there is a point
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

}  // namespace gyre
