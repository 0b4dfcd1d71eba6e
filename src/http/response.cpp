#include "http/response.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/assert.hpp"
#include "http/date.hpp"
#include "http/etag.hpp"

namespace gyre::http {

namespace {

constexpr std::string_view length_field = "Content-Length: ";

// The status line with the start of the field that nearly always follows, so that both are one
// copy.
struct Prefix {
  uint16_t status;
  std::string_view text;

  constexpr std::string_view line() const {
    return text.substr(0, text.size() - length_field.size());
  }
  constexpr std::string_view phrase() const {
    constexpr size_t before = std::string_view("HTTP/1.1 200 ").size();
    return line().substr(before, line().size() - before - 2);
  }
};

#define GYRE_PREFIX(status, phrase) {status, "HTTP/1.1 " #status " " phrase "\r\nContent-Length: "}
// The frequent ones first: they are looked up from the front.
constexpr Prefix prefixes[] = {
    GYRE_PREFIX(200, "OK"),
    GYRE_PREFIX(201, "Created"),
    GYRE_PREFIX(202, "Accepted"),
    GYRE_PREFIX(404, "Not Found"),
    GYRE_PREFIX(304, "Not Modified"),
    GYRE_PREFIX(503, "Service Unavailable"),
    GYRE_PREFIX(504, "Not Enough Replicas"),
    GYRE_PREFIX(400, "Bad Request"),
    GYRE_PREFIX(405, "Method Not Allowed"),
    GYRE_PREFIX(100, "Continue"),
    GYRE_PREFIX(204, "No Content"),
    GYRE_PREFIX(401, "Unauthorized"),
    GYRE_PREFIX(403, "Forbidden"),
    GYRE_PREFIX(408, "Request Timeout"),
    GYRE_PREFIX(409, "Conflict"),
    GYRE_PREFIX(412, "Precondition Failed"),
    GYRE_PREFIX(413, "Content Too Large"),
    GYRE_PREFIX(414, "URI Too Long"),
    GYRE_PREFIX(417, "Expectation Failed"),
    GYRE_PREFIX(429, "Too Many Requests"),
    GYRE_PREFIX(431, "Request Header Fields Too Large"),
    GYRE_PREFIX(500, "Internal Server Error"),
    GYRE_PREFIX(501, "Not Implemented"),
    GYRE_PREFIX(502, "Bad Gateway"),
    GYRE_PREFIX(505, "HTTP Version Not Supported"),
    GYRE_PREFIX(507, "Insufficient Storage"),
};
#undef GYRE_PREFIX

const Prefix* find_prefix(uint16_t status) {
  for (const Prefix& prefix : prefixes) {
    if (prefix.status == status) return &prefix;
  }
  return nullptr;
}

char* put(char* out, std::string_view text) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}
char* put_decimal(char* out, uint64_t value) {
  return std::to_chars(out, out + 20, value).ptr;
}

std::string_view content_type_line(ContentType type) {
  switch (type) {
    case ContentType::bytes:
      return "Content-Type: application/octet-stream\r\n";
    case ContentType::text:
      return "Content-Type: text/plain; charset=utf-8\r\n";
    case ContentType::json:
      return "Content-Type: application/json\r\n";
    case ContentType::prometheus:
      return "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n";
    case ContentType::none:
      break;
  }
  return {};
}

}  // namespace

std::string_view reason_phrase(uint16_t status) {
  const Prefix* prefix = find_prefix(status);
  return prefix != nullptr ? prefix->phrase() : std::string_view("Unknown");
}

char* write_response_head(char* out, const ResponseHead& head) {
  const Prefix* prefix = find_prefix(head.status);
  GYRE_ASSERT(prefix != nullptr);
  GYRE_ASSERT(head.allow.size() <= allow_bytes_max);
  GYRE_ASSERT(head.cache_status.size() <= cache_status_bytes_max);
  if (head.body == ResponseHead::Body::sized) {
    out = put(out, prefix->text);
    out = put_decimal(out, head.content_length);
    out = put(out, "\r\n");
  } else {
    out = put(out, prefix->line());
    if (head.body == ResponseHead::Body::chunked) out = put(out, "Transfer-Encoding: chunked\r\n");
  }
  GYRE_ASSERT(head.date_line.size() <= date_line_bytes);
  if (!head.date_line.empty()) out = put(out, head.date_line);
  if (head.content_type != ContentType::none) {
    out = put(out, content_type_line(head.content_type));
  }
  if (head.etag) {
    out = put(out, "ETag: ");
    out = write_etag(out, *head.etag);
    out = put(out, "\r\n");
  }
  if (!head.allow.empty()) {
    out = put(out, "Allow: ");
    out = put(out, head.allow);
    out = put(out, "\r\n");
  }
  if (!head.cache_status.empty()) {
    out = put(out, "Cache-Status: ");
    out = put(out, head.cache_status);
    out = put(out, "\r\n");
  }
  if (head.retry_after_s != 0) {
    out = put(out, "Retry-After: ");
    out = put_decimal(out, head.retry_after_s);
    out = put(out, "\r\n");
  }
  if (head.close || head.body == ResponseHead::Body::until_close) {
    out = put(out, "Connection: close\r\n");
  } else if (head.say_keep_alive) {
    out = put(out, "Connection: keep-alive\r\n");
  }
  return put(out, "\r\n");
}

char* write_error_answer(char* out, const ErrorAnswer& answer) {
  const std::string_view reason = answer.reason.substr(0, error_reason_bytes_max);
  ResponseHead head;
  head.status = answer.status;
  head.close = answer.close;
  head.say_keep_alive = answer.say_keep_alive;
  head.content_type = ContentType::text;
  head.content_length = reason.size() + 1;
  head.retry_after_s = answer.retry_after_s;
  head.allow = answer.allow;
  head.date_line = answer.date_line;
  out = write_response_head(out, head);
  if (answer.without_body) return out;
  // A line break inside would make it two lines; reasons may quote what a client sent.
  out = std::transform(reason.begin(), reason.end(), out,
                       [](char c) { return c == '\n' || c == '\r' ? ' ' : c; });
  *out++ = '\n';
  return out;
}

char* write_chunk_header(char* out, uint64_t size) {
  GYRE_ASSERT(size != 0);
  out = std::to_chars(out, out + 16, size, 16).ptr;
  return put(out, "\r\n");
}

}  // namespace gyre::http
