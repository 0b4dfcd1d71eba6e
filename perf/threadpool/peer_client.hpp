// Calls to one other node: a bounded queue, and threads that take from it, each over a blocking
// connection of its own that is kept alive. Each peer has threads of its own, so that one that hangs
// holds up nobody else's calls.
//
// A call that meets a connection that the peer has closed meanwhile is made once more on a new one:
// records carry their version, so it does not matter whether it was done twice.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "executor.hpp"
#include "gather.hpp"
#include "http/client.hpp"
#include "task_queue.hpp"

namespace gyre::threadpool {

// The same for all replicas of a request; lives until the last call with it has ended.
struct PeerRequest {
  PeerRequest(TransitMemory& of, uint64_t charged) : transit(of), charged_bytes(charged) {}
  ~PeerRequest() { transit.release(charged_bytes); }
  PeerRequest(const PeerRequest&) = delete;
  PeerRequest& operator=(const PeerRequest&) = delete;

  std::string head;  // up to the empty line
  std::string body;
  TransitMemory& transit;
  const uint64_t charged_bytes;
};

struct PeerCall {
  std::shared_ptr<const PeerRequest> request;
  std::shared_ptr<Gather> gather;  // none: nobody waits for the answer
  size_t number = 0;               // in it
  Clock::time_point deadline;

  void finish(std::optional<std::string> body) {
    if (gather) gather->finish(number, std::move(body));
  }
};

class PeerClient {
 public:
  PeerClient(http::Endpoint endpoint, std::chrono::milliseconds timeout, size_t calls_max);
  ~PeerClient() { stop(); }
  PeerClient(const PeerClient&) = delete;
  PeerClient& operator=(const PeerClient&) = delete;

  void start(unsigned threads);
  // When what was accepted is done, or has failed.
  void stop();

  // Ends it at once if too many wait already.
  void call(PeerCall call);

  // It let a call wait in vain not long ago: others are asked first.
  bool is_suspect() const {
    return Clock::now().time_since_epoch().count() < suspect_until_.load(std::memory_order_relaxed);
  }
  void suspect();
  bool was_suspected() const { return suspect_until_ != 0; }  // ever

 private:
  class Line;
  void work();

  const http::Endpoint endpoint_;
  const std::chrono::milliseconds timeout_;
  TaskQueue<PeerCall> queue_;
  std::atomic<Clock::rep> suspect_until_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace gyre::threadpool
