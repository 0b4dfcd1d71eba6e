#include "load/keys.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

namespace gyre::load {
namespace {

TEST_CASE("zipfian ranks have the probabilities of their definition") {
  for (const auto& [n, exponent] :
       {std::pair<uint64_t, double>{10, 0.99}, {1000, 0.99}, {50, 1.0}, {200, 1.5}, {1, 0.99}}) {
    sim::Prng random(7);
    const Zipf zipf(n, exponent);
    constexpr int draws = 400'000;
    std::vector<int> seen(n + 1);
    for (int i = 0; i < draws; ++i) {
      const uint64_t rank = zipf.draw(random);
      REQUIRE(rank >= 1);
      REQUIRE(rank <= n);
      ++seen[rank];
    }
    double sum = 0;
    for (uint64_t k = 1; k <= n; ++k) sum += std::pow(static_cast<double>(k), -exponent);
    for (uint64_t k = 1; k <= std::min<uint64_t>(n, 20); ++k) {
      const double expected = draws * std::pow(static_cast<double>(k), -exponent) / sum;
      CHECK(std::abs(seen[k] - expected) < 5 * std::sqrt(expected));
    }
  }
}

TEST_CASE("scattering is a permutation, and neighbours land apart") {
  for (uint64_t n : {1u, 2u, 3u, 10u, 97u, 1000u, 65536u}) {
    const Scatter scatter(n);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < n; ++i) seen.insert(scatter(i));
    REQUIRE(seen.size() == n);
    CHECK(*seen.rbegin() == n - 1);
  }
  const Scatter scatter(1000);
  const auto apart = static_cast<int64_t>(scatter(1)) - static_cast<int64_t>(scatter(0));
  CHECK(std::abs(apart) > 100);
}

TEST_CASE("sequential keys of all threads are each key once per round") {
  sim::Prng random(1);
  std::multiset<uint64_t> seen;
  for (unsigned part = 0; part < 2; ++part) {
    KeyChooser keys(Distribution::sequential, 100, 0.99, part, 2);
    for (int i = 0; i < 50; ++i) seen.insert(keys.choose(random, 0));
  }
  for (uint64_t key = 0; key < 100; ++key) REQUIRE(seen.count(key) == 1);
}

TEST_CASE("uniform keys reach every key about as often") {
  sim::Prng random(1);
  KeyChooser keys(Distribution::uniform, 10, 0.99, 0, 1);
  std::vector<int> seen(10);
  for (int i = 0; i < 100'000; ++i) ++seen[keys.choose(random, 0)];
  for (int count : seen) CHECK(std::abs(count - 10'000) < 500);
}

TEST_CASE("latest prefers the newest keys and never exceeds them") {
  sim::Prng random(1);
  KeyChooser keys(Distribution::latest, 100, 0.99, 0, 1);
  int newest = 0, oldest = 0;
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t key = keys.choose(random, 5000);
    REQUIRE(key <= 5000);
    REQUIRE(key > 4900);
    newest += key == 5000 ? 1 : 0;
    oldest += key == 4901 ? 1 : 0;
  }
  CHECK(newest > 10 * oldest);
  CHECK(keys.choose(random, 0) == 0);
}

TEST_CASE("digits are in byte order as in number order") {
  const auto text = [](uint64_t key) {
    std::string digits(key_digits, ' ');
    write_key_digits(digits.data(), key);
    return digits;
  };
  CHECK(text(42) == "0000000042");
  CHECK(text(keys_max - 1) == "9999999999");
  CHECK(text(99) < text(100));
}

}  // namespace
}  // namespace gyre::load
