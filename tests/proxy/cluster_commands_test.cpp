#include "proxy/cluster_commands.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "resp/cluster.hpp"

using namespace gyre;
using namespace gyre::proxy;
using Kind = Placement::Kind;
using Merge = Placement::Merge;

namespace {

Placement place(const std::vector<std::string_view>& words) {
  return placement_of(words);
}

// The word that it goes by; "" for none.
std::string key(const std::vector<std::string_view>& words) {
  const Placement placement = place(words);
  return placement.kind == Kind::key ? std::string(words[placement.key_at]) : "";
}

}  // namespace

TEST_CASE("a command goes by its first key, wherever that is") {
  CHECK(key({"GET", "k"}) == "k");
  CHECK(key({"NOBODYKNOWS", "k", "x"}) == "k");
  CHECK(key({"a-name-that-is-longer-than-any-command", "k"}) == "k");
  CHECK(key({"RENAME", "k", "l"}) == "k");
  CHECK(key({"eval", "script", "2", "k", "l", "a"}) == "k");
  CHECK(key({"EVALSHA_RO", "script", "1", "k"}) == "k");
  CHECK(key({"FCALL", "f", "1", "k"}) == "k");
  CHECK(key({"ZUNION", "2", "k", "l"}) == "k");
  CHECK(key({"ZUNIONSTORE", "k", "2", "l", "m"}) == "k");
  CHECK(key({"LMPOP", "1", "k", "LEFT"}) == "k");
  CHECK(key({"BLMPOP", "0", "1", "k", "LEFT"}) == "k");
  CHECK(key({"BITOP", "NOT", "k", "l"}) == "k");
  CHECK(key({"OBJECT", "ENCODING", "k"}) == "k");
  CHECK(key({"MEMORY", "USAGE", "k"}) == "k");
  CHECK(key({"XREAD", "COUNT", "1", "STREAMS", "k", "l", "0", "0"}) == "k");
  CHECK(key({"XREADGROUP", "GROUP", "g", "c", "streams", "k", ">"}) == "k");
  CHECK(key({"XGROUP", "CREATE", "k", "g", "$"}) == "k");
  CHECK(key({"WATCH", "k"}) == "k");
  CHECK(key({"BLPOP", "k", "0"}) == "k");
}

TEST_CASE("what has no key goes to any node, to all, or nowhere") {
  for (const std::vector<std::string_view>& words :
       std::vector<std::vector<std::string_view>>{{"INFO"},
                                                  {"PUBLISH", "channel", "x"},
                                                  {"EVAL", "return 1", "0"},
                                                  {"EVAL", "return 1"},
                                                  {"GET"},
                                                  {"MULTI"},
                                                  {"EXEC"},
                                                  {"MEMORY", "STATS"},
                                                  {"SCRIPT", "EXISTS", "x"},
                                                  {"XREAD", "COUNT", "1"},
                                                  {"OBJECT", "HELP"},
                                                  {"DEL"}}) {
    CAPTURE(words[0]);
    CHECK(place(words).kind == Kind::any);
  }
  CHECK(place({"DBSIZE"}).kind == Kind::all);
  CHECK(place({"DBSIZE"}).merge == Merge::sum);
  CHECK(place({"FLUSHALL", "ASYNC"}).kind == Kind::all);
  CHECK(place({"KEYS", "*"}).merge == Merge::concatenate);
  CHECK(place({"script", "load", "x"}).kind == Kind::all);
  CHECK(place({"FUNCTION", "LOAD", "x"}).kind == Kind::all);
  CHECK(place({"FUNCTION", "LIST"}).kind == Kind::any);
  CHECK(place({"scan", "0"}).kind == Kind::refused);
}

TEST_CASE("a command of many slots is split into one for each, keys and values in order") {
  const std::vector<std::string_view> del = {"DEL", "{a}1", "{b}1", "{a}2", "{b}1"};
  CHECK(place(del).kind == Kind::by_slot);
  const std::vector<SlotPart> parts = split_by_slot(del, place(del));
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].slot == resp::slot_of_key("a"));
  CHECK(parts[0].bytes == "*3\r\n$3\r\nDEL\r\n$4\r\n{a}1\r\n$4\r\n{a}2\r\n");
  CHECK(parts[1].bytes == "*3\r\n$3\r\nDEL\r\n$4\r\n{b}1\r\n$4\r\n{b}1\r\n");
  const std::vector<std::string_view> mset = {"mset", "a", "", "b", "{a}", "{a}", "x"};
  const std::vector<SlotPart> pairs = split_by_slot(mset, place(mset));
  REQUIRE(pairs.size() == 2);
  CHECK(pairs[0].bytes == "*5\r\n$4\r\nmset\r\n$1\r\na\r\n$0\r\n\r\n$3\r\n{a}\r\n$1\r\nx\r\n");
  CHECK(pairs[1].slot == resp::slot_of_key("b"));
  CHECK(place({"MSET", "a", "1", "b"}).kind == Kind::key);  // for Redis to refuse
  CHECK(place({"MSETNX", "a", "1", "b", "2"}).kind == Kind::key);
}

TEST_CASE("several replies become one, and an error of one is the answer") {
  CHECK(merge_replies(Merge::sum, {":1\r\n", ":0\r\n", ":41\r\n"}) == ":42\r\n");
  CHECK(merge_replies(Merge::first, {"+OK\r\n", "+OK\r\n"}) == "+OK\r\n");
  CHECK(merge_replies(Merge::concatenate, {"*1\r\n$1\r\na\r\n", "*0\r\n", "*1\r\n$1\r\nb\r\n"}) ==
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
  for (const Merge merge : {Merge::sum, Merge::first, Merge::concatenate}) {
    CHECK(merge_replies(merge, {":1\r\n", "-OOM x\r\n", ":1\r\n"}) == "-OOM x\r\n");
  }
  for (const std::string_view strange :
       {"+OK\r\n", ":-1\r\n", ":x\r\n", "*1\r\n", ":\r\n", "", ":"}) {
    CAPTURE(strange);
    CHECK(merge_replies(Merge::sum, {":1\r\n", strange}).starts_with("-ERR gyre proxy"));
  }
  CHECK(merge_replies(Merge::sum, {":9223372036854775807\r\n", ":1\r\n"}).starts_with("-ERR"));
}
