// Real threads, real rings: what crosses between cores. The suite that runs under
// ThreadSanitizer.
#include "runtime/uring/cores.hpp"

#include <doctest/doctest.h>
#include <sched.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gyre/acceptor.hpp>
#include <gyre/call.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "letters.hpp"
#include "runtime/uring/backend.hpp"
#include "runtime/uring/sockets.hpp"

using namespace gyre;

namespace {

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
constexpr int slower = 10;
#else
constexpr int slower = 1;
#endif
#else
constexpr int slower = 1;
#endif

// A node of `cores` threads. Each runs `body`; none ends before all bodies have ended, so that
// every core can answer the others until then.
class Cores {
 public:
  using Body = Task<void> (*)(Cores& cores, unsigned core);

  explicit Cores(unsigned count)
      : node_(count), fabric_(count), all_ended_(std::make_unique<Event[]>(count)) {}

  unsigned count() const { return node_.cores(); }
  void run(Body body) {
    std::vector<std::thread> threads;
    for (unsigned core = 0; core < count(); ++core) {
      threads.emplace_back([this, core, body] { run_core(core, body); });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  void run_core(unsigned core, Body body) {
    {
      uring::UringBackend backend({.core = core, .buffer_count = 64, .node = &node_});
      Reactor reactor(backend, {.core = core}, &fabric_);
      reactor.run(main(*this, core, body));
      CHECK(reactor.operations_in_flight() == 0);
      CHECK(reactor.descriptors_open == 0);
      CHECK(backend.buffers_free() == backend.buffer_count());
    }
    CHECK(frames_live() == 0);
  }
  static Task<void> main(Cores& cores, unsigned core, Body body) {
    co_await body(cores, core);
    // Counted on core 0, which then tells every core.
    const bool last =
        co_await call_on(0, [&cores] { return ++cores.bodies_ended_ == cores.count(); });
    if (last) {
      for (unsigned other = 0; other < cores.count(); ++other) {
        co_await call_on(other, [&cores, other] {
          cores.all_ended_[other].set();
          return true;
        });
      }
    }
    co_await cores.all_ended_[core].wait();
  }

  uring::UringNode node_;
  Fabric fabric_;
  unsigned bodies_ended_ = 0;  // core 0's
  std::unique_ptr<Event[]> all_ended_;
};

Task<int> doubled(int value) {
  if (value % 7 == 0) co_await yield();
  if (value % 1000 == 0) co_await sleep_for(microseconds(100));
  co_return 2 * value;
}
Task<void> call_many(unsigned to, int from, int until, int64_t& sum) {
  for (int i = from; i < until; ++i) {
    sum += co_await call_on(to, [i] { return 2 * i; });
  }
}
Task<void> spawn_many(unsigned to, int from, int until, int64_t& sum) {
  for (int i = from; i < until; ++i) {
    sum += co_await spawn_on(to, [i] { return doubled(i); });
  }
}
Task<void> call_once(unsigned to, int value, int64_t& sum) {
  sum += co_await call_on(to, [value] { return 2 * value; });
}
int64_t sum_of_doubles(int64_t count) {
  return count * (count - 1);
}

constexpr int calls = 100'000 / slower;

Task<void> ping_pong(Cores& cores, unsigned core) {
  const unsigned to = (core + 1) % cores.count();
  int64_t sum = 0;
  Scope scope;
  for (int i = 0; i < 10; ++i) {
    scope.spawn(call_many(to, i * (calls / 10), (i + 1) * (calls / 10), sum));
  }
  co_await scope.join();
  CHECK(sum == sum_of_doubles(calls));
}

Task<void> spawns(Cores& cores, unsigned core) {
  int64_t sum = 0;
  Scope scope;
  for (unsigned to = 0; to < cores.count(); ++to) {  // to itself too
    scope.spawn(spawn_many(to, 0, calls / 10, sum));
  }
  co_await scope.join();
  CHECK(sum == cores.count() * sum_of_doubles(calls / 10));
}

// Far more calls at once than a ring holds, from every core to every other.
Task<void> saturate(Cores& cores, unsigned core) {
  constexpr int burst = 20'000 / slower;
  for (int round = 0; round < 3; ++round) {
    int64_t sum = 0;
    Scope scope;
    for (unsigned to = 0; to < cores.count(); ++to) {
      for (int i = 0; i < burst; ++i) scope.spawn(call_once(to, i, sum));
    }
    co_await scope.join();
    CHECK(sum == cores.count() * sum_of_doubles(burst));
  }
}

// Sleeps between calls, so that each call has to wake the other core.
Task<void> wake_sleepers(Cores& cores, unsigned core) {
  if (core != 0) co_return;
  for (int i = 0; i < 300; ++i) {
    const unsigned to = 1 + static_cast<unsigned>(i) % (cores.count() - 1);
    CHECK(co_await call_on(to, [] { return Reactor::current().core(); }) == to);
    co_await sleep_for(microseconds(static_cast<int64_t>(Reactor::current().random() % 300)));
  }
}

gyre::testing::Letters* letters = nullptr;

Task<void> write_letters(Cores&, unsigned core) {
  co_await gyre::testing::Letters::write(*letters, core);
}

}  // namespace

TEST_CASE("two cores write to each other at work and asleep: all arrives, in order") {
  gyre::testing::Letters all(calls);
  letters = &all;
  Cores(2).run(&write_letters);
  for (const unsigned core : {0u, 1u}) {
    CHECK(all.arrived(core) == calls);
    CHECK(all.returned(core) == calls);
    CHECK(all.in_order(core));
  }
}

TEST_CASE("two cores call each other a hundred thousand times") {
  Cores(2).run(&ping_pong);
}
TEST_CASE("four cores call around in a ring") {
  Cores(4).run(&ping_pong);
}
TEST_CASE("coroutines run on other cores and bring their answers") {
  Cores(2).run(&spawns);
  Cores(4).run(&spawns);
}
TEST_CASE("rings full in both directions don't deadlock") {
  Cores(2).run(&saturate);
  Cores(4).run(&saturate);
}
TEST_CASE("a call wakes a sleeping core") {
  Cores(2).run(&wake_sleepers);
  Cores(4).run(&wake_sleepers);
}

namespace {

// Accepting on every core: connections are spread, every one is served, on the core it was
// handed to.
struct Serving final : ConnectionSink {
  ConnectionCounts* counts = nullptr;
  Scope* connections = nullptr;
  int served = 0;

