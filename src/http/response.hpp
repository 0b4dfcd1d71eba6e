// Heads and framing of responses, written straight into an output buffer: no allocation, and a
// fixed upper bound for each call, so that a caller reserves once and then can't overrun.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <gyre/version.hpp>

namespace gyre::http {

// "Not Found"; "Unknown" for a status that is never sent.
std::string_view reason_phrase(uint16_t status);

enum class ContentType : uint8_t { none, bytes, text, json, prometheus };

struct ResponseHead {
  enum class Body : uint8_t {
    sized,        // Content-Length
    chunked,      // not for HTTP/1.0 clients
    until_close,  // ends with the connection; `close` is then implied
    none,         // 1xx, 204 and 304: neither body nor length
  };
  uint16_t status = 200;
  Body body = Body::sized;
  bool close = false;           // Connection: close
  bool say_keep_alive = false;  // Connection: keep-alive, which an HTTP/1.0 client has to be told
  ContentType content_type = ContentType::none;
  uint64_t content_length = 0;
  std::optional<Version> etag;
  uint32_t retry_after_s = 0;     // 0: no Retry-After
  std::string_view allow;         // of a 405: "GET, HEAD"; at most allow_bytes_max
  std::string_view cache_status;  // of a cache (RFC 9211); at most cache_status_bytes_max
  std::string_view date_line;     // of a DateLine; "": no Date
};

inline constexpr size_t allow_bytes_max = 64;
inline constexpr size_t cache_status_bytes_max = 48;
inline constexpr size_t response_head_bytes_max = 448;
// Writes at most response_head_bytes_max and returns the end.
char* write_response_head(char* out, const ResponseHead& head);

// A whole answer whose body is one line. The line is cut at error_reason_bytes_max.
struct ErrorAnswer {
  uint16_t status = 400;
  std::string_view reason;
  bool close = false;
  bool say_keep_alive = false;
  bool without_body = false;  // to HEAD: the length, but not the body
  uint32_t retry_after_s = 0;
  std::string_view allow;
  std::string_view date_line;
};
inline constexpr size_t error_reason_bytes_max = 512;
inline constexpr size_t error_answer_bytes_max =
    response_head_bytes_max + error_reason_bytes_max + 1;
char* write_error_answer(char* out, const ErrorAnswer& answer);

inline constexpr std::string_view continue_answer = "HTTP/1.1 100 Continue\r\n\r\n";

// A chunk is its header, `size` bytes, chunk_end; last_chunk ends the body. A size of 0 would end
// it too, and is refused by an assertion.
inline constexpr size_t chunk_header_bytes_max = 18;
char* write_chunk_header(char* out, uint64_t size);
inline constexpr std::string_view chunk_end = "\r\n";
inline constexpr std::string_view last_chunk = "0\r\n\r\n";

}  // namespace gyre::http
