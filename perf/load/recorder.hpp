// What one thread has measured; merged over threads at the end. Times are nanoseconds.
//
// Of every good answer:  latency = send_lag + queue_wait + service
//   latency     from the intended start to the end of the answer
//   send_lag    what the generator added: it looked late, or took time to hand the request over
//   queue_wait  the request was due, but all connections had one under way
//   service     from the hand-over (just before the system call) to the end of the answer
//
// Good is what has a status below 400, and a 404 to a GET: the server looked, and nothing is there.
// Other answers have histograms of their own: a server that refuses fast is not a fast server.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/histogram.hpp"
#include "load/options.hpp"

namespace gyre::load {

constexpr uint64_t largest_ns = 86'400'000'000'000;  // 24 hours

struct Errors {
  uint64_t connect = 0;    // attempts that failed
  uint64_t read = 0;       // the connection broke while its answer was awaited
  uint64_t write = 0;      // … while the request was being sent
  uint64_t timeout = 0;    // no answer within --timeout
  uint64_t malformed = 0;  // the answer is not HTTP
  uint64_t status = 0;     // 4xx and 5xx, those of not_found included
  uint64_t not_found = 0;  // 404 to a GET
  uint64_t wrong = 0;      // --verify: not the bytes that should be there

  void add(const Errors& other) {
    connect += other.connect;
    read += other.read;
    write += other.write;
    timeout += other.timeout;
    malformed += other.malformed;
    status += other.status;
    not_found += other.not_found;
    wrong += other.wrong;
  }
  // Requests without an answer.
  uint64_t unanswered() const { return read + write + timeout + malformed; }
};

// A second of the series: what was answered in it, and the latencies of its good answers. Above the
// server's capacity latencies grow with the queue; the longest service time shows its stalls.
struct Second {
  uint64_t answers = 0;
  uint64_t errors = 0;
  uint64_t service_max = 0;
  std::vector<std::pair<uint64_t, uint64_t>> latencies;  // value, count
};

struct Recorder {
  Histogram latency{largest_ns};
  Histogram service{largest_ns};
  Histogram send_lag{largest_ns};
  Histogram queue_wait{largest_ns};
  Histogram failed{largest_ns};  // latency of answers that are not good
  Histogram failed_service{largest_ns};
  std::array<std::unique_ptr<Histogram>, operation_count> by_operation;
  Histogram incomplete{largest_ns};  // ages of what was never answered: unfinished or broken
  Histogram warmup{largest_ns};
  Histogram hiccups{largest_ns};

  uint64_t sent = 0;
  uint64_t answered = 0;
  uint64_t bytes_read = 0;
  uint64_t reconnects = 0;
  uint64_t verified = 0;           // answers whose content was checked, warm-up included
  uint64_t unfinished_sent = 0;    // at the end: sent, not answered
  uint64_t unfinished_queued = 0;  // due, not sent
  Nanos unfinished_oldest = 0;
  Errors errors;
  std::array<uint64_t, 1000> statuses{};  // answers by their status
  std::vector<Second> seconds;
  std::vector<uint64_t> rate_samples;  // requests per second, every 100 ms
  std::vector<std::string> examples;   // of wrong answers
  double busy_share_max = 0;           // of any thread's time
  double starved_share_max = 0;        // of any thread's time: ready, but others had its CPU
  double cpu_share = 0;                // of all threads, spinning included; 1 is a whole CPU
  Nanos last_answer = 0;

  void merge(const Recorder& other);
  uint64_t good() const { return answered - std::min(answered, failed.total()); }
  // 503: refused for lack of something, and not done.
  uint64_t unavailable() const { return statuses[503]; }
};

constexpr size_t examples_max = 5;

}  // namespace gyre::load