  void connected(int fd) noexcept override { connections->spawn(serve(*this, fd)); }
  static Task<void> serve(Serving& self, int fd) {
    Socket socket(fd);
    socket.append(std::to_string(Reactor::current().core()));
    for (;;) {
      Result<std::string_view> view = co_await socket.receive();
      if (!view || view->empty()) break;
      socket.release();
    }
    co_await socket.close();
    self.counts->closed(Reactor::current().core());
    ++self.served;
  }
};

struct Server {
  explicit Server(unsigned cores) : counts(cores), sinks(cores), sink_pointers(cores) {
    for (unsigned core = 0; core < cores; ++core) {
      sinks[core].counts = &counts;
      sink_pointers[core] = &sinks[core];
    }
  }
  ConnectionCounts counts;
  std::vector<Serving> sinks;
  std::vector<ConnectionSink*> sink_pointers;
  Event listening;  // core 0's
  Event all_done;   // core 0's
  unsigned ready = 0;
  uint16_t port = 0;
};
Server* server = nullptr;

constexpr int clients = 21;

Task<void> client(std::vector<int>& per_core, Event& everybody, int& connected) {
  Result<Descriptor> fd = co_await connect_to("127.0.0.1", server->port);
  REQUIRE(fd.has_value());
  Socket socket(std::move(*fd));
  Result<std::string_view> view = co_await socket.receive();
  REQUIRE(view.has_value());
  per_core[static_cast<size_t>(view->front() - '0')] += 1;
  socket.release();
  if (++connected == clients) everybody.set();
  co_await everybody.wait();
  co_await socket.close();
}

Task<void> accept_all(Acceptor& acceptor, Listener& listener) {
  CHECK((co_await acceptor.run(listener)).has_value());
}

Task<void> run_clients() {
  co_await server->listening.wait();
  std::vector<int> per_core(server->sinks.size(), 0);
  Event everybody;
  int connected = 0;
  Scope scope;
  for (int i = 0; i < clients; ++i) scope.spawn(client(per_core, everybody, connected));
  co_await scope.join();
  int sum = 0;
  for (const int count : per_core) {
    CHECK(count >= clients / static_cast<int>(per_core.size()) - 3);
    sum += count;
  }
  CHECK(sum == clients);
}

Task<void> serve_on_core(Cores& cores, unsigned core) {
  Scope connections(nullptr, "connections");
  Scope acceptors(nullptr, "acceptor");
  server->sinks[core].connections = &connections;
  // All sinks exist before anybody accepts.
  const unsigned ready = co_await call_on(0, [] { return ++server->ready; });
  while (co_await call_on(0, [] { return server->ready; }) < cores.count()) {
    co_await sleep_for(milliseconds(1));
  }
  static_cast<void>(ready);
  Listener listener;
  Result<void> opened = co_await listener.open({.port = server->port, .reuse_port = true});
  REQUIRE(opened.has_value());
  Acceptor acceptor(server->counts, server->sink_pointers.data());
  acceptors.spawn(accept_all(acceptor, listener));
  const unsigned listening = co_await call_on(0, [] { return ++server->ready; });
  if (listening == 2 * cores.count()) {
    co_await call_on(0, [] {
      server->listening.set();
      return true;
    });
  }
  if (core == 0) {
    co_await run_clients();
    server->all_done.set();
  }
  while (!co_await call_on(0, [] { return server->all_done.is_set(); })) {
    co_await sleep_for(milliseconds(1));
  }
  acceptors.request_stop();
  co_await acceptors.join();
  co_await listener.close();
  // Connections may still be on their way from a core that accepted them.
  while (server->counts.total() != 0) co_await sleep_for(milliseconds(1));
  co_await connections.join();
}

}  // namespace

TEST_CASE("connections accepted on every core are spread over the cores, and all are served") {
  for (const unsigned count : {2u, 4u}) {
    Server serving(count);
    server = &serving;
    {
      // A port of our own: reserved while nobody listens on it.
      uring::UringNode node(1);
      uring::UringBackend backend({.node = &node});
      Reactor reactor(backend, {});
      struct Find {
        static Task<void> port(uint16_t& found) {
          Listener listener;
          REQUIRE((co_await listener.open({})).has_value());
          found = uring::local_port(listener.fd());
          co_await listener.close();
        }
      };
      reactor.run(Find::port(serving.port));
    }
    Cores(count).run(&serve_on_core);
    int served = 0;
    for (const Serving& sink : serving.sinks) served += sink.served;
    CHECK(served == clients);
    CHECK(serving.counts.total() == 0);
  }
}

TEST_CASE("a connection goes to the core with the fewest, unless the difference is small") {
  ConnectionCounts counts(3);
  CHECK(counts.place(0) == 0);
  counts.opened(0);
  CHECK(counts.place(0) == 0);  // within the slack
  counts.opened(0);
  CHECK(counts.place(0) != 0);
  counts.opened(1);
  CHECK(counts.place(0) == 2);
  CHECK(counts.place(1) == 1);
  counts.opened(2);
  CHECK(counts.place(0) == 0);
  counts.closed(0);
  counts.closed(0);
  CHECK(counts.place(1) == 1);
  CHECK(counts.total() == 2);
}

TEST_CASE("pinned cores run on one CPU each; the caller gets all its CPUs back") {
  cpu_set_t before;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  int cpus_of[2] = {0, 0};
  const std::string problem =
      uring::run_cores({.cores = 2, .pin = true}, [&](unsigned core, Backend&) {
        cpu_set_t mine;
        if (sched_getaffinity(0, sizeof mine, &mine) == 0) cpus_of[core] = CPU_COUNT(&mine);
      });
  CHECK(problem == "");
  CHECK(cpus_of[0] == 1);
  CHECK(cpus_of[1] == 1);
  cpu_set_t after;
  REQUIRE(sched_getaffinity(0, sizeof after, &after) == 0);
  CHECK(CPU_EQUAL(&before, &after));
}
