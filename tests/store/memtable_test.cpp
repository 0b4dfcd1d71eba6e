#include "store/memtable.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace gyre;

namespace {

Version version(uint64_t hlc) {
  return {hlc, 7};
}

struct Random {
  uint64_t state = 88172645463325252;
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
  uint64_t below(uint64_t limit) { return next() % limit; }
};

// Keys that differ in the first bytes, only after a common prefix, only in length or in zero bytes.
std::string awkward_key(Random& random) {
  std::string key;
  switch (random.below(4)) {
    case 0:
      key = "common-prefix/" + std::to_string(random.below(200));
      break;
    case 1:
      key = std::string(random.below(12), '\0');
      break;
    case 2:
      key = std::string(random.below(12), '\xff');
      break;
    default:
      for (size_t i = random.below(10); i > 0; --i)
        key.push_back("\0\x01\x7f\x80\xff"[random.below(5)]);
  }
  return key;
}

struct Written {
  Version version;
  Kind kind;
  std::string value;
};
using Model = std::map<std::pair<std::string, uint64_t>, Written>;  // (key, ~seq)

const Written* model_get(const Model& model, const std::string& key, uint64_t visible_seq) {
  const Written* best = nullptr;
  for (auto it = model.lower_bound({key, ~visible_seq});
       it != model.end() && it->first.first == key; ++it) {
    if (best == nullptr || it->second.version > best->version) best = &it->second;
  }
  return best;
}

}  // namespace

TEST_CASE("an empty memtable finds nothing") {
  Memtable table;
  CHECK(table.empty());
  CHECK(table.get("a", Memtable::seq_newest) == nullptr);
  CHECK(table.get("", Memtable::seq_newest) == nullptr);
  Memtable::Iterator it(table);
  it.seek_to_first();
  CHECK_FALSE(it.valid());
  it.seek_to_last();
  CHECK_FALSE(it.valid());
  it.seek("a");
  CHECK_FALSE(it.valid());
}

TEST_CASE("a read sees the newest write that is visible to it") {
  Memtable table;
  table.add(10, Kind::value, version(1), 0, "k", "one");
  table.add(20, Kind::tombstone, version(2), 0, "k", "");
  table.add(30, Kind::value, version(3), 99, "k", "three");
  CHECK(table.get("k", 9) == nullptr);
  CHECK(table.get("k", 10)->value() == "one");
  CHECK(table.get("k", 19)->value() == "one");
  CHECK(table.get("k", 20)->kind() == Kind::tombstone);
  CHECK(table.get("k", 30)->value() == "three");
  CHECK(table.get("k", Memtable::seq_newest)->expire_at_ms() == 99);
  CHECK(table.get("kk", 30) == nullptr);
  CHECK(table.get("", 30) == nullptr);
  CHECK(table.seq_order_is_version_order());
}

