// Many tasks at once: all of them, the first of them, or the first `need` successes.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

namespace gyre {

namespace detail {

template <class T>
Task<void> gather_one(Task<T> task, std::optional<T>& into) {
  into.emplace(co_await std::move(task));
}

template <class T>
Task<void> gather_result(Task<Result<T>> task, std::optional<Result<T>>& into,
                         StopSource& siblings) {
  into.emplace(co_await std::move(task));
  if (!*into) siblings.request_stop();
}

// A race of nobody has no winner and would wait for ever.
void require_racers(size_t count) noexcept;

template <class T>
Task<void> race_one(Task<T> task, size_t index, std::optional<T>& into,
                    std::optional<size_t>& first, Event& decided) {
  T value = co_await std::move(task);
  if (!first) {
    first = index;
    into.emplace(std::move(value));
    decided.set();
  }
}

}  // namespace detail

// Waits for every task; results in the order of the tasks.
template <class T>
Task<std::vector<T>> when_all(std::vector<Task<T>> tasks) {
  std::vector<std::optional<T>> slots(tasks.size());
  Scope scope(co_await current_stop(), "when_all");
  for (size_t i = 0; i < tasks.size(); ++i) {
    scope.spawn(detail::gather_one<T>(std::move(tasks[i]), slots[i]));
  }
  co_await scope.join();
  std::vector<T> results;
  results.reserve(slots.size());
  for (auto& slot : slots) results.push_back(std::move(*slot));
  co_return results;
}

// As when_all, but the first failure stops the others, which are still waited for.
template <class T>
Task<std::vector<Result<T>>> when_all_or_stop(std::vector<Task<Result<T>>> tasks) {
  std::vector<std::optional<Result<T>>> slots(tasks.size());
  Scope scope(co_await current_stop(), "when_all_or_stop");
  for (size_t i = 0; i < tasks.size(); ++i) {
    scope.spawn(detail::gather_result<T>(std::move(tasks[i]), slots[i], scope.stop()));
  }
  co_await scope.join();
  std::vector<Result<T>> results;
  results.reserve(slots.size());
  for (auto& slot : slots) results.push_back(std::move(*slot));
  co_return results;
}

template <class T>
struct Winner {
  size_t index;
  T value;
};

// The first task to end wins; the losers are stopped and waited for. At least one task.
//
// A loser may succeed all the same, before the stop reaches it: its value is destroyed at once. So
// values must own what they stand for (File, Descriptor, unique_ptr): a bare number would leak it.
template <class T>
Task<Winner<T>> when_any(std::vector<Task<T>> tasks) {
  detail::require_racers(tasks.size());
  std::optional<T> value;
  std::optional<size_t> first;
  Event decided;
  Scope scope(co_await current_stop(), "when_any");
  for (size_t i = 0; i < tasks.size(); ++i) {
    scope.spawn(detail::race_one<T>(std::move(tasks[i]), i, value, first, decided));
  }
  // A stop of the caller ends this wait and stops the children; the join then waits for all of
  // them, so one has always decided.
  static_cast<void>(co_await decided.wait());
  scope.request_stop();
  co_await scope.join();
  co_return Winner<T>{*first, std::move(*value)};
}

// What a quorum call has heard so far. Shared by the caller and the tasks still running: late
// answers land here after the caller was answered (read repair, hints).
template <class T>
struct QuorumState {
  std::vector<std::optional<Result<T>>> answers;  // by task; empty while unknown
  size_t need = 0;
  size_t successes = 0;
  size_t failures = 0;
  Event decided;

  bool reached() const { return successes >= need; }
  bool impossible() const { return successes + (answers.size() - successes - failures) < need; }
  bool complete() const { return successes + failures == answers.size(); }
};

namespace detail {
template <class T>
Task<void> quorum_one(Task<Result<T>> task, size_t index, std::shared_ptr<QuorumState<T>> state) {
  Result<T> answer = co_await std::move(task);
  (answer ? state->successes : state->failures) += 1;
  state->answers[index].emplace(std::move(answer));
  if (state->reached() || state->impossible()) state->decided.set();
}
}  // namespace detail

// Starts all tasks in `scope` (which must outlive them: the node's, not the request's) and
// resumes at the `need`-th success, or as soon as success is impossible, or when the caller is
// stopped. The tasks go on; their answers land in the returned state.
template <class T>
Task<std::shared_ptr<QuorumState<T>>> quorum(Scope& scope, size_t need,
                                             std::vector<Task<Result<T>>> tasks) {
  auto state = std::make_shared<QuorumState<T>>();
  state->need = need;
  state->answers.resize(tasks.size());
  if (state->reached() || state->impossible()) state->decided.set();
  for (size_t i = 0; i < tasks.size(); ++i) {
    scope.spawn(detail::quorum_one<T>(std::move(tasks[i]), i, state));
  }
  static_cast<void>(co_await state->decided.wait());
  co_return state;
}

}  // namespace gyre
