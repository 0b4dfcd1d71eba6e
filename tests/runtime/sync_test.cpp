#include <memory>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "stage.hpp"

using namespace gyre;
using gyre::testing::Stage;

namespace {

// What happened, in order: "a+" granted, "a-" stopped.
using Story = std::vector<std::string>;

Task<void> wait_event(Event& event, std::string name, Story& story) {
  const bool granted = co_await event.wait();
  story.push_back(name + (granted ? "+" : "-"));
}
Task<void> take(Semaphore& semaphore, uint64_t units, std::string name, Story& story) {
  const bool granted = co_await semaphore.acquire(units);
  story.push_back(name + (granted ? "+" : "-"));
}
Task<void> settle() {
  for (int i = 0; i < 4; ++i) co_await yield();
}

}  // namespace

TEST_CASE("an event wakes everybody who waits, stays set until reset, and a stop ends a wait") {
  struct Body {
    static Task<void> run(Story& story) {
      Event event;
      Scope first;
      Scope second;
      first.spawn(wait_event(event, "a", story));
      second.spawn(wait_event(event, "b", story));
      first.spawn(wait_event(event, "c", story));
      co_await settle();
      second.request_stop();
      co_await settle();
      CHECK(story == Story{"b-"});
      event.set();
      CHECK(event.is_set());
      event.reset();  // those who waited were granted all the same
      co_await settle();
      CHECK(story == Story{"b-", "a+", "c+"});
      event.set();
      CHECK(co_await event.wait());
      event.reset();
      second.spawn(wait_event(event, "d", story));  // in a stopped scope: answered at once
      co_await settle();
      CHECK(story.back() == "d-");
      co_await first.join();
      co_await second.join();
    }
  };
  Stage stage;
  Story story;
  stage.run(Body::run(story));
}

TEST_CASE("a set beats a stop that comes before the waiter has run") {
  struct Body {
    static Task<void> run(Story& story) {
      Event event;
      Scope scope;
      scope.spawn(wait_event(event, "a", story));
      co_await settle();
      event.set();
      scope.request_stop();
      co_await scope.join();
    }
  };
  Stage stage;
  Story story;
  stage.run(Body::run(story));
  CHECK(story == Story{"a+"});
}

TEST_CASE("a semaphore serves first in first out: a large request is not overtaken") {
  struct Body {
    static Task<void> run(Story& story) {
      Semaphore semaphore(10);
      CHECK(semaphore.try_acquire(8));
      CHECK(semaphore.available() == 2);
      Scope scope;
      scope.spawn(take(semaphore, 10, "large", story));
      scope.spawn(take(semaphore, 1, "small", story));
      co_await settle();
      CHECK(story.empty());
      CHECK(semaphore.has_waiters());
      CHECK_FALSE(semaphore.try_acquire(1));  // nor by somebody who does not wait
      semaphore.release(8);
      co_await settle();
      CHECK(story == Story{"large+"});
      semaphore.release(10);
      co_await settle();
      CHECK(story == Story{"large+", "small+"});
      semaphore.release(1);
      CHECK(semaphore.available() == semaphore.capacity());
      co_await scope.join();
    }
  };
  Stage stage;
  Story story;
  stage.run(Body::run(story));
}

TEST_CASE("when the head of a semaphore's queue is stopped, those behind it get their turn") {
  struct Body {
    static Task<void> run(Story& story) {
      Semaphore semaphore(10);
      CHECK(semaphore.try_acquire(8));
      Scope head;
      Scope rest;
      head.spawn(take(semaphore, 10, "head", story));
      rest.spawn(take(semaphore, 1, "b", story));
      rest.spawn(take(semaphore, 1, "c", story));
      co_await settle();
      head.request_stop();
      co_await settle();
      CHECK(story.size() == 3);
      CHECK(story.front() == "head-");
      CHECK(semaphore.available() == 0);
      co_await head.join();
      co_await rest.join();
      semaphore.release(10);
      CHECK(semaphore.available() == 10);
    }
  };
  Stage stage;
  Story story;
  stage.run(Body::run(story));
}

TEST_CASE("a semaphore's capacity grows, and shrinks below what is held until that comes back") {
  struct Body {
    static Task<void> run(Story& story) {
      Semaphore semaphore(10);
      CHECK(semaphore.try_acquire(8));
      semaphore.remove_capacity(6);  // 4 in all, 8 held
      CHECK(semaphore.capacity() == 4);
      CHECK(semaphore.available() == 0);
      Scope scope;
      scope.spawn(take(semaphore, 2, "a", story));
      co_await settle();
      semaphore.release(4);
      co_await settle();
      CHECK(story.empty());
      semaphore.release(4);
      co_await settle();
      CHECK(story == Story{"a+"});
      CHECK(semaphore.available() == 2);
      semaphore.add_capacity(5);
      CHECK(semaphore.available() == 7);
      co_await scope.join();
    }
  };
  Stage stage;
  Story story;
  stage.run(Body::run(story));
}

