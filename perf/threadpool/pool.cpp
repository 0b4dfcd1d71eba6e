#include "pool.hpp"

#include <pthread.h>

#include "connection.hpp"

namespace gyre::threadpool {

void Pool::start(const Options& options) {
  add_workers(options.workers, queue_, "worker");
  if (!coordinator_) return;
  add_workers(options.internal_workers, internal_queue_, "internal");
  coordinator_->start();
}

void Pool::add_workers(unsigned count, TaskQueue<Connection*>& queue, const char* name) {
  for (unsigned i = 0; i < count; ++i) {
    workers_.emplace_back([&queue, name] {
      pthread_setname_np(pthread_self(), name);
      while (const std::optional<Connection*> connection = queue.pop()) (*connection)->work();
    });
  }
}

void Pool::stop() {
  queue_.close();
  internal_queue_.close();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
  if (coordinator_) coordinator_->stop();
}

}  // namespace gyre::threadpool
