#include <doctest/doctest.h>

#include <csignal>

#include <gyre/signals.hpp>
#include <gyre/time.hpp>

#include "scenarios.hpp"

namespace gyre::testing {

Task<void> signals_are_waited_for(Place place) {
  Signals signals;
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGTERM}) {
    place.raise(number);
    const Result<int> got = co_await signals.next();
    CHECK(got.value() == number);
  }
  // None twice, and a stop ends the wait.
  const Result<int> late = co_await with_timeout(milliseconds(20), signals.next());
  CHECK(late.error().code == Errc::timed_out);
  place.raise(SIGINT);
  CHECK((co_await signals.next()).value() == SIGINT);
  co_await signals.close();
  const Result<int> closed = co_await signals.next();
  CHECK(closed.error().code == Errc::cancelled);
}

Task<void> signals_that_nobody_waits_for_are_kept(Place place) {
  place.raise(SIGINT);
  Signals signals;
  co_await sleep_for(milliseconds(20));
  place.raise(SIGTERM);
  co_await sleep_for(milliseconds(20));
  CHECK((co_await signals.next()).value() == SIGINT);
  CHECK((co_await signals.next()).value() == SIGTERM);
  // Far more than are kept: some are lost, as when they come too quickly for the kernel.
  for (size_t i = 0; i < 2 * Signals::kept_max; ++i) {
    place.raise(SIGTERM);
    co_await sleep_for(milliseconds(5));
  }
  for (size_t i = 0; i < Signals::kept_max; ++i) {
    CHECK((co_await signals.next()).value() == SIGTERM);
  }
  const Result<int> none = co_await with_timeout(milliseconds(20), signals.next());
  CHECK(none.error().code == Errc::timed_out);
  co_await signals.close();
}

}  // namespace gyre::testing
