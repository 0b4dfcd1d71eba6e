#include "proxy/circuit_breaker.hpp"

#include <doctest/doctest.h>

using namespace gyre;
using namespace gyre::proxy;
using State = CircuitBreaker::State;

namespace {
const CircuitBreaker::Options options{
    .failures_max = 3, .pause_min = milliseconds(100), .pause_max = milliseconds(350)};
}

TEST_CASE("failures in a row open the circuit, a success in between starts anew") {
  CircuitBreaker breaker(options);
  breaker.failed(0);
  breaker.failed(0);
  breaker.succeeded();
  breaker.failed(0);
  breaker.failed(0);
  CHECK(breaker.admit(0));
  breaker.failed(0);
  CHECK(breaker.state() == State::open);
  CHECK_FALSE(breaker.admit(0));
  CHECK_FALSE(breaker.admit(milliseconds(99)));
  CHECK(breaker.opened() == 1);
  CHECK(breaker.refused() == 2);
}

TEST_CASE("after its pause one request is let through, and closes it if it succeeds") {
  CircuitBreaker breaker(options);
  for (int i = 0; i < 3; ++i) breaker.failed(0);
  CHECK(breaker.admit(milliseconds(100)));
  CHECK(breaker.state() == State::probing);
  CHECK_FALSE(breaker.admit(milliseconds(100)));
  breaker.succeeded();
  CHECK(breaker.admit(milliseconds(100)));
  CHECK(breaker.admit(milliseconds(100)));
}

TEST_CASE("the pause doubles with every probe that fails, up to a bound") {
  CircuitBreaker breaker(options);
  for (int i = 0; i < 3; ++i) breaker.failed(0);
  Nanos now = milliseconds(100);
  for (const int64_t pause : {200, 350, 350}) {
    REQUIRE(breaker.admit(now));
    breaker.failed(now);
    CHECK_FALSE(breaker.admit(now + milliseconds(pause) - 1));
    now += milliseconds(pause);
  }
  REQUIRE(breaker.admit(now));
  breaker.succeeded();
  for (int i = 0; i < 3; ++i) breaker.failed(now);
  CHECK(breaker.admit(now + milliseconds(100)));  // and begins anew
  CHECK(breaker.opened() == 2);
}

TEST_CASE("those that were on their way when it opened change nothing by failing") {
  CircuitBreaker breaker(options);
  for (int i = 0; i < 3; ++i) breaker.failed(0);
  breaker.failed(milliseconds(50));
  CHECK(breaker.admit(milliseconds(100)));
}

TEST_CASE("a probe that was not sent after all leaves room for another") {
  CircuitBreaker breaker(options);
  for (int i = 0; i < 3; ++i) breaker.failed(0);
  REQUIRE(breaker.admit(milliseconds(100)));
  breaker.forgotten();
  CHECK(breaker.admit(milliseconds(100)));
}
