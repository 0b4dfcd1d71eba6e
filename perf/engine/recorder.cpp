#include "engine/recorder.hpp"

namespace gyre::engine {

void Recorder::keep_second() {
  if (second_.empty()) return;
  if (seconds_.size() <= second_number_) seconds_.resize(second_number_ + 1);
  Second& second = seconds_[second_number_];
  second.answers += second_.total();
  second_.each(
      [&](uint64_t value, uint64_t count) { second.latencies.emplace_back(value, count); });
  second_.clear();
}

void Recorder::next_second(Nanos end) {
  keep_second();
  second_number_ = end > begin_ ? static_cast<size_t>((end - begin_) / seconds(1)) : 0;
}

void Recorder::merge(const Recorder& other) {
  latency_.add(other.latency_);
  if (seconds_.size() < other.seconds_.size()) seconds_.resize(other.seconds_.size());
  for (size_t i = 0; i < other.seconds_.size(); ++i) {
    seconds_[i].answers += other.seconds_[i].answers;
    seconds_[i].latencies.insert(seconds_[i].latencies.end(), other.seconds_[i].latencies.begin(),
                                 other.seconds_[i].latencies.end());
  }
  wrong += other.wrong;
  failed += other.failed;
  refused += other.refused;
  unfinished += other.unfinished;
}

}  // namespace gyre::engine
