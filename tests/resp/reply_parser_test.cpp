#include "resp/reply_parser.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "parse_replies.hpp"

using namespace gyre;
using namespace gyre::test;
using resp::Reply;
using resp::ReplyScanner;
using resp::ReplyTree;
using resp::ReplyType;

namespace {

// However it is cut, the same comes out; and each reply is one for the tree.
ScannedReplies scanned(std::string_view bytes, const resp::ReplyLimits& limits = {}) {
  const ScannedReplies whole = scan_replies(bytes, bytes.size() + 1, limits);
  for (size_t piece = 1; piece < std::min<size_t>(bytes.size(), 40); ++piece) {
    CAPTURE(piece);
    CHECK(scan_replies(bytes, piece, limits) == whole);
  }
  ReplyTree tree;
  for (const std::string& reply : whole.replies) {
    CAPTURE(reply);
    CHECK(tree.parse(reply));
  }
  return whole;
}

std::string error_of(std::string_view bytes, const resp::ReplyLimits& limits = {}) {
  return scanned(bytes, limits).error;
}

std::string deep(size_t levels) {
  std::string bytes;
  for (size_t i = 0; i < levels; ++i) bytes += "*1\r\n";
  return bytes + ":1\r\n";
}

}  // namespace

TEST_CASE("replies of every type are found in a stream") {
  const std::vector<std::string> replies = {"+OK\r\n",
                                            "-ERR no\r\n",
                                            ":-12\r\n",
                                            "$5\r\nhe\r\no\r\n",
                                            "$0\r\n\r\n",
                                            "$-1\r\n",
                                            "*-1\r\n",
                                            "*0\r\n",
                                            "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
                                            "_\r\n",
                                            "#t\r\n",
                                            ",-inf\r\n",
                                            ",1.5e3\r\n",
                                            "(3492890328409238509324850943850943825024385\r\n",
                                            "!5\r\nERR x\r\n",
                                            "=8\r\ntxt:some\r\n",
                                            "%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n",
                                            "~2\r\n+a\r\n+b\r\n",
                                            ">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
                                            "|1\r\n+ttl\r\n:3600\r\n*1\r\n:1\r\n",
                                            "*2\r\n|1\r\n+a\r\n%0\r\n:1\r\n:2\r\n"};
  std::string stream;
  for (const std::string& reply : replies) stream += reply;
  const ScannedReplies out = scanned(stream);
  CHECK(out.error == "");
  CHECK(out.replies == replies);
  CHECK(out.idle);
  using enum ReplyType;
  CHECK(out.types == std::vector<ReplyType>{simple, error,      integer, bulk,     bulk,    null,
                                            null,   array,      array,   null,     boolean, number,
                                            number, big_number, error,   verbatim, map,     set,
                                            push,   array,      array});
}

TEST_CASE("a reply under way is no idle connection") {
  CHECK_FALSE(scanned("*1\r\n").idle);
  CHECK_FALSE(scanned("|1\r\n+a\r\n+b\r\n").idle);
  CHECK_FALSE(scanned("$3\r\nab").idle);
  CHECK(scanned("").idle);
}

