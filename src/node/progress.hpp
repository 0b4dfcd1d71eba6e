// How far a long command has come, as text. Pure: who prints it, and when, is the command's affair.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <gyre/backend.hpp>

namespace gyre {

struct Progress {
  const char* of = "records";
  uint64_t records = 0;
  uint64_t failed = 0;
  uint64_t bytes = 0;
  std::optional<uint64_t> bytes_total;  // unknown for a pipe
  Nanos elapsed = 0;
  bool waiting = false;  // the node asked for a pause
};

// One line of at most `columns` characters, without a newline:
//   [#########-----------]  45%  123,456 records  12.3 MB/s  3 failed  1m 05s left
std::string progress_bar(const Progress& progress, size_t columns);
// The same without the bar, for logs.
std::string progress_text(const Progress& progress);

// "999 B", "12.3 MB": powers of 1000.
std::string format_bytes(uint64_t bytes);
std::string format_rate(uint64_t bytes, Nanos elapsed);  // "12.3 MB/s"
std::string format_seconds(Nanos duration);              // "4.2 s", "1m 05s", "2h 03m"
std::string format_number(uint64_t number);              // "123,456"

}  // namespace gyre
