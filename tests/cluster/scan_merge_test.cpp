#include "cluster/scan_merge.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "cluster/test_faults.hpp"
#include "scan_world.hpp"

using namespace gyre;
using namespace gyre::cluster;

using Do = ScanMerge::Do;

namespace {

constexpr int64_t ms = 1'000'000;

std::string page_of(std::vector<ScanEntry> entries) {
  std::string page;
  for (ScanEntry& entry : entries) {
    if (entry.kind == ScanKind::value) entry.value_bytes = entry.value.size();
    entry.append_to(page);
  }
  return page;
}
ScanEntry value(std::string_view key, uint64_t stamp, std::string_view bytes) {
  return {.kind = ScanKind::value, .key = key, .version = {stamp, 1}, .value = bytes};
}
ScanEntry dead(std::string_view key, uint64_t stamp) {
  return {.kind = ScanKind::dead, .key = key, .version = {stamp, 1}};
}

// Three nodes that hold everything, of which two are read: 0, which is this one, and 1.
struct ThreeNodes {
  explicit ThreeNodes(unsigned ack = 2)
      : table(random_slot_table(1, 3, 3)),
        merge(ScanPlan(table, ack, 3, 0, {0, 1, 1}), {.start = "a"}) {}

  ScanMerge::Step expect(Do what, NodeIndex node = no_node) {
    const ScanMerge::Step step = merge.next(now);
    CHECK(static_cast<int>(step.what) == static_cast<int>(what));
    if (node != no_node) CHECK(step.node == node);
    return step;
  }
  ScanMerge::StreamId opened(NodeIndex node, std::string_view resume_key = "a") {
    const ScanMerge::Step step = expect(Do::open, node);
    if (step.what != Do::open) return 0;
    CHECK(merge.resume_key(step.stream) == resume_key);
    CHECK(merge.slots(step.stream) == SlotSet::all());
    return step.stream;
  }
  void expect_record(std::string_view key, std::string_view bytes) {
    expect(Do::record);
    CHECK(merge.record().key == key);
    CHECK(merge.record().value == bytes);
  }
  // Next that is no credit.
  void expect_end() {
    ScanMerge::Step step = merge.next(now);
    while (step.what == Do::credit) step = merge.next(now);
    CHECK(static_cast<int>(step.what) == static_cast<int>(Do::end));
  }

  SlotTable table;
  ScanMerge merge;
  int64_t now = 1;
};

}  // namespace

TEST_CASE("the newest version of each key is shown once, and a newer tombstone hides") {
  ThreeNodes three;
  const auto here = three.opened(0);
  const auto there = three.opened(1);
  three.expect(Do::wait);
  three.merge.page(here, page_of({value("b", 5, "new"), dead("c", 9), value("d", 3, "old")}), 2);
  three.expect(Do::wait);  // the other may have something before b
  three.merge.page(there,
                   page_of({value("b", 4, "old"), value("c", 8, "gone"), value("d", 6, "new"),
                            value("e", 1, "only")}),
                   3);
  three.merge.ended(here);
  three.merge.ended(there);
  three.expect_record("b", "new");
  three.expect_record("d", "new");
  three.expect_record("e", "only");
  three.expect_end();
}

TEST_CASE("where a stream has passed without an entry the others go on") {
  ThreeNodes three;
  const auto here = three.opened(0);
  const auto there = three.opened(1);
  three.merge.page(here, page_of({value("b", 1, "1"), value("m", 2, "2")}), 2);
  three.merge.page(there, page_of({{.kind = ScanKind::passed, .key = "k"}}), 2);
  three.expect_record("b", "1");
  CHECK(three.expect(Do::credit, 1).bytes == ScanEntry::head_bytes + 1);
  three.expect(Do::wait);  // nothing is known of what comes behind k
  three.merge.ended(there);
  three.expect_record("m", "2");
  three.merge.ended(here);
  three.expect_end();
}

TEST_CASE("a stream that breaks is replaced behind the last key that was decided") {
  ThreeNodes three;
  const auto here = three.opened(0);
  const auto there = three.opened(1);
  three.merge.page(here, page_of({value("b", 1, "b"), value("c", 1, "c"), value("d", 1, "d")}), 2);
  three.merge.ended(here);
  // It has c already, and d is lost with it.
  three.merge.page(there, page_of({value("b", 1, "b"), value("c", 7, "newer")}), 2);
  three.expect_record("b", "b");
  three.merge.failed(there);
  three.expect(Do::close, 1);
  const auto third = three.opened(2, std::string_view("b\0", 2));
  three.merge.page(third, page_of({value("c", 2, "third")}), 3);
  three.merge.ended(third);
  three.expect_record("c", "third");
  three.expect_record("d", "d");
  three.expect_end();
  CHECK(three.merge.replaced() == 1);
}

