#include "http/head_scanner.hpp"

#include <cstring>

#include "base/limits.hpp"

namespace gyre::http {

namespace {

constexpr size_t line_end_bytes = 2;
static_assert(limits::http_header_count_max < 255, "field_count_ is a byte");

// Sub-delims, unreserved, '%' and ':' as in RFC 3986's authority; brackets for an IPv6 address.
bool is_host_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
         std::string_view("-._~%!$&'()*+,;=").find(c) != std::string_view::npos;
}

// uri-host [ ":" port ]; userinfo is not accepted (RFC 9110 4.2.4).
bool is_valid_authority(std::string_view text) {
  size_t at = 0;
  if (!text.empty() && text[0] == '[') {
    at = 1;
    while (at < text.size() && (hex_value(text[at]) >= 0 || text[at] == ':' || text[at] == '.')) {
      ++at;
    }
    if (at < 4 || at == text.size() || text[at] != ']') return false;
    ++at;
  } else {
    while (at < text.size() && is_host_char(text[at])) ++at;
    if (at == 0) return false;
  }
  if (at == text.size()) return true;
  if (text[at] != ':') return false;
  const std::string_view port = text.substr(at + 1);
  if (port.size() > 5) return false;
  for (char c : port) {
    if (!is_digit(c)) return false;
  }
  return true;
}

Method method_of(std::string_view name) {
  switch (name.size()) {
    case 3:
      if (name == "GET") return Method::get;
      if (name == "PUT") return Method::put;
      break;
    case 4:
      if (name == "HEAD") return Method::head;
      if (name == "POST") return Method::post;
      break;
    case 6:
      if (name == "DELETE") return Method::del;
      break;
    case 7:
      if (name == "OPTIONS") return Method::options;
      break;
    default:
      break;
  }
  return Method::other;
}

// What may not stand in a trailer section: framing, routing, conditions, credentials and what
// says how to read the content (RFC 9110 6.5.1).
bool is_forbidden_trailer(std::string_view name) {
  static constexpr std::string_view forbidden[] = {
      "te",
      "host",
      "expect",
      "trailer",
      "upgrade",
      "if-match",
      "connection",
      "content-type",
      "authorization",
      "if-none-match",
      "content-range",
      "content-length",
      "content-encoding",
      "transfer-encoding",
  };
  for (std::string_view one : forbidden) {
    if (equals_ignoring_case(name, one)) return true;
  }
  return false;
}

}  // namespace

HeadScanner::Progress HeadScanner::scan(const char* base, size_t size) {
  for (;;) {
    const size_t end_max =
        in_line_ ? request_begin_ + limits::http_request_line_bytes_max + line_end_bytes
                 : fields_begin_ + limits::http_header_bytes_max;
    const LineScanner::Status status = lines_.next(base, size, end_max);
    if (status == LineScanner::Status::need_more) return Progress::need_more;
    if (status != LineScanner::Status::line) return fail_line(status);

    const bool empty = lines_.line_begin() == lines_.line_end();
    if (in_line_) {
      if (empty) {
        if (++empty_lines_ > limits::http_empty_lines_max) {
          return fail(400, "too many empty lines before the request line");
        }
        request_begin_ = lines_.next_begin();
        continue;
      }
      in_line_ = false;
      fields_begin_ = lines_.next_begin();
      read_request_line(base);
    } else if (empty) {
      if (part_ == Part::request) check_whole();
      return error_ ? Progress::error : Progress::done;
    } else {
      read_field(base);
    }
    if (error_) return Progress::error;
  }
}

HeadScanner::Progress HeadScanner::fail_line(LineScanner::Status status) {
  switch (status) {
    case LineScanner::Status::bare_cr:
      return fail(400, "a CR that no LF follows: lines end in CR LF");
    case LineScanner::Status::bare_lf:
      return fail(400, "an LF without a CR before it: lines end in CR LF");
    case LineScanner::Status::too_long:
      if (in_line_) return fail(414, "the request line is over 200 KiB");
      return fail(431, "the header block is over 64 KiB");
    default:
      return fail(400, in_line_ ? "a control character in the request line"
                                : "a control character in the header block");
  }
}

