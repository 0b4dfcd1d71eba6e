// Two rings on two threads: a wake is never lost, whenever it comes.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "uring_fixture.hpp"

using namespace gyre;
using namespace gyre::uring;

namespace {

constexpr Nanos patience = seconds(10);  // far beyond any delay of a busy machine

// Passes the turn to and fro. Counts sleeps that only the timeout ended.
int play(UringNode& node, unsigned me, std::atomic<int>& turn, int turns) {
  UringBackend backend({.core = me, .node = &node});
  int lost = 0;
  for (;;) {
    const int now = turn.load(std::memory_order_acquire);
    if (now >= turns) break;
    if (static_cast<unsigned>(now) % 2 == me) {
      // Meet the other core in every state: fast asleep, about to sleep, awake.
      for (volatile uint64_t spin = backend.random() % 2000; spin > 0;) spin = spin - 1;
      turn.store(now + 1, std::memory_order_release);
      backend.wake(1 - me);
      continue;
    }
    const Nanos start = backend.now();
    backend.enter(patience);
    backend.reap();
    if (backend.now() - start >= patience) ++lost;
  }
  // A core that believed a stale IORING_SQ_TASKRUN would spin until the other answers.
  CHECK(backend.stats().enters < 10 * static_cast<uint64_t>(turns));
  return lost;
}

}  // namespace

TEST_CASE("two cores pass a turn a hundred thousand times without losing a wake") {
  UringNode node(2);
  std::atomic<int> turn{0};
  int lost[2] = {};
  std::thread other([&] { lost[1] = play(node, 1, turn, 100'000); });
  lost[0] = play(node, 0, turn, 100'000);
  other.join();
  CHECK(lost[0] == 0);
  CHECK(lost[1] == 0);
}

TEST_CASE("a core that is flooded with wakes sees the last one") {
  UringNode node(2);
  std::atomic<int> posted{0};
  constexpr int count = 50'000;
  std::thread producer([&] {
    UringBackend backend({.core = 1, .node = &node});
    for (int i = 1; i <= count; ++i) {
      posted.store(i, std::memory_order_release);
      backend.wake(0);
    }
  });
  UringBackend backend({.core = 0, .node = &node});
  bool lost = false;
  while (posted.load(std::memory_order_acquire) < count) {
    const Nanos start = backend.now();
    backend.enter(patience);
    backend.reap();
    lost = lost || backend.now() - start >= patience;
  }
  producer.join();
  CHECK_FALSE(lost);
}

TEST_CASE("a wake for a core without a ring is kept until it has one") {
  UringNode node(2);
  UringBackend first({.core = 0, .node = &node});
  first.wake(1);
  UringBackend second({.core = 1, .node = &node});
  second.enter(nanos_never);
  CHECK(second.stats().sleeps == 0);
}

TEST_CASE("answers of the off-loop thread wake the core that asked") {
  UringNode node(2);
  std::atomic<int> failures{0};
  const auto ask = [&](unsigned core) {
    UringBackend backend({.core = core, .node = &node});
    for (int i = 0; i < 300; ++i) {
      FileStatus status;
      TestOp op(OpCode::stat);
      op.path = "/";
      op.out = &status;
      backend.submit(op);
      const Nanos start = backend.now();
      while (op.in_flight && backend.now() - start < patience) {
        backend.enter(patience);
        backend.reap();
      }
      if (op.in_flight || !status.is_directory) ++failures;
    }
  };
  std::thread other([&] { ask(1); });
  ask(0);
  other.join();
  CHECK(failures == 0);
}
