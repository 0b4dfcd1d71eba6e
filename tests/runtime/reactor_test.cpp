#include <string>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "death.hpp"
#include "stage.hpp"

using namespace gyre;
using gyre::testing::Stage;

namespace {

Task<void> nothing() {
  co_return;
}
// Works in pieces of `piece` until `pieces` are done, yielding after each.
Task<void> work(Stage& stage, Nanos piece, int pieces, int& done) {
  for (int i = 0; i < pieces; ++i) {
    stage.backend.clock += piece;
    ++done;
    co_await yield();
  }
}
Task<void> background(Stage& stage, Nanos piece, int pieces, int& done) {
  Scope scope;
  scope.spawn_background(work(stage, piece, pieces, done));
  co_await scope.join();
}

}  // namespace

TEST_CASE("a reactor ends when main has ended, and can start again") {
  Stage stage;
  stage.start(nothing());
  CHECK_FALSE(stage.reactor.tick());
  CHECK_FALSE(stage.reactor.tick());  // asked once more: still ended
  CHECK(stage.backend.last_wait == 0);
  stage.run(nothing());
}

TEST_CASE("main's end waits for service tasks, asleep, and for operations in flight") {
  struct Service {
    static Task<void> nap() { static_cast<void>(co_await sleep_for(seconds(5))); }
    static Task<void> main() {
      Reactor::current().service_scope().spawn(nap());
      close_detached(Reactor::current(), 42);
      co_return;
    }
  };
  Stage stage;
  stage.backend.answers.erase(OpCode::close);
  stage.start(Service::main());
  stage.tick(5);
  CHECK_FALSE(stage.ended());
  CHECK(stage.backend.last_wait == seconds(5));
  stage.backend.complete(OpCode::close, 0);
  stage.tick(5);
  CHECK_FALSE(stage.ended());
  CHECK(stage.backend.last_wait == seconds(5));  // it does not spin until the service task's timer
  stage.advance(seconds(5));
  stage.finish();
}

TEST_CASE("an idle reactor sleeps without a limit; with work ready it does not sleep") {
  struct Body {
    static Task<void> run(Event& end) { static_cast<void>(co_await end.wait()); }
  };
  Stage stage;
  Event end;
  stage.start(Body::run(end));
  stage.tick();
  CHECK(stage.backend.last_wait == nanos_never);
  stage.inside([&] { end.set(); });
  CHECK(stage.backend.last_wait == 0);
  stage.finish();
}

TEST_CASE("foreground work runs for a slice per tick, then the ring is entered") {
  Stage stage;
  int done = 0;
  stage.start(work(stage, microseconds(100), 20, done));
  stage.tick();
  CHECK(done == 5);  // 500 us
  CHECK(stage.backend.last_wait == 0);
  stage.tick();
  CHECK(done == 10);
  stage.finish();
}

TEST_CASE("background work runs only when no foreground work is ready, a slice per tick") {
  struct Body {
    static Task<void> run(Stage& stage, int& foreground, int& background_done) {
      Scope scope;
      scope.spawn_background(work(stage, microseconds(10), 20, background_done));
      scope.spawn(work(stage, microseconds(100), 20, foreground));
      co_await scope.join();
    }
  };
  Stage stage;
  int foreground = 0;
  int in_background = 0;
  stage.start(Body::run(stage, foreground, in_background));
  for (int i = 0; i < 3; ++i) {
    stage.tick();
    CHECK(in_background == 0);
  }
  stage.tick(2);
  CHECK(foreground == 20);
  CHECK(in_background > 0);
  CHECK(in_background <= 10);
  const int before = in_background;
  stage.tick();
  CHECK(in_background == std::min(20, before + 5));  // 50 us
  stage.finish();
}

TEST_CASE("background work that waited for long gets a slice although the core is never idle") {
  struct Body {
    static Task<void> busy(Stage& stage, const bool& end) {
      while (!end) {
        stage.backend.clock += microseconds(100);
        co_await yield();
      }
    }
    static Task<void> grind(Stage& stage, int& done, bool& end) {
      for (int i = 0; i < 20; ++i) {
        stage.backend.clock += microseconds(50);
        ++done;
        co_await maybe_yield();
      }
      end = true;
    }
    static Task<void> run(Stage& stage, int& done, bool& end) {
      Scope scope;
      scope.spawn(busy(stage, end));
      scope.spawn_background(grind(stage, done, end));
      co_await scope.join();
    }
  };
  Stage stage;
  int done = 0;
  bool end = false;
  const Nanos start = stage.backend.clock;
  stage.start(Body::run(stage, done, end));
  while (done == 0) stage.tick();
  CHECK(stage.backend.clock - start >= milliseconds(10));
  CHECK(stage.backend.clock - start < milliseconds(12));
  CHECK(done == 5);  // a whole slice, not one turn
  stage.tick();
  CHECK(done == 5);
  stage.finish();
  CHECK(done == 20);
  CHECK(stage.backend.clock - start >= milliseconds(40));
}

