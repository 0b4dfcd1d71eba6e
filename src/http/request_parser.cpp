#include "http/request_parser.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace gyre::http {

namespace {

// Bytes that arrive behind a head in pieces are copied in steps of this size, so that what follows
// the head (a body, pipelined requests) is not copied with it.
constexpr size_t copy_step_bytes = 1024;

size_t grown_capacity(size_t bytes) {
  size_t capacity = 512;
  while (capacity < bytes) capacity *= 2;
  return capacity;
}

// Assigning an empty string would keep the memory.
void release(std::string& text) {
  std::string().swap(text);
}

}  // namespace

size_t RequestParser::held_bytes_after(size_t more) const {
  constexpr size_t most = limits::http_request_line_bytes_max + limits::http_header_bytes_max +
                          2 * limits::http_empty_lines_max + 2 + copy_step_bytes;
  const size_t kept = section_ended_ ? 0 : held_.size();
  const size_t wanted = std::min(kept + more, most);
  return std::max(held_bytes(), wanted > inline_bytes ? grown_capacity(wanted) : 0);
}

RequestParser::Step RequestParser::feed(std::string_view bytes) {
  if (section_ended_) begin_section(HeadScanner::Part::request);
  switch (state_) {
    case State::head:
    case State::trailers:
      return feed_section(bytes);
    case State::sized_body:
      return feed_sized_body(bytes);
    case State::chunked_body:
      return feed_chunked_body(bytes);
    case State::closed:
      release(held_);
      return {Event::need_more, bytes.size(), {}};
    case State::failed:
      break;
  }
  return {Event::error, bytes.size(), {}};
}

void RequestParser::discard() {
  release(held_);
  state_ = State::closed;
  section_ended_ = false;
}

void RequestParser::begin_section(HeadScanner::Part part) {
  scanner_ = HeadScanner(part);
  section_ended_ = false;
  if (held_.capacity() > limits::http_head_kept_bytes_max) {
    release(held_);
  } else {
    held_.clear();
  }
}

// A head or a trailer section: in place if the fed bytes hold all of it, else gathered in held_.
RequestParser::Step RequestParser::feed_section(std::string_view bytes) {
  if (held_.empty()) {
    if (bytes.empty()) return {};
    const HeadScanner::Progress progress = scanner_.scan(bytes.data(), bytes.size());
    if (progress == HeadScanner::Progress::error) return fail(scanner_.error());
    if (progress == HeadScanner::Progress::done) {
      return end_section(bytes.substr(0, scanner_.head_end()), scanner_.head_end());
    }
    if (bytes.size() > inline_bytes) held_.reserve(grown_capacity(bytes.size()));
    held_.append(bytes);
    return {Event::need_more, bytes.size(), {}};
  }
  size_t consumed = 0;
  while (consumed < bytes.size()) {
    const size_t before = held_.size();
    const std::string_view step = bytes.substr(consumed, copy_step_bytes);
    if (before + step.size() > held_.capacity()) {
      held_.reserve(grown_capacity(before + step.size()));
    }
    held_.append(step);
    const HeadScanner::Progress progress = scanner_.scan(held_.data(), held_.size());
    if (progress == HeadScanner::Progress::error) return fail(scanner_.error());
    if (progress == HeadScanner::Progress::done) {
      const size_t end = scanner_.head_end();
      return end_section(std::string_view(held_).substr(0, end), consumed + (end - before));
    }
    consumed += step.size();
  }
  return {Event::need_more, consumed, {}};
}

RequestParser::Step RequestParser::end_section(std::string_view section, size_t consumed) {
  if (state_ == State::head) return end_head(section, consumed);
  if (!second_reading(section)) return fail(error_);
  return finish_message(consumed);
}

RequestParser::Step RequestParser::end_head(std::string_view section, size_t consumed) {
  scanner_.fill(section.data(), head_);
  body_bytes_ = 0;
  if (!second_reading_of_head(section)) return fail(error_);
  if (head_.content_length > body_bytes_max_) {
    return fail({413, "the body is larger than a value may be"});
  }
  if (!head_.has_body()) {
    Step step = finish_message(consumed);
    if (step.event == Event::complete) step.event = Event::request;
    return step;
  }
  if (head_.chunked) {
    chunks_ = ChunkDecoder();
    state_ = State::chunked_body;
  } else {
    body_remaining_ = head_.content_length;
    state_ = State::sized_body;
  }
  return {Event::head, consumed, {}};
}

