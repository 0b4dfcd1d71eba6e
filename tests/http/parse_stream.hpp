// Runs the request parser over a stream that is cut at given offsets, and says what came out in a
// form that can be compared.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "http/request_parser.hpp"

namespace gyre::test {

struct ParsedRequest {
  std::string head;  // method, path, query and what else the head told
  std::string body;
  bool complete = false;
  bool keep_alive = true;
  bool expect_continue = false;

  friend bool operator==(const ParsedRequest&, const ParsedRequest&) = default;
};

struct ParsedStream {
  std::vector<ParsedRequest> requests;
  unsigned error_status = 0;
  std::string error_reason;
  bool idle = true;
  bool ended = false;

  friend bool operator==(const ParsedStream&, const ParsedStream&) = default;
};

inline std::string describe(const http::RequestHead& head) {
  std::string text;
  text += std::string(head.method_name) + " " + std::string(head.path) + " ?" +
          std::string(head.query) + " 1." + std::to_string(head.http_minor);
  text += head.chunked ? " chunked" : " length " + std::to_string(head.content_length);
  text += " inm " + std::string(head.if_none_match);
  text += " host " + std::string(head.host);
  text += head.has_query ? " query" : "";
  text += head.has_if_match ? " if-match" : "";
  text += head.has_if_none_match ? " if-none-match" : "";
  return text;
}

class StreamReader {
 public:
  explicit StreamReader(uint64_t body_bytes_max = limits::value_bytes_max_default)
      : parser_(body_bytes_max) {}

  // False if an invariant of the parser is broken; `broken()` says which.
  bool feed(std::string_view bytes) {
    using Event = http::RequestParser::Event;
    for (;;) {
      const size_t held_max = parser_.held_bytes_after(bytes.size());
      const http::RequestParser::Step step = parser_.feed(bytes);
      if (step.consumed > bytes.size()) return fails("consumed more than it was given");
      if (parser_.held_bytes() > held_max) return fails("holds more than it said it would");
      if (step.event == Event::error) {
        out_.error_status = parser_.error().status;
        out_.error_reason = parser_.error().reason;
        return true;
      }
      if (out_.error_status != 0) return fails("went on after an error");
      bytes.remove_prefix(step.consumed);
      if (step.event == Event::need_more) {
        return bytes.empty() || fails("wants more, but left bytes");
      }
      if (!take(step)) return false;
    }
  }

  ParsedStream finish() {
    out_.idle = parser_.idle();
    out_.ended = parser_.ended();
    return out_;
  }
  const std::string& broken() const { return broken_; }
  const http::RequestParser& parser() const { return parser_; }

 private:
  bool take(const http::RequestParser::Step& step) {
    using Event = http::RequestParser::Event;
    if (step.event == Event::request || step.event == Event::head) {
      if (!out_.requests.empty() && !out_.requests.back().complete) {
        return fails("a head within a request");
      }
      if (!out_.requests.empty() && !out_.requests.back().keep_alive) {
        return fails("a request after the last one");
      }
      const http::RequestHead& head = parser_.head();
      if (head.has_body() != (step.event == Event::head)) return fails("wrong event for the body");
      out_.requests.push_back(
          {describe(head), {}, !head.has_body(), head.keep_alive, head.expect_continue});
      length_ = head.chunked ? UINT64_MAX : head.content_length;
      return true;
    }
    ParsedRequest& request = out_.requests.back();
    if (request.complete) return fails("more of a complete request");
    if (step.event == Event::body) {
      if (step.body.empty()) return fails("an empty piece of a body");
      request.body += step.body;
      return request.body.size() <= length_ || fails("more body than was announced");
    }
    request.complete = true;
    return length_ == UINT64_MAX || request.body.size() == length_ ||
           fails("less body than was announced");
  }
  bool fails(const char* what) {
    broken_ = what;
    return false;
  }

  http::RequestParser parser_;
  ParsedStream out_;
  uint64_t length_ = 0;
  std::string broken_;
};

}  // namespace gyre::test
