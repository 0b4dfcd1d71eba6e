// Two reactors on one thread, ticked in turn: what crosses between cores, without threads.
#include <memory>
#include <string>
#include <vector>

#include <gyre/acceptor.hpp>
#include <gyre/call.hpp>
#include <gyre/scope.hpp>
#include <gyre/time.hpp>

#include "scripted_backend.hpp"
#include "stage.hpp"

using namespace gyre;
using gyre::testing::ScriptedBackend;

namespace {

struct Pair {
  Pair()
      : first(first_backend, {.core = 0}, &fabric), second(second_backend, {.core = 1}, &fabric) {
    // Waiting by yielding takes time, so that ticks end.
    first_backend.clock_step = microseconds(20);
    second_backend.clock_step = microseconds(20);
  }
  ~Pair() {
    CHECK(frames_live() == frames_before);
    CHECK(first.operations_in_flight() + second.operations_in_flight() == 0);
  }
  void run(Task<void> on_first, Task<void> on_second) {
    first.start(std::move(on_first));
    second.start(std::move(on_second));
    bool one = true;
    bool two = true;
    for (int i = 0; i < 1'000'000 && (one || two); ++i) {
      one = one && first.tick();
      two = two && second.tick();
      ++rounds;
    }
    CHECK_FALSE(one);
    CHECK_FALSE(two);
  }

  int64_t frames_before = frames_live();
  ScriptedBackend first_backend;
  ScriptedBackend second_backend;
  Fabric fabric{2};
  Reactor first;
  Reactor second;
  int rounds = 0;
};

Task<void> until(const bool& done) {
  while (!done) co_await yield();
}
Task<void> nothing() {
  co_return;
}

struct Numbered : Message {
  int number = 0;
  std::vector<int>* into = nullptr;
};
void record(Message& message, Reactor& at) noexcept {
  auto& numbered = static_cast<Numbered&>(message);
  CHECK(at.core() == 1);
  CHECK(numbered.from == 0);
  numbered.into->push_back(numbered.number);
}

}  // namespace

namespace {
Message* pop(MessageRing& ring) {
  Message* message = nullptr;
  return ring.pop({&message, 1}) == 1 ? message : nullptr;
}
}  // namespace

TEST_CASE("a ring keeps the order, says when it is full, and wraps around") {
  MessageRing ring;
  std::vector<Message> messages(MessageRing::capacity);
  CHECK(ring.empty());
  CHECK(pop(ring) == nullptr);
  for (int round = 0; round < 3; ++round) {
    for (Message& message : messages) REQUIRE(ring.push(message));
    Message extra;
    CHECK_FALSE(ring.push(extra));
    CHECK(pop(ring) == &messages[0]);
    CHECK(ring.push(extra));
    for (size_t i = 1; i < messages.size(); ++i) REQUIRE(pop(ring) == &messages[i]);
    CHECK(pop(ring) == &extra);
    CHECK(ring.empty());
  }
}

TEST_CASE("a ring hands out as many as it has and as are asked for, also around its end") {
  MessageRing ring;
  std::vector<Message> messages(MessageRing::capacity);
  std::vector<Message*> taken(MessageRing::capacity);
  CHECK(ring.pop(taken) == 0);
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < 700; ++i) REQUIRE(ring.push(messages[i]));
    CHECK(ring.pop(std::span(taken).first(300)) == 300);
    for (size_t i = 700; i < 1000; ++i) REQUIRE(ring.push(messages[i]));
    CHECK(ring.pop(std::span(taken).subspan(300)) == 700);
    for (size_t i = 0; i < 1000; ++i) REQUIRE(taken[i] == &messages[i]);
    CHECK(ring.empty());
    CHECK(ring.pop(taken) == 0);
  }
}

TEST_CASE("an outbox moves what fits and keeps the rest, in order") {
  MessageRing ring;
  Outbox outbox;
  std::vector<Message> messages(MessageRing::capacity + 10);
  for (Message& message : messages) outbox.push(message);
  CHECK(outbox.flush(ring));
  CHECK_FALSE(outbox.empty());
  CHECK_FALSE(outbox.flush(ring));
  for (Message& message : messages) {
    CHECK(pop(ring) == &message);
    outbox.flush(ring);
  }
  CHECK(outbox.empty());
}

