#include "hit_ratio/sequences.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

using namespace gyre::hit_ratio;

namespace {

const SequenceOptions options{.keys = 10'000, .requests = 200'000, .seed = 1};

std::vector<uint32_t> named(const std::string& name) {
  for (size_t i = 0; i < sequence_count(); ++i) {
    Sequence sequence = make_sequence(i, options);
    if (sequence.name == name) return std::move(sequence.keys);
  }
  FAIL("no sequence " << name);
  return {};
}

// The share of the most frequent of `keys`, and which it is.
std::pair<double, uint32_t> favourite(const std::vector<uint32_t>& keys, size_t from, size_t to) {
  std::map<uint32_t, size_t> counts;
  for (size_t i = from; i < to; ++i) ++counts[keys[i]];
  const auto most = std::ranges::max_element(counts, {}, [](const auto& of) { return of.second; });
  return {static_cast<double>(most->second) / static_cast<double>(to - from), most->first};
}

}  // namespace

TEST_CASE("sequences are as long as asked for, and the same for the same seed") {
  for (size_t i = 0; i < sequence_count(); ++i) {
    const Sequence sequence = make_sequence(i, options);
    CAPTURE(sequence.name);
    CHECK(sequence.keys.size() == options.requests);
    CHECK(make_sequence(i, options).keys == sequence.keys);
    SequenceOptions other = options;
    other.seed = 2;
    CHECK((make_sequence(i, other).keys == sequence.keys) == sequence.name.starts_with("loop"));
  }
}

TEST_CASE("the favourite key is asked for as often as its exponent says") {
  for (const auto& [name, share] : std::map<std::string, double>{
           {"zipf 0.7", 0.0200}, {"zipf 0.99", 0.0978}, {"zipf 1.2", 0.2084}}) {
    CAPTURE(name);
    const std::vector<uint32_t> keys = named(name);
    CHECK(favourite(keys, 0, keys.size()).first == doctest::Approx(share).epsilon(0.05));
  }
}

TEST_CASE("scans are of keys that never come again, and a third of what is asked for") {
  const std::vector<uint32_t> keys = named("zipf 0.99 and scans");
  std::map<uint32_t, size_t> counts;
  for (const uint32_t key : keys) ++counts[key];
  size_t scanned = 0;
  for (const auto& [key, count] : counts) {
    if (key < options.keys) continue;
    CHECK(count == 1);
    ++scanned;
  }
  CHECK(scanned * 3 == doctest::Approx(keys.size()).epsilon(0.1));
}

TEST_CASE("what is popular changes with every tenth of a shifting sequence") {
  const std::vector<uint32_t> keys = named("zipf 0.99, shifting");
  const uint32_t first = favourite(keys, 0, 20'000).second;
  CHECK(favourite(keys, 5'000, 15'000).second == first);
  CHECK(favourite(keys, 20'010, 40'000).second != first);
}
