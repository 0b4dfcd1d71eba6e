// A node's clocks against world time: both run at a rate that may be off by parts per million;
// the wall clock also has an offset and can be stepped. The monotonic clock never goes back.
#pragma once

#include <cstdint>

#include <gyre/backend.hpp>

namespace gyre::sim {

class Clock {
 public:
  static constexpr int64_t epoch_us = 1'700'000'000'000'000;  // wall time at world time 0

  explicit Clock(Nanos monotonic_at_start) : monotonic_at_(monotonic_at_start) {}

  Nanos monotonic(Nanos world) const { return monotonic_at_ + scaled(world - anchor_); }
  uint64_t wall_us(Nanos world) const {
    return static_cast<uint64_t>(wall_at_us_ + scaled(world - anchor_) / 1000);
  }
  // How much world time passes while this clock counts `local`.
  Nanos world_duration(Nanos local) const {
    return static_cast<Nanos>(static_cast<__int128_t>(local) * 1'000'000 / (1'000'000 + drift_));
  }

  void step_wall(int64_t by_us) { wall_at_us_ += by_us; }
  void set_drift_ppm(Nanos world, int64_t ppm) {
    monotonic_at_ = monotonic(world);
    wall_at_us_ = static_cast<int64_t>(wall_us(world));
    anchor_ = world;
    drift_ = ppm;
  }

 private:
  Nanos scaled(Nanos elapsed) const {
    return elapsed + static_cast<Nanos>(static_cast<__int128_t>(elapsed) * drift_ / 1'000'000);
  }

  Nanos anchor_ = 0;
  Nanos monotonic_at_;
  int64_t wall_at_us_ = epoch_us;
  int64_t drift_ = 0;
};

}  // namespace gyre::sim
