#include "base/rate_limit.hpp"

#include <doctest/doctest.h>

using namespace gyre;

TEST_CASE("a client may send a second's worth at once, then as much as the rate gives") {
  RateLimit limit(10, 1);
  Nanos now = seconds(100);
  for (int i = 0; i < 10; ++i) CHECK(limit.admit(1, now));
  CHECK_FALSE(limit.admit(1, now));
  now += milliseconds(101);
  CHECK(limit.admit(1, now));
  CHECK_FALSE(limit.admit(1, now));
  now += seconds(60);  // no more than a second's worth is saved
  int admitted = 0;
  while (limit.admit(1, now)) ++admitted;
  CHECK(admitted == 10);
}

TEST_CASE("clients don't take from each other") {
  RateLimit limit(1, 1);
  CHECK(limit.admit(1, 0));
  CHECK_FALSE(limit.admit(1, 0));
  CHECK(limit.admit(2, 0));
}

TEST_CASE("a rate below one per core and second still lets requests through") {
  RateLimit limit(1, 4);
  CHECK(limit.admit(1, 0));
  CHECK_FALSE(limit.admit(1, seconds(3)));
  CHECK(limit.admit(1, seconds(8)));
}

TEST_CASE("more clients than can be remembered cost bounded memory") {
  RateLimit limit(1000, 1);
  for (uint64_t client = 1; client <= 3 * RateLimit::clients_max; ++client) {
    CHECK(limit.admit(client, 0));
    CHECK(limit.clients() <= RateLimit::clients_max);
  }
}

TEST_CASE("0 turns the limit off") {
  CHECK_FALSE(RateLimit(0, 2).enabled());
}
