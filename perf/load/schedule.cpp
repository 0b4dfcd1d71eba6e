#include "load/schedule.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"

namespace gyre::load {

namespace {
// Uniform in (0, 1].
double draw(sim::Prng& random) {
  return static_cast<double>((random.next() >> 11) + 1) * 0x1p-53;
}
}  // namespace

Schedule::Schedule(const Profile& profile, Nanos start, unsigned part, unsigned parts)
    : profile_(profile), start_(start), parts_(parts), random_(profile.seed, "schedule") {
  GYRE_ASSERT(part < parts && profile.burst > 0);
  GYRE_ASSERT(profile.rate_from >= 0 && profile.rate_to >= 0);
  if (profile_.arrival == Arrival::poisson) position_ = -std::log(draw(random_));
  for (unsigned i = 0; i < part; ++i) step();
  next_ = time_of(position_);
}

void Schedule::step() {
  ++index_;
  switch (profile_.arrival) {
    case Arrival::constant:
      position_ = static_cast<double>(index_);
      break;
    case Arrival::poisson:
      position_ -= std::log(draw(random_));
      break;
    case Arrival::burst:
      position_ = static_cast<double>(index_ / profile_.burst * profile_.burst);
      break;
  }
}

void Schedule::advance() {
  if (next_ == nanos_never) return;
  for (unsigned i = 0; i < parts_; ++i) step();
  next_ = time_of(position_);
}

double Schedule::position_at(Nanos at) const {
  const double since_s = std::max(0.0, static_cast<double>(at - start_) / 1e9);
  const double warmup_s = static_cast<double>(profile_.warmup) / 1e9;
  const double duration_s = static_cast<double>(profile_.duration) / 1e9;
  const double t = std::clamp(since_s - warmup_s, 0.0, duration_s);
  const double slope = duration_s > 0 ? (profile_.rate_to - profile_.rate_from) / duration_s : 0;
  return profile_.rate_from * (std::min(since_s, warmup_s) + t) + slope * t * t / 2;
}

uint64_t Schedule::due_by(Nanos at) const {
  if (next_ > at) return 0;
  const double behind = std::max(0.0, position_at(at) - position_) + 1e-6;
  return 1 + static_cast<uint64_t>(behind / parts_);
}

Nanos Schedule::time_of(double position) const {
  const double from = profile_.rate_from;
  if (from == 0 && profile_.rate_to == 0) return nanos_never;
  const double warmup_s = static_cast<double>(profile_.warmup) / 1e9;
  const double duration_s = static_cast<double>(profile_.duration) / 1e9;
  double at_s = 0;
  const double behind_warmup = position - from * warmup_s;
  if (behind_warmup <= 0 && from > 0) {
    at_s = position / from;
  } else {
    // N(t) solved for t, in the form that doesn't cancel when both rates are alike.
    const double slope = (profile_.rate_to - from) / duration_s;
    const double discriminant = from * from + 2 * slope * behind_warmup;
    if (discriminant < 0) return nanos_never;
    const double divisor = from + std::sqrt(discriminant);
    if (divisor == 0 && behind_warmup > 0) return nanos_never;
    at_s = warmup_s + (behind_warmup > 0 ? 2 * behind_warmup / divisor : 0);
  }
  const double whole_ns = static_cast<double>(profile_.warmup + profile_.duration);
  const double at_ns = std::round(at_s * 1e9);
  return at_ns < whole_ns ? start_ + static_cast<Nanos>(at_ns) : nanos_never;
}

}  // namespace gyre::load
