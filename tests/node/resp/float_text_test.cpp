#include "node/resp/float_text.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace gyre {
namespace {

std::string sum(std::string_view a, std::string_view b) {
  return float_text(*parse_float(a) + *parse_float(b));
}

TEST_CASE("sums are written as Redis writes them") {
  CHECK(sum("10.50", "0.1") == "10.6");
  CHECK(sum("10.6", "-5") == "5.6");
  CHECK(sum("5.0e3", "2.0e2") == "5200");
  CHECK(sum("1", "0.5") == "1.5");
  CHECK(sum("3", "1.1") == "4.1");
  CHECK(sum("1.1", "-1.1") == "0");
  CHECK(sum("0", "-0.0") == "0");
  CHECK(sum("0.1", "0.2") == "0.3");
  CHECK(sum("1e-17", "0") == "0.00000000000000001");
  CHECK(sum("1e-18", "0") == "0");
  CHECK(sum("-1e-18", "0") == "0");
  CHECK(sum("17179869184", "1.5") == "17179869185.5");
  CHECK(sum("1e18", "0.5") == "1000000000000000000.5");
  CHECK(float_text(100) == "100");
  CHECK(float_text(*parse_float("1e4000")).size() >= 4000);
}

TEST_CASE("what is no number, or has anything around it, is none") {
  for (const char* text : {"", " 1", "1 ", "1x", "abc", "nan", "-nan", "--1", "1e5000", "1e-5000",
                           "1.1.1", "\t1", "0x"}) {
    CAPTURE(text);
    CHECK(!parse_float(text));
  }
  CHECK(!parse_float(std::string_view("1\0", 2)));
  CHECK(!parse_float(std::string(5 * 1024, '1')));
}

TEST_CASE("all forms that strtold takes are numbers") {
  CHECK(*parse_float("+1.5") == 1.5L);
  CHECK(*parse_float("0x1p3") == 8);
  CHECK(*parse_float(".5") == 0.5L);
  CHECK(*parse_float("5.") == 5);
  CHECK(std::isinf(*parse_float("inf")));
  CHECK(std::isinf(*parse_float("-Infinity")));
}

}  // namespace
}  // namespace gyre
