// What a read from several replicas does next, as a pure state machine, driven as WriteQuorum is:
// feed in what happens, then take steps with next() until `wait` or `finished`. Ranks are in the order
// in which the owner would rather ask (this node, then alive before slow before dead).
//
//   - The first `ack` are asked. One that fails is replaced at once; one that is slow, when hedge() is
//     called, has another asked beside it.
//   - Of `ack` replies the newest version is the answer; "never written" is the oldest of all.
//   - A majority read (2·ack > from) is answered only when `ack` replicas hold that version or a newer
//     one. It is written to those that don't, before the answer: else a later read might find only
//     them, and time would run backwards (the write-back of Attiya, Bar-Noy and Dolev, "Sharing Memory
//     Robustly in Message-Passing Systems", 1995). Other reads are answered at once.
//   - A value too long to come with every reply is fetched from a replica that holds the newest.
//   - A version of which nobody who has it can give the value is forgotten, as if they had never
//     replied, once `ack` others have. These don't have it, so that at most from - ack replicas do:
//     too few for a write that this read must see (which has more, whatever its own ack), and for a
//     majority read to have returned it.
//   - It fails when `ack` replicas can't reply any more, or when time is over.
//   - After the answer, replicas seen to be older than the newest are written to in the background.
#pragma once

#include <array>
#include <cstdint>

#include <gyre/version.hpp>

#include "base/limits.hpp"
#include "cluster/write_quorum.hpp"

namespace gyre::cluster {

class ReadQuorum {
 public:
  enum class Do : uint8_t {
    ask,       // ask `rank` for its version, with the value if that is short
    fetch,     // ask `rank` for its version and the whole value
    write,     // write the newest, with its stamp and expiry as they are, to `rank`
    forget,    // what was kept is not the newest any more: keep nothing until found() says so
    answer,    // with the newest
    fail,      // 504
    wait,      // for replies
    finished,  // answered, and nothing is under way
  };
  struct Step {
    Do what = Do::wait;
    unsigned rank = 0;
  };
  struct Found {
    Version version;         // zero: nothing is known of the key
    bool live = false;       // not a tombstone, not expired
    bool has_value = false;  // of a live one
  };

  // 1 <= ack <= from <= limits::cluster_replicas_max.
  ReadQuorum(unsigned ack, unsigned from);

  // A reply to ask or fetch; ignored if `rank` has none under way. True: what it brought is the newest
  // now, or completes it, and is to be kept in place of what was kept.
  bool found(unsigned rank, const Found& found);
  // The end of a write to `rank` of the version that was the newest when the step was taken.
  // `there`: what the replica holds now, if that is newer.
  void written(unsigned rank, const Version& there = {});
  // ask, fetch or write has failed, for whatever reason.
  void failed(unsigned rank);
  // Whether another replica could be asked beside a slow one; then hedge() does so, with the next
  // steps. The budget is the owner's.
  bool can_hedge() const;
  void hedge();
  // The client waits no longer.
  void expired();
  Step next();

  bool answered() const { return answered_; }
  // It was asked for what it has, and has not replied.
  bool waits_for(unsigned rank) const {
    const State state = replicas_[rank].state;
    return state == State::asked || state == State::fetching;
  }
  const Version& newest() const { return newest_.version; }
  // Who holds the newest version or a newer one, as far as is known.
  RankSet holders() const;

 private:
  enum class State : uint8_t { unasked, asked, known, fetching, writing, failed };
  struct Replica {
    State state = State::unasked;
    Version version;
    Version written;  // what is on its way
  };
  unsigned count(State state) const;
  unsigned under_way() const;
  bool can_fetch_twice() const;
  int first(State state) const;  // -1: none
  int stale() const;             // known to be older than the newest; -1: none
  int source() const;            // known, with the newest or a newer one; -1: none
  bool is_complete() const { return !newest_.live || newest_.has_value; }
  Step start(unsigned rank, Do what, State state);
  Step decide();
  Step forget();
  Step fail();

  uint8_t ack_;
  uint8_t from_;
  bool answered_ = false;
  bool expired_ = false;
  uint8_t extra_ = 0;  // replicas to ask beside slow ones
  uint8_t extra_fetches_ = 0;
  Found newest_;
  std::array<Replica, limits::cluster_replicas_max> replicas_;
};

}  // namespace gyre::cluster
