#include "store/bloom.hpp"

#include <doctest/doctest.h>

#include <string>

#include "base/hash.hpp"

namespace gyre {

namespace {
std::string key_number(uint64_t number) {
  return "key-" + std::to_string(number);
}
}  // namespace

TEST_CASE("a filter never denies a key it holds") {
  for (const uint32_t bits : {1u, 4u, 10u, 16u}) {
    for (const uint64_t count : {1u, 2u, 51u, 52u, 5000u}) {
      BloomBuilder builder(bits);
      for (uint64_t i = 0; i < count; ++i) builder.add(bloom_hash(key_number(i)));
      std::string lines;
      builder.finish(lines);
      CHECK(lines.size() % bloom_line_bytes == 0);
      uint64_t denied = 0;
      for (uint64_t i = 0; i < count; ++i) {
        denied += !bloom_may_contain(lines, bloom_hash(key_number(i)));
      }
      CHECK(denied == 0);
    }
  }
}

TEST_CASE("with 10 bits per key about one absent key in a hundred passes") {
  constexpr uint64_t count = 20000;
  constexpr uint64_t probes = 400000;
  BloomBuilder builder(10);
  for (uint64_t i = 0; i < count; ++i) builder.add(bloom_hash(key_number(i)));
  std::string lines;
  builder.finish(lines);
  CHECK(lines.size() * 8 <= count * 10 + bloom_line_bytes * 8);
  uint64_t passed = 0;
  for (uint64_t i = 0; i < probes; ++i) {
    passed += bloom_may_contain(lines, bloom_hash(key_number(count + i)));
  }
  // 0.84 % without lines, about 0.96 % in theory with them.
  const double rate = static_cast<double>(passed) / probes;
  CHECK(rate < 0.0115);
  CHECK(rate > 0.0075);
}

TEST_CASE("with 16 bits per key a seventh of that") {
  constexpr uint64_t count = 20000;
  constexpr uint64_t probes = 1'000'000;
  BloomBuilder builder(16);
  for (uint64_t i = 0; i < count; ++i) builder.add(bloom_hash(key_number(i)));
  std::string lines;
  builder.finish(lines);
  uint64_t passed = 0;
  for (uint64_t i = 0; i < probes; ++i) {
    passed += bloom_may_contain(lines, bloom_hash(key_number(count + i)));
  }
  // 0.093 % without lines; six probes are kept, as the reader does not know the bits.
  const double rate = static_cast<double>(passed) / probes;
  CHECK(rate < 0.0016);
  CHECK(rate > 0.0010);
}

TEST_CASE("no bits means no filter: every key may be there") {
  BloomBuilder builder(0);
  builder.add(bloom_hash("a"));
  std::string lines;
  builder.finish(lines);
  CHECK(lines.empty());
  CHECK(bloom_may_contain(lines, bloom_hash("b")));
}

TEST_CASE("a builder starts anew after finish") {
  BloomBuilder builder(10);
  for (int i = 0; i < 1000; ++i) builder.add(bloom_hash(key_number(static_cast<uint64_t>(i))));
  std::string first;
  builder.finish(first);
  CHECK(builder.key_count() == 0);
  builder.add(bloom_hash("x"));
  std::string second;
  builder.finish(second);
  CHECK(second.size() == bloom_line_bytes);
}

TEST_CASE("the bits of a filter are what format version 1 says") {
  BloomBuilder builder(10);
  for (uint64_t i = 0; i < 100; ++i) builder.add(bloom_hash(key_number(i)));
  std::string lines;
  builder.finish(lines);
  CHECK(lines.size() == 128);
  CHECK(hash64(lines) == 815608242605044804u);  // golden
}

}  // namespace gyre
