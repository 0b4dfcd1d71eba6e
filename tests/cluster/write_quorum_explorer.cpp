#include "write_quorum_explorer.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <type_traits>
#include <unordered_set>

#include "cluster/write_quorum.hpp"

namespace gyre::cluster {

namespace {

using Do = WriteQuorum::Do;
static_assert(std::has_unique_object_representations_v<WriteQuorum>);

// What is true, whatever the machine thinks of it.
struct Truth {
  RankSet asked = 0;              // a question is under way
  RankSet asked_first = 0;        // … and it is the one of the first stamp
  std::array<uint8_t, 2> sent{};  // by stamp: who was ever asked
  RankSet holds = 0;              // the last stamp, or by rights something newer
  RankSet lacks = 0;              // has said so, or nobody can know
  RankSet refused = 0;
  uint8_t round = 0;
  bool anything_stored = false;
  RankSet newer =
      0;  // has said of the first stamp that it holds something newer; none once certain
  bool expired = false;
  uint8_t answers = 0;
  bool stored_answered = false;
  bool finished = false;
};
static_assert(std::has_unique_object_representations_v<Truth>);

class Explorer {
 public:
  Explorer(unsigned ack, unsigned from) : ack_(ack), from_(from) {}

  WriteExploration run() {
    WriteQuorum quorum(ack_, from_);
    Truth truth;
    if (drain(quorum, truth)) walk(quorum, truth);
    return {violation_, seen_.size()};
  }

 private:
  static RankSet bit(unsigned rank) { return static_cast<RankSet>(1u << rank); }
  static unsigned size(RankSet set) { return static_cast<unsigned>(std::popcount(set)); }

  bool fail(const char* what) {
    if (violation_.empty()) violation_ = what;
    return false;
  }

  void walk(const WriteQuorum& quorum, const Truth& truth) {
    std::string key(sizeof quorum + sizeof truth, '\0');
    std::memcpy(key.data(), &quorum, sizeof quorum);
    std::memcpy(key.data() + sizeof quorum, &truth, sizeof truth);
    if (!seen_.insert(key).second) return;
    for (unsigned rank = 0; rank < from_ && violation_.empty(); ++rank) {
      for (const ReplicaReply reply :
           {ReplicaReply::stored, ReplicaReply::superseded, ReplicaReply::refused,
            ReplicaReply::unsent, ReplicaReply::unknown}) {
        WriteQuorum next = quorum;
        Truth then = truth;
        if (truth.asked & bit(rank)) {
          happen(then, rank, reply);
        } else if (reply != ReplicaReply::stored) {
          continue;  // of what repeats, only this could do harm
        }
        next.replied(rank, reply);
        if (drain(next, then)) walk(next, then);
      }
    }
    if (truth.expired || !violation_.empty()) return;
    WriteQuorum next = quorum;
    Truth then = truth;
    then.expired = true;
    settle(then);
    next.expired();
    if (drain(next, then)) walk(next, then);
  }

  // The outcome is certain: enough hold it, or too many don't.
  bool certain(const Truth& truth) const {
    return truth.expired || size(truth.holds) >= ack_ || size(truth.lacks) > from_ - ack_;
  }

  // Enough have replied that one of them has whatever was acknowledged before this write began.
  bool must_restamp(const Truth& truth) const {
    return truth.newer != 0 && !certain(truth) && size(truth.holds | truth.newer) >= ack_;
  }

  // Who holds something newer has what there is to have, unless the write gets another stamp.
  void settle(Truth& truth) const {
    if (!certain(truth)) return;
    truth.holds |= truth.newer;
    truth.newer = 0;
  }

  void happen(Truth& truth, unsigned rank, ReplicaReply reply) {
    const RankSet self = bit(rank);
    const bool first = (truth.asked_first & self) != 0;
    const bool was_certain = certain(truth);
    truth.asked &= static_cast<RankSet>(~self);
    truth.asked_first &= static_cast<RankSet>(~self);
    if (reply == ReplicaReply::stored || reply == ReplicaReply::unknown)
      truth.anything_stored = true;
    if (first && truth.round == 1) {  // about a stamp that nobody wants any more
      if (was_certain && !truth.stored_answered) truth.lacks |= self;
      return;
    }
    if (reply == ReplicaReply::superseded && truth.round == 0 && !was_certain) {
      truth.newer |= self;
      return;
    }
    const bool holds = reply == ReplicaReply::stored || reply == ReplicaReply::superseded;
    (holds ? truth.holds : truth.lacks) |= self;
    if (reply == ReplicaReply::refused) truth.refused |= self;
    settle(truth);
  }

  // Takes steps until there is nothing to do, and judges each.
  bool drain(WriteQuorum& quorum, Truth& truth) {
    for (unsigned steps = 0;; ++steps) {
      if (steps > 32) return fail("it never waits");
      const WriteQuorum::Step step = quorum.next();
      switch (step.what) {
        case Do::ask:
          if (truth.asked & bit(step.rank)) return fail("asked while a question is under way");
          if (truth.sent[truth.round] & bit(step.rank)) return fail("asked twice");
          truth.sent[truth.round] |= bit(step.rank);
          truth.asked |= bit(step.rank);
          if (truth.round == 0) truth.asked_first |= bit(step.rank);
          break;
        case Do::restamp:
          if (truth.answers != 0) return fail("restamped after the answer");
          if (truth.round == 1) return fail("restamped twice");
          if (!must_restamp(truth)) return fail("restamped without need, or too early");
          truth.round = 1;
          truth.holds = truth.newer = truth.lacks = truth.refused = 0;
          break;
        case Do::answer_stored:
          if (size(truth.holds) < ack_) return fail("answered though too few have it");
          if (truth.expired) return fail("answered after the deadline");
          truth.stored_answered = true;
          if (++truth.answers > 1) return fail("answered twice");
          break;
        case Do::answer_failed:
        case Do::answer_refused: {
          const bool hopeless = size(truth.lacks) > from_ - ack_;
          if (!hopeless && !truth.expired) return fail("failed though it could succeed");
          const bool refused = !truth.anything_stored && size(truth.refused) == from_;
          if (refused != (step.what == Do::answer_refused)) return fail("the wrong failure");
          if (++truth.answers > 1) return fail("answered twice");
          // Who was not asked any more.
          truth.lacks |= static_cast<RankSet>(((1u << from_) - 1) & ~truth.asked & ~truth.holds);
          break;
        }
        case Do::wait:
        case Do::finished:
          return judge_rest(quorum, truth, step.what);
      }
    }
  }

  bool judge_rest(const WriteQuorum& quorum, Truth& truth, Do what) {
    if (must_restamp(truth)) return fail("not restamped");
    if (certain(truth) && truth.answers == 0) return fail("not answered though it is certain");
    const bool over = truth.asked == 0 && truth.answers == 1;
    if (over != (what == Do::finished)) return fail(over ? "it never ends" : "it ends too early");
    if (!over && truth.asked == 0) return fail("it waits for nothing");
    const auto all = static_cast<RankSet>((1u << from_) - 1);
    if (quorum.stored() != truth.holds) return fail("wrong about who has the write");
    if (over && quorum.missed() != (all & ~truth.holds)) return fail("forgot who missed the write");
    return true;
  }

  unsigned ack_;
  unsigned from_;
  std::string violation_;
  std::unordered_set<std::string> seen_;
};

}  // namespace

WriteExploration explore_writes(unsigned ack, unsigned from) {
  return Explorer(ack, from).run();
}

}  // namespace gyre::cluster