RequestParser::Step RequestParser::feed_sized_body(std::string_view bytes) {
  if (body_remaining_ == 0) return finish_message(0);
  if (bytes.empty()) return {};
  const auto size = static_cast<size_t>(std::min<uint64_t>(body_remaining_, bytes.size()));
  const std::string_view piece = bytes.substr(0, size);
  body_remaining_ -= size;
  body_bytes_ += size;
  if (!second_reading(piece)) return fail(error_);
  return {Event::body, size, piece};
}

RequestParser::Step RequestParser::feed_chunked_body(std::string_view bytes) {
  const ChunkDecoder::Step step = chunks_.feed(bytes);
  if (step.event == ChunkDecoder::Event::error) return fail({400, step.reason});
  body_bytes_ += step.data.size();
  if (!second_reading(bytes.substr(0, step.consumed))) return fail(error_);
  if (chunks_.announced_bytes() > body_bytes_max_) {
    return fail({413, "the body is larger than a value may be"});
  }
  if (step.event == ChunkDecoder::Event::data) return {Event::body, step.consumed, step.data};
  if (step.event == ChunkDecoder::Event::need_more) return {Event::need_more, step.consumed, {}};
  begin_section(HeadScanner::Part::trailers);
  state_ = State::trailers;
  Step trailers = feed_section(bytes.substr(step.consumed));
  trailers.consumed += step.consumed;
  return trailers;
}

RequestParser::Step RequestParser::finish_message(size_t consumed) {
  if (!second_.complete || second_.body_bytes != body_bytes_) {
    refuse_disagreement();
    return fail(error_);
  }
  state_ = head_.keep_alive ? State::head : State::closed;
  section_ended_ = state_ == State::head;
  return {Event::complete, consumed, {}};
}

RequestParser::Step RequestParser::fail(ParseError error) {
  GYRE_ASSERT(error.status != 0);
  error_ = error;
  state_ = State::failed;
  section_ended_ = false;
  release(held_);
  return {Event::error, 0, {}};
}

// --- the second reading --------------------------------------------------------------------------

const llhttp_settings_t& RequestParser::callbacks() {
  static const llhttp_settings_t settings = [] {
    llhttp_settings_t all{};
    all.on_url = [](llhttp_t* parser, const char* at, size_t size) {
      auto& second = *static_cast<SecondReading*>(parser->data);
      second.target = at;
      second.target_size = size;
      return 0;
    };
    all.on_headers_complete = [](llhttp_t* parser) {
      auto& second = *static_cast<SecondReading*>(parser->data);
      second.head_complete = true;
      second.chunked = (parser->flags & F_CHUNKED) != 0;
      second.content_length = parser->content_length;
      second.minor = parser->http_minor;
      parser->upgrade = 0;  // an Upgrade is never followed, so the next bytes are HTTP too
      return 0;
    };
    all.on_body = [](llhttp_t* parser, const char*, size_t size) {
      static_cast<SecondReading*>(parser->data)->body_bytes += size;
      return 0;
    };
    all.on_message_complete = [](llhttp_t* parser) {
      static_cast<SecondReading*>(parser->data)->complete = true;
      return 0;
    };
    return all;
  }();
  return settings;
}

bool RequestParser::second_reading_of_head(std::string_view section) {
  second_ = {};
  llhttp_init(&llhttp_, HTTP_REQUEST, &callbacks());
  llhttp_.data = &second_;
  std::string_view rest = section.substr(scanner_.request_begin());
  if (head_.method == Method::other || head_.method == Method::options) {
    // llhttp knows some methods only, and ties meaning to a few of them (CONNECT, PRI). Framing is
    // the same for all, so it reads POST in their place.
    if (llhttp_execute(&llhttp_, "POST", 4) != HPE_OK) return refuse_disagreement();
    rest.remove_prefix(scanner_.method_size());
  }
  if (!second_reading(rest)) return false;
  const bool agreed = second_.head_complete && second_.minor == head_.http_minor &&
                      second_.target == section.data() + scanner_.target_begin() &&
                      second_.target_size == scanner_.target_size() &&
                      second_.chunked == head_.chunked &&
                      (head_.chunked || second_.content_length == head_.content_length) &&
                      second_.complete == !head_.has_body();
  return agreed || refuse_disagreement();
}

bool RequestParser::second_reading(std::string_view raw) {
  if (raw.empty() || llhttp_execute(&llhttp_, raw.data(), raw.size()) == HPE_OK) return true;
  return refuse_disagreement();
}

// llhttp's reasons are string literals.
bool RequestParser::refuse_disagreement() {
  const char* reason = llhttp_get_error_reason(&llhttp_);
  error_ = {400, reason != nullptr && *reason != '\0' ? std::string_view(reason)
                                                      : "the request's framing is ambiguous"};
  return false;
}

}  // namespace gyre::http