TEST_CASE("a stream that is silent for half a second is replaced") {
  ThreeNodes three;
  const auto here = three.opened(0);
  static_cast<void>(three.opened(1));
  three.merge.ended(here);
  CHECK(three.expect(Do::wait).until == three.now + 500 * ms);
  three.now += 499 * ms;
  three.expect(Do::wait);
  three.now += ms;
  three.expect(Do::close, 1);
  const auto third = three.opened(2);
  SUBCASE("and the range ends without it") {
    three.merge.ended(third);
    three.expect_end();
  }
  SUBCASE("a sign of life buys time") {
    three.now += 400 * ms;
    three.merge.page(third, "", three.now);
    CHECK(three.expect(Do::wait).until == three.now + 500 * ms);
  }
  SUBCASE("a second one has nobody left to go on: it is waited for with patience, not for ever") {
    three.now += 500 * ms;
    CHECK(three.expect(Do::wait).until == three.now + 4500 * ms);
    three.now += 4500 * ms;
    three.expect(Do::fail);
    three.expect(Do::fail);
  }
}

TEST_CASE("a client that reads slowly makes nobody silent") {
  ThreeNodes three;
  const auto here = three.opened(0);
  const auto there = three.opened(1);
  three.merge.ended(here);
  three.merge.page(there, page_of({value("b", 1, "b")}), three.now);
  three.expect_record("b", "b");
  three.now += 60'000 * ms;
  three.expect(Do::credit, 1);
  CHECK(three.expect(Do::wait).until == three.now + 500 * ms);
}

TEST_CASE("with every replica wanted a broken stream is tried once more, then the range fails") {
  ThreeNodes three(3);
  const auto here = three.opened(0);
  const auto second = three.opened(1);
  const auto third = three.opened(2);
  three.merge.ended(here);
  three.merge.ended(third);
  three.merge.failed(second);
  three.expect(Do::close, 1);
  const auto again = three.opened(1);
  SUBCASE("it works") {
    three.merge.ended(again);
    three.expect_end();
  }
  SUBCASE("it does not") {
    three.merge.failed(again);
    three.expect(Do::fail);
  }
  SUBCASE("it brings a key, breaks, and is tried again, since it goes on") {
    three.merge.page(again, page_of({value("b", 1, "b")}), three.now);
    three.expect_record("b", "b");
    three.merge.failed(again);
    three.expect(Do::credit, 1);
    three.expect(Do::close, 1);
    three.merge.ended(three.opened(1, std::string_view("b\0", 2)));
    three.expect_end();
  }
}

TEST_CASE("a page that goes back or makes no sense counts as a break") {
  for (const std::string& bad :
       {std::string("nonsense"), page_of({value("A", 1, "before the start")}),
        page_of({value("c", 1, "c"), value("b", 1, "b")})}) {
    ThreeNodes three;
    const auto here = three.opened(0);
    const auto there = three.opened(1);
    three.merge.ended(here);
    three.merge.page(there, bad, three.now);
    ScanMerge::Step step = three.merge.next(three.now);
    while (step.what == Do::record) step = three.merge.next(three.now);
    CHECK(static_cast<int>(step.what) == static_cast<int>(Do::close));
    three.expect(Do::open, 2);
  }
}

TEST_CASE("whatever nodes do, a range is right as far as it goes, and whole if it can be") {
  uint64_t complete = 0;
  uint64_t replaced = 0;
  uint64_t records = 0;
  constexpr uint64_t runs = 3000;
  for (uint64_t seed = 1; seed <= runs; ++seed) {
    const ScanRun run = run_scan_world(seed);
    if (!run.violation.empty()) {
      CAPTURE(seed);
      CHECK(run.violation == "");
    }
    complete += run.complete;
    replaced += run.replaced;
    records += run.records;
  }
  CHECK(complete > runs / 2);
  CHECK(complete < runs);
  CHECK(replaced > runs / 4);
  MESSAGE(complete << " of " << runs << " complete, " << records << " records, " << replaced
                   << " streams replaced");
}

TEST_CASE("every bug planted in ranges is caught") {
  for (const auto& [name, fault] :
       {std::pair("first version kept", &ClusterTestFaults::scan_keeps_first_version),
        std::pair("dead shown", &ClusterTestFaults::scan_shows_dead),
        std::pair("given up without others", &ClusterTestFaults::scan_drops_uncovered),
        std::pair("resumed too far", &ClusterTestFaults::scan_resumes_behind_what_came),
        std::pair("covered one short", &ClusterTestFaults::scan_covers_one_short)}) {
    CAPTURE(std::string(name));
    cluster_test_faults.*fault = true;
    std::string violation;
    for (uint64_t seed = 1; seed <= 300 && violation.empty(); ++seed) {
      violation = run_scan_world(seed).violation;
    }
    cluster_test_faults.*fault = false;
    CHECK(violation != "");
    MESSAGE(std::string(name) << ": " << violation);
  }
}
