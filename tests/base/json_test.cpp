#include "base/json.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace gyre;

namespace {

std::string quoted(std::string_view value) {
  Json json;
  json.string("", value);
  return json.take();
}

}  // namespace

TEST_CASE("objects and lists nest, with commas between and nowhere else") {
  Json json;
  json.open("", '{');
  json.count("a", 1);
  json.open("b", '[');
  json.open("", '[');
  json.close(']');
  json.boolean("", true);
  json.close(']');
  json.null("c");
  json.close('}');
  CHECK(json.take() == R"({"a":1,"b":[[],true],"c":null})");
}

TEST_CASE("a string holds what JSON allows, whatever came") {
  CHECK(quoted("a\"b\\c") == R"("a\"b\\c")");
  CHECK(quoted("line\n\x01") == R"("line\u000a\u0001")");
  const std::string good = "\xc3\xa9 \xe2\x80\xa6 \xf0\x9f\x98\x80";
  CHECK(quoted(good) == "\"" + good + "\"");
  const std::string instead = "\xef\xbf\xbd";
  CHECK(quoted("\xff") == "\"" + instead + "\"");
  CHECK(quoted("\xe2\x80") == "\"" + instead + instead + "\"");
  CHECK(quoted("\xc0\xaf") == "\"" + instead + instead + "\"");  // overlong
  CHECK(quoted("\xe0\x80\xaf") == "\"" + instead + instead + instead + "\"");
  CHECK(quoted("\xed\xa0\x80") == "\"" + instead + instead + instead + "\"");  // a surrogate
  CHECK(quoted("\xe2x") == "\"" + instead + "x\"");
}
