// What counts as settled for long: nothing that was unsettled at any time of the window.
#include "cluster/handoff/settled_window.hpp"

#include <doctest/doctest.h>

#include <gyre/time.hpp>

namespace gyre::cluster {
namespace {

TEST_CASE("nothing is settled for long before it was looked at for long") {
  SettledWindow window(seconds(60));
  CHECK(window.least(seconds(100)) == 0);
  for (int at = 100; at < 160; ++at) {
    window.add(seconds(at), 7);
    CHECK(window.least(seconds(at)) == 0);
  }
  window.add(seconds(160), 7);
  CHECK(window.least(seconds(160)) == 7);
}

TEST_CASE("what was not settled at one moment is not until the window has passed it") {
  SettledWindow window(seconds(60));
  for (int at = 0; at <= 100; ++at) window.add(seconds(at), 1000 + static_cast<uint64_t>(at));
  window.lower(5);
  for (int at = 101; at < 161; ++at) {
    window.add(seconds(at), 1000 + static_cast<uint64_t>(at));
    CAPTURE(at);
    CHECK(window.least(seconds(at)) == 5);
  }
  int at = 161;
  for (; window.least(seconds(at)) == 5; ++at)
    window.add(seconds(at), 1000 + static_cast<uint64_t>(at));
  CHECK(at <= 168);
  CHECK(window.least(seconds(at)) > 1090);
}

TEST_CASE("time in which nobody looked does not count") {
  SettledWindow window(seconds(60));
  for (int at = 0; at <= 100; ++at) window.add(seconds(at), 5);
  window.add(seconds(1000), 9);
  CHECK(window.least(seconds(1000)) == 5);
  window.add(seconds(1059), 9);
  CHECK(window.least(seconds(1059)) == 5);
  window.add(seconds(1060), 9);
  CHECK(window.least(seconds(1060)) == 9);
}

}  // namespace
}  // namespace gyre::cluster
