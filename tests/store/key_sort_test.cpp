#include "store/key_sort.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace gyre;

namespace {

struct Owner {
  std::string text;
  std::string_view key() const { return text; }
};
using Sort = KeySort<const Owner>;

struct Random {
  uint64_t state = 88172645463325252;
  uint64_t below(uint64_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 16) % limit;
  }
};

// Sorts the keys, given in random order and with their first `rank_bytes` as rank, and says how many
// came at once at most.
size_t check_sort(const std::set<std::string>& keys, size_t rank_bytes) {
  std::vector<Owner> owners;
  for (const std::string& key : keys) owners.push_back({key});
  Random random;
  for (size_t i = owners.size(); i > 1; --i) std::swap(owners[i - 1], owners[random.below(i)]);
  std::vector<Sort::Item> items;
  for (const Owner& owner : owners) {
    uint64_t rank = 0;
    for (size_t i = 0; i < rank_bytes; ++i)
      rank = rank << 8 | (i < owner.text.size() ? static_cast<uint8_t>(owner.text[i]) : 0);
    items.push_back({rank, &owner});
  }
  Sort sort(std::move(items));
  size_t most = 0;
  auto expected = keys.begin();
  while (!sort.done()) {
    const auto part = sort.next();
    most = std::max(most, part.size());
    for (const Sort::Item& item : part) {
      REQUIRE(expected != keys.end());
      REQUIRE(item.node->text == *expected);
      ++expected;
    }
  }
  CHECK(expected == keys.end());
  return most;
}

std::string random_bytes(Random& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.below(256));
  return bytes;
}

}  // namespace

TEST_CASE("nothing to sort is done at once") {
  CHECK(Sort().done());
  CHECK(Sort(std::vector<Sort::Item>()).done());
}

TEST_CASE("keys come in order, in parts, whatever their ranks tell") {
  Random random;
  std::set<std::string> keys;
  while (keys.size() < 50'000) keys.insert(random_bytes(random, 8));
  for (const size_t rank_bytes : {8u, 4u, 3u})
    CHECK(check_sort(keys, rank_bytes) <= Sort::part_max);
  CHECK(check_sort(keys, 1) <= Sort::part_max);
  CHECK(check_sort(keys, 0) == keys.size());
}

TEST_CASE("keys that agree for long, in several groups, come in order") {
  Random random;
  std::set<std::string> keys;
  std::vector<std::string> prefixes;
  for (size_t i = 0; i < 20; ++i) prefixes.push_back("tenant-" + random_bytes(random, i * 3));
  while (keys.size() < 20'000)
    keys.insert(prefixes[random.below(20)] + std::to_string(random.below(1u << 30)));
  for (const size_t rank_bytes : {8u, 0u}) check_sort(keys, rank_bytes);
}

TEST_CASE("of keys that differ in the number of zeros at their end the shorter comes first") {
  std::set<std::string> keys;
  for (size_t zeros = 0; zeros < 300; ++zeros) {
    for (const std::string begin : {"", "a", "abcdefg", "abcdefgh", "abcdefghi"}) {
      for (const std::string end : {"", "x"}) keys.insert(begin + std::string(zeros, '\0') + end);
    }
  }
  for (const size_t rank_bytes : {8u, 0u}) check_sort(keys, rank_bytes);
}

TEST_CASE("keys each of which begins with the one before come in order") {
  std::set<std::string> keys;
  for (size_t size = 0; size < 2000; ++size) keys.insert(std::string(size, 'k'));
  for (const size_t rank_bytes : {8u, 0u}) check_sort(keys, rank_bytes);
}
