// The one bounded queue between selectors and workers: first in, first out; a mutex and two
// condition variables.
//
// Invariant: what was accepted is handed to exactly one worker, also after close(): pop() gives
// everything that is left before it says that the queue has ended.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>

namespace gyre::threadpool {

template <class Task>
class TaskQueue {
 public:
  explicit TaskQueue(size_t tasks_max) : tasks_max_(tasks_max) {}

  // False: the queue is full.
  bool try_push(Task task) {
    std::unique_lock lock(mutex_);
    if (tasks_.size() >= tasks_max_) return false;
    accept(std::move(task), lock);
    return true;
  }
  // Waits for room.
  void push_waiting(Task task) {
    std::unique_lock lock(mutex_);
    ++producers_waiting_;
    has_room_.wait(lock, [this] { return tasks_.size() < tasks_max_; });
    --producers_waiting_;
    accept(std::move(task), lock);
  }
  // Whatever its size: for the continuation of what has been admitted already.
  void push_always(Task task) {
    std::unique_lock lock(mutex_);
    accept(std::move(task), lock);
  }

  // Waits for a task. Nothing: the queue is closed and empty.
  std::optional<Task> pop() {
    std::unique_lock lock(mutex_);
    ++workers_idle_;
    has_task_.wait(lock, [this] { return !tasks_.empty() || closed_; });
    --workers_idle_;
    if (tasks_.empty()) return std::nullopt;
    std::optional<Task> task(std::move(tasks_.front()));
    tasks_.pop_front();
    const bool producer_waits = producers_waiting_ != 0;
    lock.unlock();
    if (producer_waits) has_room_.notify_one();
    return task;
  }

  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    has_task_.notify_all();
  }

  size_t size() const {
    const std::lock_guard lock(mutex_);
    return tasks_.size();
  }

 private:
  // A wake-up is a system call: nobody is woken when all workers are busy.
  void accept(Task task, std::unique_lock<std::mutex>& lock) {
    tasks_.push_back(std::move(task));
    const bool worker_waits = workers_idle_ != 0;
    lock.unlock();
    if (worker_waits) has_task_.notify_one();
  }

  const size_t tasks_max_;
  mutable std::mutex mutex_;
  std::condition_variable has_task_;
  std::condition_variable has_room_;
  std::deque<Task> tasks_;
  size_t workers_idle_ = 0;
  size_t producers_waiting_ = 0;
  bool closed_ = false;
};

}  // namespace gyre::threadpool
