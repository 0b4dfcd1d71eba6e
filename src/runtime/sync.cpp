#include <algorithm>

#include <gyre/sync.hpp>

#include "base/assert.hpp"

namespace gyre {

Waiter::OnStop::OnStop(Waiter& of)
    : StopCallback([](StopCallback& self) noexcept {
        Waiter& waiter = static_cast<OnStop&>(self).waiter;
        waiter.queue_->remove(waiter);
        waiter.task_->schedule();
      }),
      waiter(of) {}

WaitQueue::~WaitQueue() {
  GYRE_ASSERT(head_ == nullptr);
}

bool WaitQueue::suspend(Waiter& waiter, PromiseBase& task) noexcept {
  if (task.stop_requested()) return false;
  suspend_until_woken(waiter, task);
  if (task.stop != nullptr) task.stop->add(waiter.on_stop_);
  return true;
}

void WaitQueue::suspend_until_woken(Waiter& waiter, PromiseBase& task) noexcept {
  waiter.queue_ = this;
  waiter.task_ = &task;
  waiter.previous_ = tail_;
  if (tail_ != nullptr) {
    tail_->next_ = &waiter;
  } else {
    head_ = &waiter;
  }
  tail_ = &waiter;
}

void WaitQueue::remove(Waiter& waiter) noexcept {
  (waiter.previous_ != nullptr ? waiter.previous_->next_ : head_) = waiter.next_;
  (waiter.next_ != nullptr ? waiter.next_->previous_ : tail_) = waiter.previous_;
  waiter.next_ = waiter.previous_ = nullptr;
  waiter.on_stop_.unlink();
}

void WaitQueue::wake(Waiter& waiter) noexcept {
  remove(waiter);
  waiter.granted_ = true;
  waiter.task_->schedule();
}

Semaphore::Acquire Semaphore::acquire(uint64_t units) noexcept {
  GYRE_ASSERT(units <= capacity_ || capacity_ == 0);
  return Acquire{*this, units};
}

void Semaphore::remove_capacity(uint64_t units) noexcept {
  GYRE_ASSERT(units <= capacity_);
  capacity_ -= units;
  const uint64_t taken = std::min(units, available_);
  available_ -= taken;
  owed_ += units - taken;
}

}  // namespace gyre
