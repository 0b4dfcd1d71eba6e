#include "base/hash.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace gyre;

TEST_CASE("a hash fed in pieces is the hash of the whole") {
  std::string bytes;
  for (int i = 0; i < 5000; ++i) bytes.push_back(static_cast<char>(i * 31));
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{240}, size_t{4999}, bytes.size()}) {
    StreamingHash hash(9);
    hash.update(std::string_view(bytes).substr(0, cut));
    hash.update(std::string_view(bytes).substr(cut));
    CHECK(hash.digest() == hash64(bytes, 9));
  }
  CHECK(hash64(bytes, 9) != hash64(bytes, 10));
}

TEST_CASE("keys spread evenly over any number of shards, and stay where they are") {
  for (const uint32_t shards : {1u, 2u, 3u, 7u, 16u}) {
    std::vector<int> counts(shards);
    constexpr int keys = 20000;
    for (int i = 0; i < keys; ++i) {
      const std::string key = "key" + std::to_string(i);
      const uint32_t shard = shard_of(key, shards);
      REQUIRE(shard < shards);
      CHECK(shard == shard_of(key, shards));
      ++counts[shard];
    }
    const double fair = static_cast<double>(keys) / shards;
    CHECK(*std::max_element(counts.begin(), counts.end()) < fair * 1.1);
    CHECK(*std::min_element(counts.begin(), counts.end()) > fair * 0.9);
  }
}

TEST_CASE("placement is part of the data directory's format: it never changes") {
  CHECK(shard_of("", 16) == 1);
  CHECK(shard_of("greeting", 16) == 9);
  CHECK(shard_of("key0000000001", 16) == 8);
}
