// How many requests per second one client address may send: a token bucket per address and core,
// holding one second's worth. A node of N cores gives each core an N-th of the rate, since a
// client's connections are spread over them.
//
// Memory is bounded: at most clients_max addresses are remembered; when more are seen, those
// whose buckets are full again are forgotten (forgetting a full bucket changes nothing), and if
// there are none, all are.
#pragma once

#include <cstdint>
#include <unordered_map>

#include <gyre/backend.hpp>

namespace gyre {

class RateLimit {
 public:
  static constexpr size_t clients_max = 16384;

  RateLimit(uint64_t requests_per_s, unsigned cores)
      : per_s_(requests_per_s == 0 ? 0 : static_cast<double>(requests_per_s) / cores) {}

  bool enabled() const { return per_s_ > 0; }
  // Takes one request of this client; false: it is over its limit.
  bool admit(uint64_t client, Nanos now);
  size_t clients() const { return buckets_.size(); }

 private:
  struct Bucket {
    double tokens;
    Nanos at;
  };
  double filled(const Bucket& bucket, Nanos now) const;
  double capacity() const { return per_s_ < 1 ? 1 : per_s_; }
  void forget(Nanos now);

  double per_s_;
  std::unordered_map<uint64_t, Bucket> buckets_;
};

}  // namespace gyre
