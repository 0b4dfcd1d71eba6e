#include <algorithm>
#include <string>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>
#include <gyre/when.hpp>

#include "death.hpp"
#include "stage.hpp"

using namespace gyre;
using gyre::testing::Stage;

namespace {

struct Log {
  std::vector<std::string> ended;
  int running = 0;
};

// Ends after `duration` with `id`, or, when stopped, with -id.
Task<int> runner(Nanos duration, int id, Log& log) {
  ++log.running;
  const bool elapsed = co_await sleep_for(duration);
  --log.running;
  log.ended.push_back(std::to_string(id) + (elapsed ? "+" : "-"));
  co_return elapsed ? id : -id;
}
Task<Result<int>> replica(Nanos duration, int id, bool succeeds, Log& log) {
  const int outcome = co_await runner(duration, id, log);
  if (outcome < 0) co_return fail(Errc::cancelled);
  if (!succeeds) co_return fail(Errc::io, "replica " + std::to_string(id));
  co_return outcome;
}

template <class T>
std::vector<Task<T>> tasks_of(Task<T> a, Task<T> b, Task<T> c) {
  std::vector<Task<T>> tasks;
  tasks.push_back(std::move(a));
  tasks.push_back(std::move(b));
  tasks.push_back(std::move(c));
  return tasks;
}

}  // namespace

