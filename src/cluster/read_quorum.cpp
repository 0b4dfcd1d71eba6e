#include "cluster/read_quorum.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/assert.hpp"
#include "cluster/test_faults.hpp"

namespace gyre::cluster {

ReadQuorum::ReadQuorum(unsigned ack, unsigned from)
    : ack_(static_cast<uint8_t>(ack)), from_(static_cast<uint8_t>(from)) {
  GYRE_ASSERT(ack >= 1 && ack <= from && from <= limits::cluster_replicas_max);
}

unsigned ReadQuorum::count(State state) const {
  return static_cast<unsigned>(
      std::ranges::count(replicas_.begin(), replicas_.begin() + from_, state, &Replica::state));
}

int ReadQuorum::first(State state) const {
  for (int rank = 0; rank < from_; ++rank) {
    if (replicas_[static_cast<unsigned>(rank)].state == state) return rank;
  }
  return -1;
}

int ReadQuorum::stale() const {
  for (unsigned rank = 0; rank < from_; ++rank) {
    const Replica& replica = replicas_[rank];
    if (replica.state == State::known && replica.version < newest_.version)
      return static_cast<int>(rank);
  }
  return -1;
}

int ReadQuorum::source() const {
  for (unsigned rank = 0; rank < from_; ++rank) {
    const Replica& replica = replicas_[rank];
    if (replica.state == State::known && replica.version >= newest_.version)
      return static_cast<int>(rank);
  }
  return -1;
}

RankSet ReadQuorum::holders() const {
  RankSet set = 0;
  for (unsigned rank = 0; rank < from_; ++rank) {
    const Replica& replica = replicas_[rank];
    const bool replied = replica.state == State::known || replica.state == State::fetching;
    if (replied && replica.version >= newest_.version) set |= static_cast<RankSet>(1u << rank);
  }
  return set;
}

// --- what happens -------------------------------------------------------------------------------

bool ReadQuorum::found(unsigned rank, const Found& found) {
  GYRE_ASSERT(rank < from_);
  Replica& replica = replicas_[rank];
  if (replica.state != State::asked && replica.state != State::fetching) return false;
  if (replica.state == State::fetching && found.live && !found.has_value) {
    replica.state = State::failed;  // asked for again, it would do the same
    return false;
  }
  replica.state = State::known;
  replica.version = found.version;
  const bool newer = cluster_test_faults.keep_first_version ? !newest_.version && found.version
                                                            : found.version > newest_.version;
  // It may also have expired between the two replies.
  const bool completes = found.version && found.version == newest_.version && newest_.live &&
                         (!found.live || (found.has_value && !newest_.has_value));
  if (newer || completes) newest_ = found;
  return newer || completes;
}

void ReadQuorum::written(unsigned rank, const Version& there) {
  GYRE_ASSERT(rank < from_);
  Replica& replica = replicas_[rank];
  if (replica.state != State::writing) return;
  replica.state = State::known;
  replica.version = std::max(replica.written, there);
}

void ReadQuorum::failed(unsigned rank) {
  GYRE_ASSERT(rank < from_);
  Replica& replica = replicas_[rank];
  if (replica.state == State::writing && cluster_test_faults.failed_write_back_counts)
    return written(rank);
  if (replica.state == State::asked || replica.state == State::fetching ||
      replica.state == State::writing) {
    replica.state = State::failed;
  }
}

unsigned ReadQuorum::under_way() const {
  return count(State::asked) + count(State::fetching) + count(State::writing);
}

bool ReadQuorum::can_fetch_twice() const {
  return !is_complete() && count(State::fetching) != 0 && source() >= 0;
}

bool ReadQuorum::can_hedge() const {
  if (answered_ || expired_ || under_way() == 0) return false;
  return can_fetch_twice() || first(State::unasked) >= 0;
}

void ReadQuorum::hedge() {
  if (!can_hedge()) return;
  if (can_fetch_twice()) {
    ++extra_fetches_;
  } else {
    ++extra_;
  }
}

void ReadQuorum::expired() {
  expired_ = true;
}

// --- what to do ---------------------------------------------------------------------------------

ReadQuorum::Step ReadQuorum::start(unsigned rank, Do what, State state) {
  Replica& replica = replicas_[rank];
  replica.state = state;
  if (state == State::writing) replica.written = newest_.version;
  return {what, rank};
}

ReadQuorum::Step ReadQuorum::fail() {
  answered_ = true;
  return {Do::fail, 0};
}

// Of the others only versions were kept: the next newest is fetched.
ReadQuorum::Step ReadQuorum::forget() {
  newest_ = {};
  for (unsigned rank = 0; rank < from_; ++rank) {
    if (replicas_[rank].state == State::known)
      newest_.version = std::max(newest_.version, replicas_[rank].version);
  }
  newest_.live = static_cast<bool>(newest_.version);
  return {Do::forget, 0};
}

ReadQuorum::Step ReadQuorum::next() {
  if (!answered_) return decide();
  if (const int rank = stale(); rank >= 0 && is_complete() && !cluster_test_faults.skip_repair)
    return start(static_cast<unsigned>(rank), Do::write, State::writing);
  return {under_way() != 0 ? Do::wait : Do::finished, 0};
}

ReadQuorum::Step ReadQuorum::decide() {
  if (expired_) return fail();
  const unsigned needed = ack_ - (cluster_test_faults.read_quorum_off_by_one ? 1u : 0u);
  const unsigned known = count(State::known) + count(State::fetching) + count(State::writing) +
                         (cluster_test_faults.forget_early ? count(State::failed) : 0);
  const int unasked = first(State::unasked);
  const auto ask = [&] { return start(static_cast<unsigned>(unasked), Do::ask, State::asked); };
  if (extra_ != 0 && unasked >= 0) {
    --extra_;
    return ask();
  }
  if (known + count(State::asked) < ack_) return unasked >= 0 ? ask() : fail();
  if (known < needed) return {Do::wait, 0};

  if (!is_complete()) {
    if (count(State::fetching) > extra_fetches_) return {Do::wait, 0};
    if (const int rank = source(); rank >= 0)
      return start(static_cast<unsigned>(rank), Do::fetch, State::fetching);
    if (count(State::fetching) != 0) return {Do::wait, 0};
    return forget();
  }

  const unsigned holding = static_cast<unsigned>(std::popcount(holders()));
  const bool majority = 2u * ack_ > from_;
  if (!majority || holding >= ack_ || cluster_test_faults.skip_write_back || known < ack_) {
    answered_ = true;
    return {Do::answer, 0};
  }
  if (const int rank = stale(); rank >= 0)
    return start(static_cast<unsigned>(rank), Do::write, State::writing);
  return {Do::wait, 0};
}

}  // namespace gyre::cluster
