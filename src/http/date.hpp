// The Date of answers. RFC 9110 6.6.1 asks servers that have a clock for it. Its text changes once
// a second, so each core keeps a line and looks at its clock only when that is over.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <gyre/reactor.hpp>

namespace gyre::http {

inline constexpr std::string_view date_field = "Date: ";
inline constexpr size_t date_bytes = 29;  // "Sun, 06 Nov 1994 08:49:37 GMT"
inline constexpr size_t date_line_bytes = date_field.size() + date_bytes + 2;

// Writes date_bytes (RFC 9110 5.6.7, IMF-fixdate) and returns the end. Years up to 9999.
char* write_date(char* out, uint64_t seconds_since_1970);

class DateLine {
 public:
  // "Date: …\r\n", valid until the next call.
  std::string_view at(Reactor& reactor) {
    if (reactor.now() >= renew_at_) renew(reactor);
    return {line_.data(), line_.size()};
  }

 private:
  void renew(Reactor& reactor);

  std::array<char, date_line_bytes> line_;
  Nanos renew_at_ = 0;  // when the second ends
};

}  // namespace gyre::http
