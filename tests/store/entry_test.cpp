#include "store/entry.hpp"

#include <doctest/doctest.h>

#include <vector>

namespace gyre {

TEST_CASE("of two entries the greater version wins") {
  const Entry older{"k", Kind::tombstone, {1, 9}, 0, ""};
  const Entry newer{"k", Kind::value, {2, 0}, 5, "v"};
  CHECK(wins(newer, older));
  CHECK_FALSE(wins(older, newer));
  const Entry higher_origin{"k", Kind::value, {2, 1}, 5, "v"};
  CHECK(wins(higher_origin, newer));
}

TEST_CASE("entries of one version are totally ordered, weakest first in this list") {
  const Version v{1, 1};
  const std::vector<Entry> ascending = {
      {"k", Kind::value, v, 5, "z"},    {"k", Kind::value, v, 6, "a"},
      {"k", Kind::value, v, 6, "b"},    {"k", Kind::value, v, 0, ""},
      {"k", Kind::value, v, 0, "a"},    {"k", Kind::large, v, 0, "a"},
      {"k", Kind::tombstone, v, 0, ""},
  };
  for (size_t i = 0; i < ascending.size(); ++i) {
    for (size_t j = 0; j < ascending.size(); ++j) {
      CHECK(wins(ascending[i], ascending[j]) == (i > j));
    }
  }
}

TEST_CASE("expiry is absolute, and 0 is never") {
  Entry entry;
  CHECK_FALSE(entry.is_expired(~uint64_t{0}));
  entry.expire_at_ms = 10;
  CHECK_FALSE(entry.is_expired(9));
  CHECK(entry.is_expired(10));
}

}  // namespace gyre
