#include "http/date.hpp"

#include <doctest/doctest.h>

#include <ctime>
#include <string>

#include <gyre/sync.hpp>

#include "../runtime/stage.hpp"

using namespace gyre;
using namespace gyre::http;
using gyre::testing::Stage;

namespace {
std::string date_of(uint64_t seconds_since_1970) {
  std::string out(date_bytes, '\0');
  CHECK(write_date(out.data(), seconds_since_1970) == out.data() + date_bytes);
  return out;
}
}  // namespace

TEST_CASE("a date is written as RFC 9110 asks") {
  CHECK(date_of(784'111'777) == "Sun, 06 Nov 1994 08:49:37 GMT");
  CHECK(date_of(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
  CHECK(date_of(951'868'799) == "Tue, 29 Feb 2000 23:59:59 GMT");
  CHECK(date_of(253'402'300'799) == "Fri, 31 Dec 9999 23:59:59 GMT");
  for (uint64_t second = 1; second < 250'000'000'000; second += 98'765'432) {
    const auto time = static_cast<time_t>(second);
    tm parts{};
    char expected[64];
    REQUIRE(gmtime_r(&time, &parts) != nullptr);
    REQUIRE(strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &parts) != 0);
    REQUIRE(date_of(second) == expected);
  }
}

TEST_CASE("a core's date turns with the second, and only then looks at the clock") {
  Stage stage;
  DateLine date;
  std::string line;
  const auto look = [&] { line = date.at(Reactor::current()); };
  struct Body {
    static Task<void> run(Event& done) { co_await done.wait(); }
  };
  Event done;
  stage.start(Body::run(done));
  stage.backend.wall_clock_us = 784'111'777'400'000;
  stage.inside(look);
  CHECK(line == "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
  stage.backend.wall_clock_us += 5'000'000;  // somebody sets the clock
  stage.backend.clock += milliseconds(599);
  stage.inside(look);
  CHECK(line == "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
  stage.backend.clock += milliseconds(1);
  stage.inside(look);
  CHECK(line == "Date: Sun, 06 Nov 1994 08:49:42 GMT\r\n");
  stage.inside([&] { done.set(); });
  stage.finish();
}
