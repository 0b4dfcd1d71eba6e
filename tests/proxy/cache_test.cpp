#include "proxy/cache.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

using namespace gyre;
using namespace gyre::proxy;

namespace {

Lifetime until(Nanos fresh, Nanos revalidate = 0, Nanos error = 0) {
  Lifetime lifetime{fresh, std::max(fresh, revalidate), 0};
  lifetime.error_until = std::max(lifetime.revalidate_until, error);
  return lifetime;
}

struct Rig {
  explicit Rig(const CacheOptions& options = {}) : cache(options) {}

  bool put(const std::string& key, const std::string& value, const Lifetime& lifetime,
           bool negative = false) {
    const uint64_t hash = cache.hash_of(key);
    return cache.insert(key, hash, cache.epoch(hash), value, negative, lifetime, now);
  }
  bool put(const std::string& key, const std::string& value = "v") {
    return put(key, value, until(now + seconds(3600)));
  }
  Found get(const std::string& key) { return cache.lookup(key, cache.hash_of(key), now); }
  bool has(const std::string& key) { return get(key).freshness == Freshness::fresh; }
  bool invalidate(const std::string& key) { return cache.invalidate(key, cache.hash_of(key)); }

  Nanos now = seconds(1000);
  Cache cache;
};

std::string name(uint64_t number) {
  return "key" + std::to_string(number);
}

// Hits in percent of a sequence, each miss followed by an insert.
double hit_ratio(Eviction eviction, size_t keys_max, const std::vector<uint64_t>& sequence) {
  Rig rig({.bytes_max = 1u << 30, .keys_max = keys_max, .eviction = eviction});
  uint64_t hits = 0;
  for (const uint64_t number : sequence) {
    if (rig.has(name(number))) {
      ++hits;
    } else {
      rig.put(name(number));
    }
  }
  return 100.0 * static_cast<double>(hits) / static_cast<double>(sequence.size());
}

// Zipf with exponent 1, by inversion of its (approximate) distribution function.
uint64_t zipf(std::mt19937_64& random, uint64_t count) {
  const double unit = std::uniform_real_distribution<double>(0, 1)(random);
  return static_cast<uint64_t>(std::pow(static_cast<double>(count), unit)) - 1;
}

}  // namespace

TEST_CASE("what was stored is found, byte for byte, until its time is over") {
  Rig rig;
  const std::string key("k\0\xff", 3);
  const std::string value("\0v\xff", 3);
  CHECK(rig.get(key).freshness == Freshness::absent);
  CHECK(rig.put(key, value, until(rig.now + milliseconds(10))));
  CHECK(rig.get(key).value == value);
  CHECK(rig.get(key).stored_at == rig.now);
  CHECK_FALSE(rig.get(key).negative);
  rig.now += milliseconds(9);
  CHECK(rig.has(key));
  rig.now += milliseconds(1);
  CHECK(rig.get(key).freshness == Freshness::absent);
  CHECK(rig.cache.keys() == 0);
  CHECK(rig.cache.stats().expired == 1);
}

TEST_CASE("an entry is fresh, then to be fetched anew, then for errors only, then gone") {
  Rig rig;
  const Nanos start = rig.now;
  rig.put("k", "v", until(start + 10, start + 20, start + 30));
  CHECK(rig.get("k").freshness == Freshness::fresh);
  rig.now = start + 10;
  CHECK(rig.get("k").freshness == Freshness::revalidate);
  CHECK(rig.get("k").value == "v");
  rig.now = start + 20;
  CHECK(rig.get("k").freshness == Freshness::on_error);
  CHECK(rig.cache.peek("k", rig.cache.hash_of("k"), rig.now).value == "v");
  rig.now = start + 30;
  CHECK(rig.cache.peek("k", rig.cache.hash_of("k"), rig.now).freshness == Freshness::absent);
  CHECK(rig.get("k").freshness == Freshness::absent);
}

TEST_CASE("a key without a value is remembered as such") {
  Rig rig;
  rig.put("k", "", until(rig.now + 10), true);
  CHECK(rig.get("k").negative);
  CHECK(rig.cache.stats().negative_hits == 1);
  rig.put("k", "v", until(rig.now + 10));
  CHECK_FALSE(rig.get("k").negative);
  CHECK(rig.cache.keys() == 1);
}

