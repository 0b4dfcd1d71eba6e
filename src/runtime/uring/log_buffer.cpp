#include "runtime/uring/log_buffer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "base/assert.hpp"

namespace gyre::uring {

LogBuffer::LogBuffer(size_t bytes_max) : memory_(bytes_max), chunk_memory_(PIPE_BUF) {}

bool LogBuffer::append(std::string_view line) {
  // The report and the line go in together or not at all: while the reader is slow, one report
  // covers the whole gap.
  if (tell_dropped(line.size() + 1) && put(line)) return true;
  ++dropped_;
  ++dropped_untold_;
  return false;
}

bool LogBuffer::tell_dropped(size_t room_after_bytes) {
  if (dropped_untold_ == 0) return true;
  char text[64];
  const auto end = fmt::format_to_n(text, sizeof text, "{} log lines dropped", dropped_untold_);
  if (end.size + 1 + room_after_bytes > memory_.size() - used_) return false;
  dropped_untold_ = 0;
  return put({text, end.size});
}

bool LogBuffer::put(std::string_view line) {
  if (line.size() + 1 > memory_.size() - used_) return false;
  const auto store = [this](const char* from, size_t bytes) {
    const size_t at = (start_ + used_) % memory_.size();
    const size_t before_end = std::min(bytes, memory_.size() - at);
    std::memcpy(memory_.data() + at, from, before_end);
    std::memcpy(memory_.data(), from + before_end, bytes - before_end);
    used_ += bytes;
  };
  store(line.data(), line.size());
  store("\n", 1);
  return true;
}

std::string_view LogBuffer::chunk() {
  if (!chunk_.empty()) return chunk_;
  tell_dropped(0);
  size_t bytes = std::min(used_, chunk_memory_.size());
  copy_out(bytes, chunk_memory_.data());
  // Back to the last whole line, unless one line fills it all.
  const size_t newline = std::string_view(chunk_memory_.data(), bytes).rfind('\n');
  if (newline != std::string_view::npos) bytes = newline + 1;
  start_ = (start_ + bytes) % memory_.size();
  used_ -= bytes;
  chunk_ = {chunk_memory_.data(), bytes};
  return chunk_;
}

void LogBuffer::copy_out(size_t bytes, char* to) const {
  const size_t before_end = std::min(bytes, memory_.size() - start_);
  std::memcpy(to, memory_.data() + start_, before_end);
  std::memcpy(to + before_end, memory_.data(), bytes - before_end);
}

void LogBuffer::consume(size_t bytes) {
  GYRE_ASSERT(bytes <= chunk_.size());
  chunk_.remove_prefix(bytes);
}

}  // namespace gyre::uring
