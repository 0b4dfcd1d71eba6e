#include "proxy/hot_keys.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <string>

#include "base/hash.hpp"

using namespace gyre;
using namespace gyre::proxy;

namespace {
void add(HotKeys& keys, const std::string& key) {
  keys.add(key, hash64(key));
}
}  // namespace

TEST_CASE("counts are exact while there is room for all keys") {
  HotKeys keys(4);
  for (int i = 0; i < 5; ++i) add(keys, "a");
  for (int i = 0; i < 3; ++i) add(keys, "b");
  add(keys, "c");
  const auto top = keys.top(10);
  REQUIRE(top.size() == 3);
  CHECK(top[0].key == "a");
  CHECK(top[0].count == 5);
  CHECK(top[0].over == 0);
  CHECK(top[1].key == "b");
  CHECK(top[2].key == "c");
  CHECK(keys.top(1).size() == 1);
}

TEST_CASE("counts are bounds, and who is asked for often is among the counted") {
  HotKeys keys(64);
  std::map<std::string, uint64_t> truth;
  std::mt19937_64 random(1);
  uint64_t total = 0;
  for (int i = 0; i < 100'000; ++i, ++total) {
    // Ten hot keys get half of all.
    const std::string key =
        "key" + std::to_string(random() % 2 == 0 ? random() % 10 : random() % 20'000);
    ++truth[key];
    add(keys, key);
  }
  std::map<std::string, HotKeys::Counted> counted;
  uint64_t sum = 0;
  for (const auto& item : keys.top(64)) {
    counted[item.key] = item;
    sum += item.count;
    CHECK(item.count >= truth[item.key]);
    CHECK(item.count - item.over <= truth[item.key]);
  }
  CHECK(counted.size() == 64);
  CHECK(sum == total);  // the property that the algorithm's bounds rest on
  for (const auto& [key, count] : truth) {
    if (count > total / 64) CHECK_MESSAGE(counted.contains(key), key);
  }
  for (int i = 0; i < 10; ++i) CHECK(counted.contains("key" + std::to_string(i)));
}

TEST_CASE("a key that stands for several counts as so many, and the least counted stays in front") {
  HotKeys keys(3);
  keys.add("a", 1);
  keys.add("b", 2, 8);
  keys.add("c", 3, 3);
  keys.add("b", 2, 8);
  keys.add("d", 4, 8);  // in the place of a
  const auto top = keys.top(10);
  REQUIRE(top.size() == 3);
  CHECK(top[0].key == "b");
  CHECK(top[0].count == 16);
  CHECK(top[1].key == "d");
  CHECK(top[1].count == 9);
  CHECK(top[1].over == 1);
  CHECK(top[2].count == 3);
}

TEST_CASE("what was hot is forgotten in favour of what is") {
  HotKeys keys(2);
  for (int i = 0; i < 1000; ++i) add(keys, "old");
  for (int i = 0; i < 10; ++i) keys.age();
  for (int i = 0; i < 50; ++i) add(keys, "new");
  CHECK(keys.top(1).front().key == "new");
}

TEST_CASE("a long key is shown cut") {
  HotKeys keys(2);
  add(keys, std::string(1000, 'k'));
  CHECK(keys.top(1).front().key.size() == HotKeys::key_bytes_max);
}
