// A thread with an epoll instance and the connections that it reads. The first selector also
// accepts, and deals connections out in turn.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "connection.hpp"
#include "pool.hpp"

namespace gyre::threadpool {

class Selector {
 public:
  Selector(const Options& options, Pool& pool);
  ~Selector();
  Selector(const Selector&) = delete;
  Selector& operator=(const Selector&) = delete;

  // Also accepts from `listener`, which it closes when it drains, for all of `selectors`.
  void accept_for(int listener, std::vector<Selector*> selectors);
  void start();
  // Idle connections are closed, others when they have their answers; then the thread ends.
  void drain();
  // Cuts what is left.
  void abort();
  void join();

  // From any thread.
  void add(int fd);

 private:
  void run();
  void wake();
  void accept_some();
  void stop_accepting();
  void handle(Connection& connection, uint32_t events);
  void read_again();
  void sweep();
  void remove(Connection& connection);
  int wait_ms() const;

  const Options& options_;
  Pool& pool_;
  const ConnectionTimes times_;
  int epoll_ = -1;
  int wake_ = -1;
  int listener_ = -1;
  bool listener_rests_ = false;  // there were no descriptors
  std::vector<Selector*> accepts_for_;
  size_t next_selector_ = 0;
  std::vector<char> buffer_;
  std::vector<Connection*> more_;
  Milliseconds swept_at_ = 0;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> aborting_ = false;
  std::thread thread_;

  std::mutex mutex_;  // of the list, which add() changes too
  Connection* connections_ = nullptr;
};

}  // namespace gyre::threadpool
