#include "read_quorum_explorer.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_set>
#include <utility>

#include "cluster/read_quorum.hpp"

namespace gyre::cluster {

namespace {

using Do = ReadQuorum::Do;
constexpr unsigned replicas_max = limits::cluster_replicas_max;
constexpr uint8_t concurrent = 9;  // a version that comes while the read is under way

enum class Question : uint8_t { none, ask, fetch, write };

// What is true, whatever the machine thinks of it.
struct Truth {
  std::array<uint8_t, replicas_max> holds{};      // the version that the replica holds
  std::array<uint8_t, replicas_max> writing{};    // what is on its way to it
  std::array<Question, replicas_max> question{};  // under way
  std::array<bool, replicas_max> asked{};         // ever
  std::array<bool, replicas_max> replied{};
  std::array<bool, replicas_max> failed{};
  std::array<uint8_t, replicas_max> held_first{};  // before the read began
  uint8_t newest_seen = 0;
  bool value_seen = true;
  uint8_t kept = 0;  // what the owner keeps to answer with
  uint8_t hedges = 0;
  bool fetch_failed = false;
  bool forgot = false;
  bool expired = false;
  uint8_t answers = 0;
};

class Explorer {
 public:
  Explorer(unsigned ack, unsigned from, const ReadPossibilities& possible)
      : ack_(ack), from_(from), possible_(possible) {}

  ReadExploration run() {
    unsigned assignments = 1;
    for (unsigned rank = 0; rank < from_; ++rank) assignments *= possible_.versions;
    size_t states = 0;
    for (unsigned number = 0; number < assignments && violation_.empty(); ++number) {
      Truth truth;
      unsigned rest = number;
      for (unsigned rank = 0; rank < from_; ++rank, rest /= possible_.versions)
        truth.holds[rank] = static_cast<uint8_t>(rest % possible_.versions);
      truth.held_first = truth.holds;
      seen_.clear();
      ReadQuorum quorum(ack_, from_);
      if (drain(quorum, truth)) walk(quorum, truth);
      states += seen_.size();
    }
    return {violation_, states};
  }

 private:
  bool fail(const char* what) {
    if (violation_.empty()) violation_ = what;
    return false;
  }

  // The machine's own state follows from this: what it was told, and what it asked for.
  std::string key(const ReadQuorum& quorum, const Truth& truth) const {
    std::string key;
    for (unsigned rank = 0; rank < from_; ++rank) {
      key +=
          {static_cast<char>(truth.holds[rank]), static_cast<char>(truth.writing[rank]),
           static_cast<char>(truth.question[rank]),
           static_cast<char>(truth.asked[rank] + 2 * truth.replied[rank] + 4 * truth.failed[rank])};
    }
    key += {static_cast<char>(truth.newest_seen),
            static_cast<char>(truth.value_seen + 2 * truth.expired + 4 * quorum.answered() +
                              8 * truth.fetch_failed + 16 * truth.forgot),
            static_cast<char>(truth.kept),
            static_cast<char>(truth.hedges),
            static_cast<char>(truth.answers),
            static_cast<char>(quorum.newest().hlc),
            static_cast<char>(quorum.holders()),
            static_cast<char>(quorum.can_hedge())};
    return key;
  }

  void walk(const ReadQuorum& quorum, const Truth& truth) {
    if (!seen_.insert(key(quorum, truth)).second) return;
    for (unsigned rank = 0; rank < from_ && violation_.empty(); ++rank) {
      if (truth.question[rank] == Question::none) continue;
      for (const bool succeeds : {true, false}) {
        ReadQuorum next = quorum;
        Truth then = truth;
        if (happen(next, then, rank, succeeds, false) && drain(next, then)) walk(next, then);
      }
      if (truth.question[rank] != Question::write) continue;
      ReadQuorum next = quorum;
      Truth then = truth;
      if (happen(next, then, rank, true, true) && drain(next, then)) walk(next, then);
    }
    if (!violation_.empty()) return;
    if (truth.hedges < possible_.hedges && quorum.can_hedge()) {
      ReadQuorum next = quorum;
      Truth then = truth;
      ++then.hedges;
      next.hedge();
      if (drain(next, then)) walk(next, then);
    }
    if (truth.expired) return;
    ReadQuorum next = quorum;
    Truth then = truth;
    then.expired = true;
    next.expired();
    if (drain(next, then)) walk(next, then);
  }

  bool happen(ReadQuorum& quorum, Truth& truth, unsigned rank, bool succeeds, bool overtaken) {
    const Question question = std::exchange(truth.question[rank], Question::none);
    if (!succeeds) {
      truth.failed[rank] = true;
      truth.fetch_failed = truth.fetch_failed || question == Question::fetch;
      quorum.failed(rank);
      return true;
    }
    if (question == Question::write) {
      if (overtaken) truth.holds[rank] = concurrent;
      const uint8_t held = truth.holds[rank];
      truth.holds[rank] = std::max(held, truth.writing[rank]);
      quorum.written(rank, held > truth.writing[rank] ? Version{held, 1} : Version{});
      return true;
    }
    const uint8_t holds = truth.holds[rank];
    // An even version is a tombstone.
    const bool live = holds % 2 == 1;
    const bool has_value = live && (question == Question::fetch || !possible_.long_values);
    truth.replied[rank] = true;
    if (holds > truth.newest_seen) {
      truth.newest_seen = holds;
      truth.value_seen = !live;
    }
    if (holds == truth.newest_seen && (has_value || !live)) truth.value_seen = true;
    const bool keep =
        quorum.found(rank, {holds == 0 ? Version{} : Version{holds, 1}, live, has_value});
    if (keep) truth.kept = holds;
    if (quorum.found(rank, {Version{99, 1}, true, true})) return fail("took a second reply");
    return true;
  }

