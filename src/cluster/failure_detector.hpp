// How one peer does, out of direct evidence only: what it answered, and what it did not. One per core
// and peer. A decision of this core alone: it orders replicas and hedges, and never changes who holds
// a key. No clock and no memory of its own; every time is the owner's `now`.
//
//   alive  heard from within what is usual for it
//   slow   silent for longer than usual, or while calls wait, or calls to it run out of time, or its
//          replies take long: asked after all others
//   dead   silent for so long that waiting is hopeless, or its port refuses: not counted on
//
// Suspicion grows with silence by accrual (Hayashibara et al., "The φ Accrual Failure Detector", 2004,
// with exponential intervals as Cassandra has them): phi = log10(e) · silence / usual interval, so that
// at phi n a living peer would be that silent once in 10^n intervals. The usual interval is never taken
// to be shorter than that of pings, or a busy second would make a quiet one suspicious.
//
// Who is late himself hears late (Dadgar et al., "Lifeguard", 2017): time in which this core's loop
// stood still is no silence of the peer's, and recent lag stretches the usual interval.
#pragma once

#include <array>
#include <cstdint>

#include <gyre/backend.hpp>

namespace gyre::cluster {

class FailureDetector {
 public:
  enum class State : uint8_t { alive, slow, dead };
  struct Options {
    Nanos ping_interval = 200'000'000;
    double slow_phi = 1.5;             // 0.7 s of silence at the interval of pings
    double dead_phi = 8;               // 3.7 s
    unsigned slow_timeouts = 3;        // calls in a row without an answer in time
    Nanos slow_latency = 500'000'000;  // p95
    Nanos slow_wait = 100'000'000;     // in which a call waits and nothing at all is heard
    double stretch_max = 8;
  };

  FailureDetector(Nanos now, const Options& options);
  explicit FailureDetector(Nanos now) : FailureDetector(now, Options{}) {}

  // Any bytes from the peer, an inbound hello among them: it is not dead.
  void heard(Nanos now);
  // A reply, `latency` after its request was sent; is heard() too.
  void answered(Nanos now, Nanos latency);
  // A call had no answer when its time was over.
  void timed_out();
  // A connection was refused or could not be made: dead, until it is heard again.
  void unreachable();
  // This core's loop was late by `lag` (from a few ms on).
  void loop_late(Nanos now, Nanos lag);

  // A call waits since `waiting_since`, and nothing was heard since then; 0: none does.
  State state(Nanos now, Nanos waiting_since = 0) const;
  double phi(Nanos now) const;
  // The 95th percentile of the latency of replies, of which the last 500 to 1,000 count most; rounded
  // up by at most a quarter. 0: no reply yet.
  Nanos latency_p95() const;
  // The mean of the latest replies, of which the last 10 count most; half of it after each second
  // without one, so that who was slow is tried again. 0: no reply yet.
  Nanos latency_lately(Nanos now) const;
  // How long to wait for a reply before another replica is asked: p95 within [floor, cap]; cap if
  // nothing is known.
  Nanos hedge_delay(Nanos floor, Nanos cap) const;

 private:
  static constexpr unsigned buckets_per_octave = 4;
  static constexpr unsigned octaves = 21;  // 8 µs … 16 s
  static constexpr Nanos latency_min = 8'192;
  static constexpr unsigned samples_before_halving = 500;
  static unsigned bucket_of(Nanos latency);
  static Nanos bucket_end(unsigned bucket);
  double stretch(Nanos now) const;

  Options options_;
  Nanos heard_at_;
  Nanos lag_since_ = 0;   // loop lag since heard_at_
  double interval_;       // mean between heard(), ns
  Nanos recent_lag_ = 0;  // decays by half every second
  Nanos recent_lag_at_ = 0;
  unsigned timeouts_ = 0;  // in a row
  bool unreachable_ = false;
  double lately_ = 0;
  Nanos lately_at_ = 0;
  uint32_t samples_ = 0;
  std::array<uint16_t, buckets_per_octave * octaves> latencies_{};
};

}  // namespace gyre::cluster
