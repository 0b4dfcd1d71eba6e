#include "engine/session.hpp"

#include <chrono>

namespace gyre::engine {

Nanos monotonic_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

EngineCounters operator-(const EngineCounters& after, const EngineCounters& before) {
  return {.user_bytes = after.user_bytes - before.user_bytes,
          .flushed_bytes = after.flushed_bytes - before.flushed_bytes,
          .compacted_bytes = after.compacted_bytes - before.compacted_bytes,
          .log_bytes = after.log_bytes - before.log_bytes};
}

EngineCounters operator+(const EngineCounters& a, const EngineCounters& b) {
  return {.user_bytes = a.user_bytes + b.user_bytes,
          .flushed_bytes = a.flushed_bytes + b.flushed_bytes,
          .compacted_bytes = a.compacted_bytes + b.compacted_bytes,
          .log_bytes = a.log_bytes + b.log_bytes};
}

}  // namespace gyre::engine
