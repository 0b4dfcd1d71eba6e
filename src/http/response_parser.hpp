// Responses out of a stream of bytes: the client's side, for the command line and for tests. As
// strict about framing as the server's side (RFC 9112 6.3, response rules), and incremental: the
// head is gathered here (at most http_header_bytes_max, else an error), bodies are handed over as
// views of the fed bytes.
//
// Interim responses (1xx other than 101) are reported as `interim` and are not the answer.
//
// Use like RequestParser: feed, drop `consumed`, act on the event, again until need_more. At the
// end of the stream call end_of_stream(). After `complete` the next response starts;
// expect_no_body() says before each whether it answers HEAD.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "http/chunked.hpp"
#include "http/line_scanner.hpp"

namespace gyre::http {

class ResponseParser {
 public:
  enum class Event : uint8_t { need_more, interim, head, body, complete, error };
  struct Step {
    Event event = Event::need_more;
    size_t consumed = 0;
    std::string_view body;
    bool chunk_ends = false;  // of a chunked body: `body` is the last piece of its chunk
  };

  // The next response answers a HEAD request, so no body follows whatever its head says.
  void expect_no_body(bool answers_head) { answers_head_ = answers_head; }

  Step feed(std::string_view bytes);
  // `complete` if the body ends with the connection; need_more if the stream ended between two
  // responses; else error: the response was cut.
  Step end_of_stream();

  // Valid from `interim` or `head` until the head of the next response begins.
  uint16_t status() const { return status_; }
  std::string_view reason() const { return {head_.data() + reason_begin_, reason_size_}; }
  // The first field of that name (in lower case), or an empty view.
  std::string_view field(std::string_view lower_name) const;
  bool keep_alive() const { return keep_alive_; }
  bool idle() const {
    return state_ == State::head && (head_ended_ ? status_ >= 200 : head_.empty());
  }

  std::string_view error() const { return error_; }

 private:
  enum class State : uint8_t { head, none, sized, chunked, trailers, until_close, closed, failed };

  Step feed_head(std::string_view bytes);
  Step feed_chunked(std::string_view bytes);
  Step feed_trailers(std::string_view bytes);
  Step finish(size_t consumed);
  Step fail(std::string_view error);
  // Reads on in `text`: done, need_more or a reason to fail in error_.
  bool scan_section(const std::string& text, bool has_status_line, bool& done);
  std::string_view read_status_line(std::string_view line);
  std::string_view read_fields();
  std::string_view read_framing_field(std::string_view name, std::string_view value);

  std::string head_;
  std::string trailers_;
  LineScanner lines_;
  ChunkDecoder chunks_;
  std::string_view error_;
  uint64_t remaining_ = 0;
  size_t reason_begin_ = 0;
  size_t reason_size_ = 0;
  size_t fields_begin_ = 0;
  uint32_t field_count_ = 0;
  uint16_t status_ = 0;
  uint8_t minor_ = 1;
  State state_ = State::head;
  bool in_status_line_ = true;
  bool head_ended_ = false;
  bool answers_head_ = false;
  bool keep_alive_ = true;
  bool has_length_ = false;
  bool has_coding_ = false;
  bool chunked_ = false;
};

}  // namespace gyre::http
