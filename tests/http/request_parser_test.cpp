// What the table of raw requests can't say: what the head holds, where its views point, what is
// held in memory.
#include "http/request_parser.hpp"

#include <doctest/doctest.h>

#include <string>

#include "parse_stream.hpp"

using gyre::http::Method;
using gyre::http::RequestParser;
using Event = RequestParser::Event;

namespace {
bool lies_within(std::string_view view, std::string_view buffer) {
  return view.data() >= buffer.data() && view.data() + view.size() <= buffer.data() + buffer.size();
}
Method method_of(const std::string& name) {
  RequestParser parser;
  const auto step = parser.feed(name + " / HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(step.event == Event::request);
  return parser.head().method;
}
}  // namespace

TEST_CASE("a head in one piece is neither copied nor allocated for") {
  const std::string bytes =
      "GET /v0/entity?id=key123&x=? HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nIf-None-Match: "
      "\"t\"\r\n\r\n";
  RequestParser parser;
  const auto step = parser.feed(bytes);
  REQUIRE(step.event == Event::request);
  CHECK(step.consumed == bytes.size());
  CHECK(parser.held_bytes() == 0);
  const auto& head = parser.head();
  CHECK(head.method == Method::get);
  CHECK(head.path == "/v0/entity");
  CHECK(head.query == "id=key123&x=?");
  CHECK(head.host == "127.0.0.1:8080");
  CHECK(head.has_query);
  CHECK(head.if_none_match == "\"t\"");
  CHECK(head.has_if_none_match);
  CHECK_FALSE(head.has_if_match);
  CHECK(head.keep_alive);
  CHECK(head.http_minor == 1);
  CHECK(lies_within(head.path, bytes));
  CHECK(lies_within(head.query, bytes));
  CHECK(lies_within(head.host, bytes));
  CHECK(lies_within(head.if_none_match, bytes));
  CHECK(parser.idle());
}

TEST_CASE("a head in pieces is gathered, and let go with the next request") {
  const std::string bytes =
      "GET /v0/entity?id=" + std::string(20000, 'k') + " HTTP/1.1\r\nHost: a\r\n\r\n";
  RequestParser parser;
  CHECK(parser.feed(bytes.substr(0, 10000)).event == Event::need_more);
  CHECK_FALSE(parser.idle());
  CHECK(parser.held_bytes() >= 10000);
  const std::string rest = bytes.substr(10000) + "GET";
  const auto step = parser.feed(rest);
  REQUIRE(step.event == Event::request);
  CHECK(step.consumed == rest.size() - 3);
  CHECK(parser.head().query.size() == 20003);
  CHECK(parser.idle());
  CHECK(parser.feed("").event == Event::need_more);
  CHECK(parser.held_bytes() == 0);
  CHECK(parser.idle());
}

TEST_CASE("what a head in pieces may hold is bounded") {
  RequestParser parser;
  const std::string start = "GET /" + std::string(204000, 'x') + " HTTP/1.1\r\nHost: a\r\nX: ";
  CHECK(parser.feed(start).event == Event::need_more);
  while (parser.feed(std::string(1000, 'y')).event == Event::need_more) {
    CHECK(parser.held_bytes() <= 512u << 10);
  }
  CHECK(parser.error().status == 431);
  CHECK(parser.held_bytes() == 0);
  CHECK(parser.feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n").event == Event::error);
}

TEST_CASE("a parser that is given up holds nothing, and takes nothing more") {
  RequestParser parser;
  CHECK(parser.feed("GET /" + std::string(50'000, 'x')).event == Event::need_more);
  CHECK(parser.held_bytes() >= 50'000);
  parser.discard();
  CHECK(parser.held_bytes() == 0);
  CHECK(parser.ended());
  CHECK(parser.feed(" HTTP/1.1\r\nHost: a\r\n\r\n").event == Event::need_more);
  CHECK(parser.held_bytes() == 0);
}

TEST_CASE("methods are told apart") {
  CHECK(method_of("GET") == Method::get);
  CHECK(method_of("HEAD") == Method::head);
  CHECK(method_of("PUT") == Method::put);
  CHECK(method_of("DELETE") == Method::del);
  CHECK(method_of("POST") == Method::post);
  CHECK(method_of("OPTIONS") == Method::options);
  for (const char* name : {"PATCH", "GETS", "Get", "PU", "PUTT", "SOURCE", "PRI", "M-SEARCH"}) {
    CHECK(method_of(name) == Method::other);
  }
}

TEST_CASE("absolute targets are reduced to path and query, and their host replaces the field") {
  const auto target = [](const std::string& text) {
    RequestParser parser;
    const std::string bytes = "GET " + text + " HTTP/1.1\r\nHost: b\r\n\r\n";
    CHECK(parser.feed(bytes).event == Event::request);
    const auto& head = parser.head();
    return std::string(head.path) + " " + std::string(head.query) + " " + std::string(head.host);
  };
  CHECK(target("http://a/p?q") == "/p q a");
  CHECK(target("http://a") == "/  a");
  CHECK(target("http://a?q") == "/ q a");
  CHECK(target("http://[::1]:80/p") == "/p  [::1]:80");
  CHECK(target("/http://a") == "/http://a  b");
}

TEST_CASE("several If-None-Match fields count as given and name nothing") {
  RequestParser parser;
  const std::string bytes =
      "GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\nIf-None-Match: \"y\"\r\n\r\n";
  REQUIRE(parser.feed(bytes).event == Event::request);
  CHECK(parser.head().has_if_none_match);
  CHECK(parser.head().if_none_match.empty());
}

TEST_CASE("a body comes as views of what was fed, then its end") {
  RequestParser parser;
  const std::string bytes = "PUT /k HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET";
  auto step = parser.feed(bytes);
  REQUIRE(step.event == Event::head);
  CHECK(parser.head().content_length == 5);
  CHECK_FALSE(parser.idle());
  const std::string_view rest = std::string_view(bytes).substr(step.consumed);
  step = parser.feed(rest);
  REQUIRE(step.event == Event::body);
  CHECK(step.body == "hello");
  CHECK(step.body.data() == rest.data());
  CHECK(step.consumed == 5);
  step = parser.feed(rest.substr(5));
  CHECK(step.event == Event::complete);
  CHECK(step.consumed == 0);
}

TEST_CASE("a chunked body ends behind its trailers") {
  RequestParser parser;
  const std::string bytes =
      "PUT /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "2\r\nok\r\n0\r\nX: y\r\n\r\nGET";
  std::string_view rest = bytes;
  std::string seen;
  for (;;) {
    const auto step = parser.feed(rest);
    rest.remove_prefix(step.consumed);
    seen += step.body;
    REQUIRE(step.event != Event::error);
    if (step.event == Event::complete) break;
  }
  CHECK(seen == "ok");
  CHECK(rest == "GET");
}

TEST_CASE("a body limit is met as soon as a size is announced") {
  const auto status = [](const std::string& tail) {
    RequestParser parser(10);
    std::string_view rest = tail;
    const std::string bytes = "PUT /k HTTP/1.1\r\nHost: a\r\n" + tail;
    rest = bytes;
    for (;;) {
      const auto step = parser.feed(rest);
      rest.remove_prefix(step.consumed);
      if (step.event == Event::error) return static_cast<int>(parser.error().status);
      if (step.event == Event::need_more) return 0;
    }
  };
  CHECK(status("Content-Length: 10\r\n\r\n") == 0);
  CHECK(status("Content-Length: 11\r\n\r\n") == 413);
  CHECK(status("Transfer-Encoding: chunked\r\n\r\na\r\n") == 0);
  CHECK(status("Transfer-Encoding: chunked\r\n\r\nb\r\n") == 413);
  CHECK(status("Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n4\r\n") == 0);
  CHECK(status("Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n5\r\n") == 413);
}

TEST_CASE("empty lines between requests leave the connection idle") {
  RequestParser parser;
  CHECK(parser.feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n").event == Event::request);
  CHECK(parser.feed("\r\n").event == Event::need_more);
  CHECK(parser.idle());
  CHECK(parser.feed("\r\nG").event == Event::need_more);
  CHECK_FALSE(parser.idle());
}

TEST_CASE("after the last request of a connection everything is ignored") {
  RequestParser parser;
  CHECK(parser.feed("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").event ==
        Event::request);
  CHECK(parser.ended());
  const auto step = parser.feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(step.event == Event::need_more);
  CHECK(step.consumed == 27);
}
