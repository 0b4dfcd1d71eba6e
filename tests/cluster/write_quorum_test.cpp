#include "cluster/write_quorum.hpp"

#include <doctest/doctest.h>

#include "write_quorum_explorer.hpp"

using namespace gyre::cluster;

using Do = WriteQuorum::Do;

namespace {
void ask_all(WriteQuorum& quorum, unsigned from) {
  for (unsigned rank = 0; rank < from; ++rank) {
    const WriteQuorum::Step step = quorum.next();
    REQUIRE(step.what == Do::ask);
    REQUIRE(step.rank == rank);
  }
  REQUIRE(quorum.next().what == Do::wait);
}
}  // namespace

TEST_CASE("every order of every reply to a write gives what is true of the replicas") {
  for (unsigned from = 1; from <= gyre::limits::cluster_replicas_max; ++from) {
    for (unsigned ack = 1; ack <= from; ++ack) {
      CAPTURE(ack);
      CAPTURE(from);
      const WriteExploration exploration = explore_writes(ack, from);
      CHECK(exploration.violation == "");
      MESSAGE(ack << " of " << from << ": " << exploration.states << " states");
    }
  }
}

TEST_CASE("a write to two of three is answered at the second, and ends at the third") {
  WriteQuorum quorum(2, 3);
  ask_all(quorum, 3);
  quorum.replied(2, ReplicaReply::stored);
  CHECK(quorum.next().what == Do::wait);
  quorum.replied(2, ReplicaReply::stored);  // again: nobody waits for it
  CHECK(quorum.next().what == Do::wait);
  quorum.replied(0, ReplicaReply::stored);
  CHECK(quorum.next().what == Do::answer_stored);
  CHECK(quorum.next().what == Do::wait);
  CHECK(quorum.missed() == 0);
  quorum.replied(1, ReplicaReply::unknown);
  CHECK(quorum.next().what == Do::finished);
  CHECK(quorum.stored() == 0b101);
  CHECK(quorum.missed() == 0b010);
}

TEST_CASE("a write that meets something newer is stamped anew and sent to everybody again, once") {
  WriteQuorum quorum(2, 3);
  ask_all(quorum, 3);
  quorum.replied(0, ReplicaReply::stored);
  quorum.replied(1, ReplicaReply::superseded);
  CHECK(quorum.next().what == Do::restamp);
  CHECK(quorum.next().rank == 0);
  CHECK(quorum.next().rank == 1);
  CHECK(quorum.next().what == Do::wait);
  quorum.replied(2, ReplicaReply::stored);  // with the stamp before
  const WriteQuorum::Step step = quorum.next();
  CHECK(step.what == Do::ask);
  CHECK(step.rank == 2);
  quorum.replied(2, ReplicaReply::superseded);
  CHECK(quorum.next().what == Do::wait);
  quorum.replied(1, ReplicaReply::stored);
  CHECK(quorum.next().what == Do::answer_stored);
}

TEST_CASE("the new stamp waits for as many replies as hold every write acknowledged before") {
  WriteQuorum quorum(2, 3);
  ask_all(quorum, 3);
  quorum.replied(0, ReplicaReply::superseded);  // perhaps by less than what the next one has
  CHECK(quorum.next().what == Do::wait);
  SUBCASE("the second reply makes it due") {
    quorum.replied(2, ReplicaReply::superseded);
    CHECK(quorum.next().what == Do::restamp);
  }
  SUBCASE("so does one that has stored it") {
    quorum.replied(1, ReplicaReply::stored);
    CHECK(quorum.next().what == Do::restamp);
  }
  SUBCASE("nobody else can reply") {
    quorum.replied(1, ReplicaReply::unknown);
    CHECK(quorum.next().what == Do::wait);
    quorum.replied(2, ReplicaReply::unknown);
    CHECK(quorum.next().what == Do::answer_failed);
    CHECK(quorum.next().what == Do::finished);
    CHECK(quorum.stored() == 0b001);
  }
}

TEST_CASE("a write that every replica refuses was not done: the client may try again") {
  WriteQuorum quorum(1, 2);
  ask_all(quorum, 2);
  quorum.replied(1, ReplicaReply::refused);
  CHECK(quorum.next().what == Do::wait);
  quorum.replied(0, ReplicaReply::refused);
  CHECK(quorum.next().what == Do::answer_refused);
  CHECK(quorum.next().what == Do::finished);
}

TEST_CASE("a write whose time is over fails, and still learns who has it") {
  WriteQuorum quorum(2, 2);
  ask_all(quorum, 2);
  quorum.replied(0, ReplicaReply::stored);
  quorum.expired();
  CHECK(quorum.next().what == Do::answer_failed);
  CHECK(quorum.next().what == Do::wait);
  quorum.replied(1, ReplicaReply::superseded);
  CHECK(quorum.next().what == Do::finished);
  CHECK(quorum.stored() == 0b11);
}
