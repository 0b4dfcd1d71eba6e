#include "store/block.hpp"

#include <doctest/doctest.h>

#include <string>

#include "base/coding.hpp"
#include "base/hash.hpp"
#include "table_support.hpp"

namespace gyre {
using namespace test;

namespace {

std::string build_block(const std::vector<OwnedEntry>& entries, uint32_t restart_interval) {
  BlockBuilder builder(restart_interval);
  for (const OwnedEntry& entry : entries) builder.add(entry.view());
  return std::string(builder.finish());
}

// A copy of exactly the bytes on the heap, so that a sanitizer sees any access past them.
struct Exact {
  explicit Exact(std::string_view bytes) : bytes_(bytes.begin(), bytes.end()) {}
  std::string_view view() const { return {bytes_.data(), bytes_.size()}; }
  std::vector<char> bytes_;
};

}  // namespace

TEST_CASE("a block gives back what went in, at every restart interval") {
  TestRandom random(1);
  for (const uint32_t interval : {1u, 2u, 3u, 16u, 1000u}) {
    for (int round = 0; round < 20; ++round) {
      const auto entries = random_entries(random, 1 + random.below(80), 6, 30);
      const Exact raw(build_block(entries, interval));
      const auto block = BlockView::open(raw.view());
      REQUIRE(block);
      BlockCursor cursor(*block);
      cursor.seek_to_first();
      for (const OwnedEntry& entry : entries) {
        REQUIRE(cursor.valid());
        CHECK(cursor.entry() == entry.view());
        Entry found;
        const auto is_there = block->find(entry.key, found);
        REQUIRE(is_there);
        REQUIRE(*is_there);
        CHECK(found == entry.view());
        cursor.next();
      }
      CHECK_FALSE(cursor.valid());
      CHECK_FALSE(cursor.failed());
    }
  }
}

TEST_CASE("seek and find agree with a sorted list for keys that are not there") {
  TestRandom random(2);
  for (int round = 0; round < 60; ++round) {
    const auto entries = random_entries(random, 1 + random.below(60), 5, 4);
    const std::string raw = build_block(entries, static_cast<uint32_t>(1 + random.below(20)));
    const auto block = BlockView::open(raw);
    REQUIRE(block);
    BlockCursor cursor(*block);
    for (int probe = 0; probe < 200; ++probe) {
      const std::string key = random.key(6);
      const auto expected =
          std::lower_bound(entries.begin(), entries.end(), key,
                           [](const OwnedEntry& a, const std::string& b) { return a.key < b; });
      cursor.seek(key);
      REQUIRE(cursor.valid() == (expected != entries.end()));
      if (cursor.valid()) CHECK(cursor.key() == expected->key);
      Entry found;
      const auto is_there = block->find(key, found);
      REQUIRE(is_there);
      CHECK(*is_there == (expected != entries.end() && expected->key == key));
    }
  }
}

TEST_CASE("a walk back mirrors the walk forwards, at every restart interval") {
  TestRandom random(4);
  for (const uint32_t interval : {1u, 2u, 3u, 16u, 1000u}) {
    for (int round = 0; round < 20; ++round) {
      const auto entries = random_entries(random, 1 + random.below(80), 6, 30);
      const Exact raw(build_block(entries, interval));
      const auto block = BlockView::open(raw.view());
      REQUIRE(block);
      BlockCursor cursor(*block);
      cursor.seek_to_last();
      for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
        REQUIRE(cursor.valid());
        CHECK(cursor.entry() == entry->view());
        cursor.prev();
      }
      CHECK_FALSE(cursor.valid());
      CHECK_FALSE(cursor.failed());
      for (int probe = 0; probe < 60; ++probe) {
        const std::string key = random.key(6);
        auto expected =
            std::lower_bound(entries.begin(), entries.end(), key,
                             [](const OwnedEntry& a, const std::string& b) { return a.key < b; });
        cursor.seek_before(key);
        for (int step = 0; step < 20 && expected != entries.begin(); ++step) {
          REQUIRE(cursor.valid());
          CHECK(cursor.entry() == (--expected)->view());
          cursor.prev();
        }
        CHECK(cursor.valid() == (expected != entries.begin()));
      }
    }
  }
}