// How much of a core that is never idle background work gets, in thousandths.
unsigned share_of_background(unsigned permille_a, unsigned permille_b) {
  struct Body {
    static Task<void> busy(Stage& stage, Nanos& foreground, const bool& end) {
      while (!end) {
        stage.backend.clock += microseconds(20);
        foreground += microseconds(20);
        co_await yield();
      }
    }
    static Task<void> grind(Stage& stage, Nanos& background, bool& end) {
      while (background < milliseconds(50)) {
        stage.backend.clock += microseconds(10);
        background += microseconds(10);
        co_await maybe_yield();
      }
      end = true;
    }
    static Task<void> run(Stage& stage, Nanos& foreground, Nanos& background, unsigned permille_a,
                          unsigned permille_b) {
      BackgroundShare a(stage.reactor);
      BackgroundShare b(stage.reactor);
      a.set(1000);  // what counts is what was set last
      a.set(permille_a);
      b.set(permille_b);
      bool end = false;
      Scope scope;
      scope.spawn(busy(stage, foreground, end));
      scope.spawn_background(grind(stage, background, end));
      co_await scope.join();
    }
  };
  Stage stage;
  Nanos foreground = 0;
  Nanos background = 0;
  stage.start(Body::run(stage, foreground, background, permille_a, permille_b));
  stage.finish();
  return static_cast<unsigned>(1000 * background / (background + foreground));
}

TEST_CASE("background work gets the share of a busy core that was claimed for it, and no more") {
  CHECK(share_of_background(0, 0) < 30);
  CHECK(share_of_background(100, 0) == doctest::Approx(100).epsilon(0.15));
  CHECK(share_of_background(200, 130) == doctest::Approx(330).epsilon(0.15));
  CHECK(share_of_background(600, 0) == doctest::Approx(600).epsilon(0.15));
  CHECK(share_of_background(900, 900) == doctest::Approx(750).epsilon(0.15));
}

TEST_CASE("every background slice is short and ends in a yield of the CPU") {
  Stage stage;
  int done = 0;
  stage.start(background(stage, microseconds(10), 12, done));
  for (int tick = 1; tick <= 2; ++tick) {
    stage.tick();
    CHECK(done == 5 * tick);  // 50 us
    CHECK(stage.backend.cpu_yields == tick);
  }
  stage.finish();
  CHECK(done == 12);
}

TEST_CASE("what foreground work made leaves before background work begins") {
  struct Commit : TickHook {
    explicit Commit(const Stage& of, const int& in_background)
        : TickHook([](TickHook& self) noexcept {
            auto& commit = static_cast<Commit&>(self);
            commit.enters_before = commit.stage.backend.stats().enters;
            commit.done_before = commit.done;
          }),
          stage(of),
          done(in_background) {}
    const Stage& stage;
    const int& done;
    uint64_t enters_before = 0;
    int done_before = -1;
  };
  struct Body {
    static Task<void> background_work(Stage& stage, int& done, uint64_t& enters_at_start) {
      enters_at_start = stage.backend.stats().enters;
      ++done;
      co_return;
    }
    static Task<void> run(Stage& stage, Commit& commit, int& done, uint64_t& enters_at_start) {
      Scope scope;
      scope.spawn_background(background_work(stage, done, enters_at_start));
      stage.reactor.at_tick_end(commit);
      co_await scope.join();
    }
  };
  Stage stage;
  int done = 0;
  uint64_t enters_at_start = 0;
  Commit commit(stage, done);
  stage.start(Body::run(stage, commit, done, enters_at_start));
  stage.tick();
  CHECK(done == 1);
  CHECK(commit.done_before == 0);
  CHECK(enters_at_start == commit.enters_before + 1);
  CHECK(stage.backend.last_wait == 0);  // what the first enter brought is looked at before sleeping
  stage.finish();
}