TEST_CASE("the greatest version wins whatever order versions come in, for every snapshot") {
  std::vector<uint64_t> order = {1, 2, 3, 4, 5, 6};
  do {
    Memtable table;
    table.add(1, Kind::value, version(100), 0, "j", "");
    for (size_t i = 0; i < order.size(); ++i) {
      table.add(i + 2, Kind::value, version(order[i]), 0, "k", std::to_string(order[i]));
    }
    table.add(50, Kind::value, version(100), 0, "l", "");
    for (size_t visible = 0; visible < order.size(); ++visible) {
      const uint64_t best =
          *std::max_element(order.begin(), order.begin() + static_cast<long>(visible) + 1);
      REQUIRE(table.get("k", visible + 2)->value() == std::to_string(best));
    }
    REQUIRE(table.get("k", 1) == nullptr);
    CHECK(table.seq_order_is_version_order() == std::is_sorted(order.begin(), order.end()));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("an older version of one key doesn't disturb the order of others") {
  Memtable table;
  table.add(1, Kind::value, version(9), 0, "a", "");
  table.add(2, Kind::value, version(8), 0, "b", "");
  CHECK(table.seq_order_is_version_order());
}

TEST_CASE("memtable equals a model over random writes, reads, seeks and snapshots") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Random random{seed * 0x9e3779b97f4a7c15};
    Memtable table;
    Model model;
    for (uint64_t seq = 1; seq <= 1500; ++seq) {
      const std::string key = awkward_key(random);
      const Written written{version(random.below(3) == 0 ? random.below(2000) : seq),
                            random.below(5) == 0 ? Kind::tombstone : Kind::value,
                            std::string(random.below(40), static_cast<char>('a' + seq % 26))};
      table.add(seq, written.kind, written.version, 0, key, written.value);
      model.emplace(std::pair(key, ~seq), written);

      const std::string probe = awkward_key(random);
      const uint64_t visible = random.below(seq + 2);
      const Memtable::Node* node = table.get(probe, visible);
      const Written* expected = model_get(model, probe, visible);
      REQUIRE((node == nullptr) == (expected == nullptr));
      if (node != nullptr) {
        CHECK(node->key() == probe);
        CHECK(node->version() == expected->version);
        CHECK(node->seq() <= visible);
      }
      Memtable::Iterator it(table);
      it.seek(probe);
      const auto at = model.lower_bound({probe, 0});
      REQUIRE(it.valid() == (at != model.end()));
      if (it.valid()) CHECK(it.node().key() == at->first.first);
    }
    CHECK(table.count() == model.size());
    Memtable::Iterator it(table);
    it.seek_to_first();
    for (const auto& [at, written] : model) {
      REQUIRE(it.valid());
      CHECK(it.node().key() == at.first);
      CHECK(it.node().seq() == ~at.second);
      CHECK(it.node().value() == written.value);
      it.next();
    }
    CHECK_FALSE(it.valid());
    it.seek_to_last();
    for (auto back = model.rbegin(); back != model.rend(); ++back) {
      REQUIRE(it.valid());
      CHECK(it.node().key() == back->first.first);
      CHECK(it.node().seq() == ~back->first.second);
      it.prev();
    }
    CHECK_FALSE(it.valid());
  }
}

TEST_CASE("an iterator stays where it is while writes come, and sees those ahead") {
  Memtable table;
  table.add(1, Kind::value, version(1), 0, "b", "");
  table.add(2, Kind::value, version(2), 0, "d", "");
  Memtable::Iterator it(table);
  it.seek_to_first();
  uint64_t seq = 2;
  for (int i = 0; i < 10'000; ++i) {
    ++seq;
    table.add(seq, Kind::value, version(seq), 0, "a" + std::to_string(i), "");
  }
  table.add(seq + 1, Kind::value, version(seq + 1), 0, "c", "");
  CHECK(it.node().key() == "b");
  it.next();
  CHECK(it.node().key() == "c");
  it.next();
  CHECK(it.node().key() == "d");
  it.next();
  CHECK_FALSE(it.valid());
}

TEST_CASE("counters describe the content") {
  Memtable table;
  table.add(5, Kind::value, version(50), 0, "a", "1");
  CHECK(table.expire_at_ms_min() == 0);
  table.add(6, Kind::value, version(70), 900, "b", "2");
  table.add(8, Kind::tombstone, version(60), 0, "c", "");
  table.add(9, Kind::value, version(65), 800, "d", "4");
  CHECK(table.count() == 4);
  CHECK(table.tombstones() == 1);
  CHECK(table.seq_first() == 5);
  CHECK(table.seq_last() == 9);
  CHECK(table.version_min() == version(50));
  CHECK(table.version_max() == version(70));
  CHECK(table.expire_at_ms_min() == 800);
}

