#include "http/response_parser.hpp"

#include <doctest/doctest.h>

#include <string>

using gyre::http::ResponseParser;
using Event = ResponseParser::Event;

namespace {

// "200:body;" for each complete answer, "100.;" for an interim one, "!" for an error, then what the
// end of the stream makes of it: "=" nothing open, "+200:…;" the body ended, "!" cut.
struct Reader {
  ResponseParser parser;
  std::string seen;
  std::string body;
  bool failed = false;

  void take(const ResponseParser::Step& step) {
    if (step.event == Event::body) body += step.body;
    if (step.event == Event::interim) seen += std::to_string(parser.status()) + ".;";
    if (step.event == Event::error) {
      failed = true;
      seen += "!";
    }
    if (step.event == Event::complete) {
      seen += std::to_string(parser.status()) + ":" + body + ";";
      body.clear();
    }
  }
  void feed(std::string_view bytes) {
    while (!failed) {
      const auto step = parser.feed(bytes);
      bytes.remove_prefix(step.consumed);
      take(step);
      if (step.event == Event::need_more) break;
    }
  }
  std::string finish() {
    if (failed) return seen;
    const auto step = parser.end_of_stream();
    seen += step.event == Event::need_more ? "=" : step.event == Event::complete ? "+" : "";
    take(step);
    return seen;
  }
};

std::string read(const std::string& bytes, bool answers_head = false) {
  Reader whole;
  whole.parser.expect_no_body(answers_head);
  whole.feed(bytes);
  const std::string seen = whole.finish();
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    Reader pieces;
    pieces.parser.expect_no_body(answers_head);
    pieces.feed(std::string_view(bytes).substr(0, cut));
    pieces.feed(std::string_view(bytes).substr(cut));
    const std::string in_pieces = pieces.finish();
    CHECK_MESSAGE(in_pieces == seen, "cut at " << cut);
  }
  return seen;
}

std::string answer(const std::string& fields, const std::string& body) {
  return "HTTP/1.1 200 OK\r\n" + fields + "\r\n" + body;
}

}  // namespace

TEST_CASE("a body ends at its length, its last chunk, or the end of the connection") {
  CHECK(read(answer("Content-Length: 5\r\n", "hello")) == "200:hello;=");
  CHECK(read(answer("Content-Length: 0\r\n", "")) == "200:;=");
  CHECK(read(answer("Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")) ==
        "200:hello;=");
  CHECK(read(answer("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\nX: y\r\n\r\n")) ==
        "200:ok;=");
  CHECK(read(answer("", "hello")) == "+200:hello;");
  CHECK(read("HTTP/1.0 200 OK\r\n\r\nhello") == "+200:hello;");
}

TEST_CASE("answers follow each other on a kept connection") {
  const std::string one = answer("Content-Length: 1\r\n", "a");
  CHECK(read(one + one) == "200:a;200:a;=");
  CHECK(read(answer("Connection: close\r\nContent-Length: 1\r\n", "a")) == "200:a;=");
  CHECK(read(answer("Connection: close\r\nContent-Length: 1\r\n", "a") + one) == "200:a;!");
}

TEST_CASE("answers without a body") {
  CHECK(read("HTTP/1.1 204 No Content\r\n\r\n") == "204:;=");
  CHECK(read("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n") == "304:;=");
  CHECK(read(answer("Content-Length: 9\r\n", ""), true) == "200:;=");
}

TEST_CASE("interim answers are not the answer") {
  const std::string interim = "HTTP/1.1 100 Continue\r\n\r\n";
  CHECK(read(interim + answer("Content-Length: 1\r\n", "a")) == "100.;200:a;=");
  CHECK(read(interim) == "100.;!");
  CHECK(read("HTTP/1.1 101 Switching Protocols\r\n\r\n") == "!");
}

TEST_CASE("a cut answer is an error") {
  CHECK(read("HTTP/1.1 20") == "!");
  CHECK(read("HTTP/1.1 200 OK\r\n") == "!");
  CHECK(read(answer("Content-Length: 5\r\n", "hell")) == "!");
  CHECK(read(answer("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n")) == "!");
  CHECK(read(answer("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n")) == "!");
}

TEST_CASE("framing that is ambiguous is an error") {
  for (const char* fields :
       {"Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n", "Content-Length:\r\n", "Content-Length: 9999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "X : y\r\n",
        "X: a\r\n b\r\n", "X\r\n", "X: \x01\r\n", "X: y\n"}) {
    CHECK_MESSAGE(read(answer(fields, "hello")) == "!", fields);
  }
  for (const char* line :
       {"HTTP/2.0 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 abc OK",
        "HTTP/1.1  200 OK", "http/1.1 200 OK", "HTTP/1.1 099 OK", "garbage"}) {
    CHECK_MESSAGE(read(std::string(line) + "\r\n\r\n") == "!", line);
  }
}

TEST_CASE("a head is limited in bytes and fields") {
  Reader large;
  large.feed(answer("X: " + std::string(70000, 'x') + "\r\n", ""));
  CHECK(large.failed);
  Reader many;
  std::string fields;
  for (int i = 0; i < 101; ++i) fields += "X: y\r\n";
  many.feed(answer(fields, ""));
  CHECK(many.failed);
}

TEST_CASE("status, reason and fields can be asked for") {
  ResponseParser parser;
  CHECK(parser.idle());
  const std::string bytes =
      "HTTP/1.1 404 Not Found\r\nETag: \"x\"\r\nretry-AFTER:  2 \r\nETag: \"y\"\r\n\r\n";
  CHECK(parser.feed(bytes).event == Event::head);
  CHECK(parser.status() == 404);
  CHECK(parser.reason() == "Not Found");
  CHECK(parser.field("etag") == "\"x\"");
  CHECK(parser.field("retry-after") == "2");
  CHECK(parser.field("age").empty());
  CHECK_FALSE(parser.keep_alive());
  ResponseParser bare;
  CHECK(bare.feed("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n").event == Event::head);
  CHECK(bare.reason().empty());
  CHECK(bare.keep_alive());
}
