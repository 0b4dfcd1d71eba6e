#include "store/table_index.hpp"

#include <doctest/doctest.h>

#include <string>

#include "base/hash.hpp"
#include "table_support.hpp"

namespace gyre {
using namespace test;

namespace {

std::string separator(std::string_view a, std::string_view b) {
  std::string out;
  append_separator(out, a, b);
  return out;
}

BlockHandle handle_at(uint64_t offset) {
  return {offset, 10, 20, Codec::lz4, offset * 3};
}

// Entries "b", "d", "f", … for blocks of 10 bytes.
std::string build_index(uint32_t count) {
  IndexBuilder builder;
  for (uint32_t i = 0; i < count; ++i) {
    builder.add(std::string(1, static_cast<char>('b' + 2 * i)), handle_at(i * 10));
  }
  std::string out;
  builder.finish(out);
  return out;
}

}  // namespace

TEST_CASE("a separator lies between its keys and is short") {
  CHECK(separator("apple", "banana") == "b");
  CHECK(separator("apple", "apricot") == "apr");
  CHECK(separator("abcdef", "abz") == "abd");
  CHECK(separator("ab", "abc") == "ab");
  CHECK(separator("", "a") == "");
  CHECK(separator("abc", "b") == "ac");
  CHECK(separator("ab\xff\xff\x01", "ac") == "ab\xff\xff\x02");
  CHECK(separator("ab\xff\xff", "ac") == "ab\xff\xff");
  TestRandom random(4);
  for (int round = 0; round < 20000; ++round) {
    std::string a = random.key(6);
    std::string b = random.key(6);
    if (a == b) continue;
    if (b < a) std::swap(a, b);
    const std::string s = separator(a, b);
    REQUIRE(a <= s);
    REQUIRE(s < b);
    REQUIRE(s.size() <= a.size());
  }
}

TEST_CASE("an index finds the only block that may hold a key") {
  const std::string bytes = build_index(5);
  const auto index = IndexView::open(bytes, 50);
  REQUIRE(index);
  REQUIRE(index->check());
  REQUIRE(index->size() == 5);
  CHECK(index->lower_bound("").value() == 0);
  CHECK(index->lower_bound("b").value() == 0);
  CHECK(index->lower_bound("ba").value() == 1);
  CHECK(index->lower_bound("j").value() == 4);
  CHECK(index->lower_bound("ja").value() == 5);
  for (uint32_t i = 0; i < 5; ++i) CHECK(index->entry(i)->handle == handle_at(i * 10));
}

TEST_CASE("an index whose blocks pass the file's data, overlap or go backwards is refused") {
  const std::string bytes = build_index(5);
  const auto index = IndexView::open(bytes, 49);
  REQUIRE(index);
  CHECK(index->entry(3));
  REQUIRE_FALSE(index->entry(4));
  CHECK(index->entry(4).error().code == Errc::corrupt);

  const auto check = [](std::string_view a, uint64_t at_a, std::string_view b, uint64_t at_b) {
    IndexBuilder builder;
    builder.add(a, handle_at(at_a));
    builder.add(b, handle_at(at_b));
    std::string out;
    builder.finish(out);
    return IndexView::open(out, 100)->check().has_value();
  };
  CHECK(check("a", 0, "b", 10));
  CHECK_FALSE(check("a", 0, "b", 9));
  CHECK_FALSE(check("a", 10, "b", 0));
  CHECK_FALSE(check("b", 0, "a", 10));
  CHECK_FALSE(check("a", 0, "a", 10));
}

TEST_CASE("an index with changed bytes is read without harm") {
  const std::string good = build_index(8);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    const std::vector<char> exact(bytes.begin(), bytes.end());
    const auto index = IndexView::open({exact.data(), exact.size()}, 80);
    if (!index) continue;
    const auto checked = index->check();
    const auto found = index->lower_bound("g");
    if (checked) {
      REQUIRE(found);
      CHECK(*found <= index->size());
    } else {
      CHECK(checked.error().code == Errc::corrupt);
    }
  }
}

TEST_CASE("a partition answers from its filter and its index") {
  BloomBuilder bloom(10);
  IndexBuilder index;
  for (const char* key : {"a", "c", "e"}) bloom.add(bloom_hash(key));
  index.add("b", handle_at(0));
  index.add("e", handle_at(10));
  std::string bytes;
  append_partition(bytes, bloom, index);
  CHECK(index.count() == 0);
  const auto partition = PartitionView::open(bytes, 20);
  REQUIRE(partition);
  for (const char* key : {"a", "c", "e"}) CHECK(partition->may_contain(bloom_hash(key)));
  BlockHandle handle;
  CHECK(partition->find_block("c", handle).value());
  CHECK(handle == handle_at(10));
  CHECK_FALSE(partition->find_block("f", handle).value());
  CHECK(hash64(bytes) == 8347287562855879897u);  // golden
}

TEST_CASE("a partition of arbitrary bytes is refused or harmless") {
  TestRandom random(5);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = random.bytes(random.below(200));
    for (char& byte : bytes) {
      if (random.below(2) == 0) byte = 0;
    }
    const auto partition = PartitionView::open(bytes, 1000);
    if (!partition) continue;
    partition->may_contain(random.next());
    BlockHandle handle;
    static_cast<void>(partition->find_block(random.key(4), handle).has_value());
    static_cast<void>(partition->blocks().check().has_value());
  }
}

TEST_CASE("a top index keeps working when it is moved") {
  TableFooter footer;
  footer.top_index.offset = 100;
  auto opened = TopIndex::open(build_index(1), footer);
  REQUIRE(opened);
  TopIndex moved = std::move(*opened);
  TopIndex moved_again;
  moved_again = std::move(moved);
  BlockHandle handle;
  REQUIRE(moved_again.find_partition("a", handle).value());
  CHECK(handle == handle_at(0));
}

}  // namespace gyre
