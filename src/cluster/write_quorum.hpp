// What a write to several replicas does next, as a pure state machine: no I/O, no clock, no memory
// but its own. Replicas are numbered by rank, 0 … from-1.
//
// Its owner feeds in what happens (replied, expired) and then takes steps with next() until there is
// `wait` or `finished`. Carrying a step out may feed in more at once, from within; only next() must
// not be entered twice.
//
//   - Every replica is asked at once. The write succeeds at the `ack`-th replica that has it, and
//     fails as soon as so many can't have it any more, or at the deadline.
//   - A replica that holds something newer has not stored it (superseded). While the outcome is open
//     the write gets a stamp above that, once, and every replica is asked again, those with a question
//     under way when that has ended. Not before `ack` replicas have replied: among so many is one that
//     has whatever was acknowledged before this write began, so that the new stamp is above all of
//     that. Superseded a second time, or after the outcome, it counts as stored: with another stamp it
//     would hide a write that was acknowledged after it (DESIGN D8).
//   - Replies that nobody waits for (a replica's second one) change nothing.
//   - It is finished when nothing is under way, which may be long after the answer. missed() then says
//     who does not have the write.
#pragma once

#include <array>
#include <cstdint>

#include "base/limits.hpp"

namespace gyre::cluster {

// One bit per rank.
using RankSet = uint8_t;

enum class ReplicaReply : uint8_t {
  stored,      // durable there
  superseded,  // not stored: it holds something newer
  refused,     // not stored, and the replica said so
  unsent,      // not stored: the request never left
  unknown,     // it may be there: no answer in time, connection lost, disk failed
};

class WriteQuorum {
 public:
  enum class Do : uint8_t {
    ask,             // send the write, with the present stamp, to `rank`
    restamp,         // take a stamp above everything that superseded it; at most once
    answer_stored,   // tell the client that it is done
    answer_failed,   // 504: too few replicas, the outcome is unknown
    answer_refused,  // as before, but every replica refused it and nothing was stored: try again
    wait,            // for replies
    finished,        // no replica has a question under way, and the client is answered
  };
  struct Step {
    Do what = Do::wait;
    unsigned rank = 0;
  };

  // 1 <= ack <= from <= limits::cluster_replicas_max.
  WriteQuorum(unsigned ack, unsigned from);

  // A replica's reply to the last question; ignored if it has none under way.
  void replied(unsigned rank, ReplicaReply reply);
  // The client waits no longer. Replicas may still reply.
  void expired();
  Step next();

  bool decided() const { return outcome_ != Outcome::open; }
  // Who has the write (with its last stamp), and who does not or may not. What is under way is in
  // neither.
  RankSet stored() const { return stored_; }
  RankSet missed() const;

 private:
  enum class Outcome : uint8_t { open, success, failure };
  void begin_round();
  void decide();
  bool all_refused() const;

  uint8_t ack_;
  uint8_t from_;
  Outcome outcome_ = Outcome::open;
  bool answered_ = false;
  bool restamp_due_ = false;
  uint8_t round_ = 1;
  bool nothing_stored_ = true;  // in either round, as far as is known
  RankSet to_ask_;
  RankSet under_way_ = 0;
  RankSet old_round_ = 0;  // of those under way: asked with the stamp before
  RankSet stored_ = 0;
  RankSet superseded_ = 0;  // of the first round, while the outcome is open
  RankSet failed_ = 0;
  RankSet refused_ = 0;  // of those that failed
  uint8_t twice_ = 0;    // planted: replies counted twice
};

}  // namespace gyre::cluster
