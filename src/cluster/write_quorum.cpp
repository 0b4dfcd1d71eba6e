#include "cluster/write_quorum.hpp"

#include <bit>
#include <utility>

#include "base/assert.hpp"
#include "cluster/test_faults.hpp"

namespace gyre::cluster {

namespace {
constexpr RankSet bit(unsigned rank) {
  return static_cast<RankSet>(1u << rank);
}
constexpr unsigned size(RankSet set) {
  return static_cast<unsigned>(std::popcount(set));
}
constexpr RankSet without(RankSet set, RankSet removed) {
  return static_cast<RankSet>(set & ~removed);
}
}  // namespace

WriteQuorum::WriteQuorum(unsigned ack, unsigned from)
    : ack_(static_cast<uint8_t>(ack)),
      from_(static_cast<uint8_t>(from)),
      to_ask_(static_cast<RankSet>(bit(from) - 1)) {
  GYRE_ASSERT(ack >= 1 && ack <= from && from <= limits::cluster_replicas_max);
}

void WriteQuorum::replied(unsigned rank, ReplicaReply reply) {
  GYRE_ASSERT(rank < from_);
  const RankSet self = bit(rank);
  if ((under_way_ & self) == 0) {
    if (!cluster_test_faults.count_replies_twice || reply != ReplicaReply::stored) return;
    ++twice_;
    return decide();
  }
  under_way_ = without(under_way_, self);
  const bool of_old_round = (old_round_ & self) != 0;
  old_round_ = without(old_round_, self);
  if (reply == ReplicaReply::stored || reply == ReplicaReply::unknown) nothing_stored_ = false;

  if (reply == ReplicaReply::superseded && !of_old_round &&
      (round_ == 1 || cluster_test_faults.restamp_for_ever)) {
    if (outcome_ == Outcome::open) {
      superseded_ |= self;
      return decide();
    }
    if (cluster_test_faults.restamp_after_answer) return begin_round();
  }
  if (of_old_round && outcome_ != Outcome::failure) {
    to_ask_ |= self;
    return;
  }
  if (of_old_round) {  // it has the write at most with the stamp before
    failed_ |= self;
    return;
  }
  switch (reply) {
    case ReplicaReply::stored:
      stored_ |= self;
      break;
    case ReplicaReply::superseded:
      (cluster_test_faults.superseded_fails ? failed_ : stored_) |= self;
      break;
    case ReplicaReply::refused:
      refused_ |= self;
      failed_ |= self;
      break;
    case ReplicaReply::unsent:
    case ReplicaReply::unknown:
      failed_ |= self;
      break;
  }
  decide();
}

// Everybody gets the new stamp: who has replied, next, and who has not, when he has.
void WriteQuorum::begin_round() {
  restamp_due_ = true;
  ++round_;
  old_round_ = under_way_;
  to_ask_ = without(static_cast<RankSet>(bit(from_) - 1), under_way_);
  stored_ = superseded_ = failed_ = refused_ = 0;
}

void WriteQuorum::decide() {
  if (outcome_ != Outcome::open) return;
  const unsigned needed = ack_ - (cluster_test_faults.write_quorum_off_by_one ? 1u : 0u);
  const bool may_fail_now = !cluster_test_faults.fail_late || (under_way_ == 0 && to_ask_ == 0);
  if (size(stored_) + twice_ >= needed) {
    outcome_ = Outcome::success;
  } else if (size(failed_) > from_ - ack_ && may_fail_now) {
    outcome_ = Outcome::failure;
  } else if (superseded_ != 0 &&
             (size(stored_ | superseded_) >= ack_ || cluster_test_faults.restamp_at_once)) {
    return begin_round();
  }
  if (outcome_ != Outcome::open) stored_ |= std::exchange(superseded_, 0);
  // Nobody waits for it any more: who was not asked is left to what missed writes get.
  if (outcome_ == Outcome::failure) {
    failed_ |= to_ask_;
    to_ask_ = 0;
  }
}

void WriteQuorum::expired() {
  if (outcome_ != Outcome::open) return;
  outcome_ = Outcome::failure;
  restamp_due_ = false;
  stored_ |= std::exchange(superseded_, 0);
  failed_ |= to_ask_;
  to_ask_ = 0;
}

// Then the client may be told that nothing was written.
bool WriteQuorum::all_refused() const {
  return nothing_stored_ && refused_ == bit(from_) - 1;
}

WriteQuorum::Step WriteQuorum::next() {
  if (std::exchange(restamp_due_, false)) return {Do::restamp, 0};
  if (to_ask_ != 0) {
    const unsigned rank = static_cast<unsigned>(std::countr_zero(to_ask_));
    to_ask_ = without(to_ask_, bit(rank));
    under_way_ |= bit(rank);
    return {Do::ask, rank};
  }
  if (outcome_ != Outcome::open && !std::exchange(answered_, true)) {
    if (outcome_ == Outcome::success) return {Do::answer_stored, 0};
    return {all_refused() ? Do::answer_refused : Do::answer_failed, 0};
  }
  return {under_way_ == 0 && answered_ ? Do::finished : Do::wait, 0};
}

RankSet WriteQuorum::missed() const {
  return cluster_test_faults.forget_missed ? RankSet{0} : failed_;
}

}  // namespace gyre::cluster