TEST_CASE("when_all waits for every task and keeps their order") {
  struct Body {
    static Task<void> run(Log& log) {
      std::vector<int> results = co_await when_all(tasks_of(
          runner(milliseconds(3), 1, log), runner(0, 2, log), runner(milliseconds(1), 3, log)));
      CHECK(results == std::vector<int>{1, 2, 3});
      CHECK(log.running == 0);
      CHECK((co_await when_all(std::vector<Task<int>>{})).empty());
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  Log log;
  stage.run(Body::run(log));
  CHECK(log.ended == std::vector<std::string>{"2+", "3+", "1+"});
}

TEST_CASE("the caller's stop reaches the tasks of when_all and when_any") {
  struct Body {
    static Task<void> all(Log& log) {
      std::vector<int> results = co_await when_all(tasks_of(
          runner(seconds(1), 1, log), runner(seconds(2), 2, log), runner(milliseconds(1), 3, log)));
      CHECK(results == std::vector<int>{-1, -2, 3});
    }
    static Task<void> any(Log& log) {
      Winner<int> winner = co_await when_any(tasks_of(
          runner(seconds(1), 4, log), runner(seconds(2), 5, log), runner(seconds(3), 6, log)));
      CHECK(winner.value < 0);
    }
    static Task<void> run(Log& log) {
      Scope scope;
      scope.spawn(all(log));
      scope.spawn(any(log));
      co_await sleep_for(milliseconds(10));
      scope.request_stop();
      co_await scope.join();
      CHECK(log.running == 0);
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  Log log;
  stage.run(Body::run(log));
}

TEST_CASE("when_all_or_stop: the first failure stops the others, which are waited for") {
  struct Body {
    static Task<void> run(Log& log) {
      std::vector<Result<int>> results = co_await when_all_or_stop(
          tasks_of(replica(seconds(5), 1, true, log), replica(milliseconds(2), 2, false, log),
                   replica(milliseconds(1), 3, true, log)));
      REQUIRE(results.size() == 3);
      CHECK(results[0].error().code == Errc::cancelled);
      CHECK(results[1].error().code == Errc::io);
      CHECK(*results[2] == 3);
      CHECK(log.running == 0);
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  Log log;
  stage.run(Body::run(log));
  CHECK(stage.backend.clock < seconds(2));
}

TEST_CASE("when_any: the first to end wins, the losers are stopped and joined") {
  struct Body {
    static Task<void> run(Log& log) {
      Winner<int> winner =
          co_await when_any(tasks_of(runner(seconds(5), 1, log), runner(milliseconds(2), 2, log),
                                     runner(milliseconds(7), 3, log)));
      CHECK(winner.index == 1);
      CHECK(winner.value == 2);
      CHECK(log.running == 0);
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  Log log;
  stage.run(Body::run(log));
  CHECK(log.ended.front() == "2+");
  CHECK(log.ended.size() == 3);
  CHECK(stage.backend.clock < seconds(2));
}

TEST_CASE("when_any with tasks that never suspend answers the first") {
  struct Body {
    static Task<int> now(int value) { co_return value; }
    static Task<void> run() {
      Winner<int> winner = co_await when_any(tasks_of(now(1), now(2), now(3)));
      CHECK(winner.index == 0);
      CHECK(winner.value == 1);
    }
  };
  Stage stage;
  stage.run(Body::run());
}

TEST_CASE("when_any: a loser that succeeded after all leaves no descriptor open") {
  struct Body {
    static Task<Result<File>> open(std::string path) {
      co_return co_await File::open(path, flag_read);
    }
    static Task<Result<Descriptor>> connect(std::string address) {
      co_return co_await connect_to(address, 80);
    }
    static Task<Result<Descriptor>> accept(Listener& listener) {
      co_return co_await listener.accept();
    }
    static Task<void> files(int& won) {
      Winner<Result<File>> winner = co_await when_any(tasks_of(open("a"), open("b"), open("c")));
      won = winner.value->fd();
      CHECK(Reactor::current().descriptors_open == 1);
    }
    static Task<void> sockets(Listener& listener, int& won) {
      Winner<Result<Descriptor>> winner =
          co_await when_any(tasks_of(connect("10.0.0.1"), connect("10.0.0.2"), accept(listener)));
      won = winner.value->fd();
      CHECK(Reactor::current().descriptors_open == 2);  // and the listener
      co_await listener.close();
    }
    static Task<void> open_listener(Listener& listener) {
      CHECK((co_await listener.open({})).has_value());
    }
  };
  const auto closed = [](const Stage& stage) {
    std::vector<int> fds;
    for (const auto& submission : stage.backend.history) {
      if (submission.code == OpCode::close) fds.push_back(submission.fd);
    }
    std::sort(fds.begin(), fds.end());
    return fds;
  };
  const auto complete_all = [](Stage& stage, OpCode code, int first_fd) {
    const std::vector<Op*> waiting = stage.backend.in_flight;
    for (Op* op : waiting) {
      if (op->code == code) {
        stage.backend.complete(*op, {.result = first_fd++, .more = code == OpCode::accept});
      }
    }
  };
  {
    Stage stage;
    int won = -1;
    stage.start(Body::files(won));
    stage.tick(3);
    complete_all(stage, OpCode::open, 11);
    stage.finish();
    CHECK(won == 11);
    CHECK(closed(stage) == std::vector<int>{11, 12, 13});
  }
  {
    Stage stage;
    stage.backend.answers[OpCode::listen] = 3;
    Listener listener;
    stage.run(Body::open_listener(listener));
    int won = -1;
    stage.start(Body::sockets(listener, won));
    stage.tick(3);
    complete_all(stage, OpCode::accept, 20);
    complete_all(stage, OpCode::connect, 21);
    stage.finish();
    CHECK(won == 20);
    CHECK(closed(stage) == std::vector<int>{3, 20, 21, 22});
  }
}

TEST_CASE("when_any of nothing is a bug that ends the process, not a wait for ever") {
  struct Body {
    static Task<void> run() { static_cast<void>(co_await when_any(std::vector<Task<int>>{})); }
  };
  CHECK(gyre::testing::is_fatal([] {
    Stage stage;
    stage.start(Body::run());
    stage.tick(3);
  }));
}

TEST_CASE("quorum answers at the need-th success; late answers land in its state") {
  struct Body {
    static Task<void> run(Scope& node, Log& log) {
      std::shared_ptr<QuorumState<int>> state = co_await quorum<int>(
          node, 2,
          tasks_of(replica(milliseconds(9), 1, true, log), replica(milliseconds(1), 2, true, log),
                   replica(milliseconds(2), 3, true, log)));
      CHECK(state->reached());
      CHECK_FALSE(state->complete());
      CHECK_FALSE(state->answers[0].has_value());
      CHECK(log.ended.size() == 2);
      CHECK(node.size() == 1);
      co_await sleep_for(milliseconds(20));
      CHECK(state->complete());
      CHECK(**state->answers[0] == 1);
    }
    static Task<void> outer(Log& log) {
      Scope node;
      co_await run(node, log);
      co_await node.join();
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  Log log;
  stage.run(Body::outer(log));
}

TEST_CASE("quorum answers as soon as success is impossible") {
  struct Body {
    static Task<void> run(Log& log) {
      Scope node;
      std::shared_ptr<QuorumState<int>> state = co_await quorum<int>(
          node, 2,
          tasks_of(replica(seconds(9), 1, true, log), replica(milliseconds(1), 2, false, log),
                   replica(milliseconds(2), 3, false, log)));
      CHECK(state->impossible());
      CHECK_FALSE(state->reached());
      CHECK(state->failures == 2);
      CHECK(node.size() == 1);
      node.request_stop();
      co_await node.join();
      CHECK(state->complete());
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  Log log;
  stage.run(Body::run(log));
  CHECK(stage.backend.clock < seconds(2));
}

TEST_CASE("quorum: more needed than there are tasks, and none needed, are answered at once") {
  struct Body {
    static Task<void> run(Log& log) {
      Scope node;
      auto impossible = co_await quorum<int>(
          node, 4,
          tasks_of(replica(0, 1, true, log), replica(0, 2, true, log), replica(0, 3, true, log)));
      CHECK(impossible->impossible());
      CHECK(impossible->successes == 0);
      auto nothing = co_await quorum<int>(node, 0, {});
      CHECK(nothing->reached());
      co_await node.join();
      CHECK(impossible->complete());
      CHECK(impossible->successes == 3);
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  Log log;
  stage.run(Body::run(log));
}

TEST_CASE(
    "a stopped caller of quorum goes on at once; the tasks belong to the node and go on too") {
  struct Body {
    static Task<void> request(Scope& node, Log& log, bool& answered) {
      auto state = co_await quorum<int>(
          node, 2,
          tasks_of(replica(milliseconds(5), 1, true, log), replica(milliseconds(5), 2, true, log),
                   replica(milliseconds(5), 3, true, log)));
      CHECK_FALSE(state->reached());
      CHECK_FALSE(state->impossible());
      answered = true;
    }
    static Task<void> run(Log& log) {
      Scope node;
      Scope requests;
      bool answered = false;
      requests.spawn(request(node, log, answered));
      co_await sleep_for(milliseconds(1));
      requests.request_stop();
      co_await requests.join();
      CHECK(answered);
      CHECK(log.running == 3);
      co_await node.join();
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  Log log;
  stage.run(Body::run(log));
  CHECK(log.ended.size() == 3);
  for (const std::string& end : log.ended) CHECK(end.back() == '+');
}

TEST_CASE("tasks of a background task's when_all stay in the background") {
  struct Body {
    static Task<int> probe(int& background) {
      background += Reactor::current().in_background() ? 1 : 0;
      co_await yield();
      background += Reactor::current().in_background() ? 1 : 0;
      co_return 1;
    }
    static Task<void> compaction(int& background) {
      static_cast<void>(
          co_await when_all(tasks_of(probe(background), probe(background), probe(background))));
    }
    static Task<void> run(int& background) {
      Scope scope;
      scope.spawn_background(compaction(background));
      co_await scope.join();
    }
  };
  Stage stage;
  int background = 0;
  stage.run(Body::run(background));
  CHECK(background == 6);
}
