#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "stage.hpp"

using namespace gyre;
using gyre::testing::Stage;

namespace {

Task<void> wait_for(Event& event, int& done) {
  if (co_await event.wait()) ++done;
}
Task<void> nap(Nanos duration, bool& elapsed) {
  elapsed = co_await sleep_for(duration);
}
Task<void> family(Scope& scope, int generations, int& born) {
  ++born;
  co_await yield();
  if (generations > 0) scope.spawn(family(scope, generations - 1, born));
}

}  // namespace

TEST_CASE("a scope's tasks start through the ready list and join waits for all of them") {
  struct Body {
    static Task<void> run(Event& go, int& done, bool& joined) {
      Scope scope;
      scope.spawn(wait_for(go, done));
      scope.spawn(wait_for(go, done));
      CHECK(scope.size() == 2);
      co_await scope.join();
      CHECK(scope.size() == 0);
      co_await scope.join();  // an empty scope may be joined again
      joined = true;
    }
  };
  Stage stage;
  Event go;
  int done = 0;
  bool joined = false;
  stage.start(Body::run(go, done, joined));
  stage.tick(5);
  CHECK_FALSE(joined);
  stage.inside([&] { go.set(); });
  stage.finish();
  CHECK(joined);
  CHECK(done == 2);
}

TEST_CASE("stopping a scope ends its children's waits, and those of nested scopes") {
  struct Inner {
    static Task<void> run(Event& never, int& done, bool& elapsed) {
      Scope scope(co_await current_stop(), "inner");
      scope.spawn(wait_for(never, done));
      scope.spawn(nap(seconds(1000), elapsed));
      co_await scope.join();
    }
  };
  struct Body {
    static Task<void> run(Event& never, int& done, bool& elapsed) {
      Scope scope(nullptr, "outer");
      scope.spawn(Inner::run(never, done, elapsed));
      co_await yield();
      co_await yield();
      scope.request_stop();
      co_await scope.join();
    }
  };
  Stage stage;
  Event never;
  int done = 0;
  bool elapsed = true;
  stage.run(Body::run(never, done, elapsed));
  CHECK(done == 0);
  CHECK_FALSE(elapsed);
}

TEST_CASE("children may spawn siblings while the scope is being joined") {
  struct Body {
    static Task<void> run(int& born) {
      Scope scope;
      scope.spawn(family(scope, 50, born));
      co_await scope.join();
      CHECK(scope.size() == 0);
    }
  };
  Stage stage;
  int born = 0;
  stage.run(Body::run(born));
  CHECK(born == 51);
}

TEST_CASE("a task spawned between the last child's end and the joiner's turn is waited for too") {
  struct Late {
    static Task<void> run(Scope& scope, Event& last_child_ended, bool& late_ended) {
      static_cast<void>(co_await last_child_ended.wait());
      scope.spawn(nap(milliseconds(1), late_ended));
    }
    static Task<void> child(Event& ended) {
      co_await yield();
      ended.set();  // makes Late ready before the join is
    }
  };
  struct Body {
    static Task<void> run(bool& late_ended) {
      Event last_child_ended;
      Scope outsiders;
      Scope scope;
      scope.spawn(Late::child(last_child_ended));
      outsiders.spawn(Late::run(scope, last_child_ended, late_ended));
      co_await scope.join();
      CHECK(late_ended);
      co_await outsiders.join();
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  bool late_ended = false;
  stage.run(Body::run(late_ended));
}

TEST_CASE("a task keeps the stop it was given, else it inherits its scope's") {
  struct Check {
    static Task<void> run(StopSource* expected) { CHECK(co_await current_stop() == expected); }
    static Task<void> outer(StopSource* expected) { co_await run(expected); }
  };
  struct Body {
    static Task<void> run() {
      Scope scope;
      StopSource other;
      scope.spawn(Check::outer(&scope.stop()));
      Task<void> own = Check::outer(&other);
      own.promise().stop = &other;
      scope.spawn(std::move(own));
      co_await scope.join();
    }
  };
  Stage stage;
  stage.run(Body::run());
}
