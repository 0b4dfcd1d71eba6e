// Time as awaitables: sleep, yield, deadlines.
#pragma once

#include <gyre/reactor.hpp>
#include <gyre/result.hpp>
#include <gyre/stop.hpp>
#include <gyre/task.hpp>

namespace gyre {

// True when the time came, false when the task was stopped first.
class Sleep {
 public:
  explicit Sleep(Nanos deadline) : deadline_(deadline), timer_(*this), on_stop_(*this) {}
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
    return suspend(handle.promise());
  }
  bool await_resume() const noexcept { return elapsed_; }

 private:
  struct SleepTimer : Timer {
    explicit SleepTimer(Sleep& of);
    Sleep& sleep;
  };
  struct OnStop : StopCallback {
    explicit OnStop(Sleep& of);
    Sleep& sleep;
  };
  bool suspend(PromiseBase& task) noexcept;

  Nanos deadline_;
  PromiseBase* task_ = nullptr;
  bool elapsed_ = false;
  SleepTimer timer_;
  OnStop on_stop_;
};

[[nodiscard]] inline Sleep sleep_until(Nanos deadline) {
  return Sleep(deadline);
}
[[nodiscard]] inline Sleep sleep_for(Nanos duration) {
  return Sleep(Reactor::current().after(duration));
}

// Goes to the end of the ready list.
struct Yield {
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> handle) const noexcept {
    handle.promise().schedule();
  }
  void await_resume() const noexcept {}
};
[[nodiscard]] inline Yield yield() {
  return {};
}

// For long work, every 64 entries or so: gives the core back only if something waits for it.
struct MaybeYield : Yield {
  bool await_ready() const noexcept { return !Reactor::current().need_preempt(); }
};
[[nodiscard]] inline MaybeYield maybe_yield() {
  return {};
}

namespace detail {

struct DeadlineTimer : Timer {
  explicit DeadlineTimer(StopSource& source)
      : Timer([](Timer& self) noexcept {
          auto& deadline = static_cast<DeadlineTimer&>(self);
          deadline.expired = true;
          deadline.stop.request_stop();
        }),
        stop(source) {}
  StopSource& stop;
  bool expired = false;
};

struct CurrentStop {
  StopSource* stop = nullptr;
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
    stop = handle.promise().stop;
    return false;
  }
  StopSource* await_resume() const noexcept { return stop; }
};

}  // namespace detail

// The StopSource this task listens to, or nullptr.
[[nodiscard]] inline detail::CurrentStop current_stop() {
  return {};
}

// Stops `task` at the deadline and waits for its end (its operations own memory until then).
// A task that succeeds all the same has succeeded; one that was cancelled by the deadline is
// Errc::timed_out.
template <class T>
Task<Result<T>> with_deadline(Nanos deadline, Task<Result<T>> task) {
  StopSource stop(co_await current_stop());
  task.promise().stop = &stop;
  detail::DeadlineTimer timer(stop);
  Reactor& reactor = Reactor::current();
  reactor.arm(timer, deadline);
  Result<T> result = co_await std::move(task);
  reactor.disarm(timer);
  if (!result && timer.expired && result.error().code == Errc::cancelled) {
    co_return fail(Errc::timed_out, std::move(result.error().detail));
  }
  co_return result;
}

template <class T>
Task<Result<T>> with_timeout(Nanos timeout, Task<Result<T>> task) {
  return with_deadline<T>(Reactor::current().after(timeout), std::move(task));
}

}  // namespace gyre
