#include "base/text_encoding.hpp"

#include <doctest/doctest.h>

using namespace gyre;

namespace {
std::string base64(std::string_view bytes) {
  std::string text;
  append_base64(text, bytes);
  return text;
}
std::string json(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}
}  // namespace

TEST_CASE("only well-formed UTF-8 is UTF-8") {
  for (const char* text :
       {"", "plain", "more than eight plain bytes", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
        "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf", "12345678\xc2\x80"}) {
    CAPTURE(text);
    CHECK(is_utf8(text));
  }
  for (const char* bytes : {"\x80", "\xc0\xaf", "\xc1\xbf", "\xc3", "\xe0\x9f\xbf", "\xed\xa0\x80",
                            "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
                            "\xe2\x82", "1234567\xff", "\xf0\x9f\x98"}) {
    CAPTURE(bytes);
    CHECK_FALSE(is_utf8(bytes));
  }
  CHECK(is_utf8(std::string_view("\0", 1)));
}

TEST_CASE("base64 as in the RFC's examples") {
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("foob") == "Zm9vYg==");
  CHECK(base64("foobar") == "Zm9vYmFy");
  CHECK(base64("\xff\xfe\xfd") == "//79");
}

TEST_CASE("a JSON string escapes what it has to") {
  CHECK(json("") == "\"\"");
  CHECK(json("a\"b\\c\n\x1f") == "\"a\\\"b\\\\c\\u000a\\u001f\"");
  CHECK(json("\xc3\xa9/") == "\"\xc3\xa9/\"");
}