TEST_CASE("keys and values of every size come back, at most the announced memory is used") {
  Memtable table;
  uint64_t seq = 0;
  for (const size_t key_bytes : {0u, 1u, 7u, 8u, 9u, 100u, 70'000u, 2u << 20}) {
    for (const size_t value_bytes : {0u, 1u, 100u, 65535u, 65536u, 300'000u}) {
      const std::string key(key_bytes, 'k');
      const std::string value(value_bytes, static_cast<char>('a' + seq % 26));
      const size_t before = table.used_bytes();
      ++seq;
      table.add(seq, Kind::value, version(seq), 0, key, value);
      CHECK(table.used_bytes() - before <= Memtable::entry_bytes_max(key_bytes, value_bytes));
      CHECK(table.allocated_bytes() >= table.used_bytes());
      const Memtable::Node* node = table.get(key, seq);
      REQUIRE(node != nullptr);
      CHECK(node->value_bytes() == value_bytes);
      CHECK(node->large() == (value_bytes >= Memtable::large_value_bytes_min));
      CHECK((node->large() ? node->large_value().to_string() : std::string(node->value())) ==
            value);
    }
  }
}

TEST_CASE("a large value is kept as it came, a small one is copied") {
  Memtable table;
  ValueBuffer small("abc");
  CHECK(table.add(1, Kind::value, version(1), 0, "s", std::move(small))->value() == "abc");

  ValueBuffer large(std::string(3u << 20, 'x'));
  const char* data = nullptr;
  large.for_each_piece([&](std::string_view piece) {
    if (data == nullptr) data = piece.data();
  });
  const Memtable::Node* node = table.add(2, Kind::value, version(2), 0, "l", std::move(large));
  const char* kept = nullptr;
  node->large_value().for_each_piece([&](std::string_view piece) {
    if (kept == nullptr) kept = piece.data();
  });
  CHECK(kept == data);
  CHECK(node->entry().key == "l");
}

TEST_CASE("an expected prefix changes nothing but the speed, whatever keys come") {
  const std::vector<std::string> keys = {"",
                                         "a",
                                         "key",
                                         "key0",
                                         "key00",
                                         "key000",
                                         std::string("key00\0", 6),
                                         "key01",
                                         "key1",
                                         "key00a",
                                         "kex",
                                         "kez",
                                         "key00\xff",
                                         "key00\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                                         "zzz",
                                         "\xff\xff",
                                         "key00aaaaaaaab",
                                         "key00aaaaaaaaa",
                                         "key00aaaaaaaa"};
  Memtable plain;
  Memtable expecting("key00");
  uint64_t seq = 0;
  for (const std::string& key : keys) {
    ++seq;
    plain.add(seq, Kind::value, Version{seq, 1}, 0, key, "v" + std::to_string(seq));
    expecting.add(seq, Kind::value, Version{seq, 1}, 0, key, "v" + std::to_string(seq));
  }
  Memtable::Iterator a(plain);
  Memtable::Iterator b(expecting);
  a.seek_to_first();
  b.seek_to_first();
  while (a.valid()) {
    REQUIRE(b.valid());
    CHECK(a.node().key() == b.node().key());
    CHECK(a.node().seq() == b.node().seq());
    a.next();
    b.next();
  }
  CHECK_FALSE(b.valid());
  for (const std::string& key : keys) {
    const Memtable::Node* found = expecting.get(key, Memtable::seq_newest);
    REQUIRE(found != nullptr);
    CHECK(found->key() == key);
    CHECK(expecting.get(key + "!", Memtable::seq_newest) == nullptr);
  }
}

TEST_CASE("the prefix for ranks is one that all keys share, and leaves eight bytes to tell apart") {
  Memtable table;
  CHECK(table.rank_prefix().empty());
  table.add(1, Kind::value, Version{1, 1}, 0, "user:00010", "");
  CHECK(table.rank_prefix() == "us");
  table.add(2, Kind::value, Version{2, 1}, 0, "user:0002900000", "");
  CHECK(table.rank_prefix() == "user:00");
  table.add(3, Kind::value, Version{3, 1}, 0, "usual:000290000", "");
  CHECK(table.rank_prefix() == "us");
  table.add(4, Kind::value, Version{4, 1}, 0, "zebra", "");
  CHECK(table.rank_prefix().empty());
}

TEST_CASE("what the keys share is learnt on the way, and keeps order and reads as they are") {
  Memtable table;
  std::map<std::string, uint64_t> model;
  Random random;
  uint64_t seq = 0;
  const auto add = [&](const std::string& key) {
    ++seq;
    table.add(seq, Kind::value, version(seq), 0, key, "");
    model[key] = seq;
  };
  for (int i = 0; i < 100; ++i) add("tenant/0001/" + std::to_string(random.below(1'000'000)));
  // Keys without the prefix, before and behind the others, and some more learning.
  for (int i = 0; i < 9000; ++i) {
    add((i % 7 == 0    ? "tenant/0000/"
         : i % 11 == 0 ? "z"
                       : "tenant/0001/") +
        std::to_string(random.below(1'000'000)));
  }
  Memtable::Iterator it(table);
  it.seek_to_first();
  for (const auto& [key, newest] : model) {
    REQUIRE(it.valid());
    REQUIRE(it.node().key() == key);
    REQUIRE(table.get(key, Memtable::seq_newest)->seq() == newest);
    it.next_key();
  }
  CHECK_FALSE(it.valid());
}

TEST_CASE("keys that wait for their place in the list are found, and seen by whoever looks at it") {
  for (const uint64_t before_look : {1u, 2u, 31u, 32u, 33u, 500u}) {
    for (int order = 0; order < 3; ++order) {
      Random random{before_look * 3 + static_cast<uint64_t>(order) + 1};
      Memtable table;
      std::map<std::string, uint64_t> model;
      for (uint64_t seq = 1; seq <= 1500; ++seq) {
        const uint64_t number = order == 0 ? seq : order == 1 ? 9999 - seq : random.below(5000);
        const std::string key = "k" + std::to_string(10000 + number);
        table.add(seq, Kind::value, version(seq), 0, key, "");
        model[key] = seq;
        REQUIRE(table.get(key, seq)->seq() == seq);
        if (seq % before_look != 0) continue;
        Memtable::Iterator it(table);
        if (seq / before_look % 2 == 0) {
          it.seek(key);
          const auto after = std::next(model.find(key));
          REQUIRE(it.node().key() == key);
          it.next_key();
          REQUIRE(it.valid() == (after != model.end()));
          if (it.valid()) CHECK(it.node().key() == after->first);
        } else {
          it.seek_to_last();
          CHECK(it.node().key() == model.rbegin()->first);
          it.seek_to_first();
          CHECK(it.node().key() == model.begin()->first);
        }
      }
      Memtable::Iterator it(table);
      it.seek_to_first();
      for (const auto& [key, seq] : model) {
        REQUIRE(it.valid());
        CHECK(it.node().key() == key);
        CHECK(it.node().seq() == seq);
        it.next_key();
      }
      CHECK_FALSE(it.valid());
    }
  }
}

TEST_CASE("keys that take their places together make the list that they make one by one") {
  // 0: only in the end; else: how many adds lie between two looks, or between two parts of linking.
  for (const uint64_t look_every : {0u, 1u, 100u, 7'000u}) {
    for (const uint64_t link_every : {0u, 50u, 9'000u}) {
      Random random{look_every * 31 + link_every + 1};
      Memtable expected;
      Memtable table;
      table.defer_links();
      bool deferred = true;
      for (uint64_t seq = 1; seq <= 20'000; ++seq) {
        const std::string key = random.below(4) == 0
                                    ? awkward_key(random)
                                    : "key-" + std::to_string(random.below(15'000) * 7919 % 99'991);
        const Version written = version(random.below(1'000));
        const Kind kind = random.below(5) == 0 ? Kind::tombstone : Kind::value;
        const uint64_t expiry = random.below(3) == 0 ? seq : 0;
        const std::string value = kind == Kind::value ? std::to_string(seq) : "";
        expected.add(seq, kind, written, expiry, key, value);
        table.add(seq, kind, written, expiry, key, value);
        if (look_every != 0 && seq % look_every == 0) {
          Memtable::Iterator it(table);
          it.seek(key);
          REQUIRE(it.node().seq() == seq);
        }
        if (link_every != 0 && seq % link_every == 0) {
          if (!deferred) table.defer_links();
          deferred = table.link_some();
        }
        REQUIRE(table.get(key, seq)->version() == expected.get(key, seq)->version());
      }
      while (table.link_some()) continue;
      Memtable::Iterator a(expected);
      Memtable::Iterator b(table);
      a.seek_to_first();
      for (b.seek_to_first(); b.valid(); b.next(), a.next()) {
        REQUIRE(a.valid());
        REQUIRE(b.node().entry() == a.node().entry());
        REQUIRE(b.node().seq() == a.node().seq());
        Memtable::Iterator found(table);
        found.seek(b.node().key());
        REQUIRE(found.node().key() == b.node().key());
      }
      CHECK_FALSE(a.valid());
      CHECK(table.used_bytes() == expected.used_bytes());
      CHECK(table.rank_prefix() == expected.rank_prefix());
    }
  }
}

TEST_CASE("from key to key, an iterator sees what a read at the same seq sees") {
  Random random;
  Memtable table;
  Model model;
  for (uint64_t seq = 1; seq <= 3000; ++seq) {
    const std::string key = awkward_key(random);
    const Version at = version(random.below(3) == 0 ? random.below(3000) : seq);
    table.add(seq, Kind::value, at, 0, key, "");
    model.emplace(std::pair(key, ~seq), Written{at, Kind::value, ""});
  }
  for (const uint64_t visible : {0u, 1u, 100u, 1500u, 3000u}) {
    Memtable::Iterator it(table);
    auto at = model.begin();
    for (it.seek_to_first(); it.valid(); it.next_key()) {
      REQUIRE(it.node().key() == at->first.first);
      const Written* expected = model_get(model, at->first.first, visible);
      const Memtable::Node* found = it.winner(visible);
      REQUIRE((found == nullptr) == (expected == nullptr));
      if (found != nullptr) CHECK(found->version() == expected->version);
      at = model.upper_bound({at->first.first, UINT64_MAX});
    }
    CHECK(at == model.end());
  }
}

TEST_CASE("a reverse iterator mirrors the walk from key to key, from the end and from any key") {
  Random random;
  Memtable table;
  Memtable::ReverseIterator of_empty(table);
  of_empty.seek_to_last();
  CHECK_FALSE(of_empty.valid());
  std::map<std::string, Version> newest;
  for (uint64_t seq = 1; seq <= 5000; ++seq) {
    const std::string key = random.below(2) == 0 ? awkward_key(random) : std::to_string(seq);
    table.add(seq, Kind::value, version(seq), 0, key, "");
    newest[key] = version(seq);
    if (seq % 500 != 0 && seq > 40) continue;
    Memtable::ReverseIterator it(table);
    it.seek_to_last();
    for (auto at = newest.rbegin(); at != newest.rend(); ++at, it.next_key()) {
      REQUIRE(it.valid());
      REQUIRE(it.node().key() == at->first);
      CHECK(it.winner(Memtable::seq_newest)->version() == at->second);
    }
    CHECK_FALSE(it.valid());
    for (int probe = 0; probe < 50; ++probe) {
      const std::string bound = random.below(2) == 0 ? awkward_key(random) : std::to_string(seq);
      auto at = newest.lower_bound(bound);
      it.seek_before(bound);
      for (int step = 0; step < 70 && at != newest.begin(); ++step, it.next_key()) {
        REQUIRE(it.valid());
        CHECK(it.node().key() == (--at)->first);
      }
      CHECK(it.valid() == (at != newest.begin()));
    }
  }
}

TEST_CASE("a reverse iterator goes on past what is added meanwhile") {
  Memtable table;
  std::vector<std::string> keys;
  uint64_t seq = 0;
  for (int i = 100; i < 900; i += 2) {
    keys.push_back(std::to_string(i));
    ++seq;
    table.add(seq, Kind::value, version(seq), 0, keys.back(), "");
  }
  const uint64_t visible = seq;
  Memtable::ReverseIterator it(table);
  std::vector<std::string> seen;
  for (it.seek_to_last(); it.valid(); it.next_key()) {
    if (it.winner(visible) != nullptr) seen.emplace_back(it.node().key());
    const int middle = 101 + static_cast<int>(seq * 38 % 800);
    ++seq;
    table.add(seq, Kind::value, version(seq), 0, std::to_string(middle), "");
  }
  std::reverse(seen.begin(), seen.end());
  CHECK(seen == keys);
}

TEST_CASE("an iterator within a key's entries goes on to the older ones and the next key") {
  Memtable table;
  table.add(1, Kind::value, version(1), 0, "k", "one");
  table.add(2, Kind::value, version(2), 0, "k", "two");
  table.add(3, Kind::value, version(3), 0, "l", "");
  Memtable::Iterator it(table);
  it.seek("k");
  CHECK(it.node().value() == "two");
  table.add(4, Kind::value, version(4), 0, "k", "three");  // behind the iterator
  table.add(5, Kind::value, version(5), 0, "kk", "");      // ahead of it
  it.next();
  CHECK(it.node().value() == "one");
  it.next();
  CHECK(it.node().key() == "kk");
  it.prev();
  CHECK(it.node().value() == "one");
  it.prev();
  CHECK(it.node().value() == "two");
  it.prev();
  CHECK(it.node().value() == "three");
  it.prev();
  CHECK_FALSE(it.valid());
}

TEST_CASE("reads through the index and through the list agree, over many keys and versions") {
  Memtable table;
  uint64_t seq = 0;
  std::map<std::string, std::vector<std::pair<uint64_t, Version>>> model;
  uint64_t state = 88172645463325252;
  const auto random = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
  };
  for (int i = 0; i < 30000; ++i) {
    const std::string key = "k" + std::to_string(random() % 5000);
    const Version version{random() % 4 == 0 ? random() % 1000 : 1000 + ++seq, 1};
    if (version.hlc < 1000) ++seq;
    table.add(seq, Kind::value, version, 0, key, "x");
    model[key].push_back({seq, version});
  }
  for (int i = 0; i < 30000; ++i) {
    const std::string key = "k" + std::to_string(random() % 6000);
    const uint64_t visible = random() % 2 == 0 ? Memtable::seq_newest : random() % (seq + 2);
    const Version* best = nullptr;
    for (const auto& [at, version] : model[key]) {
      if (at <= visible && (best == nullptr || version > *best)) best = &version;
    }
    const Memtable::Node* found = table.get(key, visible);
    REQUIRE((found != nullptr) == (best != nullptr));
    if (found != nullptr) CHECK(found->version() == *best);
  }
}

TEST_CASE("an index that is full leaves the reading to the list") {
  struct Item {
    uint64_t key;
  };
  MemtableIndex<Item> index;
  std::vector<std::unique_ptr<Item>> items;
  const auto put = [&](uint64_t hash) {
    items.push_back(std::make_unique<Item>(Item{hash}));
    const auto is_key = [hash](const Item& item) { return item.key == hash; };
    const auto place = index.place_for(hash, is_key);
    CHECK(place.node == nullptr);
    index.put(place, items.back().get());
  };
  // All in one subtable, which holds 3/4 of 65536 at most.
  for (uint64_t i = 0; i < 49152; ++i) put(i << 32 | i);
  const Item* found = nullptr;
  const auto find = [&](uint64_t hash) {
    return index.find(hash, [hash](const Item& item) { return item.key == hash; }, found);
  };
  CHECK(find(uint64_t{7} << 32 | 7) == MemtableIndex<Item>::Answer::found);
  CHECK(found->key == (uint64_t{7} << 32 | 7));
  CHECK(find(uint64_t{7} << 32 | 8) == MemtableIndex<Item>::Answer::absent);
  const auto again = index.place_for(
      uint64_t{7} << 32 | 7, [](const Item& item) { return item.key == (uint64_t{7} << 32 | 7); });
  CHECK(again.node == found);
  put(uint64_t{49152} << 32 | 49152);
  CHECK(find(uint64_t{7} << 32 | 7) == MemtableIndex<Item>::Answer::unknown);
  CHECK(find(uint64_t{1} << 56) == MemtableIndex<Item>::Answer::absent);
}
