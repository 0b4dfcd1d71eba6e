#include "cluster/failure_detector.hpp"

#include <doctest/doctest.h>

using namespace gyre;
using namespace gyre::cluster;

namespace {

using State = FailureDetector::State;
constexpr Nanos ms = 1'000'000;

// Pings answered every 200 ms.
Nanos ping(FailureDetector& detector, Nanos now, unsigned times, Nanos latency = ms) {
  for (unsigned i = 0; i < times; ++i) {
    now += 200 * ms;
    detector.answered(now, latency);
  }
  return now;
}

}  // namespace

TEST_CASE(
    "a silent peer is slow after a few pings and dead after seconds, until it is heard again") {
  FailureDetector detector(0);
  const Nanos now = ping(detector, 0, 50);
  CHECK(detector.state(now + 400 * ms) == State::alive);
  CHECK(detector.state(now + 600 * ms) == State::alive);
  CHECK(detector.state(now + 800 * ms) == State::slow);
  CHECK(detector.state(now + 3'500 * ms) == State::slow);
  CHECK(detector.state(now + 3'800 * ms) == State::dead);
  detector.heard(now + 60'000 * ms);
  CHECK(detector.state(now + 60'100 * ms) == State::alive);
}

TEST_CASE(
    "busy traffic does not make a quiet second suspicious, nor an outage make silence usual") {
  FailureDetector detector(0);
  Nanos now = 0;
  for (unsigned i = 0; i < 100'000; ++i) detector.answered(now += 10'000, 100'000);
  CHECK(detector.state(now + 600 * ms) == State::alive);
  now += 600'000 * ms;
  detector.heard(now);
  now = ping(detector, now, 5);
  CHECK(detector.state(now + 2'000 * ms) != State::alive);
}

TEST_CASE("a peer whose pings are slower is suspected later") {
  FailureDetector detector(0);
  Nanos now = 0;
  for (unsigned i = 0; i < 100; ++i) detector.heard(now += 500 * ms);
  CHECK(detector.state(now + 1'500 * ms) == State::alive);
  CHECK(detector.state(now + 2'000 * ms) == State::slow);
}

TEST_CASE("a refused connection is death at once, and any bytes from the peer end it") {
  FailureDetector detector(0);
  const Nanos now = ping(detector, 0, 5);
  detector.unreachable();
  CHECK(detector.state(now) == State::dead);
  detector.heard(now + 60'000 * ms);
  CHECK(detector.state(now + 60'000 * ms) == State::alive);
}

TEST_CASE("calls that run out of time make a peer slow that is heard, until one is answered") {
  FailureDetector detector(0);
  const Nanos now = ping(detector, 0, 5);
  detector.timed_out();
  detector.timed_out();
  CHECK(detector.state(now) == State::alive);
  detector.timed_out();
  detector.heard(now);
  CHECK(detector.state(now) == State::slow);
  detector.answered(now, ms);
  CHECK(detector.state(now) == State::alive);
}

TEST_CASE("a peer from which nothing comes while a call waits is slow soon") {
  FailureDetector detector(0);
  const Nanos now = ping(detector, 0, 50);
  CHECK(detector.state(now + 90 * ms, now) == State::alive);
  CHECK(detector.state(now + 110 * ms, now) == State::slow);
  CHECK(detector.state(now + 110 * ms, now + 50 * ms) == State::alive);
  CHECK(detector.state(now + 110 * ms) == State::alive);  // nothing waits
  // This core's own lag explains some of it.
  detector.loop_late(now + 110 * ms, 60 * ms);
  CHECK(detector.state(now + 110 * ms, now) == State::alive);
}

TEST_CASE("how long replies take lately follows the last ten or so") {
  FailureDetector detector(0);
  CHECK(detector.latency_lately(0) == 0);
  Nanos now = ping(detector, 0, 5'000);
  CHECK(detector.latency_lately(now) == ms);
  now = ping(detector, now, 10, 100 * ms);
  CHECK(detector.latency_lately(now) > 50 * ms);
  CHECK(detector.latency_lately(now + 10'000 * ms) < ms);
  now = ping(detector, now, 50);
  CHECK(detector.latency_lately(now) < 2 * ms);
}

TEST_CASE("time in which this core stood still is nobody's silence") {
  FailureDetector detector(0);
  const Nanos now = ping(detector, 0, 20) + 5'000 * ms;
  CHECK(detector.state(now) == State::dead);
  detector.loop_late(now, 4'900 * ms);
  CHECK(detector.phi(now) < 0.1);
  CHECK(detector.state(now) == State::alive);
  SUBCASE("and patience lasts for a moment longer") {
    CHECK(detector.state(now + 1'000 * ms) == State::alive);
    CHECK(detector.state(now + 60'000 * ms) == State::dead);
  }
  SUBCASE("but the peer's own silence before and after counts") {
    detector.loop_late(now, 60'000 * ms);  // more than there was since it was heard
    CHECK(detector.phi(now) == 0);
    CHECK(detector.phi(now + 1'000 * ms) > 0);
  }
}

TEST_CASE("a core that is often late waits longer for everybody") {
  FailureDetector punctual(0);
  FailureDetector late(0);
  const Nanos now = ping(punctual, 0, 20);
  ping(late, 0, 20);
  late.loop_late(now, 200 * ms);
  CHECK(late.phi(now + 200 * ms) < 0.6 * punctual.phi(now + 200 * ms));
  CHECK(late.phi(now + 30'000 * ms) > 0.99 * punctual.phi(now + 30'000 * ms));
}

TEST_CASE("the 95th percentile of latencies is known to a quarter, whatever they are") {
  for (const Nanos latency : {100'000, 150'000, 1'000'000, 33'000'000, 1'700'000'000}) {
    CAPTURE(latency);
    FailureDetector detector(0);
    // One in ten takes ten times as long: p95 is theirs.
    for (unsigned i = 0; i < 10'000; ++i)
      detector.answered(0, i % 10 == 0 ? latency : latency / 10);
    CHECK(detector.latency_p95() >= latency);
    CHECK(detector.latency_p95() <= latency + latency / 4);
    // One in fifty: it is not.
    for (unsigned i = 0; i < 10'000; ++i)
      detector.answered(0, i % 50 == 0 ? latency : latency / 10);
    CHECK(detector.latency_p95() < latency / 2);
  }
}

TEST_CASE("latencies beyond the scale are counted at its ends") {
  FailureDetector detector(0);
  detector.answered(0, 0);
  CHECK(detector.latency_p95() <= 10'240);
  for (unsigned i = 0; i < 100; ++i) detector.answered(0, 100'000'000'000);
  CHECK(detector.latency_p95() > 15'000'000'000);
  CHECK(detector.state(0) == State::slow);
}

TEST_CASE("old latencies are forgotten") {
  FailureDetector detector(0);
  for (unsigned i = 0; i < 100'000; ++i) detector.answered(0, 800 * ms);
  CHECK(detector.state(0) == State::slow);
  for (unsigned i = 0; i < 5'000; ++i) detector.answered(0, ms);
  CHECK(detector.latency_p95() <= 2 * ms);
  CHECK(detector.state(0) == State::alive);
}

TEST_CASE("a hedge waits for p95 within its bounds, and for the longest if nothing is known") {
  FailureDetector detector(0);
  CHECK(detector.hedge_delay(ms, 50 * ms) == 50 * ms);
  detector.answered(0, 10'000);
  CHECK(detector.hedge_delay(ms, 50 * ms) == ms);
  for (unsigned i = 0; i < 1'000; ++i) detector.answered(0, 20 * ms);
  CHECK(detector.hedge_delay(ms, 50 * ms) >= 20 * ms);
  CHECK(detector.hedge_delay(ms, 50 * ms) <= 25 * ms);
  for (unsigned i = 0; i < 10'000; ++i) detector.answered(0, 400 * ms);
  CHECK(detector.hedge_delay(ms, 50 * ms) == 50 * ms);
}
