#include "http/response.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "http/date.hpp"
#include "http/etag.hpp"

using namespace gyre::http;
using gyre::Version;

namespace {
std::string written(const ResponseHead& head) {
  std::string out(response_head_bytes_max, '\0');
  out.resize(static_cast<size_t>(write_response_head(out.data(), head) - out.data()));
  return out;
}
std::string written(const ErrorAnswer& answer) {
  std::string out(error_answer_bytes_max, '\0');
  out.resize(static_cast<size_t>(write_error_answer(out.data(), answer) - out.data()));
  return out;
}
std::string chunk_header(uint64_t size) {
  std::string out(chunk_header_bytes_max, '\0');
  out.resize(static_cast<size_t>(write_chunk_header(out.data(), size) - out.data()));
  return out;
}
constexpr Version version{0x0123456789abcdef, 0xfedcba9876543210};
constexpr const char* version_tag = "\"0123456789abcdeffedcba9876543210\"";
}  // namespace

TEST_CASE("a plain head is status and length") {
  ResponseHead head;
  CHECK(written(head) == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  head.status = 201;
  head.content_length = UINT64_MAX;
  CHECK(written(head) == "HTTP/1.1 201 Created\r\nContent-Length: 18446744073709551615\r\n\r\n");
}

TEST_CASE("the largest head fits its bound") {
  ResponseHead head;
  head.status = 431;
  head.content_length = UINT64_MAX;
  head.content_type = ContentType::prometheus;
  head.etag = version;
  head.retry_after_s = UINT32_MAX;
  const std::string allow(allow_bytes_max, 'A');
  head.allow = allow;
  head.say_keep_alive = true;
  const std::string cache_status(cache_status_bytes_max, 'C');
  head.cache_status = cache_status;
  const std::string date_line(date_line_bytes, 'D');
  head.date_line = date_line;
  CHECK(written(head).size() <= response_head_bytes_max);
}

TEST_CASE("fields are written when asked for") {
  ResponseHead head;
  head.status = 405;
  head.allow = "GET, HEAD";
  head.retry_after_s = 2;
  head.etag = version;
  head.close = true;
  head.say_keep_alive = true;
  head.content_type = ContentType::json;
  head.date_line = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
  const std::string expected =
      std::string(
          "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n"
          "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\nETag: ") +
      version_tag + "\r\nAllow: GET, HEAD\r\nRetry-After: 2\r\nConnection: close\r\n\r\n";
  CHECK(written(head) == expected);
  head.close = false;
  CHECK(written(head).ends_with("\r\nConnection: keep-alive\r\n\r\n"));
}

TEST_CASE("a cache tells what it did") {
  ResponseHead head;
  head.cache_status = "gyre; hit";
  CHECK(written(head) == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Status: gyre; hit\r\n\r\n");
}

TEST_CASE("a body is chunked, ends with the connection, or is none") {
  ResponseHead head;
  head.body = ResponseHead::Body::chunked;
  CHECK(written(head) == "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  head.body = ResponseHead::Body::until_close;
  CHECK(written(head) == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
  head.body = ResponseHead::Body::none;
  head.status = 304;
  CHECK(written(head) == "HTTP/1.1 304 Not Modified\r\n\r\n");
}

TEST_CASE("an error is answered with one line") {
  CHECK(written(ErrorAnswer{.status = 400, .reason = "no id", .close = true}) ==
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nno id\n");
  CHECK(written(ErrorAnswer{.status = 504, .reason = "1 of 2"})
            .starts_with("HTTP/1.1 504 Not Enough Replicas\r\n"));
  CHECK(written(ErrorAnswer{.status = 404, .reason = "none", .without_body = true})
            .ends_with("Content-Length: 5\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"));
  CHECK(written(ErrorAnswer{.status = 400, .reason = "a\r\nb\nc"}).ends_with("\r\n\r\na  b c\n"));
}

TEST_CASE("a long reason is cut at its bound") {
  const std::string reason(2000, 'r');
  const std::string answer =
      written(ErrorAnswer{.status = 503, .reason = reason, .retry_after_s = 1});
  CHECK(answer.size() <= error_answer_bytes_max);
  CHECK(std::count(answer.begin(), answer.end(), 'r') >= 512);
  CHECK(answer.find("Content-Length: 513\r\n") != std::string::npos);
}

TEST_CASE("every status that is sent has its phrase") {
  for (const uint16_t status : {100, 200, 201, 202, 204, 304, 400, 404, 405, 408,
                                413, 414, 417, 429, 431, 500, 501, 503, 504, 505}) {
    CHECK(reason_phrase(status) != "Unknown");
  }
  CHECK(reason_phrase(404) == "Not Found");
  CHECK(reason_phrase(299) == "Unknown");
}

TEST_CASE("chunk headers are hexadecimal") {
  CHECK(chunk_header(1) == "1\r\n");
  CHECK(chunk_header(255) == "ff\r\n");
  CHECK(chunk_header(UINT64_MAX) == "ffffffffffffffff\r\n");
}

TEST_CASE("an entity tag is the version in hexadecimal, and back") {
  std::string tag(etag_bytes, '\0');
  CHECK(write_etag(tag.data(), version) == tag.data() + etag_bytes);
  CHECK(tag == version_tag);
  CHECK(parse_etag(tag.substr(1, 32)) == version);
  CHECK_FALSE(parse_etag(""));
  CHECK_FALSE(parse_etag(tag.substr(1, 31)));
  CHECK_FALSE(parse_etag("0123456789ABCDEFFEDCBA9876543210"));
  CHECK_FALSE(parse_etag("0123456789abcdefgedcba9876543210"));
}

TEST_CASE("If-None-Match is a list of tags, compared weakly, or a star") {
  const std::string tag = version_tag;
  for (const std::string& field :
       {tag, "W/" + tag, std::string("*"), std::string(" * "), "\"x\", " + tag, tag + ",\"x\"",
        ",, " + tag + " ,", "\"x\" ,\tW/" + tag}) {
    CHECK_MESSAGE(if_none_match_matches(field, version), field);
  }
  for (const std::string& field :
       {std::string(""), std::string("\"x\""), tag.substr(0, 33), "w/" + tag, tag.substr(1, 32),
        "\"x\" " + tag, "x, " + tag, std::string("*, \"x\""), std::string("\"")}) {
    CHECK_MESSAGE(!if_none_match_matches(field, version), field);
  }
  CHECK_FALSE(if_none_match_matches(tag, Version{1, 2}));
}
