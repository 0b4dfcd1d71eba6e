#include "store/merge.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>

#include "table_support.hpp"

namespace gyre {
using namespace test;

namespace {

struct ListCursor {
  std::vector<OwnedEntry> entries;
  size_t at = 0;
  Entry current;

  explicit ListCursor(std::vector<OwnedEntry> list) : entries(std::move(list)) { load(); }
  void load() {
    if (valid()) current = entries[at].view();
  }
  bool valid() const { return at < entries.size(); }
  std::string_view key() const { return entries[at].key; }
  const Entry& entry() const { return current; }
  void next() {
    ++at;
    load();
  }
};

std::vector<OwnedEntry> merged(std::vector<ListCursor>& cursors,
                               ScanDirection direction = ScanDirection::forward) {
  MergeHeap<ListCursor> heap(direction);
  heap.reserve(cursors.size());
  for (ListCursor& cursor : cursors) heap.push(cursor);
  std::vector<OwnedEntry> out;
  while (!heap.empty()) {
    while (ListCursor* loser = heap.shadowed()) {
      loser->next();
      heap.advanced(*loser);
    }
    ListCursor& winner = heap.top();
    const Entry& entry = winner.entry();
    out.push_back({std::string(entry.key), entry.kind, entry.version, entry.expire_at_ms,
                   std::string(entry.value)});
    winner.next();
    heap.advanced(winner);
  }
  return out;
}

}  // namespace

TEST_CASE("a merge yields each key once, with its winner, in order") {
  TestRandom random(20);
  for (int round = 0; round < 300; ++round) {
    std::map<std::string, OwnedEntry> expected;
    std::vector<ListCursor> cursors;
    const size_t count = random.below(9);
    for (size_t i = 0; i < count; ++i) {
      auto entries = random_entries(random, random.below(40), 3, 3);
      for (OwnedEntry& entry : entries) {
        // Few versions, so that ties happen as well.
        entry.version = {1 + random.below(3), random.below(2)};
        const auto [known, is_new] = expected.try_emplace(entry.key, entry);
        if (!is_new && wins(entry.view(), known->second.view())) known->second = entry;
      }
      cursors.emplace_back(std::move(entries));
    }
    // The views made before the cursors moved into place are stale.
    for (ListCursor& cursor : cursors) cursor.load();
    std::vector<OwnedEntry> list;
    for (auto& [key, entry] : expected) list.push_back(entry);
    CHECK(merged(cursors) == list);
    for (ListCursor& cursor : cursors) {
      std::reverse(cursor.entries.begin(), cursor.entries.end());
      cursor.at = 0;
      cursor.load();
    }
    std::reverse(list.begin(), list.end());
    CHECK(merged(cursors, ScanDirection::reverse) == list);
  }
}

TEST_CASE("the winner of one key is found among many cursors that all hold it") {
  std::vector<ListCursor> cursors;
  for (uint64_t i = 0; i < 20; ++i) {
    cursors.emplace_back(std::vector<OwnedEntry>{
        {"k", Kind::value, {(i * 7) % 20, 0}, 0, std::to_string((i * 7) % 20)}});
  }
  for (ListCursor& cursor : cursors) cursor.load();
  const auto out = merged(cursors);
  REQUIRE(out.size() == 1);
  CHECK(out[0].value == "19");
}

TEST_CASE("while losers move on, the winner's entry stays in place") {
  ListCursor newer({{"k", Kind::value, {2, 0}, 0, "new"}});
  ListCursor older({{"k", Kind::value, {1, 0}, 0, "old"}, {"l", Kind::value, {1, 0}, 0, "l"}});
  newer.load();
  older.load();
  MergeHeap<ListCursor> heap;
  heap.push(older);
  heap.push(newer);
  const std::string_view key_before = heap.top().entry().key;
  ListCursor* loser = heap.shadowed();
  REQUIRE(loser == &older);
  loser->next();
  heap.advanced(*loser);
  CHECK(heap.shadowed() == nullptr);
  CHECK(&heap.top() == &newer);
  CHECK(heap.top().entry().key.data() == key_before.data());
}

TEST_CASE("of equal entries the cursor pushed first wins") {
  ListCursor first({{"k", Kind::value, {1, 0}, 0, "v"}});
  ListCursor second({{"k", Kind::value, {1, 0}, 0, "v"}});
  first.load();
  second.load();
  MergeHeap<ListCursor> heap;
  heap.push(first);
  heap.push(second);
  CHECK(&heap.top() == &first);
  CHECK(heap.shadowed() == &second);
}

TEST_CASE("an empty cursor is ignored") {
  ListCursor empty({});
  MergeHeap<ListCursor> heap;
  heap.push(empty);
  CHECK(heap.empty());
}

}  // namespace gyre
