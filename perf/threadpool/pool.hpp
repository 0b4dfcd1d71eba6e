// What selectors and workers share: the task queue, the worker threads, what they execute with.
#pragma once

#include <sys/epoll.h>

#include <thread>
#include <vector>

#include "executor.hpp"
#include "task_queue.hpp"

namespace gyre::threadpool {

class Connection;

// Both directions, once and for all.
inline constexpr uint32_t connection_events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

class Pool {
 public:
  Pool(const Options& options, RecordStore& store)
      : overflow_(options.overflow),
        transit_(options.transit_bytes),
        executor_(store, counters_, transit_),
        queue_(options.queue_tasks_max) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void start(unsigned workers);
  // Ends when the queue is empty.
  void stop();

  Overflow overflow() const { return overflow_; }
  Counters& counters() { return counters_; }
  TransitMemory& transit() { return transit_; }
  Executor& executor() { return executor_; }
  TaskQueue<Connection*>& queue() { return queue_; }

 private:
  const Overflow overflow_;
  Counters counters_;
  TransitMemory transit_;
  Executor executor_;
  TaskQueue<Connection*> queue_;
  std::vector<std::thread> workers_;
};

}  // namespace gyre::threadpool
