#include <map>
#include <random>
#include <vector>

#include <gyre/io.hpp>
#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "stage.hpp"

using namespace gyre;
using gyre::testing::Stage;

namespace {

struct Recorded : Timer {
  Recorded()
      : Timer([](Timer& self) noexcept {
          auto& timer = static_cast<Recorded&>(self);
          timer.fired->push_back(&timer);
        }) {}
  std::vector<Recorded*>* fired = nullptr;
  Nanos due = 0;
};

Task<void> idle_until(Event& end) {
  static_cast<void>(co_await end.wait());
}
Task<void> nap(Nanos duration, std::vector<int>& order, int id) {
  if (co_await sleep_for(duration)) order.push_back(id);
}
Task<Result<int>> answer_after(Nanos duration, int value) {
  if (!co_await sleep_for(duration)) co_return fail(Errc::cancelled);
  co_return value;
}
Task<Result<int>> answer_or_fail_after(Nanos duration) {
  static_cast<void>(co_await sleep_for(duration));
  co_return fail(Errc::corrupt, "as planned");
}
// Does not listen: ends with success although it was cancelled.
Task<Result<int>> stubborn(int value) {
  static_cast<void>(co_await sleep_for(seconds(100)));
  co_return value;
}

}  // namespace

TEST_CASE(
    "timers fire in the order of their deadlines, against a model of random arms and disarms") {
  Stage stage;
  Event end;
  stage.start(idle_until(end));
  std::mt19937_64 random(7);
  std::vector<Recorded> timers(300);
  std::vector<Recorded*> fired;
  std::multimap<Nanos, Recorded*> model;
  const auto forget = [&](Recorded* timer) {
    for (auto at = model.begin(); at != model.end(); ++at) {
      if (at->second == timer) {
        model.erase(at);
        return;
      }
    }
  };
  for (Recorded& timer : timers) timer.fired = &fired;
  for (int round = 0; round < 2000; ++round) {
    stage.inside([&] {
      for (int i = 0; i < 5; ++i) {
        Recorded& timer = timers[random() % timers.size()];
        forget(&timer);
        if (random() % 3 == 0) {
          stage.reactor.disarm(timer);
          CHECK_FALSE(timer.armed());
        } else {
          timer.due = stage.backend.clock + static_cast<Nanos>(random() % 2000);
          stage.reactor.arm(timer, timer.due);
          model.emplace(timer.due, &timer);
        }
      }
    });
    fired.clear();
    stage.advance(static_cast<Nanos>(random() % 100));
    Nanos previous = 0;
    for (Recorded* timer : fired) {
      CHECK(timer->due >= previous);
      CHECK(timer->due <= stage.backend.clock);
      previous = timer->due;
      forget(timer);
    }
    const bool all_due_fired = model.empty() || model.begin()->first > stage.backend.clock;
    REQUIRE(all_due_fired);
  }
  stage.inside([&] {
    for (Recorded& timer : timers) stage.reactor.disarm(timer);
    end.set();
  });
  stage.finish();
}

TEST_CASE("an idle reactor sleeps exactly until its next timer") {
  Stage stage;
  std::vector<int> order;
  stage.start(nap(milliseconds(5), order, 1));
  stage.tick(2);
  CHECK(stage.backend.last_wait == milliseconds(5));
  stage.advance(milliseconds(5) - 1);
  CHECK(order.empty());
  CHECK(stage.backend.last_wait == 1);
  stage.advance(1);
  CHECK(order == std::vector<int>{1});
  stage.finish();
}

