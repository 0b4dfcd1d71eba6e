// A rate that may be used in bursts: what is taken may run into debt, which the next one waits for.
#pragma once

#include <algorithm>
#include <cstdint>

#include <gyre/reactor.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

namespace gyre::cluster {

class TokenBucket {
 public:
  // A tenth of a second's worth may come at once.
  explicit TokenBucket(uint64_t units_per_second)
      : rate_(std::max<uint64_t>(units_per_second, 1)) {}

  // Waits until earlier takes are paid for, then takes. False if the task was stopped.
  Task<bool> take(uint64_t units) {
    if (free_at_ > Reactor::current().now() && !co_await sleep_until(free_at_)) co_return false;
    const Nanos cost =
        static_cast<Nanos>(static_cast<double>(units) * 1e9 / static_cast<double>(rate_));
    free_at_ = std::max(free_at_, Reactor::current().now() - milliseconds(100)) + cost;
    co_return true;
  }

 private:
  uint64_t rate_;
  Nanos free_at_ = 0;
};

}  // namespace gyre::cluster
