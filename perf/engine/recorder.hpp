// What one lane or thread has measured, merged afterwards. Latencies are nanoseconds, from the
// intended start in the open loop and from the end of the operation before in the closed one.
//
// Per second only the counters of a coarse histogram (two digits) that are not zero are kept: a
// run of 64 threads would otherwise carry hundreds of megabytes.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <gyre/backend.hpp>

#include "base/histogram.hpp"

namespace gyre::engine {

inline constexpr uint64_t largest_ns = 3'600'000'000'000;  // an hour

struct Second {
  uint64_t answers = 0;
  std::vector<std::pair<uint64_t, uint64_t>> latencies;  // value, count
};

class Recorder {
 public:
  Recorder() = default;
  explicit Recorder(Nanos begin) : begin_(begin) {}

  // One operation that was due at `due` and has ended at `end`.
  void record(Nanos due, Nanos end) {
    if (static_cast<size_t>((end - begin_) / seconds(1)) != second_number_) next_second(end);
    const auto latency = static_cast<uint64_t>(end > due ? end - due : 0);
    latency_.record(latency);
    second_.record(latency);
  }
  // Nothing is recorded after it.
  void finish() { keep_second(); }

  const Histogram& latency() const { return latency_; }
  const std::vector<Second>& series() const { return seconds_; }
  void merge(const Recorder& other);

  uint64_t wrong = 0;       // answers that are not what was written
  uint64_t failed = 0;      // errors of the engine
  uint64_t refused = 0;     // writes that had to be tried again
  uint64_t unfinished = 0;  // due, but not done when the run was given up

 private:
  void next_second(Nanos end);
  void keep_second();

  Nanos begin_ = 0;
  size_t second_number_ = 0;
  Histogram latency_{largest_ns};
  Histogram second_{largest_ns, 2};
  std::vector<Second> seconds_;
};

}  // namespace gyre::engine
