#include <doctest/doctest.h>

#include <vector>

#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>
#include <gyre/when.hpp>

#include "scenarios.hpp"

namespace gyre::testing {

namespace {

Task<void> nap(Nanos duration, int id, std::vector<int>& order) {
  const Nanos due = Reactor::current().now() + duration;
  CHECK(co_await sleep_for(duration));
  CHECK(Reactor::current().now() >= due);
  order.push_back(id);
}
Task<Result<int>> slow(Nanos duration, Result<int> answer) {
  if (!co_await sleep_for(duration)) co_return fail(Errc::cancelled);
  co_return answer;
}
Task<int> race(Nanos duration, int id) {
  co_return co_await sleep_for(duration) ? id : -id;
}
Task<Result<int>> wait_for(Event& event) {
  if (!co_await event.wait()) co_return fail(Errc::cancelled);
  co_return 1;
}
Task<void> borrow(Semaphore& budget, uint64_t bytes, uint64_t& in_use, int& done) {
  CHECK(co_await budget.acquire(bytes));
  in_use += bytes;
  CHECK(in_use <= budget.capacity());
  co_await sleep_for(microseconds(static_cast<int64_t>(Reactor::current().random() % 200)));
  in_use -= bytes;
  budget.release(bytes);
  ++done;
}
Task<void> produce(Channel<int>& channel, int from, int count) {
  for (int i = 0; i < count; ++i) {
    if (Reactor::current().random() % 16 == 0) co_await sleep_for(microseconds(50));
    CHECK(co_await channel.send(from + i));
  }
}
Task<void> consume(Channel<int>& channel, std::vector<int>& seen) {
  for (;;) {
    std::optional<int> value = co_await channel.receive();
    if (!value) co_return;
    seen[static_cast<size_t>(*value)] += 1;
    if (Reactor::current().random() % 16 == 0) co_await yield();
  }
}
Task<void> grind(int pieces, int& done) {
  for (int i = 0; i < pieces; ++i) {
    ++done;
    co_await maybe_yield();
    if (i % 8 == 0) co_await yield();
  }
}

}  // namespace

Task<void> sleepers_wake_in_order(Place) {
  std::vector<int> order;
  Scope scope;
  for (int id : {4, 1, 3, 0, 2}) scope.spawn(nap(milliseconds(4 * id), id, order));
  co_await scope.join();
  CHECK(order == std::vector<int>{0, 1, 2, 3, 4});
}

Task<void> deadlines_end_waits(Place) {
  Event never;
  Result<int> late = co_await with_timeout(milliseconds(5), wait_for(never));
  CHECK(late.error().code == Errc::timed_out);
  Result<int> slept = co_await with_timeout(milliseconds(5), slow(seconds(100), 1));
  CHECK(slept.error().code == Errc::timed_out);
  Result<int> in_time = co_await with_timeout(seconds(100), slow(milliseconds(1), 2));
  CHECK(in_time.value() == 2);
}

Task<void> bytes_are_budgeted(Place) {
  Semaphore budget(1000);
  uint64_t in_use = 0;
  int done = 0;
  Scope scope;
  for (int i = 0; i < 200; ++i) {
    scope.spawn(borrow(budget, 1 + Reactor::current().random() % 900, in_use, done));
  }
  co_await scope.join();
  CHECK(done == 200);
  CHECK(budget.available() == 1000);
}

Task<void> work_goes_through_a_channel(Place) {
  Channel<int> channel(7);
  std::vector<int> seen(300, 0);
  Scope producers;
  Scope consumers;
  for (int i = 0; i < 3; ++i) producers.spawn(produce(channel, i * 100, 100));
  for (int i = 0; i < 4; ++i) consumers.spawn(consume(channel, seen));
  co_await producers.join();
  channel.close();
  co_await consumers.join();
  for (const int times : seen) CHECK(times == 1);
}

Task<void> quorum_of_slow_answers(Place) {
  Scope node;
  std::vector<Task<Result<int>>> replicas;
  replicas.push_back(slow(milliseconds(30), 1));
  replicas.push_back(slow(milliseconds(1), fail(Errc::io)));
  replicas.push_back(slow(milliseconds(2), 3));
  replicas.push_back(slow(milliseconds(3), 4));
  auto state = co_await quorum<int>(node, 2, std::move(replicas));
  CHECK(state->reached());
  CHECK(state->successes == 2);
  co_await node.join();
  CHECK(state->complete());
  CHECK(state->successes == 3);

  std::vector<Task<int>> racers;
  racers.push_back(race(seconds(1000), 1));
  racers.push_back(race(milliseconds(1), 2));
  Winner<int> winner = co_await when_any(std::move(racers));
  CHECK(winner.index == 1);
  CHECK(winner.value == 2);
}

Task<void> background_work_ends(Place) {
  int done = 0;
  std::vector<int> order;
  Scope scope;
  for (int i = 0; i < 4; ++i) scope.spawn_background(grind(2000, done));
  scope.spawn(nap(milliseconds(1), 1, order));
  co_await scope.join();
  CHECK(done == 8000);
}

}  // namespace gyre::testing
