// The bounded memory between a core's log lines and a slow reader of stderr. Lines over the bound
// are dropped and counted; the next line that fits is preceded by one that says how many.
//
// Pure memory: the backend moves chunks to the kernel, one at a time. A chunk ends with a line
// and has at most PIPE_BUF bytes, so lines of several cores never mix in a pipe (a line longer
// than that goes in pieces).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace gyre::uring {

class LogBuffer {
 public:
  explicit LogBuffer(size_t bytes_max);

  // False: no room, the line was dropped.
  bool append(std::string_view line);
  bool empty() const { return used_ == 0 && chunk_.empty() && dropped_untold_ == 0; }

  // What to write next; stable until consume takes it whole. Empty: nothing.
  std::string_view chunk();
  void consume(size_t bytes);

  uint64_t lines_dropped() const { return dropped_; }

 private:
  bool put(std::string_view line);
  bool tell_dropped(size_t room_after_bytes);  // false: something stays untold
  void copy_out(size_t bytes, char* to) const;

  std::vector<char> memory_;
  size_t start_ = 0;  // ring: [start_, start_ + used_) modulo the size
  size_t used_ = 0;
  std::vector<char> chunk_memory_;
  std::string_view chunk_;
  uint64_t dropped_ = 0;
  uint64_t dropped_untold_ = 0;
};

}  // namespace gyre::uring
