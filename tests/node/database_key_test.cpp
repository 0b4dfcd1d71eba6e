#include "node/database_key.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "../store/shard_rig.hpp"

namespace gyre::test {
namespace {

std::string stored(unsigned database, std::string_view key) {
  std::string room;
  return std::string(stored_key_in(database, key, room));
}

const std::vector<std::string> keys = {
    "",
    "a",
    "\xff",
    "\xff\xff",
    "\xff"
    "d",
    "\xff"
    "da",
    "\xff"
    "db",
    "\xff"
    "db\x01",
    "\xff"
    "dbz",
    std::string("\xff"
                "db\x00x",
                5),
    "\xff"
    "dc",
    "user:1",
    "\xfe"
    "zzz",
    "\xff"
    "db\xff",
};

TEST_CASE("a stored key says its database and its key") {
  for (const std::string& key : keys) {
    for (unsigned database = 0; database < database_count; ++database) {
      CAPTURE(database);
      const std::string as_stored = stored(database, key);
      CHECK(database_of_stored(as_stored) == database);
      CHECK(key_of_stored(as_stored) == key);
    }
  }
}

TEST_CASE("keys of database 0 are stored as they are, but for those with the prefix") {
  for (const std::string& key : keys) {
    std::string room;
    const std::string_view as_stored = stored_key(key, room);
    if (has_database_prefix(key)) {
      CHECK(as_stored == std::string("\xff"
                                     "db\x00",
                                     4) +
                             key);
    } else {
      CHECK(as_stored.data() == key.data());
      CHECK(as_stored.size() == key.size());
    }
  }
}

TEST_CASE("within a database, stored keys have the order of keys") {
  for (unsigned database = 0; database < database_count; ++database) {
    std::vector<std::string> sorted = keys;
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 1; i < sorted.size(); ++i) {
      CHECK(stored(database, sorted[i - 1]) < stored(database, sorted[i]));
    }
    const StoredRange range = stored_range_of(database);
    for (const std::string& key : sorted) {
      CHECK(stored(database, key) >= range.start);
      if (!range.end.empty()) CHECK(stored(database, key) < range.end);
    }
  }
}

TEST_CASE("no key is stored where another database's are") {
  for (unsigned database = 1; database < database_count; ++database) {
    const StoredRange range = stored_range_of(database);
    for (const std::string& key : keys) {
      for (unsigned other = 0; other < database_count; ++other) {
        const std::string at = stored(other, key);
        CHECK((at >= range.start && at < range.end) == (other == database));
      }
    }
  }
}

Task<void> scan_database_0() {
  ShardHome home;
  auto shard = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(shard);
  Contents expected;
  for (const std::string& key : keys) {
    if (key.empty()) continue;
    for (const unsigned database : {0u, 1u, 7u, 15u}) {
      CO_OK(co_await put(**shard, stored(database, key), key));
    }
    expected[stored(0, key)] = key;
  }
  for (const bool in_table : {false, true}) {
    if (in_table) CO_OK(co_await (*shard)->flush());
    for (const auto direction : {ScanDirection::forward, ScanDirection::reverse}) {
      auto scan = co_await (*shard)->scan({.start = "", .end = "", .direction = direction}, 0);
      CO_OK(scan);
      leave_out_databases(**scan);
      auto found = co_await drain(**scan, direction);
      CO_OK(found);
      CO_CHECK(*found == expected);
    }
  }
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a scan of database 0 shows nothing of the others") {
  ShardRig rig;
  rig.live(scan_database_0());
}

}  // namespace
}  // namespace gyre::test