  bool drain(ReadQuorum& quorum, Truth& truth) {
    for (unsigned steps = 0;; ++steps) {
      if (steps > 32) return fail("it never waits");
      const ReadQuorum::Step step = quorum.next();
      switch (step.what) {
        case Do::ask:
          if (truth.answers != 0) return fail("asked after the answer");
          if (std::exchange(truth.asked[step.rank], true)) return fail("asked twice");
          truth.question[step.rank] = Question::ask;
          break;
        case Do::fetch:
          if (truth.question[step.rank] != Question::none) return fail("fetched from who is busy");
          if (truth.holds[step.rank] < truth.newest_seen) return fail("fetched what is old");
          if (truth.value_seen) return fail("fetched a value that is there");
          truth.question[step.rank] = Question::fetch;
          break;
        case Do::write:
          if (truth.question[step.rank] != Question::none) return fail("wrote to who is busy");
          if (!truth.replied[step.rank]) return fail("wrote to who has not replied");
          if (truth.holds[step.rank] >= truth.newest_seen) return fail("wrote to who has it");
          if (!truth.value_seen) return fail("wrote what it does not have");
          truth.question[step.rank] = Question::write;
          truth.writing[step.rank] = truth.newest_seen;
          break;
        case Do::forget:
          if (!judge_forgetting(truth)) return false;
          break;
        case Do::answer:
          if (!judge_answer(quorum, truth)) return false;
          break;
        case Do::fail:
          if (!judge_failure(truth)) return false;
          break;
        case Do::wait:
        case Do::finished:
          return judge_rest(truth, step.what);
      }
    }
  }

  bool judge_forgetting(Truth& truth) {
    if (truth.answers != 0) return fail("forgot something after the answer");
    if (truth.value_seen) return fail("forgot a value that is there");
    unsigned replied = 0;
    uint8_t next = 0;
    for (unsigned rank = 0; rank < from_; ++rank) {
      if (!truth.replied[rank] || truth.failed[rank]) continue;
      ++replied;
      if (truth.holds[rank] >= truth.newest_seen) return fail("forgot what a replica has");
      if (truth.question[rank] == Question::none) next = std::max(next, truth.holds[rank]);
    }
    if (replied < ack_) return fail("forgot something though too few replied without it");
    truth.newest_seen = next;
    truth.value_seen = next == 0;
    truth.kept = 0;
    truth.forgot = true;
    return true;
  }

  // An acknowledged write is at more than from - ack replicas, if it is one that the read must see.
  bool may_be_acknowledged(const Truth& truth, uint8_t version) const {
    unsigned hold = 0;
    for (unsigned rank = 0; rank < from_; ++rank) hold += truth.held_first[rank] >= version;
    return hold > from_ - ack_;
  }

  bool judge_answer(const ReadQuorum& quorum, Truth& truth) {
    if (++truth.answers > 1) return fail("answered twice");
    if (truth.expired) return fail("answered after the deadline");
    if (quorum.newest().hlc != truth.newest_seen || truth.kept != truth.newest_seen)
      return fail("not the newest that was seen");
    if (!truth.value_seen) return fail("answered without the value");
    if (may_be_acknowledged(truth, static_cast<uint8_t>(truth.kept + 1)))
      return fail("answered with less than what may have been acknowledged");
    unsigned replied = 0;
    unsigned hold = 0;
    for (unsigned rank = 0; rank < from_; ++rank) {
      replied += truth.replied[rank] && !truth.failed[rank];
      hold += truth.replied[rank] && truth.holds[rank] >= truth.newest_seen;
    }
    if (replied < ack_) return fail("answered though too few replied");
    if (2 * ack_ > from_ && hold < ack_) return fail("answered though too few hold it");
    return true;
  }

  bool judge_failure(Truth& truth) {
    if (++truth.answers > 1) return fail("answered twice");
    unsigned failed = 0;
    for (unsigned rank = 0; rank < from_; ++rank) failed += truth.failed[rank];
    const bool hopeless = failed > from_ - ack_;
    if (!hopeless && !truth.expired) return fail("failed though it could succeed");
    return true;
  }

  bool judge_rest(const Truth& truth, Do what) {
    unsigned under_way = 0;
    unsigned asked = 0;
    unsigned failed = 0;
    bool old = false;
    for (unsigned rank = 0; rank < from_; ++rank) {
      under_way += truth.question[rank] != Question::none;
      asked += truth.asked[rank];
      failed += truth.failed[rank];
      old =
          old || (truth.replied[rank] && !truth.failed[rank] &&
                  truth.question[rank] == Question::none && truth.holds[rank] < truth.newest_seen);
    }
    if (truth.answers == 0 && truth.expired) return fail("not answered at the deadline");
    if (truth.answers == 0 && failed > from_ - ack_)
      return fail("it waits though it can't succeed");
    // Whoever is left may have the value whose holder failed.
    if (asked > ack_ + failed + truth.hedges && !truth.fetch_failed)
      return fail("asked more replicas than needed");
    const bool over = under_way == 0 && truth.answers == 1;
    if (over != (what == Do::finished)) return fail(over ? "it never ends" : "it ends too early");
    if (!over && under_way == 0) return fail("it waits for nothing");
    if (over && old && truth.value_seen) return fail("left a replica old");
    return true;
  }

  unsigned ack_;
  unsigned from_;
  ReadPossibilities possible_;
  std::string violation_;
  std::unordered_set<std::string> seen_;
};

}  // namespace

ReadExploration explore_reads(unsigned ack, unsigned from, const ReadPossibilities& possible) {
  return Explorer(ack, from, possible).run();
}

}  // namespace gyre::cluster
