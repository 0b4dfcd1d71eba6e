// When each request of a run is meant to start. There is one schedule for the whole run: absolute
// times, fixed before the first request and not moved by anything that happens. Threads share it
// without talking to each other: part k of n takes every n-th of its times, starting with the k-th.
//
// The rate is r0 during the warm-up, then goes linearly from r0 to r1 (r0 = r1: constant), so by
// the time t after the warm-up W, N(t) = r0 W + r0 t + (r1 - r0) t² / 2D requests should have
// started. The arrival pattern says at which values of N there is a request:
//
//   constant   0, 1, 2, …
//   poisson    sums of exponentially distributed gaps with mean 1
//   burst B    0 (B times), B (B times), 2B …
#pragma once

#include <cstdint>

#include <gyre/backend.hpp>

#include "sim/prng.hpp"

namespace gyre::load {

enum class Arrival : uint8_t { constant, poisson, burst };

struct Profile {
  double rate_from = 0;  // requests per second
  double rate_to = 0;
  Nanos warmup = 0;
  Nanos duration = 0;  // after the warm-up
  Arrival arrival = Arrival::constant;
  uint64_t burst = 1;
  uint64_t seed = 1;
};

class Schedule {
 public:
  Schedule(const Profile& profile, Nanos start, unsigned part = 0, unsigned parts = 1);

  // The next intended start, or nanos_never when the run is over.
  Nanos next() const { return next_; }
  void advance();
  // About how many of this part begin by `at`, from next() on, without going through them: exact
  // for a constant rate, else what is to be expected.
  uint64_t due_by(Nanos at) const;

 private:
  void step();  // to the next request of any part
  Nanos time_of(double position) const;
  double position_at(Nanos at) const;  // N

  Profile profile_;
  Nanos start_;
  unsigned parts_;
  sim::Prng random_;
  uint64_t index_ = 0;
  double position_ = 0;  // the value of N at which the present request is
  Nanos next_ = 0;
};

}  // namespace gyre::load
