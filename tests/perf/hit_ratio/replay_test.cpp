#include "hit_ratio/replay.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

#include "hit_ratio/sequences.hpp"
#include "sim/prng.hpp"

using namespace gyre;
using namespace gyre::hit_ratio;

namespace {

// The most hits in the second half of what is left, over everything that could be dropped.
unsigned most_hits(const std::vector<uint32_t>& keys, size_t at, std::set<uint32_t> cached,
                   size_t room) {
  if (at == keys.size()) return 0;
  const unsigned counts = at >= keys.size() / 2 ? 1 : 0;
  if (cached.contains(keys[at])) return counts + most_hits(keys, at + 1, cached, room);
  unsigned most = 0;
  if (cached.size() < room) {
    cached.insert(keys[at]);
    return most_hits(keys, at + 1, cached, room);
  }
  for (const uint32_t dropped : std::set<uint32_t>(cached)) {
    std::set<uint32_t> next = cached;
    next.erase(dropped);
    next.insert(keys[at]);
    most = std::max(most, most_hits(keys, at + 1, next, room));
  }
  return most;
}

}  // namespace

TEST_CASE("a loop that fits is all hits, with LRU one that does not is none") {
  std::vector<uint32_t> keys;
  for (uint32_t i = 0; i < 10'000; ++i) keys.push_back(i % 1000);
  for (const auto eviction : {proxy::Eviction::s3_fifo, proxy::Eviction::lru}) {
    CHECK(replay(keys, 1000, eviction) == 1.0);
  }
  CHECK(replay(keys, 900, proxy::Eviction::lru) == 0.0);
  CHECK(replay_min(keys, 1000) == 1.0);
  // All but one place keep what they have until it comes round again.
  CHECK(replay_min(keys, 900) == doctest::Approx(899.0 / 999).epsilon(0.01));
}

TEST_CASE("MIN has as many hits as any choice of what to drop could have, when all of them count") {
  sim::Prng random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<uint32_t> keys;
    for (int i = 0; i < 11; ++i) keys.push_back(static_cast<uint32_t>(random.below(5)));
    // The first half counts for neither: it is of keys that never come again.
    std::vector<uint32_t> with_prelude;
    for (uint32_t i = 0; i < 11; ++i) with_prelude.push_back(100 + i);
    with_prelude.insert(with_prelude.end(), keys.begin(), keys.end());
    const double most = most_hits(with_prelude, 11, {109, 110}, 2);
    REQUIRE(replay_min(with_prelude, 2) == doctest::Approx(most / 11));
  }
}

TEST_CASE("S3-FIFO has more of skewed keys than LRU, also between scans; MIN most of all") {
  const SequenceOptions options{.keys = 50'000, .requests = 300'000, .seed = 3};
  for (size_t i = 0; i < sequence_count(); ++i) {
    const Sequence sequence = make_sequence(i, options);
    CAPTURE(sequence.name);
    for (const size_t room : {50u, 500u, 5000u}) {
      CAPTURE(room);
      const double s3_fifo = replay(sequence.keys, room, proxy::Eviction::s3_fifo);
      const double lru = replay(sequence.keys, room, proxy::Eviction::lru);
      const double most = replay_min(sequence.keys, room);
      CHECK(s3_fifo <= most);
      CHECK(lru <= most);
      const bool skewed = sequence.name.starts_with("zipf");
      const bool shifting = sequence.name.ends_with("shifting");
      if (skewed && !shifting) CHECK(s3_fifo >= lru);
      if (!skewed) CHECK(s3_fifo >= lru - 0.01);
    }
  }
}
