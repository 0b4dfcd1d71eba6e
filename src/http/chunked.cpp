#include "http/chunked.hpp"

#include <algorithm>

#include "base/limits.hpp"
#include "http/chars.hpp"

namespace gyre::http {

ChunkDecoder::Step ChunkDecoder::fail(size_t consumed, std::string_view reason) {
  state_ = State::failed;
  return {Event::error, consumed, {}, reason};
}

// One byte of the line that announces a chunk. Returns why it is wrong, or nothing.
std::string_view ChunkDecoder::take_line_byte(char c) {
  if (++line_bytes_ > limits::http_chunk_line_bytes_max) {
    return "a chunk's size and extensions are over 1 KiB";
  }
  if (state_ == State::size) {
    const int digit = hex_value(c);
    if (digit >= 0) {
      if (++digits_ > 16) return "a chunk size is over 16 hexadecimal digits";
      remaining_ = remaining_ << 4 | static_cast<uint64_t>(digit);
      return {};
    }
    if (digits_ == 0) return "a chunk size does not start with a hexadecimal digit";
    if (c == '\r') {
      state_ = State::size_lf;
    } else if (c == ';') {
      state_ = State::extension;
    } else {
      return "a chunk size is followed by something else than ';' or CR LF";
    }
    return {};
  }
  if (c == '\r') {
    state_ = State::size_lf;
  } else if (is_control(c) && c != '\t') {
    return "a control character in a chunk extension";
  }
  return {};
}

// The line is complete: account for it and see what follows.
std::string_view ChunkDecoder::end_line() {
  overhead_bytes_ += line_bytes_ + 3;
  const uint64_t fair = 16 + 2 * std::min<uint64_t>(remaining_, 1u << 20);
  overhead_bytes_ -= std::min(overhead_bytes_, fair);
  if (overhead_bytes_ > limits::http_chunk_overhead_bytes_max) {
    return "the chunk extensions outweigh the data";
  }
  announced_bytes_ += std::min(remaining_, UINT64_MAX - announced_bytes_);
  state_ = remaining_ == 0 ? State::last : State::data;
  line_bytes_ = 0;
  digits_ = 0;
  return {};
}

ChunkDecoder::Step ChunkDecoder::feed(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    switch (state_) {
      case State::size:
      case State::extension:
        if (const auto wrong = take_line_byte(bytes[at]); !wrong.empty()) return fail(at, wrong);
        ++at;
        break;
      case State::size_lf:
        if (bytes[at] != '\n') return fail(at, "a chunk size line ends in a CR without an LF");
        if (const auto wrong = end_line(); !wrong.empty()) return fail(at, wrong);
        ++at;
        if (state_ == State::last) return {Event::last, at, {}, {}};
        break;
      case State::data: {
        const size_t size = static_cast<size_t>(std::min<uint64_t>(remaining_, bytes.size() - at));
        remaining_ -= size;
        if (remaining_ == 0) state_ = State::data_cr;
        return {Event::data, at + size, bytes.substr(at, size), {}, remaining_ == 0};
      }
      case State::data_cr:
        if (bytes[at] != '\r') return fail(at, "chunk data is not followed by CR LF");
        ++at;
        state_ = State::data_lf;
        break;
      case State::data_lf:
        if (bytes[at] != '\n') return fail(at, "chunk data is not followed by CR LF");
        ++at;
        state_ = State::size;
        break;
      case State::last:
        return {Event::last, at, {}, {}};
      case State::failed:
        return {Event::error, at, {}, "the chunked body was already refused"};
    }
  }
  return {Event::need_more, at, {}, {}};
}

}  // namespace gyre::http
