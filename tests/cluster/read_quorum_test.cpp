#include "cluster/read_quorum.hpp"

#include <doctest/doctest.h>

#include "read_quorum_explorer.hpp"

using namespace gyre;
using namespace gyre::cluster;

using Do = ReadQuorum::Do;

namespace {
const Version older{1, 1};
const Version newer{2, 1};
ReadQuorum::Found live(const Version& version) {
  return {version, true, true};
}
void expect(ReadQuorum& quorum, Do what, unsigned rank = 0) {
  const ReadQuorum::Step step = quorum.next();
  CHECK(step.what == what);
  CHECK(step.rank == rank);
}
}  // namespace

TEST_CASE("every order of every reply to a read gives what is true of the replicas") {
  for (unsigned from = 1; from <= limits::cluster_replicas_max; ++from) {
    for (unsigned ack = 1; ack <= from; ++ack) {
      for (const bool long_values : {false, true}) {
        CAPTURE(ack);
        CAPTURE(from);
        CAPTURE(long_values);
        const ReadExploration exploration = explore_reads(ack, from,
                                                          {.versions = from < 5 ? 3u : 2u,
                                                           .long_values = long_values,
                                                           .hedges = from < 5 ? 2u : 1u});
        CHECK(exploration.violation == "");
        MESSAGE(ack << " of " << from << ": " << exploration.states << " states");
      }
    }
  }
}

TEST_CASE("a majority read writes the newest to whoever lacks it before it answers") {
  ReadQuorum quorum(2, 3);
  expect(quorum, Do::ask, 0);
  expect(quorum, Do::ask, 1);
  expect(quorum, Do::wait);
  CHECK(quorum.found(1, live(newer)));
  CHECK_FALSE(quorum.found(0, live(older)));
  expect(quorum, Do::write, 0);
  expect(quorum, Do::wait);
  SUBCASE("and answers when it has been taken") {
    quorum.written(0);
    expect(quorum, Do::answer);
    expect(quorum, Do::finished);
  }
  SUBCASE("or asks the next one when it has failed") {
    quorum.failed(0);
    expect(quorum, Do::ask, 2);
    expect(quorum, Do::wait);
    SUBCASE("which takes it") {
      CHECK_FALSE(quorum.found(2, {}));
      expect(quorum, Do::write, 2);
      quorum.written(2);
      expect(quorum, Do::answer);
    }
    SUBCASE("and gives up with the last") {
      quorum.failed(2);
      expect(quorum, Do::fail);
      expect(quorum, Do::finished);
    }
  }
}

TEST_CASE("a read of one of three answers at once and repairs what it sees afterwards") {
  ReadQuorum quorum(1, 3);
  expect(quorum, Do::ask, 0);
  expect(quorum, Do::wait);
  CHECK(quorum.can_hedge());
  quorum.hedge();
  expect(quorum, Do::ask, 1);
  CHECK(quorum.found(0, live(older)));
  expect(quorum, Do::answer);
  expect(quorum, Do::wait);
  CHECK(quorum.found(1, {newer, false, false}));  // a tombstone
  expect(quorum, Do::write, 0);
  quorum.written(0);
  expect(quorum, Do::finished);
}

TEST_CASE(
    "a version that nobody can give is forgotten when enough others have replied without it") {
  ReadQuorum quorum(2, 3);
  expect(quorum, Do::ask, 0);
  expect(quorum, Do::ask, 1);
  CHECK(quorum.found(0, {newer, true, false}));
  SUBCASE("but not before") {
    quorum.failed(1);
    expect(quorum, Do::ask, 2);
    CHECK_FALSE(quorum.found(2, {older, true, false}));
    expect(quorum, Do::fetch, 0);
    quorum.failed(0);
    expect(quorum, Do::fail);
  }
  SUBCASE("and the next newest is fetched") {
    CHECK_FALSE(quorum.found(1, live(older)));
    expect(quorum, Do::fetch, 0);
    quorum.failed(0);
    expect(quorum, Do::ask, 2);
    CHECK_FALSE(quorum.found(2, {}));
    expect(quorum, Do::forget);
    expect(quorum, Do::fetch, 1);
    CHECK(quorum.found(1, live(older)));
    expect(quorum, Do::write, 2);
    quorum.written(2);
    expect(quorum, Do::answer);
    expect(quorum, Do::finished);
  }
  SUBCASE("which may be that there was nothing") {
    CHECK_FALSE(quorum.found(1, {}));
    expect(quorum, Do::fetch, 0);
    quorum.failed(0);
    expect(quorum, Do::ask, 2);
    CHECK_FALSE(quorum.found(2, {}));
    expect(quorum, Do::forget);
    expect(quorum, Do::answer);
    CHECK(!quorum.newest());
    expect(quorum, Do::finished);
  }
}

TEST_CASE("a long value is fetched at once, whoever else has not replied") {
  ReadQuorum quorum(2, 3);
  expect(quorum, Do::ask, 0);
  expect(quorum, Do::ask, 1);
  quorum.hedge();
  expect(quorum, Do::ask, 2);
  CHECK(quorum.found(1, {newer, true, false}));
  expect(quorum, Do::wait);
  CHECK_FALSE(quorum.found(2, {newer, true, false}));
  expect(quorum, Do::fetch, 1);  // rank 0 is silent
  expect(quorum, Do::wait);
  quorum.hedge();
  expect(quorum, Do::fetch, 2);
  CHECK(quorum.found(2, live(newer)));
  expect(quorum, Do::answer);
  expect(quorum, Do::wait);
  quorum.failed(1);
  quorum.failed(0);
  expect(quorum, Do::finished);
}
