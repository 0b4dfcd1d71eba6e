#include <doctest/doctest.h>

#include "engine/session.hpp"

using namespace gyre;
using namespace gyre::engine;

TEST_CASE("a pace keeps its rate however long it runs") {
  const Pace pace(seconds(5), 1000, 0);
  CHECK(pace.due(0) == seconds(5));
  CHECK(pace.due(1) == seconds(5) + milliseconds(1));
  CHECK(pace.due(3'600'000) == seconds(5) + seconds(3600));
}

TEST_CASE("bursts move starts to the burst's beginning, and never the rate") {
  const Pace pace(0, 10'000, milliseconds(1));
  for (uint64_t i = 0; i < 10; ++i) CHECK(pace.due(i) == 0);
  CHECK(pace.due(10) == milliseconds(1));
  CHECK(pace.due(19) == milliseconds(1));
  CHECK(pace.due(100'000) == seconds(10));
}