TEST_CASE("sleepers wake in the order of their deadlines; for ever is not an overflow") {
  struct Body {
    static Task<void> run(std::vector<int>& order) {
      Scope scope;
      Scope forever;
      scope.spawn(nap(milliseconds(30), order, 3));
      scope.spawn(nap(milliseconds(10), order, 1));
      scope.spawn(nap(milliseconds(20), order, 2));
      scope.spawn(nap(0, order, 0));
      forever.spawn(nap(nanos_never, order, 9));
      co_await scope.join();
      forever.request_stop();
      co_await forever.join();
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  std::vector<int> order;
  stage.run(Body::run(order));
  CHECK(order == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("a sleep in a stopped task ends at once; a timer that fired first wins over a stop") {
  struct Body {
    static Task<void> run(bool& first, bool& second) {
      Scope scope;
      scope.spawn(measure(first));
      co_await sleep_for(milliseconds(1));  // due in the same tick as the scope's
      scope.request_stop();
      co_await scope.join();
      scope.spawn(measure(second));
      co_await scope.join();
    }
    static Task<void> measure(bool& elapsed) { elapsed = co_await sleep_for(milliseconds(1)); }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  bool first = false;
  bool second = true;
  stage.run(Body::run(first, second));
  CHECK(first);
  CHECK_FALSE(second);
}

TEST_CASE("yield lets everything that was ready run first; maybe_yield only when it must") {
  struct Body {
    static Task<void> run(std::vector<int>& order, Stage& stage) {
      Scope scope;
      scope.spawn(mark(order, 1));
      co_await maybe_yield();
      order.push_back(0);
      co_await yield();
      order.push_back(2);
      scope.spawn(mark(order, 3));
      stage.backend.pending_answer = true;  // a completion waits
      co_await maybe_yield();
      stage.backend.pending_answer = false;
      order.push_back(4);
      scope.spawn(mark(order, 5));
      stage.backend.clock += milliseconds(1);  // longer than a slice
      co_await maybe_yield();
      order.push_back(6);
      co_await scope.join();
    }
    static Task<void> mark(std::vector<int>& order, int id) {
      order.push_back(id);
      co_return;
    }
  };
  Stage stage;
  std::vector<int> order;
  stage.run(Body::run(order, stage));
  CHECK(order == std::vector<int>{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("a deadline that passes makes a timed_out; an answer in time passes through") {
  struct Body {
    static Task<void> run() {
      Result<int> in_time =
          co_await with_timeout(milliseconds(10), answer_after(milliseconds(5), 1));
      REQUIRE(in_time.has_value());
      CHECK(*in_time == 1);
      Result<int> late = co_await with_timeout(milliseconds(10), answer_after(milliseconds(15), 1));
      REQUIRE_FALSE(late.has_value());
      CHECK(late.error().code == Errc::timed_out);
      Result<int> just = co_await with_timeout(milliseconds(10), answer_after(milliseconds(10), 2));
      const bool known = just.has_value() || just.error().code == Errc::timed_out;
      CHECK(known);
      Result<int> failed = co_await with_timeout(milliseconds(1), answer_or_fail_after(seconds(1)));
      CHECK(failed.error().code == Errc::corrupt);  // its own failure, not the deadline's
      Result<int> won = co_await with_timeout(milliseconds(1), stubborn(7));
      REQUIRE(won.has_value());
      CHECK(*won == 7);
      Result<int> no_limit = co_await with_timeout(nanos_never, answer_after(milliseconds(5), 3));
      CHECK(no_limit.has_value());
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  stage.run(Body::run());
}

TEST_CASE("the caller's stop inside a deadline is cancelled, not timed_out; deadlines nest") {
  struct Body {
    static Task<void> run() {
      Scope scope;
      scope.spawn(stopped_inside());
      co_await sleep_for(milliseconds(1));
      scope.request_stop();
      co_await scope.join();
      // The inner one is longer: the outer one ends it, and each says what it knows.
      Result<int> outer = co_await with_timeout(milliseconds(5), inner_first(seconds(1)));
      CHECK(outer.error().code == Errc::timed_out);
      Result<int> inner = co_await with_timeout(seconds(1), inner_first(milliseconds(5)));
      CHECK(inner.error().code == Errc::timed_out);
    }
    static Task<void> stopped_inside() {
      Result<int> result = co_await with_timeout(seconds(1), answer_after(seconds(2), 1));
      CHECK(result.error().code == Errc::cancelled);
    }
    static Task<Result<int>> inner_first(Nanos timeout) {
      co_return co_await with_timeout(timeout, answer_after(seconds(100), 1));
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  stage.run(Body::run());
}

TEST_CASE("an operation that succeeds although its deadline cancelled it has succeeded") {
  struct Body {
    static Task<Result<uint32_t>> connect() {
      co_return co_await IoCount({.code = OpCode::connect, .offset = 80, .cancellable = true},
                                 "10.0.0.1");
    }
    static Task<void> run(Result<uint32_t>& result) {
      result = co_await with_timeout(milliseconds(10), connect());
    }
  };
  for (const int32_t outcome : {42, -ECANCELED, -ECONNREFUSED}) {
    CAPTURE(outcome);
    Stage stage;
    stage.backend.answer_cancels = false;
    Result<uint32_t> result = fail(Errc::busy);
    stage.start(Body::run(result));
    stage.tick(2);
    CHECK(stage.backend.last(OpCode::connect).path == "10.0.0.1");
    stage.advance(milliseconds(10));
    CHECK(stage.backend.cancelled.size() == 1);
    stage.tick(3);
    CHECK_FALSE(stage.ended());  // cancelled is not completed: its memory is in use
    stage.backend.complete(OpCode::connect, outcome);
    stage.finish();
    if (outcome >= 0) {
      REQUIRE(result.has_value());
      CHECK(*result == 42);
    } else {
      CHECK(result.error().code ==
            (outcome == -ECANCELED ? Errc::timed_out : Error::from_errno(ECONNREFUSED).code));
    }
  }
}

TEST_CASE("a completion and the deadline in the same tick: the completion wins") {
  struct Body {
    static Task<Result<uint32_t>> connect() {
      co_return co_await IoCount({.code = OpCode::connect, .cancellable = true}, "10.0.0.1");
    }
    static Task<void> run(Result<uint32_t>& result) {
      result = co_await with_timeout(milliseconds(10), connect());
    }
  };
  Stage stage;
  Result<uint32_t> result = fail(Errc::busy);
  stage.start(Body::run(result));
  stage.tick(2);
  stage.backend.complete(OpCode::connect, 5);
  stage.advance(milliseconds(10));
  stage.finish();
  CHECK(result.has_value());
  CHECK(stage.backend.cancelled.empty());
}

TEST_CASE("file operations are not cancelled by a stop: their memory stays in use") {
  struct Body {
    static Task<void> run(Result<uint32_t>& result) {
      result = co_await with_timeout(milliseconds(1), sync());
    }
    static Task<Result<uint32_t>> sync() {
      co_return co_await IoCount({.code = OpCode::fsync, .fd = 3});
    }
  };
  Stage stage;
  Result<uint32_t> result = fail(Errc::busy);
  stage.start(Body::run(result));
  stage.tick(2);
  stage.advance(milliseconds(2));
  CHECK(stage.backend.cancelled.empty());
  stage.backend.complete(OpCode::fsync, 0);
  stage.finish();
  CHECK(result.has_value());
}

TEST_CASE("a task that is stopped already does not start an operation that could be cancelled") {
  struct Body {
    static Task<void> connect(Result<uint32_t>& result) {
      result = co_await IoCount({.code = OpCode::connect, .cancellable = true}, "10.0.0.1");
    }
    static Task<void> run(Result<uint32_t>& result) {
      Scope scope;
      scope.request_stop();
      scope.spawn(connect(result));
      co_await scope.join();
    }
  };
  Stage stage;
  Result<uint32_t> result = 0u;
  stage.run(Body::run(result));
  CHECK(result.error().code == Errc::cancelled);
  CHECK(stage.backend.submissions(OpCode::connect) == 0);
}
