#include "http/response_parser.hpp"

#include <algorithm>

#include "base/limits.hpp"
#include "http/chars.hpp"

namespace gyre::http {

namespace {

// Head bytes are taken in steps, so that what follows the head is not copied with it.
constexpr size_t copy_step_bytes = 1024;

bool names_option(std::string_view list, std::string_view option) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (equals_ignoring_case(trim_blanks(list.substr(0, comma)), option)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

}  // namespace

ResponseParser::Step ResponseParser::feed(std::string_view bytes) {
  switch (state_) {
    case State::head:
      return feed_head(bytes);
    case State::none:
      return finish(0);
    case State::sized: {
      if (remaining_ == 0) return finish(0);
      if (bytes.empty()) return {};
      const auto size = static_cast<size_t>(std::min<uint64_t>(remaining_, bytes.size()));
      remaining_ -= size;
      return {Event::body, size, bytes.substr(0, size)};
    }
    case State::chunked:
      return feed_chunked(bytes);
    case State::trailers:
      return feed_trailers(bytes);
    case State::until_close:
      if (bytes.empty()) return {};
      return {Event::body, bytes.size(), bytes};
    case State::closed:
      if (bytes.empty()) return {};
      return fail("bytes after the last response of a connection");
    case State::failed:
      break;
  }
  return {Event::error, bytes.size(), {}};
}

ResponseParser::Step ResponseParser::end_of_stream() {
  if (state_ == State::until_close || state_ == State::none ||
      (state_ == State::sized && remaining_ == 0)) {
    keep_alive_ = false;
    return finish(0);
  }
  if (state_ == State::failed) return {Event::error, 0, {}};
  if (state_ == State::closed || idle()) return {};
  return fail("the connection ended in the middle of a response");
}

ResponseParser::Step ResponseParser::feed_head(std::string_view bytes) {
  if (bytes.empty()) return {};
  if (head_ended_) {
    head_.clear();
    lines_ = LineScanner();
    field_count_ = 0;
    in_status_line_ = true;
    head_ended_ = has_length_ = has_coding_ = chunked_ = false;
  }
  size_t consumed = 0;
  while (consumed < bytes.size()) {
    const size_t before = head_.size();
    const std::string_view step = bytes.substr(consumed, copy_step_bytes);
    head_.append(step);
    bool done = false;
    if (!scan_section(head_, true, done)) return fail(error_);
    if (!done) {
      consumed += step.size();
      continue;
    }
    consumed += lines_.next_begin() - before;
    head_.resize(lines_.next_begin());
    head_ended_ = true;
    if (const std::string_view wrong = read_fields(); !wrong.empty()) return fail(wrong);
    if (state_ == State::head) return {Event::interim, consumed, {}};
    return {Event::head, consumed, {}};
  }
  return {Event::need_more, consumed, {}};
}

bool ResponseParser::scan_section(const std::string& text, bool has_status_line, bool& done) {
  for (;;) {
    const LineScanner::Status status =
        lines_.next(text.data(), text.size(), limits::http_header_bytes_max);
    if (status == LineScanner::Status::need_more) return true;
    if (status != LineScanner::Status::line) {
      error_ =
          status == LineScanner::Status::too_long
              ? "the response's head or trailers are over 64 KiB"
              : "the response's head has a line that does not end in CR LF, or a control character";
      return false;
    }
    const std::string_view line =
        std::string_view(text).substr(lines_.line_begin(), lines_.line_end() - lines_.line_begin());
    if (has_status_line && in_status_line_) {
      in_status_line_ = false;
      fields_begin_ = lines_.next_begin();
      error_ = read_status_line(line);
    } else if (line.empty()) {
      done = true;
      return true;
    } else if (++field_count_ > limits::http_header_count_max) {
      error_ = "the response has more than 100 fields";
    } else {
      error_ = split_field_line(line).error;
    }
    if (!error_.empty()) return false;
  }
}

// HTTP-version SP 3DIGIT SP [ reason ]; the last space is often left out.
std::string_view ResponseParser::read_status_line(std::string_view line) {
  static constexpr std::string_view wrong = "the response does not start with 'HTTP/1.1 STATUS'";
  if (!line.starts_with("HTTP/1.") || line.size() < 12 || (line[7] != '0' && line[7] != '1') ||
      line[8] != ' ' || (line.size() > 12 && line[12] != ' ')) {
    return wrong;
  }
  status_ = 0;
  for (char c : line.substr(9, 3)) {
    if (!is_digit(c)) return wrong;
    status_ = static_cast<uint16_t>(status_ * 10 + (c - '0'));
  }
  if (status_ < 100) return wrong;
  minor_ = static_cast<uint8_t>(line[7] - '0');
  reason_begin_ = std::min<size_t>(line.size(), 13);
  reason_size_ = line.size() - reason_begin_;
  return {};
}

// Decides how the body ends (RFC 9112 6.3).
std::string_view ResponseParser::read_fields() {
  keep_alive_ = minor_ == 1;
  remaining_ = 0;
  size_t at = fields_begin_;
  while (at + 2 < head_.size()) {
    const size_t end = head_.find("\r\n", at);
    const FieldLine field = split_field_line(std::string_view(head_).substr(at, end - at));
    if (const auto wrong = read_framing_field(field.name, field.value); !wrong.empty())
      return wrong;
    at = end + 2;
  }
  if (has_coding_ && has_length_) {
    return "the response has Content-Length beside Transfer-Encoding";
  }
  if (status_ / 100 == 1) {
    return status_ == 101
               ? std::string_view("the response switches protocols, which was not asked for")
               : std::string_view();
  }
  if (answers_head_ || status_ == 204 || status_ == 304) {
    state_ = State::none;
  } else if (chunked_) {
    chunks_ = ChunkDecoder();
    state_ = State::chunked;
  } else if (has_length_) {
    state_ = State::sized;
  } else {
    keep_alive_ = false;
    state_ = State::until_close;
  }
  return {};
}

std::string_view ResponseParser::read_framing_field(std::string_view name, std::string_view value) {
  if (equals_ignoring_case(name, "connection")) {
    if (names_option(value, "close")) keep_alive_ = false;
    if (minor_ == 0 && names_option(value, "keep-alive")) keep_alive_ = true;
  } else if (equals_ignoring_case(name, "transfer-encoding")) {
    if (has_coding_ || !equals_ignoring_case(value, "chunked")) {
      return "the response's Transfer-Encoding is something else than 'chunked'";
    }
    has_coding_ = chunked_ = true;
  } else if (equals_ignoring_case(name, "content-length")) {
    // 18 digits are far from overflowing, and an exabyte.
    if (has_length_ || value.empty() || value.size() > 18 ||
        !std::all_of(value.begin(), value.end(), is_digit)) {
      return "the response's Content-Length is not one decimal number";
    }
    has_length_ = true;
    for (char c : value) remaining_ = remaining_ * 10 + static_cast<uint64_t>(c - '0');
  }
  return {};
}

std::string_view ResponseParser::field(std::string_view lower_name) const {
  if (!head_ended_) return {};
  size_t at = fields_begin_;
  while (at + 2 < head_.size()) {
    const size_t end = head_.find("\r\n", at);
    const FieldLine field = split_field_line(std::string_view(head_).substr(at, end - at));
    if (equals_ignoring_case(field.name, lower_name)) return field.value;
    at = end + 2;
  }
  return {};
}

ResponseParser::Step ResponseParser::feed_chunked(std::string_view bytes) {
  const ChunkDecoder::Step step = chunks_.feed(bytes);
  switch (step.event) {
    case ChunkDecoder::Event::data:
      return {Event::body, step.consumed, step.data, step.chunk_ends};
    case ChunkDecoder::Event::need_more:
      return {Event::need_more, step.consumed, {}};
    case ChunkDecoder::Event::error:
      return fail(step.reason);
    case ChunkDecoder::Event::last:
      break;
  }
  trailers_.clear();
  lines_ = LineScanner();
  field_count_ = 0;
  state_ = State::trailers;
  Step trailers = feed_trailers(bytes.substr(step.consumed));
  trailers.consumed += step.consumed;
  return trailers;
}

ResponseParser::Step ResponseParser::feed_trailers(std::string_view bytes) {
  size_t consumed = 0;
  while (consumed < bytes.size()) {
    const size_t before = trailers_.size();
    const std::string_view step = bytes.substr(consumed, copy_step_bytes);
    trailers_.append(step);
    bool done = false;
    if (!scan_section(trailers_, false, done)) return fail(error_);
    if (done) return finish(consumed + lines_.next_begin() - before);
    consumed += step.size();
  }
  return {Event::need_more, consumed, {}};
}

ResponseParser::Step ResponseParser::finish(size_t consumed) {
  state_ = keep_alive_ ? State::head : State::closed;
  return {Event::complete, consumed, {}};
}

ResponseParser::Step ResponseParser::fail(std::string_view error) {
  error_ = error;
  state_ = State::failed;
  return {Event::error, 0, {}};
}

}  // namespace gyre::http
