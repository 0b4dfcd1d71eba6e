#include "cluster/failure_detector.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <numeric>

namespace gyre::cluster {

namespace {
constexpr double interval_weight = 0.1;  // of a new interval in the mean
constexpr double latency_weight = 0.1;   // of a new reply in the mean of the latest
constexpr double intervals_max = 4;      // of a silence, in intervals of pings
constexpr double latency_half_life_ns = 1'000'000'000;
constexpr double lag_half_life_ns = 1'000'000'000;
}  // namespace

FailureDetector::FailureDetector(Nanos now, const Options& options)
    : options_(options), heard_at_(now), interval_(static_cast<double>(options.ping_interval)) {}

void FailureDetector::heard(Nanos now) {
  // Without the bound, an outage would teach that silence is usual.
  const double shortest = static_cast<double>(options_.ping_interval);
  const double silence = static_cast<double>(std::max<Nanos>(0, now - heard_at_ - lag_since_));
  const double interval = std::clamp(silence, shortest, shortest * intervals_max);
  interval_ += (interval - interval_) * interval_weight;
  heard_at_ = now;
  lag_since_ = 0;
  unreachable_ = false;
}

void FailureDetector::answered(Nanos now, Nanos latency) {
  heard(now);
  timeouts_ = 0;
  const auto took = static_cast<double>(latency);
  lately_ += (took - lately_) * (samples_ == 0 ? 1 : latency_weight);
  lately_at_ = now;
  if (++samples_ > 2 * samples_before_halving) {
    for (uint16_t& count : latencies_) count /= 2;
    samples_ = std::accumulate(latencies_.begin(), latencies_.end(), 0u) + 1;
  }
  ++latencies_[bucket_of(latency)];
}

void FailureDetector::timed_out() {
  ++timeouts_;
}

void FailureDetector::unreachable() {
  unreachable_ = true;
}

void FailureDetector::loop_late(Nanos now, Nanos lag) {
  lag_since_ += std::min(lag, std::max<Nanos>(0, now - heard_at_ - lag_since_));
  const double factor = stretch(now);
  const double earlier = (factor - 1) * static_cast<double>(options_.ping_interval);
  recent_lag_ = std::max(lag, static_cast<Nanos>(earlier));
  recent_lag_at_ = now;
}

// 1 without lag, 2 when it was as long as the interval of pings a moment ago.
double FailureDetector::stretch(Nanos now) const {
  const double age = static_cast<double>(std::max<Nanos>(0, now - recent_lag_at_));
  const double lag = static_cast<double>(recent_lag_) * std::exp2(-age / lag_half_life_ns);
  return std::min(1 + lag / static_cast<double>(options_.ping_interval), options_.stretch_max);
}

double FailureDetector::phi(Nanos now) const {
  const double silence = static_cast<double>(std::max<Nanos>(0, now - heard_at_ - lag_since_));
  return std::numbers::log10e * silence / (interval_ * stretch(now));
}

FailureDetector::State FailureDetector::state(Nanos now, Nanos waiting_since) const {
  const double suspicion = phi(now);
  if (unreachable_ || suspicion >= options_.dead_phi) return State::dead;
  const double waits =
      waiting_since == 0 ? 0 : static_cast<double>(now - waiting_since - lag_since_);
  const bool slow = suspicion >= options_.slow_phi ||
                    waits >= static_cast<double>(options_.slow_wait) * stretch(now) ||
                    timeouts_ >= options_.slow_timeouts || latency_p95() >= options_.slow_latency;
  return slow ? State::slow : State::alive;
}

// Four to an octave, of equal width within it.
unsigned FailureDetector::bucket_of(Nanos latency) {
  const auto bounded = static_cast<uint64_t>(std::max(latency, latency_min));
  const unsigned octave = static_cast<unsigned>(std::bit_width(bounded / latency_min)) - 1;
  if (octave >= octaves) return buckets_per_octave * octaves - 1;
  const uint64_t start = static_cast<uint64_t>(latency_min) << octave;
  const auto within = static_cast<unsigned>((bounded - start) * buckets_per_octave / start);
  return octave * buckets_per_octave + within;
}

Nanos FailureDetector::bucket_end(unsigned bucket) {
  const Nanos start = latency_min << (bucket / buckets_per_octave);
  return start + start / buckets_per_octave * (bucket % buckets_per_octave + 1);
}

Nanos FailureDetector::latency_lately(Nanos now) const {
  const double age = static_cast<double>(std::max<Nanos>(0, now - lately_at_));
  return static_cast<Nanos>(lately_ * std::exp2(-age / latency_half_life_ns));
}

Nanos FailureDetector::latency_p95() const {
  const uint32_t below = samples_ - samples_ / 20;
  uint32_t seen = 0;
  for (unsigned bucket = 0; bucket < latencies_.size() && samples_ != 0; ++bucket) {
    seen += latencies_[bucket];
    if (seen >= below) return bucket_end(bucket);
  }
  return 0;
}

Nanos FailureDetector::hedge_delay(Nanos floor, Nanos cap) const {
  const Nanos usual = latency_p95();
  return usual == 0 ? cap : std::clamp(usual, floor, cap);
}

}  // namespace gyre::cluster
