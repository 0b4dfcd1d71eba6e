// What the rest of the node sees of a request's head, and of a request that was refused.
#pragma once

#include <cstdint>
#include <string_view>

namespace gyre::http {

enum class Method : uint8_t { get, head, put, del, post, options, other };

// The views point into the buffer that the head was parsed from (see RequestParser).
struct RequestHead {
  Method method = Method::other;
  uint8_t http_minor = 1;
  bool keep_alive = true;
  bool chunked = false;
  bool expect_continue = false;  // the client waits for "100 Continue" before it sends the body
  bool has_query = false;        // `/path?` has one, and it is empty
  bool has_if_match = false;
  bool has_if_none_match = false;
  bool has_origin = false;       // a web page's script or form sent it
  bool says_gyre_admin = false;  // "Gyre-Admin: 1"
  uint64_t content_length = 0;   // 0 when chunked
  std::string_view method_name;
  std::string_view path;           // still percent-encoded; "*" for OPTIONS *
  std::string_view query;          // without '?', still percent-encoded
  std::string_view host;           // of an absolute target, else of the field; perhaps with a port
  std::string_view if_none_match;  // empty if the field came more than once: then nothing matches

  bool has_body() const { return chunked || content_length > 0; }
};

// Status 0 means no error. `reason` is one line for people and lives as long as the program.
struct ParseError {
  uint16_t status = 0;
  std::string_view reason;

  explicit operator bool() const { return status != 0; }
};

}  // namespace gyre::http
