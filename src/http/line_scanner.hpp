// Finds the lines of a head in a buffer that may still be growing, as strictly as RFC 9112 allows
// (2.2, 2.2-4): a line ends in CRLF and nothing else, and holds no control character but HTAB.
//
// Invariant: the outcome depends on the bytes alone, never on how they were split over calls. A
// line is judged by its first offending byte, and `too_long` comes at a fixed offset.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/chars.hpp"

namespace gyre::http {

class LineScanner {
 public:
  enum class Status : uint8_t { line, need_more, bare_cr, bare_lf, control, too_long };

  // Scans on in the same bytes as before, of which there are now `size`. The line, with its CRLF,
  // may not reach beyond offset `end_max`. After `line` it is [line_begin, line_end).
  Status next(const char* base, size_t size, size_t end_max) {
    const size_t stop = std::min(size, end_max);
    for (;;) {
      at_ = static_cast<size_t>(find_control(base + at_, base + stop) - base);
      if (at_ >= stop) return size >= end_max ? Status::too_long : Status::need_more;
      const char found = base[at_];
      if (found == '\t') {
        ++at_;
        continue;
      }
      if (found != '\r') return found == '\n' ? Status::bare_lf : Status::control;
      if (at_ + 2 > end_max) return Status::too_long;
      if (at_ + 1 == size) return Status::need_more;
      if (base[at_ + 1] != '\n') return Status::bare_cr;
      line_begin_ = next_begin_;
      line_end_ = at_;
      at_ += 2;
      next_begin_ = at_;
      return Status::line;
    }
  }

  size_t line_begin() const { return line_begin_; }
  size_t line_end() const { return line_end_; }
  size_t next_begin() const { return next_begin_; }  // where the line after this one starts

 private:
  size_t at_ = 0;
  size_t next_begin_ = 0;
  size_t line_begin_ = 0;
  size_t line_end_ = 0;
};

// One `name: value` line. `error` is empty when the line is well formed.
struct FieldLine {
  std::string_view name;
  std::string_view value;
  std::string_view error;
};
FieldLine split_field_line(std::string_view line);

}  // namespace gyre::http
