#include "store/table_run.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "store/manifest_edit.hpp"
#include "table_support.hpp"

namespace gyre {
using namespace test;

namespace {

struct FakeTable {
  TableRecord fields;
  const TableRecord& record() const { return fields; }
};

// Counts how often it is copied.
struct FakeRef {
  static inline size_t copies = 0;
  FakeRef() = default;
  explicit FakeRef(std::shared_ptr<FakeTable> to) : table(std::move(to)) {}
  FakeRef(const FakeRef& other) : table(other.table) { ++copies; }
  FakeRef(FakeRef&&) = default;
  FakeRef& operator=(const FakeRef& other) {
    ++copies;
    table = other.table;
    return *this;
  }
  FakeRef& operator=(FakeRef&&) = default;
  FakeTable* operator->() const { return table.get(); }
  friend bool operator==(const FakeRef&, const FakeRef&) = default;
  std::shared_ptr<FakeTable> table;
};

using Run = TableRun<FakeRef>;

// Table i holds [i·10, i·10 + 5].
FakeRef table_of(uint64_t index) {
  auto table = std::make_shared<FakeTable>();
  table->fields.file_number = index;
  table->fields.smallest_key = fmt::format("{:09}", index * 10);
  table->fields.largest_key = fmt::format("{:09}", index * 10 + 5);
  return FakeRef(std::move(table));
}

bool is_before(const FakeRef& a, const FakeRef& b) {
  return a->record().smallest_key < b->record().smallest_key;
}

Run edited(const Run& run, const std::vector<FakeRef>& removed, const std::vector<FakeRef>& added) {
  Run::Editor editor(run, is_before);
  for (const FakeRef& table : removed) editor.remove(table);
  for (const FakeRef& table : added) editor.insert(table);
  return editor.finish();
}

size_t new_chunks(const Run& before, const Run& after) {
  std::set<const void*> known;
  for (size_t i = 0; i < before.chunk_count(); ++i) known.insert(before.chunk_identity(i));
  size_t count = 0;
  for (size_t i = 0; i < after.chunk_count(); ++i) {
    count += known.contains(after.chunk_identity(i)) ? 0 : 1;
  }
  return count;
}

bool holds(const Run& run, const std::vector<FakeRef>& expected) {
  if (run.size() != expected.size() || run.empty() != expected.empty()) return false;
  if (!std::equal(run.begin(), run.end(), expected.begin(), expected.end())) return false;
  return expected.empty() || (run.front() == expected.front() && run.back() == expected.back());
}

}  // namespace

TEST_CASE("a run of tables equals a vector over random edits, and versions stay as they were") {
  TestRandom random(5);
  for (const uint64_t universe : {20u, 300u, 3000u}) {
    Run run;
    std::vector<FakeRef> model;
    std::optional<std::pair<Run, std::vector<FakeRef>>> kept;
    for (int round = 0; round < 400; ++round) {
      // Phases of growing and of shrinking.
      const bool grows = round / 100 % 2 == 0;
      std::vector<FakeRef> removed;
      std::vector<FakeRef> added;
      auto next = model;
      for (uint64_t i = random.below(grows ? 4 : 30); i > 0 && !next.empty(); --i) {
        const auto at = next.begin() + static_cast<ptrdiff_t>(random.below(next.size()));
        removed.push_back(*at);
        next.erase(at);
      }
      for (uint64_t i = random.below(grows ? 30 : 4); i > 0; --i) {
        const FakeRef table = table_of(random.below(universe));
        const auto at = std::lower_bound(next.begin(), next.end(), table, is_before);
        if (at != next.end() && !is_before(table, *at)) continue;
        next.insert(at, table);
        added.push_back(table);
      }
      run = edited(run, removed, added);
      model = std::move(next);
      REQUIRE(holds(run, model));
      CHECK(run.chunk_count() <= model.size() / 12 + 1);
      for (int probe = 0; probe < 20; ++probe) {
        const std::string key = fmt::format("{:09}", random.below(universe * 10 + 20));
        const auto expected = std::partition_point(
            model.begin(), model.end(),
            [&](const FakeRef& table) { return table->record().largest_key < key; });
        const auto found = run.lower_bound(key);
        CHECK(found.index() == static_cast<size_t>(expected - model.begin()));
        CHECK((found == run.end()) == (expected == model.end()));
        if (!model.empty()) {
          const size_t index = random.below(model.size());
          CHECK(run[index] == model[index]);
          CHECK(*(run.begin() + static_cast<ptrdiff_t>(index)) == model[index]);
          CHECK(*(run.end() - static_cast<ptrdiff_t>(index + 1)) ==
                model[model.size() - 1 - index]);
        }
      }
      if (kept) REQUIRE(holds(kept->first, kept->second));
      if (round % 37 == 0) kept.emplace(run, model);
    }
  }
}

TEST_CASE("an edit of a level of 10,000 tables copies a few chunks of them") {
  std::vector<FakeRef> tables;
  for (uint64_t i = 0; i < 10'000; ++i) tables.push_back(table_of(2 * i));
  const Run run = edited({}, {}, tables);
  CHECK(run.chunk_count() == (10'000 + 63) / 64);
  TestRandom random(6);
  for (int round = 0; round < 200; ++round) {
    // As a compaction does: up to 9 neighbours go, up to 9 others come in their place.
    const size_t first = random.below(9'990);
    const std::vector<FakeRef> removed(
        tables.begin() + static_cast<ptrdiff_t>(first),
        tables.begin() + static_cast<ptrdiff_t>(first + 1 + random.below(9)));
    std::vector<FakeRef> added;
    for (uint64_t i = 0; i < random.below(10); ++i) added.push_back(table_of(2 * (first + i) + 1));
    FakeRef::copies = 0;
    const Run next = edited(run, removed, added);
    CHECK(FakeRef::copies <= 4 * 64);
    CHECK(new_chunks(run, next) <= 4);
    CHECK(next.size() == run.size() - removed.size() + added.size());
  }
}

TEST_CASE("a level that shrinks to nothing is empty") {
  std::vector<FakeRef> tables;
  for (uint64_t i = 0; i < 200; ++i) tables.push_back(table_of(i));
  Run run = edited({}, {}, tables);
  for (const FakeRef& table : tables) run = edited(run, {table}, {});
  CHECK(run.empty());
  CHECK(run.begin() == run.end());
  CHECK(run.lower_bound("") == run.end());
  CHECK(run.chunk_count() == 0);
}

}  // namespace gyre
