// What the calls of one request came to, and a latch that whoever needs some of the answers waits on,
// with a deadline. Calls that are late end after the request was answered, so it is shared with them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace gyre::threadpool {

using Clock = std::chrono::steady_clock;

class Gather {
 public:
  explicit Gather(size_t calls) : bodies_(calls), ended_(calls) {}

  // `body` is the answer's; nothing: there is none.
  void finish(size_t call, std::optional<std::string> body) {
    {
      const std::lock_guard lock(mutex_);
      ended_[call] = true;
      if (body) {
        ++answered_;
        bodies_[call] = std::move(body);
      } else {
        ++failed_;
      }
    }
    changed_.notify_one();
  }

  struct Counts {
    size_t answered = 0;
    size_t failed = 0;
  };
  // Until `enough` have answered, more than `failures` have failed, or it is too late.
  Counts wait(size_t enough, size_t failures, Clock::time_point until) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, until, [&] { return answered_ >= enough || failed_ > failures; });
    return {answered_, failed_};
  }

  // Of the first `asked` calls those that have not ended.
  std::vector<size_t> unfinished(size_t asked) {
    const std::lock_guard lock(mutex_);
    std::vector<size_t> numbers;
    for (size_t call = 0; call < asked; ++call) {
      if (!ended_[call]) numbers.push_back(call);
    }
    return numbers;
  }

  // What has come so far, by call.
  std::vector<std::optional<std::string>> take() {
    const std::lock_guard lock(mutex_);
    std::vector<std::optional<std::string>> taken(bodies_.size());
    bodies_.swap(taken);
    return taken;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<std::string>> bodies_;
  std::vector<bool> ended_;
  size_t answered_ = 0;
  size_t failed_ = 0;
};

}  // namespace gyre::threadpool
