#include "node/config_values.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>
#include <vector>

namespace gyre {
namespace {

struct Unit {
  std::string_view suffix;
  uint64_t factor;
};

constexpr std::array<Unit, 4> size_units = {
    {{"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40}}};
constexpr std::array<Unit, 4> duration_units = {
    {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};

constexpr const char* size_expected =
    "is not a size: write a whole number of bytes, or one with K, M, G or T, such as 128M";
constexpr const char* duration_expected =
    "is not a duration: write a whole number with ms, s, m or h, such as 10s";
constexpr const char* address_expected =
    "is not an address: write ADDR:PORT, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080";

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

// The number at the front of `text`, which is left with what follows it.
bool take_number(std::string_view& text, uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end == text.data()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

bool multiply(uint64_t& number, uint64_t factor) {
  if (number > std::numeric_limits<uint64_t>::max() / factor) return false;
  number *= factor;
  return true;
}

Result<uint16_t> parse_port(std::string_view text) {
  uint64_t number = 0;
  if (!take_number(text, number) || !text.empty() || number > 65535) {
    return fail(Errc::invalid, address_expected);
  }
  return static_cast<uint16_t>(number);
}

bool is_numeric_host(const std::string& host, int family) {
  std::array<unsigned char, 16> ignored;
  return inet_pton(family, host.c_str(), ignored.data()) == 1;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  uint64_t number = 0;
  if (!take_number(text, number)) return fail(Errc::invalid, size_expected);
  if (text.empty() || equal_ignoring_case(text, "B")) return number;
  for (const Unit& unit : size_units) {
    if (!equal_ignoring_case(text, unit.suffix) &&
        !equal_ignoring_case(text, std::string(unit.suffix) + "iB")) {
      continue;
    }
    if (!multiply(number, unit.factor)) return fail(Errc::invalid, "is larger than 16 EiB");
    return number;
  }
  return fail(Errc::invalid, size_expected);
}

Result<uint64_t> parse_duration_ms(std::string_view text) {
  uint64_t number = 0;
  if (!take_number(text, number)) return fail(Errc::invalid, duration_expected);
  for (const Unit& unit : duration_units) {
    if (text != unit.suffix) continue;
    if (!multiply(number, unit.factor)) return fail(Errc::invalid, duration_expected);
    return number;
  }
  return fail(Errc::invalid, duration_expected);
}

Result<uint64_t> parse_count(std::string_view text) {
  uint64_t number = 0;
  if (!take_number(text, number) || !text.empty()) {
    return fail(Errc::invalid, "is not a whole number");
  }
  return number;
}

Result<bool> parse_switch(std::string_view text) {
  for (const std::string_view word : {"true", "yes", "on", "1"}) {
    if (equal_ignoring_case(text, word)) return true;
  }
  for (const std::string_view word : {"false", "no", "off", "0"}) {
    if (equal_ignoring_case(text, word)) return false;
  }
  return fail(Errc::invalid, "is neither true nor false");
}

std::string Address::to_string() const {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<Address> parse_address(std::string_view text) {
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos) {
    return parse_port(text).map([](uint16_t port) { return Address{"127.0.0.1", port}; });
  }
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return fail(Errc::invalid, address_expected);
  std::string host(text.substr(0, colon));
  const auto port = parse_port(text.substr(colon + 1));
  if (!port) return fail(port.error());
  if (host == "localhost") host = "127.0.0.1";
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    if (!is_numeric_host(host, AF_INET6)) return fail(Errc::invalid, address_expected);
  } else if (!is_numeric_host(host, AF_INET)) {
    return fail(Errc::invalid, address_expected);
  }
  return Address{std::move(host), *port};
}

bool is_loopback_address(std::string_view host) {
  return host.starts_with("127.") || host == "::1";
}

std::string format_size(uint64_t bytes) {
  std::string text = std::to_string(bytes);
  for (const Unit& unit : size_units) {
    if (bytes == 0 || bytes % unit.factor != 0) break;
    text = std::to_string(bytes / unit.factor) + std::string(unit.suffix);
  }
  return text;
}

std::string format_duration_ms(uint64_t ms) {
  std::string text = std::to_string(ms) + "ms";
  for (const Unit& unit : duration_units) {
    if (ms == 0 || ms % unit.factor != 0) break;
    text = std::to_string(ms / unit.factor) + std::string(unit.suffix);
  }
  return text;
}

namespace {

// Levenshtein distance, with one row of the table.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view closest(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view best;
  size_t best_distance = word.size() / 3 + 2;  // farther than that is another word
  for (const std::string_view candidate : candidates) {
    // A word that the candidate starts or ends with is close however long the rest is.
    const bool part =
        word.size() >= 3 && (candidate.starts_with(word) || candidate.ends_with(word));
    const size_t distance = part ? 1 : edit_distance(word, candidate);
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best;
}

}  // namespace gyre