TEST_CASE("a fill that began before an invalidation does not land") {
  Rig rig;
  const uint64_t hash = rig.cache.hash_of("k");
  const Lifetime lifetime = until(rig.now + seconds(1));
  const uint64_t before = rig.cache.epoch(hash);
  CHECK_FALSE(rig.invalidate("k"));  // nothing was there, and it counts all the same
  CHECK_FALSE(rig.cache.insert("k", hash, before, "old", false, lifetime, rig.now));
  CHECK_FALSE(rig.has("k"));
  CHECK(rig.cache.stats().outdated == 1);
  CHECK(rig.cache.insert("k", hash, rig.cache.epoch(hash), "new", false, lifetime, rig.now));

  const uint64_t earlier = rig.cache.epoch(hash);
  rig.cache.invalidate_all(false);
  CHECK_FALSE(rig.has("k"));
  CHECK_FALSE(rig.cache.insert("k", hash, earlier, "old", false, lifetime, rig.now));
  rig.put("k", "new");
  CHECK(rig.invalidate("k"));
  CHECK_FALSE(rig.has("k"));
}

TEST_CASE("when everything may have changed, what may be served on errors stays for that only") {
  Rig rig;
  rig.put("a", "1", until(rig.now + 100));
  rig.put("b", "2", until(rig.now + 100, rig.now + 150, rig.now + 200));
  rig.cache.invalidate_all(true);
  CHECK(rig.get("a").freshness == Freshness::absent);
  CHECK(rig.get("b").freshness == Freshness::on_error);
  CHECK(rig.get("b").value == "2");
  rig.put("b", "3", until(rig.now + 100, rig.now + 150, rig.now + 200));
  CHECK(rig.get("b").value == "3");
  CHECK(rig.get("b").freshness == Freshness::fresh);
  rig.cache.invalidate_all(false);
  CHECK(rig.get("b").freshness == Freshness::absent);
}

TEST_CASE("a group of keys is invalidated alone, with fills that had begun") {
  Rig rig({.groups = 3});
  const auto put = [&](const std::string& key, uint16_t group, uint64_t epoch) {
    return rig.cache.insert(key, rig.cache.hash_of(key), epoch, "v", false,
                            until(rig.now + 100, 0, rig.now + 200), rig.now, group);
  };
  const auto epoch = [&](const std::string& key) {
    return rig.cache.epoch(rig.cache.hash_of(key));
  };
  for (uint16_t group = 0; group < 3; ++group) CHECK(put(name(group), group, epoch(name(group))));
  const uint64_t before = epoch(name(1));
  rig.cache.invalidate_groups(std::vector<uint16_t>{1}, true);
  CHECK(rig.has(name(0)));
  CHECK(rig.get(name(1)).freshness == Freshness::on_error);
  CHECK(rig.has(name(2)));
  CHECK_FALSE(put(name(1), 1, before));
  CHECK(put(name(1), 1, epoch(name(1))));
  CHECK(rig.has(name(1)));
  rig.cache.invalidate_groups(std::vector<uint16_t>{0, 1}, false);
  CHECK(rig.get(name(0)).freshness == Freshness::absent);
  CHECK(rig.get(name(1)).freshness == Freshness::absent);
  CHECK(rig.has(name(2)));
  rig.cache.invalidate_all(true);
  CHECK(rig.get(name(2)).freshness == Freshness::on_error);
  rig.cache.invalidate_groups(std::vector<uint16_t>{2}, false);
  CHECK(rig.get(name(2)).freshness == Freshness::absent);
}

