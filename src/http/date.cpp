#include "http/date.hpp"

#include <chrono>
#include <cstring>

#include "base/assert.hpp"

namespace gyre::http {

namespace {

constexpr std::string_view weekdays = "SunMonTueWedThuFriSat";
constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";

char* put(char* out, std::string_view text) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}
char* put_two(char* out, unsigned number) {
  *out++ = static_cast<char>('0' + number / 10);
  *out++ = static_cast<char>('0' + number % 10);
  return out;
}

}  // namespace

char* write_date(char* out, uint64_t seconds_since_1970) {
  const std::chrono::sys_days day{std::chrono::days(seconds_since_1970 / 86400)};
  const std::chrono::year_month_day date(day);
  const auto year = static_cast<unsigned>(static_cast<int>(date.year()));
  GYRE_ASSERT(year <= 9999);
  const auto second = static_cast<unsigned>(seconds_since_1970 % 86400);
  out = put(out, weekdays.substr(3 * std::chrono::weekday(day).c_encoding(), 3));
  out = put_two(put(out, ", "), static_cast<unsigned>(date.day()));
  out = put(put(out, " "), months.substr(3 * (static_cast<unsigned>(date.month()) - 1), 3));
  out = put_two(put_two(put(out, " "), year / 100), year % 100);
  out = put_two(put(out, " "), second / 3600);
  out = put_two(put(out, ":"), second / 60 % 60);
  out = put_two(put(out, ":"), second % 60);
  return put(out, " GMT");
}

void DateLine::renew(Reactor& reactor) {
  constexpr uint64_t second_us = 1'000'000;
  const uint64_t wall_us = reactor.wall_us();
  put(write_date(put(line_.data(), date_field), wall_us / second_us), "\r\n");
  renew_at_ = reactor.now() + microseconds(static_cast<int64_t>(second_us - wall_us % second_us));
}

}  // namespace gyre::http
