#include "pool.hpp"

#include <pthread.h>

#include "connection.hpp"

namespace gyre::threadpool {

void Pool::start(unsigned workers) {
  for (unsigned i = 0; i < workers; ++i) {
    workers_.emplace_back([this] {
      pthread_setname_np(pthread_self(), "worker");
      while (const std::optional<Connection*> connection = queue_.pop()) (*connection)->work();
    });
  }
}

void Pool::stop() {
  queue_.close();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

}  // namespace gyre::threadpool
