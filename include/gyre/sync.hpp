// Waiting for each other on one core: event, semaphore, channel. No atomics, no locks: tasks of
// one reactor only. Waiters queue first in, first out, and a stop takes a waiter out of the queue:
// every wait answers whether it was granted (true) or stopped (false).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <gyre/stop.hpp>
#include <gyre/task.hpp>

namespace gyre {

class WaitQueue;

namespace detail {
struct Uninterrupted;
}

// One suspended task in a WaitQueue. Lives in the awaiter, so in the waiting coroutine's frame.
class Waiter {
 public:
  Waiter() : on_stop_(*this) {}
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  bool granted() const { return granted_; }
  uint64_t units = 0;

 private:
  friend class WaitQueue;
  struct OnStop : StopCallback {
    explicit OnStop(Waiter& of);
    Waiter& waiter;
  };

  Waiter* next_ = nullptr;
  Waiter* previous_ = nullptr;
  WaitQueue* queue_ = nullptr;
  PromiseBase* task_ = nullptr;
  bool granted_ = false;
  OnStop on_stop_;
};

class WaitQueue {
 public:
  WaitQueue() = default;
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;
  ~WaitQueue();  // asserts that nobody waits

  bool empty() const { return head_ == nullptr; }
  Waiter& front() const { return *head_; }

  // Returns false, without queueing, if the task was already stopped.
  bool suspend(Waiter& waiter, PromiseBase& task) noexcept;
  // Queues whatever was stopped; only `wake` ends the wait.
  void suspend_until_woken(Waiter& waiter, PromiseBase& task) noexcept;
  // Grants the wait and makes the task ready.
  void wake(Waiter& waiter) noexcept;
  void wake_all() noexcept {
    while (head_ != nullptr) wake(*head_);
  }

 private:
  friend struct Waiter::OnStop;
  void remove(Waiter& waiter) noexcept;

  Waiter* head_ = nullptr;
  Waiter* tail_ = nullptr;
};

// Stays set until reset; wakes everybody.
class Event {
 public:
  bool is_set() const { return set_; }
  void set() noexcept {
    set_ = true;
    waiters_.wake_all();
  }
  void reset() noexcept { set_ = false; }

  struct Wait {
    Event& event;
    Waiter waiter{};
    bool ready = false;
    bool await_ready() noexcept { return ready = event.set_; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
      return event.waiters_.suspend(waiter, handle.promise());
    }
    bool await_resume() const noexcept { return ready || waiter.granted(); }
  };
  [[nodiscard]] Wait wait() noexcept { return Wait{*this}; }

 private:
  friend struct detail::Uninterrupted;
  WaitQueue waiters_;
  bool set_ = false;
};

namespace detail {
// A wait that a stop does not end: for memory that operations in flight still use.
struct Uninterrupted {
  Event& event;
  Waiter waiter{};
  bool await_ready() const noexcept { return event.set_; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
    event.waiters_.suspend_until_woken(waiter, handle.promise());
  }
  void await_resume() const noexcept {}
};
}  // namespace detail

// Counts units: permits, or bytes of a budget. Strictly first in, first out, so that a large
// request is not starved by small ones behind it.
class Semaphore {
 public:
  explicit Semaphore(uint64_t units) : available_(units), capacity_(units) {}

  uint64_t available() const { return available_; }
  uint64_t capacity() const { return capacity_; }
  bool has_waiters() const { return !waiters_.empty(); }

  bool try_acquire(uint64_t units = 1) noexcept {
    if (!waiters_.empty() || units > available_) return false;
    available_ -= units;
    return true;
  }
  void release(uint64_t units = 1) noexcept {
    const uint64_t paid = units < owed_ ? units : owed_;
    owed_ -= paid;
    available_ += units - paid;
    grant();
  }
  void add_capacity(uint64_t units) noexcept {
    capacity_ += units;
    release(units);
  }
  // At most the capacity. What is held at the moment is taken when it is released.
  void remove_capacity(uint64_t units) noexcept;

  struct Acquire {
    Semaphore& semaphore;
    uint64_t units;
    Waiter waiter{};
    bool ready = false;
    bool await_ready() noexcept { return ready = semaphore.try_acquire(units); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
      waiter.units = units;
      return semaphore.waiters_.suspend(waiter, handle.promise());
    }
    bool await_resume() noexcept {
      if (ready || waiter.granted()) return true;
      semaphore.grant();  // the head of the queue may have been this one
      return false;
    }
  };
  // More units than the capacity would wait for ever: that is asserted (a capacity of 0 means that
  // units are only ever added by release).
  [[nodiscard]] Acquire acquire(uint64_t units = 1) noexcept;

 private:
  void grant() noexcept {
    while (!waiters_.empty() && waiters_.front().units <= available_) {
      available_ -= waiters_.front().units;
      waiters_.wake(waiters_.front());
    }
  }

  uint64_t available_;
  uint64_t capacity_;
  uint64_t owed_ = 0;  // removed from the capacity while it was held
  WaitQueue waiters_;
};

namespace detail {
// A queue that keeps its memory: std::deque allocates and frees as it moves on.
template <class T>
class KeptQueue {
 public:
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  void push_back(T value) {
    if (size_ == slots_.size()) grow();
    slots_[(first_ + size_++) % slots_.size()].emplace(std::move(value));
  }
  T pop_front() {
    std::optional<T>& slot = slots_[first_];
    T value(std::move(*slot));
    slot.reset();
    first_ = (first_ + 1) % slots_.size();
    --size_;
    return value;
  }

 private:
  void grow() {
    std::vector<std::optional<T>> larger(slots_.empty() ? 4 : 2 * slots_.size());
    for (size_t i = 0; i < size_; ++i) larger[i] = std::move(slots_[(first_ + i) % slots_.size()]);
    slots_.swap(larger);
    first_ = 0;
  }

  std::vector<std::optional<T>> slots_;
  size_t first_ = 0;
  size_t size_ = 0;
};
}  // namespace detail

// Bounded queue between tasks. After close, what was sent is still received.
template <class T>
class Channel {
 public:
  explicit Channel(size_t capacity) : slots_(capacity), items_waiting_(0) {}

  bool try_send(T value) {
    if (closed_ || !slots_.try_acquire()) return false;
    items_.push_back(std::move(value));
    items_waiting_.release();
    return true;
  }
  // False if the channel is closed or the task was stopped; the value is lost then.
  Task<bool> send(T value) {
    if (!co_await slots_.acquire()) co_return false;
    if (closed_) {
      slots_.release();
      co_return false;
    }
    items_.push_back(std::move(value));
    items_waiting_.release();
    co_return true;
  }
  // Nothing if the channel is closed and empty, or the task was stopped.
  Task<std::optional<T>> receive() {
    if (!co_await items_waiting_.acquire()) co_return std::nullopt;
    if (items_.empty()) {  // woken by close
      items_waiting_.release();
      co_return std::nullopt;
    }
    std::optional<T> value(items_.pop_front());
    slots_.release();
    co_return value;
  }
  void close() {
    if (closed_) return;
    closed_ = true;
    items_waiting_.add_capacity(1);  // lets one receiver through, which lets the next through
    slots_.add_capacity(1);
  }
  bool closed() const { return closed_; }
  size_t size() const { return items_.size(); }

 private:
  detail::KeptQueue<T> items_;
  Semaphore slots_;
  Semaphore items_waiting_;
  bool closed_ = false;
};

}  // namespace gyre
