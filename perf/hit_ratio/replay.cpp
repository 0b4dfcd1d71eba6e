#include "hit_ratio/replay.hpp"

#include <algorithm>
#include <queue>
#include <string_view>
#include <utility>
#include <vector>

#include "load/keys.hpp"

namespace gyre::hit_ratio {

namespace {

double ratio(uint64_t hits, size_t requests) {
  return requests == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(requests);
}

}  // namespace

double replay(std::span<const uint32_t> keys, size_t keys_max, proxy::Eviction eviction) {
  constexpr Nanos now = seconds(1);
  constexpr proxy::Lifetime for_ever{seconds(1'000'000'000), seconds(1'000'000'000),
                                     seconds(1'000'000'000)};
  proxy::Cache cache(
      {.bytes_max = size_t{1} << 40, .keys_max = keys_max, .eviction = eviction, .hash_seed = 1});
  uint64_t hits = 0;
  char text[load::key_digits];
  for (size_t i = 0; i < keys.size(); ++i) {
    load::write_key_digits(text, keys[i]);
    const std::string_view key(text, sizeof text);
    const uint64_t hash = cache.hash_of(key);
    if (cache.lookup(key, hash, now).freshness == proxy::Freshness::fresh) {
      hits += i >= keys.size() / 2;
    } else {
      static_cast<void>(cache.insert(key, hash, cache.epoch(hash), "v", false, for_ever, now));
    }
  }
  return ratio(hits, keys.size() - keys.size() / 2);
}

double replay_min(std::span<const uint32_t> keys, size_t keys_max) {
  const size_t never = keys.size();
  const size_t key_count =
      keys.empty() ? 0 : size_t{*std::max_element(keys.begin(), keys.end())} + 1;
  std::vector<size_t> next_use(keys.size());
  std::vector<size_t> wanted_at(key_count, never);
  for (size_t i = keys.size(); i-- > 0;) next_use[i] = std::exchange(wanted_at[keys[i]], i);
  // Of cached keys, when they are wanted; entries that are no longer true stay in the queue.
  std::vector<size_t> cached(key_count, 0);  // 0: not cached, as nothing is wanted at 0 again
  std::priority_queue<std::pair<size_t, uint32_t>> latest;
  size_t count = 0;
  uint64_t hits = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint32_t key = keys[i];
    if (cached[key] != 0) {
      hits += i >= keys.size() / 2;
    } else if (count < keys_max) {
      ++count;
    } else {
      while (cached[latest.top().second] != latest.top().first) latest.pop();
      cached[latest.top().second] = 0;
      latest.pop();
    }
    cached[key] = next_use[i];
    latest.emplace(next_use[i], key);
  }
  return ratio(hits, keys.size() - keys.size() / 2);
}

}  // namespace gyre::hit_ratio