TEST_CASE("messages leave at the end of the tick with one wake, and arrive in order") {
  struct Body {
    static Task<void> run(std::vector<Numbered>& messages, std::vector<int>& got, bool& done) {
      for (size_t i = 0; i < messages.size(); ++i) {
        messages[i].deliver = &record;
        messages[i].number = static_cast<int>(i);
        messages[i].into = &got;
        Reactor::current().send(1, messages[i]);
      }
      while (got.size() < messages.size()) co_await yield();
      done = true;
    }
  };
  Pair pair;
  std::vector<Numbered> messages(3000);
  std::vector<int> got;
  bool done = false;
  pair.run(Body::run(messages, got, done), until(done));
  for (size_t i = 0; i < got.size(); ++i) REQUIRE(got[i] == static_cast<int>(i));
  CHECK(pair.first_backend.wakes[1] == 3);  // 3000 messages through a ring of 1024
  CHECK(pair.second_backend.wakes[0] == 0);
}

TEST_CASE("a core at work sends and takes messages on the way, not only between ticks") {
  struct Body {
    static Task<void> ask(int& answer) {
      answer = co_await call_on(1, [] { return 7; });
    }
    static Task<void> work(Pair& pair) {
      int answer = 0;
      Scope scope;
      scope.spawn(ask(answer));
      const uint64_t ticks = Reactor::current().stats().ticks;
      int pieces = 0;
      for (; pieces < 100 && pair.fabric.ring(0, 1).empty(); ++pieces) co_await yield();
      CHECK(pieces < 100);
      CHECK(pair.first_backend.wakes[1] == 1);
      pair.second.tick();  // the other core, at this moment
      for (; pieces < 200 && answer == 0; ++pieces) co_await yield();
      CHECK(answer == 7);
      CHECK(Reactor::current().stats().ticks == ticks);
      co_await scope.join();
    }
  };
  Pair pair;
  pair.first_backend.clock_step = 0;  // no slice ends
  pair.second_backend.clock_step = 0;
  pair.first.start(Body::work(pair));
  pair.second.start(nothing());
  while (pair.first.tick()) {
  }
  while (pair.second.tick()) {
  }
}

TEST_CASE("a tick ends although another core sends as fast as this one takes") {
  struct Again : Message {
    Pair* pair = nullptr;
    int* taken = nullptr;
    const bool* more = nullptr;
  };
  Pair pair;
  int taken = 0;
  bool more = true;
  std::vector<Again> messages(100);
  for (Again& message : messages) {
    message.pair = &pair;
    message.taken = &taken;
    message.more = &more;
    message.deliver = [](Message& self, Reactor&) noexcept {
      auto& again = static_cast<Again&>(self);
      ++*again.taken;
      if (*again.more) CHECK(again.pair->fabric.ring(0, 1).push(again));
    };
    REQUIRE(pair.fabric.ring(0, 1).push(message));
  }
  pair.second.start(nothing());
  for (int ticks = 1; ticks <= 3; ++ticks) {
    CHECK(pair.second.tick());
    CHECK(taken == ticks * static_cast<int>(MessageRing::capacity));
    CHECK(pair.second_backend.last_wait == 0);
  }
  more = false;
  while (pair.second.tick()) {
  }
  CHECK(pair.fabric.inbox_empty(1));
}

TEST_CASE("call_on runs the function on the other core; on its own core at once") {
  struct Body {
    static Task<void> run(bool& done) {
      int calls = 0;
      const unsigned there = co_await call_on(1, [&calls] {
        ++calls;
        return Reactor::current().core();
      });
      CHECK(there == 1);
      CHECK(Reactor::current().core() == 0);
      const uint64_t ticks = Reactor::current().stats().ticks;
      CHECK(co_await call_on(0, [] { return Reactor::current().core(); }) == 0);
      CHECK(Reactor::current().stats().ticks == ticks);
      std::unique_ptr<int> moved = co_await call_on(1, [] { return std::make_unique<int>(5); });
      CHECK(*moved == 5);
      CHECK(calls == 1);
      done = true;
    }
  };
  Pair pair;
  bool done = false;
  pair.run(Body::run(done), until(done));
}

TEST_CASE("spawn_on runs a coroutine there, in that core's service scope, and brings its answer") {
  struct Body {
    static Task<std::string> slow(std::string text) {
      for (int i = 0; i < 5; ++i) co_await yield();
      CHECK(Reactor::current().core() == 1);
      co_return text + " from " + std::to_string(Reactor::current().core());
    }
    static Task<void> run(bool& done) {
      std::string name = "hello";
      std::string answer = co_await spawn_on(1, [&name] { return slow(name); });
      CHECK(answer == "hello from 1");
      CHECK(Reactor::current().core() == 0);
      done = true;
    }
  };
  Pair pair;
  bool done = false;
  pair.run(Body::run(done), until(done));
}