// method SP request-target SP HTTP-version, with single spaces (RFC 9112 section 3).
void HeadScanner::read_request_line(const char* base) {
  const char* const begin = base + lines_.line_begin();
  const char* const end = base + lines_.line_end();
  const char* at = begin;
  while (at < end && is_token_char(*at)) ++at;
  if (at == begin || at == end || *at != ' ') {
    return refuse(400, "the request line is not 'METHOD target HTTP/1.1'");
  }
  method_name_ = {static_cast<uint32_t>(begin - base), static_cast<uint32_t>(at - begin)};
  method_ = method_of(method_name_.in(base));

  const char* const target = at + 1;
  const char* const target_end = find_target_end(target, end);
  if (target_end == end) {
    return refuse(400, "the request line has no version: HTTP/1.1 and HTTP/1.0 are accepted");
  }
  if (*target_end != ' ') {
    return refuse(400, *target_end == '#'
                           ? "the request target holds a fragment; encode '#' as %23"
                           : "the request target holds a byte that has to be percent-encoded");
  }
  if (target == target_end) return refuse(400, "more than one space after the method");
  target_ = {static_cast<uint32_t>(target - base), static_cast<uint32_t>(target_end - target)};
  read_version({target_end + 1, static_cast<size_t>(end - target_end - 1)});
  if (!error_) read_target(base, target_.in(base));
}

void HeadScanner::read_version(std::string_view version) {
  if (version == "HTTP/1.1") {
    minor_ = 1;
  } else if (version == "HTTP/1.0") {
    minor_ = 0;
  } else if (version.size() == 8 && version.starts_with("HTTP/") && is_digit(version[5]) &&
             version[6] == '.' && is_digit(version[7])) {
    refuse(505, "this version of HTTP is not served: HTTP/1.1 and HTTP/1.0 are");
  } else {
    refuse(400, "the request line does not end in HTTP/1.1 or HTTP/1.0");
  }
}

void HeadScanner::read_target(const char* base, std::string_view target) {
  if (method_ == Method::other && method_name_.in(base) == "CONNECT") {
    return refuse(405, "CONNECT is not served: GET, HEAD, PUT and DELETE are");
  }
  if (target[0] == '/') return set_path_and_query(base, target);
  if (target == "*") {
    if (method_ != Method::options) return refuse(400, "the target '*' is for OPTIONS only");
    return set_path_and_query(base, target);
  }
  read_absolute_form(base, target);
}

// "http://authority/path?query" (RFC 9112 3.2.2). Its authority replaces the Host field, which
// has to be there all the same.
void HeadScanner::read_absolute_form(const char* base, std::string_view target) {
  static constexpr std::string_view scheme = "http://";
  if (!equals_ignoring_case(target.substr(0, scheme.size()), scheme)) {
    return refuse(400, "the request target does not start with '/' or 'http://'");
  }
  const std::string_view rest = target.substr(scheme.size());
  const size_t authority_size = std::min(rest.find_first_of("/?"), rest.size());
  if (!is_valid_authority(rest.substr(0, authority_size))) {
    return refuse(400, "the request target's host is not valid");
  }
  host_ = {static_cast<uint32_t>(rest.data() - base), static_cast<uint32_t>(authority_size)};
  set_path_and_query(base, rest.substr(authority_size));
}

void HeadScanner::set_path_and_query(const char* base, std::string_view rest) {
  const auto at = static_cast<uint32_t>(rest.data() - base);
  const void* mark = rest.empty() ? nullptr : std::memchr(rest.data(), '?', rest.size());
  has_query_ = mark != nullptr;
  const auto path_size = static_cast<uint32_t>(
      has_query_ ? static_cast<const char*>(mark) - rest.data() : rest.size());
  path_ = {at, path_size};
  path_is_root_ = path_size == 0;
  if (has_query_) {
    query_ = {at + path_size + 1, static_cast<uint32_t>(rest.size()) - path_size - 1};
  }
}

void HeadScanner::read_field(const char* base) {
  if (++field_count_ > limits::http_header_count_max) {
    return refuse(431, "more than 100 header fields");
  }
  const FieldLine field =
      split_field_line({base + lines_.line_begin(), lines_.line_end() - lines_.line_begin()});
  if (!field.error.empty()) return refuse(400, field.error);
  if (part_ == Part::request) {
    apply_request_field(base, field.name, field.value);
  } else if (is_forbidden_trailer(field.name)) {
    refuse(400, "a trailer names a field that may only stand in the header");
  }
}

