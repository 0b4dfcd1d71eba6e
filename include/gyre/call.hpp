// Work on another core: the message lives in the caller's frame, travels there, runs, and comes
// back with the answer. A call is not cancellable: the other core works on the caller's memory
// until the message is back. (Give the called task a deadline instead.)
#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include <gyre/mailbox.hpp>
#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/task.hpp>

namespace gyre {

namespace detail {

template <class Function>
struct CallMessage : Message {
  using Value = std::invoke_result_t<Function&>;
  static_assert(!std::is_void_v<Value>, "answer something, e.g. true");

  CallMessage(unsigned target, Function work) : to(target), function(std::move(work)) {}
  CallMessage(const CallMessage&) = delete;

  bool await_ready() noexcept {
    if (to != Reactor::current().core()) return false;
    answer.emplace(function());
    return true;
  }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
    task = &handle.promise();
    deliver = [](Message& self, Reactor& at) noexcept {
      auto& call = static_cast<CallMessage&>(self);
      call.answer.emplace(call.function());
      call.deliver = [](Message& back, Reactor&) noexcept {
        static_cast<CallMessage&>(back).task->schedule();
      };
      at.send(call.from, call);
    };
    Reactor::current().send(to, *this);
  }
  Value await_resume() { return std::move(*answer); }

  unsigned to;
  Function function;
  std::optional<Value> answer;
  PromiseBase* task = nullptr;
};

template <class T>
struct TaskOf;
template <class T>
struct TaskOf<Task<T>> {
  using Value = T;
};

template <class Function>
struct SpawnMessage : Message {
  using Value = typename TaskOf<std::invoke_result_t<Function&>>::Value;

  SpawnMessage(unsigned target, Function work) : to(target), function(std::move(work)) {}
  SpawnMessage(const SpawnMessage&) = delete;

  static Task<void> run(SpawnMessage* call) {
    call->answer.emplace(co_await call->function());
    call->deliver = [](Message& back, Reactor&) noexcept {
      static_cast<SpawnMessage&>(back).task->schedule();
    };
    Reactor::current().send(call->from, *call);
  }

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
    task = &handle.promise();
    deliver = [](Message& self, Reactor& at) noexcept {
      at.service_scope().spawn(run(&static_cast<SpawnMessage&>(self)));
    };
    Reactor::current().send(to, *this);
  }
  Value await_resume() { return std::move(*answer); }

  unsigned to;
  Function function;
  std::optional<Value> answer;
  PromiseBase* task = nullptr;
};

}  // namespace detail

// Runs the plain function on `core`, inside its tick, and resumes with what it returned.
template <class Function>
[[nodiscard]] detail::CallMessage<Function> call_on(unsigned core, Function function) {
  return detail::CallMessage<Function>(core, std::move(function));
}

// Runs the coroutine that `function` makes on `core`. `function` stays alive (in the caller's
// frame) until the coroutine has ended, so it may capture.
template <class Function>
[[nodiscard]] detail::SpawnMessage<Function> spawn_on(unsigned core, Function function) {
  return detail::SpawnMessage<Function>(core, std::move(function));
}

}  // namespace gyre
