// Structured concurrency: every task that is not awaited belongs to a Scope, and a Scope is
// joined before it dies. Children report their own failures; a Scope only counts them.
#pragma once

#include <gyre/reactor.hpp>
#include <gyre/stop.hpp>
#include <gyre/task.hpp>

namespace gyre {

class Scope {
 public:
  // With a parent, a stop of the parent stops this scope's children too.
  explicit Scope(StopSource* parent = nullptr, const char* name = "scope");
  ~Scope();  // asserts that every child has ended
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  // Starts `task` through the ready list. The child is stopped by this scope's StopSource. It runs
  // in the class of the task that made the scope: what a compaction spawns stays background.
  void spawn(Task<void> task) { spawn(std::move(task), background_); }
  // Flush, compaction, scrub: runs only when no foreground work is ready.
  void spawn_background(Task<void> task) { spawn(std::move(task), true); }

  void request_stop() noexcept { stop_.request_stop(); }
  StopSource& stop() noexcept { return stop_; }
  size_t size() const noexcept { return size_; }

  // Resumes when no child is left. One task at a time may join. Not itself cancellable:
  // children in flight own memory that the joiner is about to free.
  struct Join {
    Scope& scope;
    bool await_ready() const noexcept { return scope.size_ == 0; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
      scope.joiner_ = &handle.promise();
    }
    void await_resume() const noexcept {}
  };
  [[nodiscard]] Join join() noexcept { return {*this}; }

 private:
  friend class Reactor;
  friend std::coroutine_handle<> detail::finish_root(PromiseBase&) noexcept;

  void spawn(Task<void> task, bool background);
  void child_ended(PromiseBase& child) noexcept;

  // Wakes the joiner, unless a new child came between the end of the last one and its turn.
  struct Joined : Runnable {
    explicit Joined(Scope& of);
    Scope& scope;
  };

  StopSource stop_;
  const char* name_;
  bool background_;
  Joined joined_{*this};
  PromiseBase* children_ = nullptr;
  PromiseBase* joiner_ = nullptr;
  size_t size_ = 0;
  Reactor* reactor_;
  Scope* next_scope_ = nullptr;
  Scope* previous_scope_ = nullptr;
};

}  // namespace gyre
