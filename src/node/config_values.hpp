// The small languages that configuration values are written in: sizes, durations, addresses.
// Pure functions. A failure's detail says what is accepted and reads on after `128Q `, for
// example "is not a size: write a whole number of bytes or one with K, M, G or T, such as 128M".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <gyre/result.hpp>

#include "base/node_url.hpp"

namespace gyre {

// "4096", "64K", "128M", "2G", "1T", also with "iB" or in lower case. Powers of 1024.
Result<uint64_t> parse_size(std::string_view text);
// "250ms", "10s", "5m", "1h". A unit is required: a bare number would be read in two ways.
Result<uint64_t> parse_duration_ms(std::string_view text);
Result<uint64_t> parse_count(std::string_view text);
// "true", "false", "yes", "no", "on", "off", "1", "0".
Result<bool> parse_switch(std::string_view text);

struct Address {
  std::string host;  // a numeric IPv4 or IPv6 address, without brackets
  uint16_t port = 0;

  friend bool operator==(const Address&, const Address&) = default;
  std::string to_string() const;  // brackets around IPv6
};

// "ADDR:PORT", "[ADDR6]:PORT", "localhost:PORT", or "PORT" alone for 127.0.0.1.
Result<Address> parse_address(std::string_view text);

// Whether an Address's host is reached from this machine only.
bool is_loopback_address(std::string_view host);

// The shortest text that parses back to the same value.
std::string format_size(uint64_t bytes);
std::string format_duration_ms(uint64_t ms);

// The candidate that `word` was probably meant to be, or "" when none is close enough.
std::string_view closest(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace gyre
