// What selectors and workers share: the task queue, the worker threads, what they execute with.
#pragma once

#include <sys/epoll.h>

#include <memory>
#include <thread>
#include <vector>

#include "coordinator.hpp"
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
        coordinator_(options.peers.empty()
                         ? nullptr
                         : std::make_unique<Coordinator>(options, store, transit_)),
        executor_(store, counters_, transit_, coordinator_.get()),
        queue_(options.queue_tasks_max),
        internal_queue_(options.queue_tasks_max) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void start(const Options& options);
  // Ends when the queues are empty.
  void stop();

  Overflow overflow() const { return overflow_; }
  Counters& counters() { return counters_; }
  TransitMemory& transit() { return transit_; }
  Executor& executor() { return executor_; }
  TaskQueue<Connection*>& queue() { return queue_; }
  // What peers ask has workers of its own: those of clients wait for peers, and all of them could.
  TaskQueue<Connection*>& internal_queue() { return coordinator_ ? internal_queue_ : queue_; }

 private:
  void add_workers(unsigned count, TaskQueue<Connection*>& queue, const char* name);

  const Overflow overflow_;
  Counters counters_;
  TransitMemory transit_;
  const std::unique_ptr<Coordinator> coordinator_;
  Executor executor_;
  TaskQueue<Connection*> queue_;
  TaskQueue<Connection*> internal_queue_;
  std::vector<std::thread> workers_;
};

}  // namespace gyre::threadpool
