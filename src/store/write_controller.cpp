#include "store/write_controller.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace gyre {

void WriteController::update(const WritePressureSignals& signals, Nanos now) {
  // Up to 1 below the soft limit, from there to 2 at the hard one.
  const auto urgency = [](double value, double soft, double hard) {
    if (value <= soft) return std::max(value, 0.0) / soft;
    return 1 + std::min((value - soft) / std::max(hard - soft, 1e-9), 1.0);
  };
  const double merging =
      std::max(urgency(signals.level0_runs, options_.level0_soft, options_.level0_hard),
               urgency(signals.debt, options_.debt_soft, options_.debt_hard));
  pressure_ = std::max(merging - 1, 0.0);
  urgency_ = std::max(merging, urgency(signals.memory_used, options_.memory_soft, 1));
  if (now <= updated_) return;
  const double passed_s = static_cast<double>(now - updated_) / 1e9;
  const double rate = static_cast<double>(taken_bytes_) / passed_s;
  const auto blend = [&](double& average, double window_s) {
    average += (rate - average) * passed_s / (passed_s + window_s);
  };
  const double range_bytes =
      (options_.level0_hard - options_.level0_soft) * options_.level0_run_bytes;
  const double window_s = std::clamp(range_bytes / std::max(recent_rate_bytes_, 1.0),
                                     rate_window_s_min, rate_window_s_max);
  blend(recent_rate_bytes_, window_s);
  blend(burst_rate_bytes_, window_s / 10);
  taken_bytes_ = 0;
  updated_ = now;
}

double WriteController::rate_bytes() const {
  if (pressure_ <= 0) return 0;
  return std::max({recent_rate_bytes_, burst_rate_bytes_, bytes_per_second_min}) * (1 - pressure_) /
         pressure_;
}

void WriteController::take(size_t bytes, Nanos now) {
  taken_bytes_ += bytes;
  if (pressure_ <= 0) return;
  const double rate = rate_bytes();
  GYRE_ASSERT(rate > 0);
  // A write that alone takes longer than this is paid for at most so long: those behind it are
  // held up meanwhile, not for minutes.
  const double cost = std::min(static_cast<double>(bytes) * 1e9 / rate, 1e9);
  free_at_ = std::max(free_at_, now - burst) + static_cast<Nanos>(cost);
}

Nanos WriteController::expected_wait(uint64_t queued_bytes, Nanos now) const {
  if (pressure_ >= 1) return nanos_never;
  const Nanos until_free = pressure_ <= 0 ? 0 : std::max<Nanos>(0, free_at_ - now);
  if (queued_bytes == 0 || pressure_ <= 0) return until_free;
  return until_free + static_cast<Nanos>(static_cast<double>(queued_bytes) * 1e9 / rate_bytes());
}

Nanos WriteController::next_ready(Nanos now) const {
  constexpr Nanos soon = microseconds(100);  // those of one moment go together
  constexpr Nanos late = milliseconds(2);    // the pressure may have changed
  if (pressure_ >= 1) return now + late;
  return std::clamp(free_at_, now + soon, now + late);
}

unsigned WriteController::background_permille() const {
  const auto between = [](double at, unsigned from, unsigned to) {
    return from + static_cast<unsigned>(std::clamp(at, 0.0, 1.0) * (to - from));
  };
  if (urgency_ > 1) {
    return between(urgency_ - 1, background_permille_soft, background_permille_hard);
  }
  return between(2 * urgency_ - 1, background_permille_least, background_permille_soft);
}

double WriteController::merge_bytes_per_second() const {
  if (urgency_ >= 1) return 0;
  const double owed =
      merge_bytes_per_written_byte * std::max(recent_rate_bytes_, burst_rate_bytes_);
  // Twice as fast half-way, four times three quarters of the way to where writes would be slowed.
  return std::max(owed, merge_bytes_per_second_min) / (1 - urgency_);
}

}  // namespace gyre
