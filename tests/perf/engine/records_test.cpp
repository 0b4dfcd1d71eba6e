#include "engine/records.hpp"

#include <doctest/doctest.h>
#include <lz4.h>

#include <set>
#include <string>
#include <vector>

using namespace gyre::engine;

namespace {

std::string key_of(uint64_t number) {
  std::string key(key_bytes, '\0');
  write_key(key.data(), number);
  return key;
}

std::string value_of(size_t size_bytes, uint64_t number, uint64_t sequence) {
  std::string value(size_bytes, '\0');
  write_value(value.data(), size_bytes, number, sequence);
  return value;
}

}  // namespace

TEST_CASE("keys are in the order of their numbers and read back") {
  const std::vector<uint64_t> numbers = {0, 1, 9, 10, 99, 12'345, 9'999'999'999'999'999};
  for (size_t i = 0; i < numbers.size(); ++i) {
    CHECK(key_of(numbers[i]).size() == key_bytes);
    CHECK(read_key(key_of(numbers[i])) == numbers[i]);
    if (i > 0) CHECK(key_of(numbers[i - 1]) < key_of(numbers[i]));
  }
  CHECK(!read_key("000000000000001"));
  CHECK(!read_key("00000000000000a1"));
}

TEST_CASE("a value is right under its own key, whole and unchanged, and nowhere else") {
  for (const size_t size : {value_header_bytes, size_t{25}, size_t{100}, size_t{4096}}) {
    const std::string value = value_of(size, 7, 3);
    CHECK(is_value_of(value, size, 7));
    CHECK(!is_value_of(value, size, 8));
    CHECK(!is_value_of(value, size + 1, 7));
    CHECK(!is_value_of(value.substr(1), size, 7));
    for (size_t at = 0; at < size; ++at) {
      std::string changed = value;
      changed[at] = static_cast<char>(changed[at] ^ 1);
      CHECK(!is_value_of(changed, size, 7));
    }
  }
  CHECK(!is_value_of("", 0, 0));
}

TEST_CASE("values of one key differ from write to write") {
  CHECK(value_of(100, 7, 1) != value_of(100, 7, 2));
}

TEST_CASE("a block of values compresses to about a half") {
  for (const size_t size : {size_t{100}, size_t{400}, size_t{1000}}) {
    std::string block;
    for (uint64_t i = 0; block.size() < 8192; ++i) block += value_of(size, i * 37, i * 11);
    std::string packed(LZ4_compressBound(static_cast<int>(block.size())), '\0');
    const int bytes =
        LZ4_compress_default(block.data(), packed.data(), static_cast<int>(block.size()),
                             static_cast<int>(packed.size()));
    const double ratio = bytes / static_cast<double>(block.size());
    CAPTURE(size);
    CHECK(ratio > 0.4);
    CHECK(ratio < 0.75);
  }
}

TEST_CASE("parts of `once` together have every key once") {
  for (const uint64_t keys : {uint64_t{1000}, uint64_t{1024}, uint64_t{997}}) {
    std::vector<unsigned> seen(keys);
    bool ordered = true;
    for (unsigned part = 0; part < 7; ++part) {
      KeySequence sequence(KeyOrder::once, keys, 1, part, 7);
      uint64_t before = 0;
      for (uint64_t number = 0; sequence.next(number); before = number) {
        REQUIRE(number < keys);
        ++seen[number];
        ordered = ordered && number > before;
      }
    }
    CHECK(std::set<unsigned>(seen.begin(), seen.end()) == std::set<unsigned>{1});
    CHECK(!ordered);
  }
}

TEST_CASE("random keys are the same for a seed and part, differ otherwise, and reach every key") {
  const auto draw = [](uint64_t seed, unsigned part) {
    KeySequence sequence(KeyOrder::random, 50, seed, part, 2);
    std::vector<uint64_t> numbers(1000);
    for (uint64_t& number : numbers) REQUIRE(sequence.next(number));
    return numbers;
  };
  CHECK(draw(1, 0) == draw(1, 0));
  CHECK(draw(1, 0) != draw(1, 1));
  CHECK(draw(1, 0) != draw(2, 0));
  const auto numbers = draw(1, 0);
  CHECK(std::set<uint64_t>(numbers.begin(), numbers.end()).size() == 50);
}
