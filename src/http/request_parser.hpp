// Requests out of a stream of bytes. Every request is read twice: by our own strict scanner
// (HeadScanner, ChunkDecoder), which decides, and by llhttp with all lenient flags off, which has
// to agree about the head's end, the target, the version, the framing and every byte of the body.
// Where the two differ nobody can tell what the client meant, and the answer is 400.
//
// llhttp 8.1 also refuses two things that the RFC allows and nobody sends: a tab behind the value
// of Content-Length or Transfer-Encoding, and a chunk extension behind one with an unquoted value.
//
// Use: call feed() with the bytes that have arrived, drop `consumed` of them, act on the event, and
// call again with the rest (which may be empty) until it says need_more. Pipelined requests come
// out one after the other.
//
// Invariants
//   - A head that lies in one piece in the fed bytes is neither copied nor is anything allocated,
//     and the views of head() point into those bytes. Only a head (or trailer section) split over
//     reads is gathered here, in at most http_request_line_bytes_max + http_header_bytes_max bytes
//     and a little. Views are valid until the next feed().
//   - Bodies are handed over as views of the fed bytes and never kept.
//   - After `error` or after a request that ends the connection (keep_alive false) no further
//     request is ever reported. Every error asks for one answer and a close.
//   - The events and the error depend on the bytes alone, not on how they were split.
#pragma once

#include <llhttp.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/limits.hpp"
#include "http/chunked.hpp"
#include "http/head_scanner.hpp"
#include "http/request.hpp"

namespace gyre::http {

class RequestParser {
 public:
  enum class Event : uint8_t {
    need_more,  // all bytes were taken
    request,    // head() of a request without a body, which is complete with it
    head,       // head() of a request whose body follows
    body,       // `body` is the next piece, never empty
    complete,   // the body is complete
    error,      // answer error().status with its reason, and close
  };
  struct Step {
    Event event = Event::need_more;
    size_t consumed = 0;
    std::string_view body;
  };

  // A body over `body_bytes_max` is refused with 413 as soon as its size is announced.
  explicit RequestParser(uint64_t body_bytes_max = limits::value_bytes_max_default)
      : body_bytes_max_(body_bytes_max) {}
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  Step feed(std::string_view bytes);

  const RequestHead& head() const { return head_; }
  const ParseError& error() const { return error_; }

  // No byte of a request has arrived since the last one was complete (empty lines don't count).
  bool idle() const {
    return state_ == State::head && (section_ended_ || !scanner_.begun(held_.size()));
  }
  // No further request will be reported, whatever arrives.
  bool ended() const { return state_ == State::closed || state_ == State::failed; }

  // Nothing more will be parsed: what is held is let go, and so are the views in head().
  void discard();

  // Heap bytes held for a head or trailers in pieces.
  size_t held_bytes() const { return held_.capacity() > inline_bytes ? held_.capacity() : 0; }
  // What held_bytes() will be at most after feeding `more` bytes: reserve this first.
  size_t held_bytes_after(size_t more) const;

 private:
  enum class State : uint8_t { head, sized_body, chunked_body, trailers, closed, failed };
  static constexpr size_t inline_bytes = 15;  // what std::string holds without the heap

  Step feed_section(std::string_view bytes);
  Step end_section(std::string_view section, size_t consumed);
  Step end_head(std::string_view section, size_t consumed);
  Step feed_sized_body(std::string_view bytes);
  Step feed_chunked_body(std::string_view bytes);
  Step finish_message(size_t consumed);
  Step fail(ParseError error);
  void begin_section(HeadScanner::Part part);

  bool second_reading_of_head(std::string_view head);
  bool second_reading(std::string_view raw);
  bool refuse_disagreement();
  static const llhttp_settings_t& callbacks();

  HeadScanner scanner_;
  std::string held_;
  RequestHead head_;
  ParseError error_;
  ChunkDecoder chunks_;
  uint64_t body_bytes_max_;
  uint64_t body_remaining_ = 0;
  State state_ = State::head;
  bool section_ended_ = false;  // the next feed() starts a new head

  // What llhttp made of the same bytes.
  struct SecondReading {
    uint64_t body_bytes = 0;
    uint64_t content_length = 0;
    const char* target = nullptr;
    size_t target_size = 0;
    uint8_t minor = 0;
    bool chunked = false;
    bool head_complete = false;
    bool complete = false;
  };
  llhttp_t llhttp_{};
  SecondReading second_;
  uint64_t body_bytes_ = 0;
};

}  // namespace gyre::http
