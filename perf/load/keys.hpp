// Which keys a workload touches. Keys are numbers 0 … count-1; their text is the prefix and ten
// digits, so that byte order is number order ("key0000000042", as in perf/wrk).
//
//   sequential  0, 1, 2, … and again
//   uniform     each as likely as any other
//   zipfian     the k-th most popular with a probability in proportion to 1/k^s, s = 0.99 unless
//               said otherwise; popular ones lie scattered over the key space
//   latest      zipfian by age: the newest key is the most popular; a PUT adds a new key, and the
//               set is the newest `count` of them
#pragma once

#include <cstdint>

#include "sim/prng.hpp"

namespace gyre::load {

enum class Distribution : uint8_t { sequential, uniform, zipfian, latest };

// Draws ranks 1 … n with probability in proportion to 1/rank^s, by rejection-inversion (Hörmann
// and Derflinger, 1996): constant time, no table.
class Zipf {
 public:
  Zipf(uint64_t n, double exponent);
  uint64_t draw(sim::Prng& random) const;

 private:
  double integral(double x) const;
  double integral_inverse(double x) const;
  double density(double x) const;

  double n_;
  double exponent_;
  double integral_low_;
  double integral_high_;
  double shortcut_;
};

// A permutation of 0 … n-1 without a table: neighbours land far apart.
class Scatter {
 public:
  explicit Scatter(uint64_t n);
  uint64_t operator()(uint64_t index) const {
    return static_cast<uint64_t>(static_cast<__uint128_t>(index) * step_ % n_);
  }

 private:
  uint64_t n_;
  uint64_t step_;
};

// The keys of one thread; `part` of `parts` for those that go through the keys in order.
class KeyChooser {
 public:
  KeyChooser(Distribution distribution, uint64_t count, double exponent, unsigned part,
             unsigned parts);

  // For everything but the PUTs of `latest`. `newest` is the number of the newest key there.
  uint64_t choose(sim::Prng& random, uint64_t newest);

 private:
  Distribution distribution_;
  uint64_t count_;
  uint64_t position_;
  uint64_t stride_;
  Zipf zipf_;
  Scatter scatter_;
};

constexpr unsigned key_digits = 10;
constexpr uint64_t keys_max = 10'000'000'000;
// Writes the ten digits.
void write_key_digits(char* to, uint64_t key);

}  // namespace gyre::load
