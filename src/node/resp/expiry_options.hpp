// What the commands that set an expiry can be told: SET, GETEX, EXPIRE and their like. Pure; errors are
// those of Redis 7.0, in the order in which it looks for them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace gyre {

using Words = std::span<const std::string_view>;

// How an expiry was given.
enum class ExpiryUnit : uint8_t { none, ex, px, exat, pxat };

struct SetOptions {
  bool if_absent = false;   // NX
  bool if_present = false;  // XX
  bool get = false;
  bool keep_ttl = false;
  bool persist = false;  // of GETEX
  ExpiryUnit unit = ExpiryUnit::none;
  std::string_view expiry;  // a word of the command, not looked at yet
};

enum class OptionsOf : uint8_t { set, getex };
// `words`: those behind key and value. False: a syntax error.
bool parse_set_options(Words words, OptionsOf command, SetOptions& out);

// Milliseconds since 1970. Nothing, and `error`, if it is no number, not positive, or out of range;
// `command`, in small letters, is named in the error.
std::optional<int64_t> absolute_expiry(std::string_view text, ExpiryUnit unit, uint64_t now_ms,
                                       std::string_view command, std::string& error);

struct ExpireConditions {
  bool if_none = false;  // NX: there is no expiry
  bool if_some = false;  // XX
  bool greater = false;  // GT: none counts as infinite
  bool less = false;     // LT

  // Of a present expiry, 0 for none, and the new one.
  bool allow(uint64_t current_ms, int64_t wanted_ms) const {
    if (if_none && current_ms != 0) return false;
    if (if_some && current_ms == 0) return false;
    const auto current = static_cast<int64_t>(current_ms);
    if (greater && (current_ms == 0 || wanted_ms <= current)) return false;
    return !less || current_ms == 0 || wanted_ms < current;
  }
};

// EXPIRE and the others: conditions behind key and time. "" or the error.
std::string parse_expire_conditions(Words words, ExpireConditions& out);
// The time of EXPIRE (ex), PEXPIRE (px), EXPIREAT (exat), PEXPIREAT (pxat). It may lie in the past, even
// before 1970.
std::optional<int64_t> expire_time(std::string_view text, ExpiryUnit unit, uint64_t now_ms,
                                   std::string_view command, std::string& error);

}  // namespace gyre
