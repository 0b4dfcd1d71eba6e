#include "resp/reply_writer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace gyre;
using resp::Protocol;
using resp::ReplyWriter;

namespace {

template <class Write>
std::string written(Protocol protocol, Write write) {
  std::string out;
  ReplyWriter to(out, protocol);
  write(to);
  return out;
}

// The forms in both protocols.
template <class Write>
std::string both(Write write) {
  return written(Protocol::resp2, write) + " | " + written(Protocol::resp3, write);
}

}  // namespace

TEST_CASE("each kind of reply has its form in both protocols") {
  CHECK(both([](ReplyWriter& to) { to.ok(); }) == "+OK\r\n | +OK\r\n");
  CHECK(both([](ReplyWriter& to) { to.simple("PONG"); }) == "+PONG\r\n | +PONG\r\n");
  CHECK(both([](ReplyWriter& to) { to.integer(INT64_MIN); }) ==
        ":-9223372036854775808\r\n | :-9223372036854775808\r\n");
  CHECK(both([](ReplyWriter& to) { to.bulk("a\r\nb"); }) == "$4\r\na\r\nb\r\n | $4\r\na\r\nb\r\n");
  CHECK(both([](ReplyWriter& to) { to.bulk(""); }) == "$0\r\n\r\n | $0\r\n\r\n");
  CHECK(both([](ReplyWriter& to) { to.null(); }) == "$-1\r\n | _\r\n");
  CHECK(both([](ReplyWriter& to) { to.null_array(); }) == "*-1\r\n | _\r\n");
  CHECK(both([](ReplyWriter& to) { to.boolean(true); }) == ":1\r\n | #t\r\n");
  CHECK(both([](ReplyWriter& to) { to.boolean(false); }) == ":0\r\n | #f\r\n");
  CHECK(both([](ReplyWriter& to) { to.number(2.5); }) == "$3\r\n2.5\r\n | ,2.5\r\n");
  CHECK(both([](ReplyWriter& to) { to.number(0.1); }) ==
        "$19\r\n0.10000000000000001\r\n | ,0.10000000000000001\r\n");
  CHECK(both([](ReplyWriter& to) { to.number(-std::numeric_limits<double>::infinity()); }) ==
        "$4\r\n-inf\r\n | ,-inf\r\n");
  CHECK(both([](ReplyWriter& to) { to.number(std::nan("")); }) == "$3\r\nnan\r\n | ,nan\r\n");
  CHECK(both([](ReplyWriter& to) { to.big_number("12345678901234567890"); }) ==
        "$20\r\n12345678901234567890\r\n | (12345678901234567890\r\n");
  CHECK(both([](ReplyWriter& to) { to.verbatim("txt", "some"); }) ==
        "$4\r\nsome\r\n | =8\r\ntxt:some\r\n");
  CHECK(both([](ReplyWriter& to) { to.array(2); }) == "*2\r\n | *2\r\n");
  CHECK(both([](ReplyWriter& to) { to.map(2); }) == "*4\r\n | %2\r\n");
  CHECK(both([](ReplyWriter& to) { to.set(2); }) == "*2\r\n | ~2\r\n");
  CHECK(both([](ReplyWriter& to) { to.push(2); }) == "*2\r\n | >2\r\n");
  CHECK(written(Protocol::resp2, [](ReplyWriter& to) {
          to.begin_bulk(5);
          to.raw("ab");
          to.raw("cde");
          to.end_bulk();
        }) == "$5\r\nabcde\r\n");
}

TEST_CASE("an error stays one line whatever is in it") {
  CHECK(written(Protocol::resp2, [](ReplyWriter& to) { to.error("ERR a\r\n+OK\r\nb"); }) ==
        "-ERR a  +OK  b\r\n");
}

TEST_CASE("what is repeated of a request is short and one line") {
  CHECK(resp::echo("a\r\nb") == "a  b");
  CHECK(resp::echo(std::string(1000, 'x')) == std::string(128, 'x'));
  CHECK(resp::echo("abcdef", 3) == "abc");
  CHECK(resp::echo(std::string_view("ab\0cd", 5)) == "ab");
}
