// Steady-state work asks malloc for nothing. Sanitizers bring their own malloc, so there the counts
// stay at zero and only the first case says so.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "../count_mallocs.hpp"
#include "runtime/uring/backend.hpp"

using namespace gyre;

namespace {

constexpr int warm_up = 200;
constexpr int rounds = 2000;

// Counts what a loop of `round` costs once it is warm.
template <class Round>
Task<void> measure(Round& round, uint64_t& cost) {
  for (int i = 0; i < warm_up; ++i) co_await round.run();
  const uint64_t before = mallocs;
  const uint64_t misses = frame_pool_misses();
  for (int i = 0; i < rounds; ++i) co_await round.run();
  cost = mallocs - before + (GYRE_COUNT_MALLOC ? frame_pool_misses() - misses : 0);
}

template <class Round>
uint64_t cost_of(Round& round) {
  uring::UringNode node(1);
  uring::UringBackend backend({.buffer_count = 16, .buffer_bytes = 4096, .node = &node});
  Reactor reactor(backend, {.stall_report = nanos_never});  // the report itself allocates
  uint64_t cost = UINT64_MAX;
  reactor.run(measure(round, cost));
  return cost;
}

Task<int> child(int value) {
  co_await yield();
  co_return value;
}

struct Awaits {
  Task<void> run() {
    for (int i = 0; i < 10; ++i) CHECK(co_await child(i) == i);
  }
};

struct Spawns {
  Task<void> run() {
    Scope scope;
    for (int i = 0; i < 10; ++i) scope.spawn(one());
    co_await scope.join();
  }
  static Task<void> one() { static_cast<void>(co_await child(1)); }
};

struct Waits {
  Semaphore semaphore{1};
  Event event;
  Task<void> run() {
    event.reset();
    Scope scope;
    for (int i = 0; i < 5; ++i) scope.spawn(holder());
    for (int i = 0; i < 5; ++i) scope.spawn(listener());
    co_await yield();
    event.set();
    co_await scope.join();
  }
  Task<void> holder() {
    CHECK(co_await semaphore.acquire());
    co_await yield();
    semaphore.release();
  }
  Task<void> listener() { CHECK(co_await event.wait()); }
};

struct Channels {
  Channel<std::pair<int, int>> channel{8};
  Task<void> run() {
    Scope scope;
    scope.spawn(produce());
    for (int i = 0; i < 40; ++i) CHECK((co_await channel.receive())->second == i);
    co_await scope.join();
  }
  Task<void> produce() {
    for (int i = 0; i < 40; ++i) CHECK(co_await channel.send({0, i}));
  }
};

struct Deadlines {
  Task<void> run() {
    CHECK((co_await with_timeout(seconds(100), soon())).has_value());
    co_await sleep_for(0);
  }
  static Task<Result<int>> soon() {
    co_await yield();
    co_return 1;
  }
};

// Requests and answers over a real socket pair, as a server does: received in place, answered
// from a reserved chunk, with a larger value sent by reference every time.
struct Requests {
  Socket* client = nullptr;
  Socket* server = nullptr;
  std::string value = std::string(3000, 'v');
  int released = 0;

  Task<void> run() {
    client->append("request");
    Result<std::string_view> request = co_await server->receive();
    CHECK(request->size() == 7);
    server->release();
    char* room = server->reserve(64);
    for (int i = 0; i < 6; ++i) room[i] = "answer"[i];
    server->commit(6);
    server->append_reference(value, this,
                             [](void* self) noexcept { ++static_cast<Requests*>(self)->released; });
    for (size_t got = 0; got < 6 + value.size();) {
      Result<std::string_view> answer = co_await client->receive();
      got += answer->size();
      client->release();
    }
    CHECK(co_await server->drained(0));
  }
};
Task<void> serve_and_measure(Requests& requests, int client_fd, int server_fd, uint64_t& cost) {
  Socket client(client_fd);
  Socket server(server_fd);
  requests.client = &client;
  requests.server = &server;
  co_await measure(requests, cost);
  co_await client.close();
  co_await server.close();
}

}  // namespace

TEST_CASE("malloc is counted here") {
  const uint64_t before = mallocs;
  std::string text(1000, 'x');
  asm volatile("" : : "r"(text.data()) : "memory");  // so that it is not optimized away
  CHECK(mallocs - before == GYRE_COUNT_MALLOC);
}

TEST_CASE("awaiting, spawning and joining allocate nothing") {
  Awaits awaits;
  CHECK(cost_of(awaits) == 0);
  Spawns spawns;
  CHECK(cost_of(spawns) == 0);
}

TEST_CASE("waiting on semaphores, events, channels and deadlines allocates nothing") {
  Waits waits;
  CHECK(cost_of(waits) == 0);
  Channels channels;
  CHECK(cost_of(channels) == 0);
  Deadlines deadlines;
  CHECK(cost_of(deadlines) == 0);
}

TEST_CASE("receiving a request and sending its answer allocates nothing") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  Requests requests;
  uint64_t cost = UINT64_MAX;
  {
    uring::UringNode node(1);
    uring::UringBackend backend({.buffer_count = 16, .buffer_bytes = 4096, .node = &node});
    Reactor reactor(backend, {.stall_report = nanos_never});
    reactor.run(serve_and_measure(requests, ends[0], ends[1], cost));
  }
  CHECK(cost == 0);
  CHECK(requests.released == warm_up + rounds);
}