TEST_CASE("a walk back through long keys keeps no more than the block") {
  BlockBuilder builder(16);
  std::vector<std::string> keys;
  for (int i = 0; i < 16; ++i) keys.push_back(std::string(1 << 20, 'k') + char('a' + i));
  for (const std::string& key : keys) builder.add({.key = key, .version = {1, 1}});
  const std::string raw(builder.finish());
  const auto block = BlockView::open(raw);
  REQUIRE(block);
  BlockCursor cursor(*block);
  size_t seen = 0;
  for (cursor.seek_to_last(); cursor.valid(); cursor.prev()) {
    CHECK(cursor.key() == keys[keys.size() - ++seen]);
  }
  CHECK(seen == keys.size());
  CHECK(cursor.memory_bytes() < 4 * raw.size());
}

TEST_CASE("the empty key, a key of 2 MiB and keys of 0xff bytes live in one block") {
  std::vector<OwnedEntry> entries;
  entries.push_back({"", Kind::value, {1, 1}, 0, "empty"});
  entries.push_back({std::string(2 << 20, 'k'), Kind::value, {1, 2}, 3, ""});
  entries.push_back({std::string(2 << 20, 'k') + "!", Kind::tombstone, {1, 3}, 0, ""});
  entries.push_back({"\xff\xff", Kind::value, {~uint64_t{0}, ~uint64_t{0}}, ~uint64_t{0}, "x"});
  const std::string raw = build_block(entries, 16);
  CHECK(raw.size() < (2u << 20) + 200);  // the second long key shares its prefix
  const auto block = BlockView::open(raw);
  REQUIRE(block);
  for (const OwnedEntry& entry : entries) {
    Entry found;
    REQUIRE(block->find(entry.key, found).value());
    CHECK(found == entry.view());
  }
}

TEST_CASE("a block whose bytes were changed is read without harm") {
  TestRandom random(3);
  const auto entries = random_entries(random, 40, 6, 20);
  const std::string good = build_block(entries, 4);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    const Exact raw(bytes);
    const auto block = BlockView::open(raw.view());
    if (!block) {
      CHECK(block.error().code == Errc::corrupt);
      continue;
    }
    BlockCursor cursor(*block);
    size_t steps = 0;
    for (cursor.seek_to_first(); cursor.valid(); cursor.next()) REQUIRE(++steps <= good.size());
    if (cursor.failed()) CHECK(cursor.error().code == Errc::corrupt);
    cursor.seek(entries[20].key);
    if (cursor.failed()) CHECK(cursor.error().code == Errc::corrupt);
    steps = 0;
    for (cursor.seek_to_last(); cursor.valid(); cursor.prev()) REQUIRE(++steps <= good.size());
    if (cursor.failed()) CHECK(cursor.error().code == Errc::corrupt);
    cursor.seek_before(entries[20].key);
    if (cursor.failed()) CHECK(cursor.error().code == Errc::corrupt);
    Entry found;
    const auto is_there = block->find(entries[20].key, found);
    if (!is_there) CHECK(is_there.error().code == Errc::corrupt);
  }
}

TEST_CASE("bytes that are no block are refused with what is wrong") {
  for (const std::string& bytes :
       {std::string(), std::string(7, '\0'), std::string(8, '\0'), std::string(100, '\xff')}) {
    const auto block = BlockView::open(bytes);
    REQUIRE_FALSE(block);
    CHECK(block.error().code == Errc::corrupt);
    CHECK_FALSE(block.error().detail.empty());
  }
}

TEST_CASE("the bytes of a block are what format version 1 says") {
  const std::vector<OwnedEntry> entries = {
      {"ab", Kind::value, {0x1122334455667788, 0x99}, 0, "v"},
      {"abc", Kind::tombstone, {1, 2}, 0, ""},
      {"b", Kind::value, {3, 4}, 300, ""},
  };
  std::string expected;
  expected += std::string("\x00\x02\x01\x01", 4) + "\x88\x77\x66\x55\x44\x33\x22\x11";
  expected += std::string("\x99\0\0\0\0\0\0\0", 8) + "abv";
  expected +=
      std::string("\x02\x01\x00\x02", 4) + std::string("\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 16);
  expected += "c";
  expected +=
      std::string("\x00\x01\x00\x11", 4) + std::string("\3\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0", 16);
  expected +=
      "\xac\x02"
      "b";
  append_fixed(expected, uint32_t{0});
  append_fixed(expected, uint32_t{44});
  append_fixed(expected, uint32_t{2});
  CHECK(build_block(entries, 2) == expected);
}

}  // namespace gyre