TEST_CASE("a core answers what it was asked before it ends") {
  struct Body {
    static Task<int> slow() {
      for (int i = 0; i < 3; ++i) co_await yield();
      co_return 7;
    }
    static Task<void> run(int& answer) {
      answer = co_await spawn_on(1, [] { return slow(); });
    }
  };
  Pair pair;
  int answer = 0;
  pair.run(Body::run(answer), nothing());  // the second core's main ends at once
  CHECK(answer == 7);
}

TEST_CASE("both directions full: nothing deadlocks, nothing is lost") {
  struct Body {
    static Task<void> call(unsigned to, int value, int& sum) {
      sum += co_await call_on(to, [value] { return value; });
    }
    static Task<void> flood(unsigned to, int& sum, bool& mine, const bool& other) {
      Scope scope;
      for (int i = 0; i < 5000; ++i) scope.spawn(call(to, i, sum));
      co_await scope.join();
      mine = true;
      co_await until(other);
    }
  };
  Pair pair;
  int sums[2] = {0, 0};
  bool done[2] = {false, false};
  pair.run(Body::flood(1, sums[0], done[0], done[1]), Body::flood(0, sums[1], done[1], done[0]));
  CHECK(sums[0] == 4999 * 5000 / 2);
  CHECK(sums[1] == 4999 * 5000 / 2);
  CHECK(pair.rounds < 1000);
}

TEST_CASE("a full ring keeps the sender awake; waiting messages keep the receiver awake") {
  struct Body {
    static Task<void> run(std::vector<Numbered>& messages, std::vector<int>& got) {
      for (Numbered& message : messages) {
        message.deliver = &record;
        message.into = &got;
        Reactor::current().send(1, message);
      }
      static_cast<void>(co_await sleep_for(seconds(1)));
    }
    static Task<void> sleep(Nanos duration) { static_cast<void>(co_await sleep_for(duration)); }
  };
  Pair pair;
  std::vector<Numbered> messages(1500);
  std::vector<int> got;
  pair.first.start(Body::run(messages, got));
  pair.second.start(Body::sleep(seconds(1)));
  pair.first.tick();
  CHECK(pair.first_backend.last_wait == 0);
  pair.first.tick();
  CHECK(pair.first_backend.last_wait == 0);
  CHECK(pair.first_backend.wakes[1] == 1);
  pair.second.tick();
  CHECK(got.size() == 1024);
  pair.first.tick();
  CHECK(pair.first_backend.wakes[1] == 2);
  CHECK(pair.first_backend.last_wait > 0);
  pair.second.tick();
  CHECK(got.size() == 1500);
  CHECK(pair.second_backend.last_wait > 0);
  pair.first_backend.clock += seconds(2);
  pair.second_backend.clock += seconds(2);
  while (pair.first.tick()) {
  }
  while (pair.second.tick()) {
  }
}

TEST_CASE("a delivered message sees the time of its own tick, not of the one before a long sleep") {
  struct Body {
    static Task<void> run(ScriptedBackend& other, bool& done) {
      other.clock += seconds(30);  // the other core slept that long
      const Nanos now = co_await call_on(1, [] { return Reactor::current().now(); });
      CHECK(now >= seconds(31));
      done = true;
    }
  };
  Pair pair;
  bool done = false;
  pair.run(Body::run(pair.second_backend, done), until(done));
}

namespace {
// Runs at the end of a tick of one core what another core does at that moment.
template <class Function>
struct Meanwhile : TickHook {
  explicit Meanwhile(Function of)
      : TickHook([](TickHook& self) noexcept { static_cast<Meanwhile&>(self).function(); }),
        function(std::move(of)) {}
  Function function;
};
Task<void> call_all(int count, int& answered) {
  struct One {
    static Task<void> run(int& answers) {
      answers += co_await call_on(1, [] { return 1; });
    }
  };
  Scope scope;
  for (int i = 0; i < count; ++i) scope.spawn(One::run(answered));
  co_await scope.join();
}
}  // namespace

TEST_CASE("a core does not end while answers wait for room in a ring") {
  struct Body {
    static Task<void> nap() { static_cast<void>(co_await sleep_for(1)); }
  };
  Pair pair;
  pair.first_backend.clock_step = 0;
  pair.second_backend.clock_step = 0;
  int answered = 0;
  pair.first.start(call_all(1500, answered));
  pair.second.start(Body::nap());
  // 1024 questions; then the others, while the first answers still fill the ring back.
  pair.first.tick();
  CHECK(pair.second.tick());
  std::vector<Message*> answers;
  MessageRing& back = pair.fabric.ring(1, 0);
  while (Message* answer = pop(back)) answers.push_back(answer);
  CHECK(answers.size() == 1024);
  pair.first.tick();
  for (Message* answer : answers) REQUIRE(back.push(*answer));
  pair.second_backend.clock += 1;  // its main ends
  CHECK(pair.second.tick());       // but these answers have nowhere to go
  CHECK(pair.second.tick());
  CHECK(pair.second_backend.last_wait == 0);
  pair.first.tick();
  CHECK_FALSE(pair.second.tick());
  while (pair.first.tick()) {
  }
  CHECK(answered == 1500);
}

