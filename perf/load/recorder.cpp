#include "load/recorder.hpp"

#include <algorithm>

namespace gyre::load {

void Recorder::merge(const Recorder& other) {
  latency.add(other.latency);
  service.add(other.service);
  send_lag.add(other.send_lag);
  queue_wait.add(other.queue_wait);
  failed.add(other.failed);
  failed_service.add(other.failed_service);
  incomplete.add(other.incomplete);
  warmup.add(other.warmup);
  hiccups.add(other.hiccups);
  for (size_t i = 0; i < operation_count; ++i) {
    if (other.by_operation[i] == nullptr) continue;
    if (by_operation[i] == nullptr) by_operation[i] = std::make_unique<Histogram>(largest_ns);
    by_operation[i]->add(*other.by_operation[i]);
  }
  sent += other.sent;
  answered += other.answered;
  bytes_read += other.bytes_read;
  reconnects += other.reconnects;
  verified += other.verified;
  unfinished_sent += other.unfinished_sent;
  unfinished_queued += other.unfinished_queued;
  unfinished_oldest = std::max(unfinished_oldest, other.unfinished_oldest);
  errors.add(other.errors);
  for (size_t i = 0; i < statuses.size(); ++i) statuses[i] += other.statuses[i];
  if (seconds.size() < other.seconds.size()) seconds.resize(other.seconds.size());
  for (size_t i = 0; i < other.seconds.size(); ++i) {
    const Second& from = other.seconds[i];
    seconds[i].answers += from.answers;
    seconds[i].errors += from.errors;
    seconds[i].service_max = std::max(seconds[i].service_max, from.service_max);
    seconds[i].latencies.insert(seconds[i].latencies.end(), from.latencies.begin(),
                                from.latencies.end());
  }
  rate_samples.insert(rate_samples.end(), other.rate_samples.begin(), other.rate_samples.end());
  for (const std::string& example : other.examples) {
    if (examples.size() < examples_max) examples.push_back(example);
  }
  busy_share_max = std::max(busy_share_max, other.busy_share_max);
  starved_share_max = std::max(starved_share_max, other.starved_share_max);
  cpu_share += other.cpu_share;
  last_answer = std::max(last_answer, other.last_answer);
}

}  // namespace gyre::load
