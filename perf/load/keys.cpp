#include "load/keys.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/assert.hpp"

namespace gyre::load {

namespace {

double draw_unit(sim::Prng& random) {
  return static_cast<double>(random.next() >> 11) * 0x1p-53;
}
// log(1+x)/x and (e^x-1)/x, with their limits at 0.
double log1p_over(double x) {
  return std::abs(x) > 1e-8 ? std::log1p(x) / x : 1 - x / 2;
}
double expm1_over(double x) {
  return std::abs(x) > 1e-8 ? std::expm1(x) / x : 1 + x / 2;
}

}  // namespace

Zipf::Zipf(uint64_t n, double exponent) : n_(static_cast<double>(n)), exponent_(exponent) {
  GYRE_ASSERT(n > 0 && exponent > 0);
  integral_low_ = integral(1.5) - 1;
  integral_high_ = integral(n_ + 0.5);
  shortcut_ = 2 - integral_inverse(integral(2.5) - density(2));
}

double Zipf::density(double x) const {
  return std::exp(-exponent_ * std::log(x));
}
double Zipf::integral(double x) const {
  const double log_x = std::log(x);
  return expm1_over((1 - exponent_) * log_x) * log_x;
}
double Zipf::integral_inverse(double x) const {
  const double t = std::max(-1.0, x * (1 - exponent_));
  return std::exp(log1p_over(t) * x);
}

uint64_t Zipf::draw(sim::Prng& random) const {
  for (;;) {
    const double u = integral_high_ + draw_unit(random) * (integral_low_ - integral_high_);
    const double x = integral_inverse(u);
    const double rank = std::clamp(std::floor(x + 0.5), 1.0, n_);
    if (rank - x <= shortcut_ || u >= integral(rank + 0.5) - density(rank)) {
      return static_cast<uint64_t>(rank);
    }
  }
}

Scatter::Scatter(uint64_t n) : n_(n) {
  GYRE_ASSERT(n > 0);
  step_ = std::max<uint64_t>(1, static_cast<uint64_t>(static_cast<double>(n) * 0.6180339887));
  while (std::gcd(step_, n) != 1) ++step_;
}

KeyChooser::KeyChooser(Distribution distribution, uint64_t count, double exponent, unsigned part,
                       unsigned parts)
    : distribution_(distribution),
      count_(count),
      position_(part % count),
      stride_(parts),
      zipf_(count, exponent),
      scatter_(count) {}

uint64_t KeyChooser::choose(sim::Prng& random, uint64_t newest) {
  switch (distribution_) {
    case Distribution::sequential: {
      const uint64_t key = position_;
      position_ = (position_ + stride_) % count_;
      return key;
    }
    case Distribution::uniform:
      return random.below(count_);
    case Distribution::zipfian:
      return scatter_(zipf_.draw(random) - 1);
    case Distribution::latest:
      return newest - std::min(newest, zipf_.draw(random) - 1);
  }
  return 0;
}

void write_key_digits(char* to, uint64_t key) {
  for (unsigned i = key_digits; i-- > 0; key /= 10) to[i] = static_cast<char>('0' + key % 10);
}

}  // namespace gyre::load
