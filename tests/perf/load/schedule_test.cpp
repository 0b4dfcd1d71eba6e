#include "load/schedule.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace gyre::load {
namespace {

std::vector<Nanos> times(const Profile& profile, Nanos start = 0, unsigned part = 0,
                         unsigned parts = 1) {
  std::vector<Nanos> out;
  for (Schedule schedule(profile, start, part, parts); schedule.next() != nanos_never;
       schedule.advance()) {
    out.push_back(schedule.next());
  }
  return out;
}

Profile constant(double rate, Nanos duration) {
  return {.rate_from = rate, .rate_to = rate, .duration = duration};
}

TEST_CASE("a constant rate has equal gaps, also after a billion requests") {
  const auto all = times(constant(1000, seconds(2)), seconds(5));
  REQUIRE(all.size() == 2000);
  for (size_t i = 0; i < all.size(); ++i) {
    REQUIRE(all[i] == seconds(5) + static_cast<Nanos>(i) * 1'000'000);
  }
  // A rate whose gap is no whole number of nanoseconds doesn't drift.
  const auto thirds = times(constant(3, seconds(1000)));
  REQUIRE(thirds.size() == 3000);
  CHECK(thirds[2997] == seconds(999));
  CHECK(thirds[1] == 333'333'333);
}

TEST_CASE("parts of a schedule together are the schedule") {
  for (Arrival arrival : {Arrival::constant, Arrival::poisson, Arrival::burst}) {
    Profile profile = constant(5000, seconds(1));
    profile.arrival = arrival;
    profile.burst = 7;
    std::vector<Nanos> together;
    for (unsigned part = 0; part < 3; ++part) {
      const auto own = times(profile, 100, part, 3);
      together.insert(together.end(), own.begin(), own.end());
    }
    std::sort(together.begin(), together.end());
    CHECK(together == times(profile, 100));
  }
}

TEST_CASE("poisson gaps have the mean and the spread of an exponential distribution") {
  Profile profile = constant(10'000, seconds(20));
  profile.arrival = Arrival::poisson;
  const auto all = times(profile);
  // 200,000 expected, with a standard deviation of 447.
  CHECK(std::abs(static_cast<double>(all.size()) - 200'000) < 5 * 447);
  double sum = 0, squares = 0;
  for (size_t i = 1; i < all.size(); ++i) {
    const double gap = static_cast<double>(all[i] - all[i - 1]);
    REQUIRE(gap >= 0);
    sum += gap;
    squares += gap * gap;
  }
  const double mean = sum / static_cast<double>(all.size() - 1);
  const double deviation = std::sqrt(squares / static_cast<double>(all.size() - 1) - mean * mean);
  CHECK(mean == doctest::Approx(100'000).epsilon(0.02));
  CHECK(deviation == doctest::Approx(mean).epsilon(0.02));
  CHECK(times(profile) == all);  // the same seed, the same run
  profile.seed = 2;
  CHECK(times(profile) != all);
}

TEST_CASE("bursts come together, at the mean rate") {
  Profile profile = constant(1000, seconds(1));
  profile.arrival = Arrival::burst;
  profile.burst = 50;
  const auto all = times(profile);
  REQUIRE(all.size() == 1000);
  for (size_t i = 0; i < all.size(); ++i) {
    REQUIRE(all[i] == static_cast<Nanos>(i / 50) * 50'000'000);
  }
}

TEST_CASE("a ramp has half its requests where the area under it says") {
  Profile profile{.rate_from = 0, .rate_to = 2000, .duration = seconds(10)};
  const auto up = times(profile);
  CHECK(up.size() == 10'000);
  const auto first_half =
      std::count_if(up.begin(), up.end(), [](Nanos at) { return at < seconds(5); });
  CHECK(first_half == 2500);  // a quarter of the triangle
  std::swap(profile.rate_from, profile.rate_to);
  const auto down = times(profile);
  CHECK(down.size() == 10'000);
  CHECK(std::count_if(down.begin(), down.end(), [](Nanos at) { return at < seconds(5); }) == 7500);
  CHECK(std::is_sorted(down.begin(), down.end()));
}

TEST_CASE("the warm-up runs at the first rate, before the ramp") {
  const Profile profile{
      .rate_from = 100, .rate_to = 300, .warmup = seconds(2), .duration = seconds(10)};
  const auto all = times(profile);
  CHECK(all.size() == 200 + 2000);
  CHECK(all[100] == seconds(1));
  CHECK(all[200] == seconds(2));
  CHECK(all.back() < seconds(12));
}

TEST_CASE("how many are due is known without going through them") {
  for (const Profile& profile :
       {constant(1000, seconds(10)),
        Profile{.rate_from = 100, .rate_to = 2000, .warmup = seconds(1), .duration = seconds(9)}}) {
    for (unsigned parts : {1u, 3u}) {
      Schedule schedule(profile, seconds(7), parts - 1, parts);
      const auto all = times(profile, seconds(7), parts - 1, parts);
      for (size_t i = 0; i < all.size(); ++i) {
        REQUIRE(schedule.next() == all[i]);
        REQUIRE(schedule.due_by(all[i] - 1) == 0);
        const Nanos at = seconds(7) + milliseconds(static_cast<int64_t>(i) % 10'000);
        const auto due = std::upper_bound(all.begin(), all.end(), at) - all.begin();
        const auto left =
            static_cast<uint64_t>(std::max<int64_t>(0, due - static_cast<int64_t>(i)));
        REQUIRE(schedule.due_by(at) == left);
        schedule.advance();
      }
    }
  }
  Profile profile = constant(10'000, seconds(100));
  profile.arrival = Arrival::poisson;
  const auto expected = static_cast<double>(times(profile).size());
  const Schedule schedule(profile, 0);
  CHECK(std::abs(static_cast<double>(schedule.due_by(seconds(100))) - expected) < 5 * 1000);
}

TEST_CASE("a schedule without a rate has no requests") {
  CHECK(times({.rate_from = 0, .rate_to = 0, .duration = seconds(1)}).empty());
}

}  // namespace
}  // namespace gyre::load