TEST_CASE("a message that arrives at the very end of a tick keeps the core awake and alive") {
  Pair pair;
  int answered = 0;
  pair.first.start(call_all(1, answered));
  pair.second.start(nothing());
  Meanwhile arrives([&] { pair.first.tick(); });
  pair.second.at_tick_end(arrives);
  CHECK(pair.second.tick());  // its main has ended, but somebody asks
  CHECK(pair.second_backend.last_wait == 0);
  pair.second.tick();
  CHECK_FALSE(pair.first.tick());
  CHECK(answered == 1);
}

TEST_CASE("long work on a core gives way to a message from another") {
  struct Body {
    static Task<void> run(Pair& pair) {
      CHECK_FALSE(Reactor::current().need_preempt());
      pair.first.tick();
      CHECK(Reactor::current().core() == 1);
      CHECK(Reactor::current().need_preempt());
      co_await maybe_yield();
    }
  };
  Pair pair;
  pair.second_backend.clock_step = 0;
  int answered = 0;
  pair.first.start(call_all(1, answered));
  pair.second.start(Body::run(pair));
  while (pair.second.tick()) {
  }
  CHECK_FALSE(pair.first.tick());
  CHECK(answered == 1);
}

TEST_CASE(
    "an acceptor that is stopped ends only when the connections it handed over have arrived") {
  struct Sink final : ConnectionSink {
    std::vector<int> fds;
    void connected(int fd) noexcept override {
      CHECK(Reactor::current().core() == 1);
      fds.push_back(fd);
      close_detached(Reactor::current(), fd);
    }
  };
  struct Server {
    ConnectionCounts counts{2};
    Sink second_sink;
    ConnectionSink* sinks[2] = {nullptr, &second_sink};
    Event stop;
    bool ended = false;
    bool all_ended = false;

    static Task<void> accept(Server& server, Listener& listener) {
      Acceptor acceptor(server.counts, server.sinks);
      CHECK((co_await acceptor.run(listener)).has_value());
      CHECK(acceptor.handed_over() == server.second_sink.fds.size());
      server.ended = true;
    }
    static Task<void> run(Server& server) {
      Listener listener;
      CHECK((co_await listener.open({})).has_value());
      Scope scope;
      scope.spawn(accept(server, listener));
      co_await server.stop.wait();
      scope.request_stop();
      co_await scope.join();
      co_await listener.close();
      server.all_ended = true;
    }
  };
  Pair pair;
  pair.first_backend.answers[OpCode::listen] = 3;
  Server server;
  for (int i = 0; i < 5000; ++i) server.counts.opened(0);  // so the other core gets them all
  pair.first.start(Server::run(server));
  pair.second.start(until(server.all_ended));
  for (int i = 0; i < 5; ++i) pair.first.tick();
  // More than a ring holds: the rest waits on the first core.
  constexpr int connections = 1500;
  for (int fd = 100; fd < 100 + connections; ++fd) {
    pair.first_backend.complete(pair.first_backend.get(OpCode::accept),
                                {.result = fd, .more = true});
  }
  for (int i = 0; i < 5; ++i) pair.first.tick();
  struct Stop : TickHook {
    explicit Stop(Event& of)
        : TickHook([](TickHook& self) noexcept { static_cast<Stop&>(self).event.set(); }),
          event(of) {}
    Event& event;
  } stop(server.stop);
  pair.first.at_tick_end(stop);
  for (int i = 0; i < 50; ++i) pair.first.tick();
  CHECK_FALSE(server.ended);
  CHECK(server.second_sink.fds.empty());
  bool one = true;
  bool two = true;
  for (int i = 0; i < 1000 && (one || two); ++i) {
    one = one && pair.first.tick();
    two = two && pair.second.tick();
  }
  CHECK_FALSE(one);
  CHECK_FALSE(two);
  CHECK(server.ended);
  CHECK(server.second_sink.fds.size() == connections);
  CHECK(pair.second_backend.submissions(OpCode::close) == connections);
  CHECK(pair.first.descriptors_open == 0);
}
