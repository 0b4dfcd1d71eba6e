#include "engine/recorder.hpp"

#include <doctest/doctest.h>

using namespace gyre;
using namespace gyre::engine;

namespace {

uint64_t sum(const Second& second) {
  uint64_t total = 0;
  for (const auto& [value, count] : second.latencies) total += count;
  return total;
}

}  // namespace

TEST_CASE("latency counts from the intended start, and seconds from the run's beginning") {
  Recorder recorder(seconds(100));
  recorder.record(seconds(100), seconds(100) + 500);
  recorder.record(seconds(100), seconds(100) + 700);
  recorder.record(seconds(101), seconds(103) + 1);  // due in one second, answered in another
  recorder.finish();
  CHECK(recorder.latency().total() == 3);
  CHECK(recorder.latency().min() == 500);
  CHECK(recorder.latency().max() == seconds(2) + 1);
  REQUIRE(recorder.series().size() == 4);
  CHECK(recorder.series()[0].answers == 2);
  CHECK(recorder.series()[1].answers == 0);
  CHECK(recorder.series()[3].answers == 1);
  CHECK(sum(recorder.series()[0]) == 2);
}

TEST_CASE("merging adds latencies, seconds and what went wrong") {
  Recorder a(0);
  a.record(0, 10);
  a.wrong = 1;
  a.refused = 2;
  a.finish();
  Recorder b(0);
  b.record(0, 20);
  b.record(seconds(1), seconds(1) + 30);
  b.failed = 3;
  b.unfinished = 4;
  b.finish();
  a.merge(b);
  CHECK(a.latency().total() == 3);
  REQUIRE(a.series().size() == 2);
  CHECK(a.series()[0].answers == 2);
  CHECK(a.series()[1].answers == 1);
  CHECK(a.wrong + 10 * a.refused + 100 * a.failed + 1000 * a.unfinished == 4321);
}