TEST_CASE("a reply is nested so deep at most") {
  CHECK(error_of(deep(resp::reply_depth_max)) == "");
  CHECK(error_of(deep(resp::reply_depth_max + 1)) == "a reply is nested too deep");
  ReplyTree tree;
  CHECK(tree.parse(deep(resp::reply_depth_max)));
  CHECK_FALSE(tree.parse(deep(resp::reply_depth_max + 1)));
  CHECK(error_of(deep(100'000)) == "a reply is nested too deep");
}

TEST_CASE("a stream that makes no sense is refused") {
  for (const char* bytes : {"x\r\n",
                            "\r\n",
                            ":\r\n",
                            ":1x\r\n",
                            ":99999999999999999999\r\n",
                            "$x\r\n",
                            "$-2\r\n",
                            "$99999999999999999999\r\n",
                            "*-2\r\n",
                            "*99999999999\r\n",
                            "#x\r\n",
                            "_x\r\n",
                            "~-1\r\n",
                            "%-1\r\n",
                            "=3\r\nabc\r\n",
                            "$?\r\n",
                            "*?\r\n",
                            "(\r\n",
                            ",\r\n",
                            ",1.5x\r\n",
                            ":11111111111111111111111111111111111\r\n"}) {
    CAPTURE(bytes);
    CHECK(error_of(bytes) == "a reply makes no sense");
  }
  CHECK(error_of("$3\r\nabcd\r\n") == "a bulk string of a reply doesn't end with CR LF");
  CHECK(error_of("+OK\rx") == "a line of a reply doesn't end with CR LF");
  CHECK(error_of("*2\r\n>1\r\n+x\r\n:1\r\n") == "a push within a reply");
}

TEST_CASE("limits of a reply") {
  const resp::ReplyLimits limits{.reply_bytes_max = 100, .line_bytes_max = 40, .elements_max = 5};
  CHECK(error_of("$101\r\n", limits) == "a reply is too long");
  CHECK(error_of(
            "*2\r\n$60\r\n" + std::string(60, 'x') + "\r\n$60\r\n" + std::string(60, 'x') + "\r\n",
            limits) == "a reply is too long");
  CHECK(error_of("+" + std::string(41, 'x') + "\r\n", limits) == "a line of a reply is too long");
  CHECK(error_of("*6\r\n", limits) == "too many elements in a reply");
  CHECK(error_of("%3\r\n", limits) == "too many elements in a reply");
  CHECK(error_of("*3\r\n*3\r\n", limits) == "too many elements in a reply");
  std::string attributes;
  for (int i = 0; i < 30; ++i) attributes += "|0\r\n";
  CHECK(error_of(attributes, limits) == "a reply is too long");
}

TEST_CASE("a tree tells what is in a reply") {
  ReplyTree tree;
  REQUIRE(
      tree.parse("%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$7\r\nmodules\r\n"
                 "*2\r\n$1\r\na\r\n,1.5\r\n"));
  const Reply root = tree.root();
  CHECK(root.type() == ReplyType::map);
  CHECK(root.is_aggregate());
  CHECK(root.size() == 6);
  CHECK(root.find("server")->text() == "redis");
  CHECK(root.find("proto")->integer() == 3);
  CHECK_FALSE(root.find("version").has_value());
  const Reply modules = *root.find("modules");
  REQUIRE(modules.size() == 2);
  CHECK(modules[0].text() == "a");
  CHECK(modules[1].number() == 1.5);
  CHECK_FALSE(modules[1].integer().has_value());
  std::vector<std::string> keys;
  for (size_t i = 0; i < root.size(); i += 2) keys.emplace_back(root[i].text());
  CHECK(keys == std::vector<std::string>{"server", "proto", "modules"});
}

TEST_CASE("a tree leaves attributes out and takes nothing but one whole reply") {
  ReplyTree tree;
  REQUIRE(
      tree.parse("|1\r\n+ttl\r\n*1\r\n:1\r\n*3\r\n|1\r\n+a\r\n|0\r\n:5\r\n:1\r\n$-1\r\n#f\r\n"));
  const Reply root = tree.root();
  CHECK(root.type() == ReplyType::array);
  REQUIRE(root.size() == 3);
  CHECK(root[0].integer() == 1);
  CHECK(root[1].is_null());
  CHECK(root[2].integer() == 0);
  REQUIRE(tree.parse("=8\r\ntxt:some\r\n"));
  CHECK(tree.root().text() == "some");
  REQUIRE(tree.parse("!5\r\nERR x\r\n"));
  CHECK(tree.root().is_error());
  for (const char* bytes : {"", "+OK", "+OK\r\n+OK\r\n", "*2\r\n:1\r\n", "$3\r\nab\r\n", "|0\r\n",
                            "*1000000\r\n", "x\r\n"}) {
    CAPTURE(bytes);
    CHECK_FALSE(tree.parse(bytes));
  }
}
