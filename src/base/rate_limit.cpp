#include "base/rate_limit.hpp"

#include <algorithm>

namespace gyre {

double RateLimit::filled(const Bucket& bucket, Nanos now) const {
  const double passed_s = static_cast<double>(std::max<Nanos>(0, now - bucket.at)) / 1e9;
  return std::min(capacity(), bucket.tokens + passed_s * per_s_);
}

bool RateLimit::admit(uint64_t client, Nanos now) {
  if (buckets_.size() >= clients_max && !buckets_.contains(client)) forget(now);
  const auto [at, is_new] = buckets_.try_emplace(client, Bucket{capacity(), now});
  Bucket& bucket = at->second;
  if (!is_new) bucket = {filled(bucket, now), now};
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}

void RateLimit::forget(Nanos now) {
  std::erase_if(buckets_,
                [&](const auto& entry) { return filled(entry.second, now) >= capacity(); });
  if (buckets_.size() >= clients_max) buckets_.clear();
}

}  // namespace gyre