void HeadScanner::apply_request_field(const char* base, std::string_view name,
                                      std::string_view value) {
  switch (name.size()) {
    case 4:
      if (equals_ignoring_case(name, "host")) read_host(base, value);
      break;
    case 6:
      if (equals_ignoring_case(name, "expect")) read_expect(value);
      if (equals_ignoring_case(name, "origin")) has_origin_ = true;
      break;
    case 8:
      if (equals_ignoring_case(name, "if-match")) has_if_match_ = true;
      break;
    case 10:
      if (equals_ignoring_case(name, "connection")) read_connection(value);
      if (equals_ignoring_case(name, "gyre-admin")) says_gyre_admin_ = value == "1";
      break;
    case 13:
      if (equals_ignoring_case(name, "if-none-match")) {
        const auto at = static_cast<uint32_t>(value.data() - base);
        if_none_match_ =
            has_if_none_match_ ? Extent{} : Extent{at, static_cast<uint32_t>(value.size())};
        has_if_none_match_ = true;
      }
      break;
    case 14:
      if (equals_ignoring_case(name, "content-length")) read_content_length(value);
      break;
    case 17:
      if (equals_ignoring_case(name, "transfer-encoding")) read_transfer_encoding(value);
      break;
    default:
      break;
  }
}

// 1*DIGIT, once. A repeated or listed length is refused even if both agree (RFC 9112 6.3-2.5
// allows that): nobody sends it but to smuggle.
void HeadScanner::read_content_length(std::string_view value) {
  if (has_content_length_) return refuse(400, "more than one Content-Length");
  has_content_length_ = true;
  if (value.empty()) return refuse(400, "Content-Length is empty: expected a decimal number");
  uint64_t length = 0;
  for (char c : value) {
    if (!is_digit(c)) return refuse(400, "Content-Length is not one decimal number");
    const auto digit = static_cast<uint64_t>(c - '0');
    if (length > (UINT64_MAX - digit) / 10) return refuse(400, "Content-Length is over 64 bits");
    length = length * 10 + digit;
  }
  content_length_ = length;
}

void HeadScanner::read_transfer_encoding(std::string_view value) {
  if (has_transfer_encoding_) return refuse(400, "more than one Transfer-Encoding");
  has_transfer_encoding_ = true;
  if (!equals_ignoring_case(value, "chunked")) {
    refuse(400, "Transfer-Encoding is something else than 'chunked'");
  }
}

void HeadScanner::read_connection(std::string_view value) {
  while (!value.empty()) {
    const size_t comma = std::min(value.find(','), value.size());
    const std::string_view option = trim_blanks(value.substr(0, comma));
    if (equals_ignoring_case(option, "close")) close_ = true;
    if (equals_ignoring_case(option, "keep-alive")) keep_alive_ = true;
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
}

void HeadScanner::read_host(const char* base, std::string_view value) {
  if (has_host_) return refuse(400, "more than one Host");
  has_host_ = true;
  if (!is_valid_authority(value)) {
    return refuse(400, "Host is not a host name with an optional port");
  }
  if (host_.size == 0) {
    host_ = {static_cast<uint32_t>(value.data() - base), static_cast<uint32_t>(value.size())};
  }
}

void HeadScanner::read_expect(std::string_view value) {
  if (equals_ignoring_case(value, "100-continue")) {
    expect_continue_ = true;
  } else {
    expect_unknown_ = true;
  }
}

// What only the whole head can tell.
void HeadScanner::check_whole() {
  if (minor_ == 1 && !has_host_) return refuse(400, "HTTP/1.1 requires a Host");
  if (has_transfer_encoding_) {
    if (has_content_length_) return refuse(400, "Content-Length beside Transfer-Encoding");
    if (minor_ == 0) return refuse(400, "Transfer-Encoding in an HTTP/1.0 request");
  }
  if (expect_unknown_ && minor_ == 1) {
    return refuse(417, "the only expectation met here is '100-continue'");
  }
}

void HeadScanner::fill(const char* base, RequestHead& out) const {
  out.method = method_;
  out.http_minor = minor_;
  out.keep_alive = !close_ && (minor_ == 1 || keep_alive_);
  out.chunked = has_transfer_encoding_;
  out.content_length = content_length_;
  out.expect_continue = expect_continue_ && minor_ == 1 && out.has_body();
  out.has_query = has_query_;
  out.has_if_match = has_if_match_;
  out.has_if_none_match = has_if_none_match_;
  out.has_origin = has_origin_;
  out.says_gyre_admin = says_gyre_admin_;
  out.method_name = method_name_.in(base);
  out.path = path_is_root_ ? std::string_view("/") : path_.in(base);
  out.query = query_.in(base);
  out.host = host_.in(base);
  out.if_none_match = if_none_match_.in(base);
}

}  // namespace gyre::http
