#include "store/manifest_edit.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "base/hash.hpp"
#include "store/table_format.hpp"
#include "table_support.hpp"

namespace gyre {
using namespace test;

namespace {

constexpr uint64_t manifest_number = 3;
constexpr size_t block_bytes = manifest_record_alignment_bytes;

TableRecord table(uint8_t level, uint64_t file_number, std::string smallest, std::string largest) {
  TableRecord record;
  record.level = level;
  record.file_number = file_number;
  record.size_bytes = 1000 + file_number;
  record.smallest_key = std::move(smallest);
  record.largest_key = std::move(largest);
  record.version_min = {10, 1};
  record.version_max = {20, 2};
  record.entry_count = 5;
  record.tombstone_count = 1;
  record.tombstone_hlc_min = 15;
  record.expire_at_ms_min = 99;
  record.log_sequence_max = 7;
  record.created_ms = test_created_ms;
  return record;
}

VersionEdit edit(uint64_t number, std::vector<RemovedTable> removed,
                 std::vector<TableRecord> added) {
  VersionEdit out;
  out.edit_number = number;
  out.next_file_number = 100;
  out.log_number = number;
  out.log_start_position = number * 100;
  out.flushed_through_seq = number * 10;
  out.log_promised_position = number * 200;
  out.hlc_max = 50;
  out.removed = std::move(removed);
  out.added = std::move(added);
  return out;
}

VersionEdit first_snapshot(std::vector<TableRecord> added = {}) {
  VersionEdit out = edit(1, {}, std::move(added));
  out.snapshot_of.emplace();
  out.snapshot_of->uuid = {1, 2, 3};
  out.snapshot_of->index = 1;
  out.snapshot_of->count = 4;
  return out;
}

// A snapshot, an edit with keys that fill more than one block, two small edits.
std::vector<VersionEdit> some_edits() {
  return {
      first_snapshot({table(1, 10, "a", "c")}),
      edit(2, {}, {table(0, 11, "a", std::string(5000, 'z')), table(1, 12, "d", "e")}),
      edit(3, {{0, 11}}, {table(1, 13, "f", "g"), table(2, 14, "", "z")}),
      edit(4, {{1, 10}}, {table(2, 15, std::string("z\0", 2), "zz")}),
  };
}

std::string encoded(const std::vector<VersionEdit>& edits) {
  std::string out;
  for (const VersionEdit& each : edits) append_manifest_record(out, manifest_number, each);
  return out;
}

std::string nth_key(uint64_t index) {
  const std::string digits = std::to_string(index);
  return std::string(8 - digits.size(), '0') + digits;
}

struct ReadBack {
  std::vector<VersionEdit> edits;
  Errc error = Errc::ok;
  ManifestReader::Step end = ManifestReader::Step::edit;
  size_t valid_bytes = 0;
};

ReadBack read_all(std::string_view bytes, uint64_t number = manifest_number) {
  const std::vector<char> exact(bytes.begin(), bytes.end());
  ManifestReader reader({exact.data(), exact.size()}, number);
  ReadBack out;
  for (;;) {
    VersionEdit each;
    const auto step = reader.next(each);
    out.valid_bytes = reader.valid_bytes();
    if (!step) {
      out.error = step.error().code;
      CHECK_FALSE(step.error().detail.empty());
      return out;
    }
    out.end = *step;
    if (*step != ManifestReader::Step::edit) return out;
    out.edits.push_back(std::move(each));
  }
}

bool is_prefix(const std::vector<VersionEdit>& part, const std::vector<VersionEdit>& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

}  // namespace

TEST_CASE("a manifest gives back its edits and ends cleanly, also before preallocated zeros") {
  const auto edits = some_edits();
  const std::string bytes = encoded(edits);
  CHECK(bytes.size() == 5 * block_bytes);
  for (const size_t zeros : {size_t{0}, size_t{1}, 10 * block_bytes}) {
    const ReadBack back = read_all(bytes + std::string(zeros, '\0'));
    CHECK(back.edits == edits);
    CHECK(back.end == ManifestReader::Step::clean_end);
    CHECK(back.valid_bytes == bytes.size());
  }
}

TEST_CASE("a manifest cut at any byte keeps the edits before the cut") {
  const auto edits = some_edits();
  const std::string bytes = encoded(edits);
  // Where each record's last meaningful byte is.
  std::vector<size_t> ends;
  std::vector<size_t> starts;
  for (size_t i = 0; i < edits.size(); ++i) {
    const size_t before =
        encoded({edits.begin(), edits.begin() + static_cast<ptrdiff_t>(i)}).size();
    std::string record;
    append_manifest_record(record, manifest_number, edits[i]);
    starts.push_back(before);
    ends.push_back(before + record.find_last_not_of('\0') + 1);
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    const ReadBack back = read_all(std::string_view(bytes).substr(0, size));
    REQUIRE(is_prefix(back.edits, edits));
    if (back.edits.empty()) {
      REQUIRE(back.error == Errc::corrupt);  // a manifest without a snapshot was never installed
      continue;
    }
    REQUIRE(back.error == Errc::ok);
    // All records that are whole are there; zeros at a record's end may be missing or not.
    size_t whole = 0;
    while (whole < edits.size() && ends[whole] <= size) ++whole;
    REQUIRE(back.edits.size() <= whole);
    REQUIRE(back.edits.size() + 1 >= whole);
    if (back.edits.size() < edits.size()) {
      const bool at_boundary = size <= starts[back.edits.size()];
      CHECK((back.end == ManifestReader::Step::clean_end) == at_boundary);
    }
  }
}

TEST_CASE("damage before the last edit is refused, damage to the last one is a torn tail") {
  const auto edits = some_edits();
  const std::string bytes = encoded(edits);
  const size_t last = encoded({edits.begin(), edits.end() - 1}).size();
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    const ReadBack back = read_all(damaged);
    REQUIRE(is_prefix(back.edits, edits));
    if (back.edits.size() == edits.size()) {
      REQUIRE(bytes[at] == 0);  // padding
    } else if (at < last) {
      REQUIRE(back.error == Errc::corrupt);
    } else {
      REQUIRE(back.error == Errc::ok);
      REQUIRE(back.end == ManifestReader::Step::torn_tail);
      REQUIRE(back.valid_bytes == last);
    }
  }
}

TEST_CASE("a lost record before a good one is damage even if only zeros are left of it") {
  const auto edits = some_edits();
  std::string bytes = encoded(edits);
  std::fill_n(bytes.begin() + block_bytes, 2 * block_bytes, '\0');
  CHECK(read_all(bytes).error == Errc::corrupt);
}

TEST_CASE("the tail of a record whose first block was lost is torn, not clean") {
  const auto edits = some_edits();
  std::string bytes = encoded({edits[0], edits[1]});
  std::fill_n(bytes.begin() + block_bytes, block_bytes, '\0');
  const ReadBack back = read_all(bytes);
  CHECK(back.edits.size() == 1);
  CHECK(back.end == ManifestReader::Step::torn_tail);
}

TEST_CASE("records of another manifest file are not part of this one") {
  const auto edits = some_edits();
  CHECK(read_all(encoded(edits), manifest_number + 1).error == Errc::corrupt);
  std::string bytes = encoded({edits[0]});
  append_manifest_record(bytes, manifest_number + 1, edits[1]);
  const ReadBack back = read_all(bytes);
  CHECK(back.error == Errc::ok);
  CHECK(back.edits.size() == 1);
  CHECK(back.end == ManifestReader::Step::torn_tail);
}

TEST_CASE("edit numbers must follow, and only the first record is a snapshot") {
  const auto edits = some_edits();
  CHECK(read_all(encoded({edits[0], edits[2]})).error == Errc::corrupt);
  CHECK(read_all(encoded({edits[0], edits[1], edits[1]})).error == Errc::corrupt);
  CHECK(read_all(encoded({edits[1]})).error == Errc::corrupt);
  VersionEdit second = first_snapshot();
  second.edit_number = 2;
  CHECK(read_all(encoded({edits[0], second})).error == Errc::corrupt);
  CHECK(read_all("").error == Errc::corrupt);
}

TEST_CASE("edits add up to the levels") {
  LevelState state;
  for (const VersionEdit& each : some_edits()) {
    const auto applied = state.apply(each);
    REQUIRE(applied);
  }
  CHECK(state.edit_number() == 4);
  CHECK(state.next_file_number() == 100);
  CHECK(state.log_number() == 4);
  CHECK(state.log_start_position() == 400);
  CHECK(state.flushed_through_seq() == 40);
  CHECK(state.log_promised_position() == 800);
  CHECK(state.identity().count == 4);
  CHECK(state.level(0).empty());
  REQUIRE(state.level(1).size() == 2);
  CHECK(state.level(1)[0]->file_number == 12);
  CHECK(state.level(1)[1]->file_number == 13);
  REQUIRE(state.level(2).size() == 2);
  CHECK(state.level(2)[0]->file_number == 14);
  CHECK(state.level_bytes(2) == 2029);
  CHECK(state.find(10) == nullptr);
  REQUIRE(state.find(14) != nullptr);
  CHECK(*state.find(14) == table(2, 14, "", "z"));
  CHECK(state.table_count() == 4);
}

TEST_CASE("a snapshot of the state begins a manifest that leads to the same state") {
  LevelState state;
  for (const VersionEdit& each : some_edits()) REQUIRE(state.apply(each));
  const VersionEdit snapshot = state.snapshot();
  const ReadBack back = read_all(encoded({snapshot}));
  REQUIRE(back.edits.size() == 1);
  LevelState again;
  REQUIRE(again.apply(back.edits[0]));
  CHECK(again.edit_number() == 5);
  VersionEdit twice = again.snapshot();
  twice.edit_number = snapshot.edit_number;
  CHECK(twice == snapshot);
}

TEST_CASE("a snapshot made in pieces is the record made at once, in steps that are bounded") {
  for (const size_t tables : {0u, 1u, 7u, 64u, 1000u}) {
    for (const size_t key_bytes : {1u, 4096u - 200u, 20'000u}) {
      if (tables * key_bytes > 10'000'000) continue;
      CAPTURE(tables);
      CAPTURE(key_bytes);
      LevelState state;
      VersionEdit all = first_snapshot();
      all.next_file_number = 5 * tables + 10;
      for (size_t i = 0; i < tables; ++i) {
        const std::string key = nth_key(i) + std::string(key_bytes, 'k');
        all.added.push_back(table(i % 3 == 0 ? 0 : 1, 3 * i + 1, key, key));
      }
      REQUIRE(state.apply(all));
      std::string expected;
      append_manifest_record(expected, manifest_number, state.snapshot());

      SnapshotRecord record(state, state.snapshot_head(), manifest_number);
      size_t steps = 1;
      while (record.measure_some()) ++steps;
      CHECK(record.record_bytes() == expected.size());
      CHECK(steps >= tables / SnapshotRecord::tables_per_step_max);
      std::string made(SnapshotRecord::header_bytes, '\0');
      size_t longest = 0;
      for (bool more = true; more;) {
        const size_t before = made.size();
        more = record.append_some(made);
        longest = std::max(longest, made.size() - before);
      }
      CHECK(longest <= SnapshotRecord::step_bytes + 2 * key_bytes + 200 + block_bytes);
      made.replace(0, SnapshotRecord::header_bytes, record.header());
      CHECK(made == expected);
    }
  }
}

TEST_CASE("level 0 may overlap and is kept newest first") {
  LevelState state;
  REQUIRE(state.apply(
      first_snapshot({table(0, 5, "a", "z"), table(0, 9, "a", "z"), table(0, 7, "b", "c")})));
  REQUIRE(state.level(0).size() == 3);
  CHECK(state.level(0)[0]->file_number == 9);
  CHECK(state.level(0)[2]->file_number == 5);
}

TEST_CASE("a table can move to another level in one edit") {
  LevelState state;
  REQUIRE(state.apply(first_snapshot({table(0, 5, "a", "b")})));
  REQUIRE(state.apply(edit(2, {{0, 5}}, {table(1, 5, "a", "b")})));
  CHECK(state.level(0).empty());
  REQUIRE(state.level(1).size() == 1);
  CHECK(state.find(5)->level == 1);
}

TEST_CASE("an edit that breaks a rule changes nothing") {
  LevelState state;
  REQUIRE(state.apply(
      first_snapshot({table(0, 5, "a", "m"), table(1, 6, "a", "c"), table(1, 7, "h", "k")})));
  const auto good_table = [] { return table(1, 20, "d", "e"); };
  const auto broken = [&](auto change) {
    TableRecord record = good_table();
    change(record);
    return edit(2, {}, {record});
  };
  std::vector<VersionEdit> bad = {
      first_snapshot(),                                               // a second snapshot
      edit(3, {}, {}),                                                // a gap
      edit(1, {}, {}),                                                // again
      edit(2, {{0, 99}}, {}),                                         // unknown
      edit(2, {{1, 5}}, {}),                                          // wrong level
      edit(2, {{0, 5}, {0, 5}}, {}),                                  // twice
      edit(2, {}, {table(0, 5, "a", "m")}),                           // there already
      edit(2, {}, {table(0, 20, "a", "b"), table(0, 20, "a", "b")}),  // twice
      edit(2, {}, {table(0, 100, "a", "b")}),                         // next_file_number
      edit(2, {}, {table(1, 20, "c", "d")}),                          // overlaps its left
      edit(2, {}, {table(1, 20, "d", "h")}),                          // and its right
      edit(2, {}, {table(1, 20, "i", "j")}),                          // lies inside one
      edit(2, {{1, 6}}, {table(1, 20, "a", "i")}),                    // covers one
      edit(2, {}, {table(2, 20, "a", "c"), table(2, 21, "c", "d")}),  // overlap in the edit
      broken([](TableRecord& t) { t.level = limits::table_level_count; }),
      broken([](TableRecord& t) { t.smallest_key = "f"; }),
      broken([](TableRecord& t) { t.version_min = {21, 0}; }),
      broken([](TableRecord& t) { t.version_max = {51, 0}; }),
      broken([](TableRecord& t) { t.entry_count = 0; }),
      broken([](TableRecord& t) { t.tombstone_count = 6; }),
      broken([](TableRecord& t) { t.tombstone_count = 0; }),
      broken([](TableRecord& t) { t.tombstone_hlc_min = 21; }),
      broken([](TableRecord& t) { t.size_bytes = 3; }),
  };
  VersionEdit backwards = edit(2, {}, {});
  backwards.hlc_max = 49;
  bad.push_back(backwards);
  backwards = edit(2, {}, {});
  backwards.log_start_position = 99;
  bad.push_back(backwards);
  backwards = edit(2, {}, {});
  backwards.flushed_through_seq = 9;
  bad.push_back(backwards);
  backwards = edit(2, {}, {});
  backwards.log_promised_position = 199;
  bad.push_back(backwards);
  backwards = edit(2, {}, {});
  backwards.next_file_number = 99;
  bad.push_back(backwards);
  backwards = edit(2, {}, {});
  backwards.log_number = 0;
  bad.push_back(backwards);

  const VersionEdit before = state.snapshot();
  for (const VersionEdit& each : bad) {
    const auto applied = state.apply(each);
    REQUIRE_FALSE(applied);
    CHECK(applied.error().code == Errc::corrupt);
    CHECK(state.snapshot() == before);
  }
  CHECK(state.apply(edit(2, {}, {good_table()})));

  LevelState fresh;
  CHECK_FALSE(fresh.apply(edit(1, {}, {})));
}

TEST_CASE("random edits keep every level sorted and disjoint") {
  TestRandom random(40);
  LevelState state;
  REQUIRE(state.apply(first_snapshot()));
  uint64_t file_number = 1;
  size_t refused = 0;
  for (int step = 0; step < 3000; ++step) {
    VersionEdit next = edit(state.edit_number() + 1, {}, {});
    next.next_file_number = file_number + 10;
    for (uint64_t i = random.below(3); i > 0; --i) {
      std::string a = random.key(4);
      std::string b = random.key(4);
      if (b < a) std::swap(a, b);
      next.added.push_back(table(static_cast<uint8_t>(random.below(3)), file_number++, a, b));
    }
    for (uint64_t i = random.below(3); i > 0; --i) {
      const auto level = static_cast<uint8_t>(random.below(3));
      if (state.level(level).empty()) continue;
      next.removed.push_back(
          {level, state.level(level)[random.below(state.level(level).size())]->file_number});
    }
    refused += !state.apply(next);
    size_t count = state.level(0).size();
    for (unsigned level = 1; level < 3; ++level) {
      const auto& tables = state.level(level);
      count += tables.size();
      for (size_t i = 1; i < tables.size(); ++i) {
        REQUIRE(tables[i - 1]->largest_key < tables[i]->smallest_key);
      }
    }
    REQUIRE(count == state.table_count());
  }
  CHECK(refused > 100);
  CHECK(refused < 2900);
}

namespace {

// What a table's place in its level is known by.
using Places = std::set<const void*>;

Places places_of(const LevelState::Level& level) {
  Places places;
  for (const TableRecord* const& table : level) places.insert(&table);
  return places;
}

size_t moved(const Places& before, const Places& after) {
  return static_cast<size_t>(std::count_if(
      before.begin(), before.end(), [&](const void* place) { return !after.contains(place); }));
}

}  // namespace

TEST_CASE("an edit among 100,000 tables moves what it names, a refused one nothing") {
  constexpr uint64_t tables = 100'000;
  VersionEdit all = first_snapshot();
  all.next_file_number = 10 * tables;
  for (uint64_t i = 0; i < tables; ++i) {
    all.added.push_back(table(1, i + 1, nth_key(10 * i), nth_key(10 * i + 8)));
  }
  LevelState state;
  REQUIRE(state.apply(all));
  REQUIRE(state.level(1).size() == tables);
  for (uint64_t round = 0; round < 8; ++round) {
    const uint64_t at = round * 14'000;
    VersionEdit next = edit(state.edit_number() + 1, {{1, at + 1}}, {});
    next.next_file_number = all.next_file_number;
    next.added = {table(1, tables + 2 * round + 1, nth_key(10 * at), nth_key(10 * at + 4)),
                  table(1, tables + 2 * round + 2, nth_key(10 * at + 5), nth_key(10 * at + 8))};
    const Places before = places_of(state.level(1));
    VersionEdit bad = next;
    bad.added.back().largest_key = nth_key(10 * at + 10);
    REQUIRE_FALSE(state.apply(bad));
    CHECK(state.level(1).size() == tables + round);
    CHECK(moved(before, places_of(state.level(1))) <= 1);  // out and in again
    REQUIRE(state.apply(next));
    CHECK(state.level(1).size() == tables + round + 1);
    CHECK(moved(before, places_of(state.level(1))) <= 1);
  }
}

TEST_CASE("a finished table's properties make its record") {
  TableProperties properties;
  const std::string file = build_table(
      TableOptions(), {{"a", Kind::value, {5, 1}, 9, "v"}, {"b", Kind::tombstone, {6, 0}, 0, ""}},
      &properties);
  const TableRecord record = table_record(properties, 2, test_file_number, file.size());
  CHECK(record.level == 2);
  CHECK(record.file_number == test_file_number);
  CHECK(record.smallest_key == "a");
  CHECK(record.largest_key == "b");
  CHECK(record.version_max == Version{6, 0});
  CHECK(record.entry_count == 2);
  CHECK(record.tombstone_hlc_min == 6);
  CHECK(record.expire_at_ms_min == 9);
  CHECK(record.log_sequence_max == 42);
}

TEST_CASE("the bytes of a manifest are what format version 1 says") {
  CHECK(hash64(encoded(some_edits())) == 14112741021446079943u);  // golden
}

}  // namespace gyre