TEST_CASE("what becomes ready in the foreground interrupts a background slice") {
  struct Body {
    static Task<void> busy(Event& event, int& turns) {
      for (int i = 0; i < 10; ++i) {
        ++turns;
        if (i == 2) event.set();
        co_await yield();
      }
    }
    static Task<void> waiting(Event& event, int& turns, int& seen) {
      static_cast<void>(co_await event.wait());
      seen = turns;
    }
    static Task<void> run(int& turns, int& seen) {
      Event event;
      Scope scope;
      scope.spawn_background(busy(event, turns));
      scope.spawn(waiting(event, turns, seen));
      co_await scope.join();
    }
  };
  Stage stage;
  int turns = 0;
  int seen = 0;
  stage.run(Body::run(turns, seen));
  CHECK(seen == 3);
}

TEST_CASE("a background task's awaited children are background, whoever wakes them") {
  struct Body {
    static Task<bool> inner(Event& event) {
      co_await event.wait();
      co_return Reactor::current().in_background();
    }
    static Task<void> outer(Event& event, bool& result) {
      result = Reactor::current().in_background();
      result = result && co_await inner(event) && Reactor::current().in_background();
    }
    static Task<void> run(bool& result) {
      Event event;
      Scope scope;
      scope.spawn_background(outer(event, result));
      for (int i = 0; i < 3; ++i) co_await sleep_for(1);
      CHECK_FALSE(Reactor::current().in_background());
      event.set();
      co_await scope.join();
      CHECK_FALSE(Reactor::current().in_background());
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  bool result = false;
  stage.run(Body::run(result));
  CHECK(result);
}

TEST_CASE("need_preempt: completions, waiting messages, or the end of the slice") {
  Stage stage;
  struct Body {
    static Task<void> run(Stage& stage) {
      Reactor& reactor = Reactor::current();
      CHECK_FALSE(reactor.need_preempt());
      stage.backend.pending_answer = true;
      CHECK(reactor.need_preempt());
      stage.backend.pending_answer = false;
      CHECK_FALSE(reactor.need_preempt());
      stage.backend.clock += microseconds(500);
      CHECK(reactor.need_preempt());
      co_return;
    }
  };
  stage.run(Body::run(stage));
}

TEST_CASE("tick hooks run once, at the end of the tick, and one that dies does not run") {
  struct Counted : TickHook {
    explicit Counted(int& of)
        : TickHook([](TickHook& self) noexcept { ++static_cast<Counted&>(self).count; }),
          count(of) {}
    int& count;
  };
  struct Body {
    static Task<void> run(int& first, int& dead, int& during) {
      Counted hook(first);
      Reactor::current().at_tick_end(hook);
      Reactor::current().at_tick_end(hook);
      {
        Counted dies(dead);
        Reactor::current().at_tick_end(dies);
      }
      during = first;
      co_await sleep_for(1);
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  int first = 0;
  int dead = 0;
  int during = -1;
  stage.run(Body::run(first, dead, during));
  CHECK(during == 0);
  CHECK(first == 1);
  CHECK(dead == 0);
}

TEST_CASE("time stands still within a tick") {
  struct Body {
    static Task<void> run(Stage& stage) {
      Reactor& reactor = Reactor::current();
      const Nanos before = reactor.now();
      const uint64_t wall_before_us = reactor.wall_us();
      stage.backend.clock += milliseconds(3);
      stage.backend.wall_clock_us -= 3'000;
      CHECK(reactor.now() == before);
      CHECK(reactor.wall_us() == wall_before_us);
      co_await yield();
      co_await sleep_for(0);
      CHECK(reactor.now() >= before + milliseconds(3));
      CHECK(reactor.wall_us() == wall_before_us - 3'000);
    }
  };
  Stage stage;
  stage.run(Body::run(stage));
  CHECK(stage.reactor.stats().busy >= 0);
}

TEST_CASE("a message to a core that isn't there is a bug that ends the process") {
  CHECK(gyre::testing::is_fatal([] {
    Stage alone;
    Message message;
    alone.reactor.send(0, message);
  }));
  CHECK(gyre::testing::is_fatal([] {
    Fabric fabric(2);
    gyre::testing::ScriptedBackend backend;
    Reactor reactor(backend, {}, &fabric);
    Message message;
    reactor.send(2, message);
  }));
}