TEST_CASE("neither keys nor bytes pass their limits") {
  for (const Eviction eviction : {Eviction::s3_fifo, Eviction::lru}) {
    Rig rig({.bytes_max = 100'000, .keys_max = 500, .eviction = eviction});
    std::mt19937_64 random(1);
    for (int i = 0; i < 20'000; ++i) {
      const std::string key = name(random() % 2000);
      if (random() % 2 == 0) {
        static_cast<void>(rig.get(key));
      } else {
        rig.put(key, std::string(random() % 400, 'v'));
      }
      if (random() % 50 == 0) rig.invalidate(name(random() % 2000));
      REQUIRE(rig.cache.keys() <= 500);
      REQUIRE(rig.cache.bytes() <= 100'000);
    }
    CHECK(rig.cache.keys() > 100);
    CHECK(rig.cache.stats().evicted > 1000);
  }
}

TEST_CASE("a value that is too large is not stored, nor is what it replaces kept") {
  Rig rig({.bytes_max = 80'000, .keys_max = 100});
  for (uint64_t i = 0; i < 50; ++i) rig.put(name(i));
  CHECK_FALSE(rig.put(name(0), std::string(20'000, 'v')));
  CHECK_FALSE(rig.has(name(0)));
  CHECK(rig.cache.keys() == 49);
  CHECK(rig.cache.stats().too_large == 1);
}

TEST_CASE("what has expired goes without being asked for, and nothing else does") {
  Rig rig({.bytes_max = 64u << 20, .keys_max = 100'000});
  std::map<std::string, Nanos> ends;
  std::mt19937_64 random(7);
  for (uint64_t i = 0; i < 5'000; ++i) {
    // Some end after the wheel has turned a few times.
    const Nanos end = rig.now + milliseconds(static_cast<int64_t>(random() % 60'000) + 1);
    ends[name(i)] = end;
    rig.put(name(i), "v", until(end));
  }
  const Nanos start = rig.now;
  while (rig.now < start + seconds(61)) {
    rig.now += milliseconds(static_cast<int64_t>(random() % 2000));
    // In bounded pieces, until nothing is due.
    while (rig.cache.expire(rig.now, 100)) {
    }
    size_t alive = 0;
    size_t due_long_ago = 0;
    size_t lost = 0;
    for (const auto& [key, end] : ends) {
      const bool there =
          rig.cache.peek(key, rig.cache.hash_of(key), start).freshness == Freshness::fresh;
      alive += there;
      lost += !there && end > rig.now;
      due_long_ago += there && end + 2 * Cache::wheel_tick < rig.now;
    }
    REQUIRE(lost == 0);
    REQUIRE(due_long_ago == 0);
    REQUIRE(alive == rig.cache.keys());
  }
  CHECK(rig.cache.keys() == 0);
}

TEST_CASE("a scan costs S3-FIFO little of what is used, and LRU much") {
  std::vector<uint64_t> sequence;
  std::mt19937_64 random(3);
  uint64_t scan_at = 1'000'000;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 4000; ++i) sequence.push_back(zipf(random, 20'000));
    for (int i = 0; i < 2000; ++i) sequence.push_back(scan_at++);  // keys that never come again
  }
  const double s3_fifo = hit_ratio(Eviction::s3_fifo, 1000, sequence);
  const double lru = hit_ratio(Eviction::lru, 1000, sequence);
  MESSAGE("hit ratio with scans: S3-FIFO " << s3_fifo << " %, LRU " << lru << " %");
  CHECK(s3_fifo > lru + 3);
}

TEST_CASE("on skewed keys without scans S3-FIFO is no worse than LRU") {
  std::vector<uint64_t> sequence;
  std::mt19937_64 random(5);
  for (int i = 0; i < 200'000; ++i) sequence.push_back(zipf(random, 50'000));
  const double s3_fifo = hit_ratio(Eviction::s3_fifo, 1000, sequence);
  const double lru = hit_ratio(Eviction::lru, 1000, sequence);
  MESSAGE("hit ratio, Zipf: S3-FIFO " << s3_fifo << " %, LRU " << lru << " %");
  CHECK(s3_fifo > lru);
}

TEST_CASE("LRU keeps what was used last") {
  Rig rig({.bytes_max = 1u << 20, .keys_max = 3, .eviction = Eviction::lru});
  rig.put("a");
  rig.put("b");
  rig.put("c");
  CHECK(rig.has("a"));
  rig.put("d");
  CHECK_FALSE(rig.has("b"));
  CHECK(rig.has("a"));
  CHECK(rig.has("c"));
  CHECK(rig.has("d"));
}
