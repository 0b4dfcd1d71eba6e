// Task<T>: a lazy coroutine. It starts when it is awaited (or spawned into a Scope), is awaited
// once, and resumes its parent by symmetric transfer. Frames come from per-thread size-class
// free lists, so steady-state work allocates nothing.
//
// Everything a waiting coroutine needs sits in its promise: the Runnable that resumes it through
// the ready list, the StopSource it listens to (inherited from the awaiting task), its class
// (foreground or background, inherited too), and, for diagnosis, the place where it waits and
// the task it waits for.
//
// Rules: no capturing coroutine lambdas; parameters by value; a Task never outlives its Scope.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>
#include <variant>

#include <gyre/stop.hpp>

namespace gyre {

class Reactor;
class Scope;
struct PromiseBase;

// A piece of work in a reactor's ready list. Not copied, not freed while queued.
struct Runnable {
  using Run = void (*)(Runnable& self) noexcept;

  Runnable* next = nullptr;
  Run run = nullptr;
  PromiseBase* task = nullptr;  // whose coroutine this resumes, if any
  bool queued = false;
  bool background = false;
};

// Frame memory. `frames_live` counts frames of the calling thread.
void* allocate_frame(size_t size_bytes);
void free_frame(void* frame, size_t size_bytes) noexcept;
int64_t frames_live() noexcept;
uint64_t frame_pool_misses() noexcept;  // how often the pool had to ask malloc
size_t frame_pool_kept_bytes() noexcept;
void release_frame_pool() noexcept;  // gives cached memory of this thread back to malloc

struct PromiseBase {
  PromiseBase() = default;
  PromiseBase(const PromiseBase&) = delete;
  PromiseBase& operator=(const PromiseBase&) = delete;

  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* frame, size_t size_bytes) noexcept {
    free_frame(frame, size_bytes);
  }

  // Puts the coroutine on the current reactor's ready list.
  void schedule() noexcept;
  bool stop_requested() const noexcept { return stop != nullptr && stop->stop_requested(); }
  void inherit(PromiseBase& from) noexcept {
    if (stop == nullptr) stop = from.stop;
    resume_runnable.background = from.resume_runnable.background;
    parent = &from;
    from.awaiting = this;
  }

  Runnable resume_runnable;
  std::coroutine_handle<> self;
  std::coroutine_handle<> continuation;
  StopSource* stop = nullptr;
  PromiseBase* parent = nullptr;
  PromiseBase* awaiting = nullptr;  // the child task being awaited
  Scope* scope = nullptr;           // set for spawned (root) tasks
  PromiseBase* scope_next = nullptr;
  PromiseBase* scope_previous = nullptr;
  std::source_location where;  // of the await it is suspended in, or of its body if not started
};

namespace detail {

std::coroutine_handle<> finish_root(PromiseBase& promise) noexcept;

struct FinalAwaiter {
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> handle) const noexcept {
    PromiseBase& promise = handle.promise();
    if (promise.continuation) {
      promise.parent->awaiting = nullptr;
      return promise.continuation;
    }
    return finish_root(promise);
  }
  void await_resume() const noexcept {}
};

template <class Promise>
struct PromiseCommon : PromiseBase {
  PromiseCommon() {
    self = std::coroutine_handle<Promise>::from_promise(static_cast<Promise&>(*this));
  }

  // The default argument is evaluated in the coroutine, so it names the task before its first
  // await.
  std::suspend_always initial_suspend(
      std::source_location at = std::source_location::current()) noexcept {
    where = at;
    return {};
  }
  FinalAwaiter final_suspend() const noexcept { return {}; }

  template <class Awaitable>
  Awaitable&& await_transform(Awaitable&& awaitable,
                              std::source_location at = std::source_location::current()) noexcept {
    where = at;
    return static_cast<Awaitable&&>(awaitable);
  }
};

}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
 public:
  struct promise_type : detail::PromiseCommon<promise_type> {
    Task get_return_object() noexcept {
      return Task(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    template <class U>
    void return_value(U&& value) {
      outcome.template emplace<1>(std::forward<U>(value));
    }
    void unhandled_exception() noexcept { outcome.template emplace<2>(std::current_exception()); }
    T take() {
      if (outcome.index() == 2) std::rethrow_exception(std::get<2>(outcome));
      return std::move(std::get<1>(outcome));
    }
    std::variant<std::monostate, T, std::exception_ptr> outcome;
  };

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  struct Awaiter {
    std::coroutine_handle<promise_type> handle;

    bool await_ready() const noexcept { return false; }
    template <class Parent>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Parent> parent) noexcept {
      handle.promise().inherit(parent.promise());
      handle.promise().continuation = parent;
      return handle;
    }
    T await_resume() { return handle.promise().take(); }
  };
  Awaiter operator co_await() && noexcept { return {handle_}; }

  PromiseBase& promise() const noexcept { return handle_.promise(); }
  // Gives up ownership: the frame frees itself when the coroutine ends (Scope::spawn).
  PromiseBase& release() noexcept { return std::exchange(handle_, nullptr).promise(); }

 private:
  explicit Task(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

template <>
struct Task<void>::promise_type : detail::PromiseCommon<promise_type> {
  Task get_return_object() noexcept {
    return Task(std::coroutine_handle<promise_type>::from_promise(*this));
  }
  void return_void() noexcept {}
  void unhandled_exception() noexcept {
    if (!continuation) std::terminate();  // nobody is left to tell: a bug, not an expected failure
    exception = std::current_exception();
  }
  void take() {
    if (exception) std::rethrow_exception(exception);
  }
  std::exception_ptr exception;
};

}  // namespace gyre
