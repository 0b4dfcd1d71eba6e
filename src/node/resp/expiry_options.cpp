#include "node/resp/expiry_options.hpp"

#include <limits>

#include "node/resp/error_texts.hpp"
#include "resp/number_text.hpp"
#include "resp/reply_writer.hpp"

namespace gyre {

namespace {

constexpr int64_t most = std::numeric_limits<int64_t>::max();
constexpr int64_t least = std::numeric_limits<int64_t>::min();

ExpiryUnit unit_of(std::string_view word) {
  if (resp::is_word(word, "ex")) return ExpiryUnit::ex;
  if (resp::is_word(word, "px")) return ExpiryUnit::px;
  if (resp::is_word(word, "exat")) return ExpiryUnit::exat;
  if (resp::is_word(word, "pxat")) return ExpiryUnit::pxat;
  return ExpiryUnit::none;
}

bool is_seconds(ExpiryUnit unit) {
  return unit == ExpiryUnit::ex || unit == ExpiryUnit::exat;
}
bool is_relative(ExpiryUnit unit) {
  return unit == ExpiryUnit::ex || unit == ExpiryUnit::px;
}

// True: the word is one that stands alone, and may stand here.
bool take_flag(std::string_view word, OptionsOf command, SetOptions& out) {
  if (command == OptionsOf::set) {
    if (resp::is_word(word, "nx") && !out.if_present) return out.if_absent = true;
    if (resp::is_word(word, "xx") && !out.if_absent) return out.if_present = true;
    if (resp::is_word(word, "get")) return out.get = true;
    if (resp::is_word(word, "keepttl") && out.unit == ExpiryUnit::none) return out.keep_ttl = true;
    return false;
  }
  if (resp::is_word(word, "persist") && out.unit == ExpiryUnit::none) return out.persist = true;
  return false;
}

}  // namespace

bool parse_set_options(Words words, OptionsOf command, SetOptions& out) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (take_flag(words[i], command, out)) continue;
    const ExpiryUnit unit = unit_of(words[i]);
    // The same unit twice is the second one.
    const bool fits = out.unit == ExpiryUnit::none || out.unit == unit;
    if (unit == ExpiryUnit::none || !fits || out.keep_ttl || out.persist || i + 1 == words.size()) {
      return false;
    }
    out.unit = unit;
    out.expiry = words[++i];
  }
  return true;
}

std::optional<int64_t> absolute_expiry(std::string_view text, ExpiryUnit unit, uint64_t now_ms,
                                       std::string_view command, std::string& error) {
  const std::optional<int64_t> given = resp::parse_integer(text);
  if (!given) {
    error = error_text::not_integer;
    return {};
  }
  int64_t time = *given;
  const auto now = static_cast<int64_t>(now_ms);
  if (time <= 0 || (is_seconds(unit) && time > most / 1000)) {
    error = error_text::invalid_expire_time(command);
    return {};
  }
  if (is_seconds(unit)) time *= 1000;
  if (!is_relative(unit)) return time;
  if (time > most - now) {
    error = error_text::invalid_expire_time(command);
    return {};
  }
  return time + now;
}

std::string parse_expire_conditions(Words words, ExpireConditions& out) {
  for (const std::string_view word : words) {
    if (resp::is_word(word, "nx")) {
      out.if_none = true;
    } else if (resp::is_word(word, "xx")) {
      out.if_some = true;
    } else if (resp::is_word(word, "gt")) {
      out.greater = true;
    } else if (resp::is_word(word, "lt")) {
      out.less = true;
    } else {
      return "ERR Unsupported option " + resp::echo(word);
    }
  }
  if (out.if_none && (out.if_some || out.greater || out.less)) {
    return std::string(error_text::nx_and_others);
  }
  return std::string(out.greater && out.less ? error_text::gt_and_lt : std::string_view());
}

std::optional<int64_t> expire_time(std::string_view text, ExpiryUnit unit, uint64_t now_ms,
                                   std::string_view command, std::string& error) {
  const std::optional<int64_t> given = resp::parse_integer(text);
  if (!given) {
    error = error_text::not_integer;
    return {};
  }
  int64_t time = *given;
  const int64_t base = is_relative(unit) ? static_cast<int64_t>(now_ms) : 0;
  bool fits = true;
  if (is_seconds(unit)) {
    fits = time <= most / 1000 && time >= least / 1000;
    if (fits) time *= 1000;
  }
  if (!fits || time > most - base) {
    error = error_text::invalid_expire_time(command);
    return {};
  }
  return time + base;
}

}  // namespace gyre