TEST_CASE("a permit granted to a task that is then stopped stays granted") {
  struct Body {
    static Task<void> run(Story& story) {
      Semaphore semaphore(1);
      CHECK(semaphore.try_acquire());
      Scope scope;
      scope.spawn(take(semaphore, 1, "a", story));
      co_await settle();
      semaphore.release();
      scope.request_stop();
      co_await scope.join();
      CHECK(semaphore.available() == 0);
    }
  };
  Stage stage;
  Story story;
  stage.run(Body::run(story));
  CHECK(story == Story{"a+"});
}

namespace {
Task<void> produce(Channel<std::unique_ptr<int>>& channel, int from, int to, int& refused) {
  for (int i = from; i < to; ++i) {
    if (!co_await channel.send(std::make_unique<int>(i))) ++refused;
  }
}
Task<void> consume(Channel<std::unique_ptr<int>>& channel, std::vector<int>& got) {
  for (;;) {
    std::optional<std::unique_ptr<int>> value = co_await channel.receive();
    if (!value) co_return;
    got.push_back(**value);
    co_await yield();
  }
}
}  // namespace

TEST_CASE("a channel keeps the order, and never holds more than its capacity") {
  struct Body {
    static Task<void> run(std::vector<int>& got) {
      Channel<std::unique_ptr<int>> channel(3);
      Scope scope;
      int refused = 0;
      scope.spawn(produce(channel, 0, 100, refused));
      co_await settle();
      CHECK(channel.size() == 3);
      CHECK_FALSE(channel.try_send(std::make_unique<int>(-1)));
      scope.spawn(consume(channel, got));
      while (got.size() < 100) {
        CHECK(channel.size() <= 3);
        co_await yield();
      }
      channel.close();
      co_await scope.join();
      CHECK(refused == 0);
    }
  };
  Stage stage;
  std::vector<int> got;
  stage.run(Body::run(got));
  REQUIRE(got.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(got[static_cast<size_t>(i)] == i);
}

TEST_CASE("a closed channel still gives what it holds, then ends all receivers and senders") {
  struct Body {
    static Task<void> run(std::vector<int>& got, int& refused) {
      Channel<std::unique_ptr<int>> channel(2);
      Scope scope;
      for (int i = 0; i < 3; ++i) scope.spawn(produce(channel, i * 10, i * 10 + 2, refused));
      co_await settle();
      CHECK(channel.size() == 2);
      channel.close();
      channel.close();
      CHECK(channel.closed());
      co_await settle();
      CHECK(refused == 4);
      CHECK_FALSE(channel.try_send(std::make_unique<int>(99)));
      for (int i = 0; i < 3; ++i) scope.spawn(consume(channel, got));
      co_await scope.join();
      CHECK_FALSE(co_await channel.send(std::make_unique<int>(99)));
      CHECK_FALSE((co_await channel.receive()).has_value());
      CHECK_FALSE((co_await channel.receive()).has_value());
    }
  };
  Stage stage;
  std::vector<int> got;
  int refused = 0;
  stage.run(Body::run(got, refused));
  CHECK(got.size() == 2);
}

TEST_CASE("receivers that wait are all released by close, and a stopped one by its stop") {
  struct Body {
    static Task<void> run(std::vector<int>& got) {
      Channel<std::unique_ptr<int>> channel(2);
      Scope scope;
      Scope stopped;
      stopped.spawn(consume(channel, got));
      for (int i = 0; i < 5; ++i) scope.spawn(consume(channel, got));
      co_await settle();
      stopped.request_stop();
      co_await stopped.join();
      CHECK(channel.try_send(std::make_unique<int>(1)));
      channel.close();
      co_await scope.join();
    }
  };
  Stage stage;
  std::vector<int> got;
  stage.run(Body::run(got));
  CHECK(got == std::vector<int>{1});
}

TEST_CASE("a sender that is stopped does not lose a slot") {
  struct Body {
    static Task<void> run() {
      Channel<std::unique_ptr<int>> channel(1);
      int refused = 0;
      CHECK(channel.try_send(std::make_unique<int>(0)));
      Scope scope;
      scope.spawn(produce(channel, 1, 2, refused));
      co_await settle();
      scope.request_stop();
      co_await scope.join();
      CHECK(refused == 1);
      CHECK((co_await channel.receive()).has_value());
      CHECK(channel.try_send(std::make_unique<int>(2)));
      CHECK_FALSE(channel.try_send(std::make_unique<int>(3)));
    }
  };
  Stage stage;
  stage.run(Body::run());
}

TEST_CASE("a hundred thousand waiters come and go without a deep stack") {
  struct Body {
    static Task<void> run(Story& story) {
      Semaphore semaphore(1);
      CHECK(semaphore.try_acquire());
      Scope scope;
      for (int i = 0; i < 100'000; ++i) scope.spawn(pass(semaphore));
      co_await settle();
      semaphore.release();
      co_await scope.join();
      CHECK(semaphore.available() == 1);
    }
    static Task<void> pass(Semaphore& semaphore) {
      CHECK(co_await semaphore.acquire());
      semaphore.release();
    }
  };
  Stage stage;
  Story story;
  stage.run(Body::run(story));
}
