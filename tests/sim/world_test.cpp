#include <doctest/doctest.h>

#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/reactor.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "../runtime/letters.hpp"
#include "rig.hpp"
#include "sim/life.hpp"

namespace {

using namespace gyre;
using namespace gyre::testing;

// A program that uses every subsystem, for comparing runs.
struct Run {
  explicit Run(uint64_t seed) {
    sim::World world({.seed = seed});
    sim::Node& node =
        world.add_node({.cores = 2, .disk = {.read_error_ppm = 50'000, .stall_ppm = 50'000}});
    SimRig one(world, node, 0);
    SimRig two(world, node, 1);
    const auto [a, b] = one.socket_pair("127.0.0.1");
    one.backend().log("hello");
    one.backend().wake(1);
    std::string into;
    for (int i = 0; i < 20; ++i) {
      const int fd = two.open("f" + std::to_string(i), flag_read | flag_write | flag_create);
      two.write(fd, 0, std::string(5000, static_cast<char>('a' + i)), flag_dsync);
      one.read(fd, 0, into, 5000);
      into += std::to_string(one.backend().random());
      one.send_all(a, into);
      one.recv_into(b, into, into.size(), flag_wait_all);
      one.close(fd);
    }
    world.crash(node, sim::CrashMode::random);
    hash = world.trace_hash();
    time = world.time();
    content = node.disk().content("f3");
  }
  uint64_t hash;
  Nanos time;
  std::string content;
};

}  // namespace

TEST_CASE("a seed decides everything") {
  const Run first(77);
  const Run again(77);
  CHECK(first.hash == again.hash);
  CHECK(first.time == again.time);
  CHECK(first.content == again.content);
  const Run other(78);
  CHECK(first.hash != other.hash);
  CHECK(first.time != other.time);
}

TEST_CASE("a stuck world says so") {
  sim::World world({.seed = 1});
  SimRig rig(world, world.add_node());
  TestOp signal(OpCode::signal);
  rig.backend().submit(signal);
  CHECK(world.run_until([&] { return signal.ended; }, seconds(1)) == sim::Stop::stuck);
  CHECK(world.dump().find("signal fd -1") != std::string::npos);
  rig.stop(signal);
  CHECK(world.run_for(seconds(5)) == sim::Stop::deadline);
  CHECK(world.time() >= seconds(5));
}

TEST_CASE("signals reach the armed operation, or wait for it") {
  sim::World world({.seed = 2});
  sim::Node& node = world.add_node();
  SimRig rig(world, node);
  node.signal(SIGHUP);
  TestOp signal(OpCode::signal);
  rig.backend().submit(signal);
  rig.wait([&] { return signal.completions.size() == 1; });
  CHECK(signal.completions[0].result == SIGHUP);
  CHECK(signal.completions[0].more);
  node.signal(SIGTERM);
  rig.wait([&] { return signal.completions.size() == 2; });
  CHECK(signal.completions[1].result == SIGTERM);
  CHECK(rig.stop(signal) == -ECANCELED);
}

TEST_CASE("clocks have offsets, drift and steps; the monotonic one never goes back") {
  sim::World world({.seed = 3});
  sim::Node& exact = world.add_node();
  sim::Node& fast = world.add_node({.wall_offset_us = 500'000, .drift_ppm = 1'000});
  SimRig a(world, exact);
  SimRig b(world, fast);
  const auto wall_ahead_us = [&] {
    return static_cast<int64_t>(b.backend().wall_us() - a.backend().wall_us());
  };
  CHECK(wall_ahead_us() == 500'000);
  const Nanos mono = b.backend().now();
  world.run_for(seconds(100));
  CHECK(wall_ahead_us() == 600'000);
  CHECK(b.backend().now() - mono == seconds(100) + milliseconds(100));
  fast.clock().step_wall(-10'000'000);
  CHECK(wall_ahead_us() == -9'400'000);
  CHECK(b.backend().now() - mono == seconds(100) + milliseconds(100));
  fast.clock().set_drift_ppm(world.time(), 0);
  world.run_for(seconds(100));
  CHECK(wall_ahead_us() == -9'400'000);
}

TEST_CASE("a wake ends the sleep of another core") {
  struct Sleeper final : sim::Driver {
    explicit Sleeper(Backend& of) : backend(of) {}
    bool tick() override {
      ++ticks;
      backend.reap();
      backend.enter(nanos_never);
      return true;
    }
    Backend& backend;
    int ticks = 0;
  };
  sim::World world({.seed = 4});
  sim::Node& node = world.add_node({.cores = 2});
  SimRig one(world, node, 0);
  sim::SimBackend two(node, 1);
  Sleeper sleeper(two);
  node.drive(1, sleeper);
  world.run_for(seconds(1));
  CHECK(sleeper.ticks == 1);
  one.backend().wake(1);
  world.run_for(seconds(1));
  CHECK(sleeper.ticks == 2);
  node.pause(seconds(10));
  one.backend().wake(1);
  world.run_for(seconds(5));
  CHECK(sleeper.ticks == 2);
  world.run_for(seconds(6));
  CHECK(sleeper.ticks == 3);
}

TEST_CASE("log lines are captured up to a bound") {
  sim::World world({.seed = 5});
  sim::Node& node = world.add_node({.log_lines_max = 2});
  SimRig rig(world, node);
  rig.backend().log("one");
  rig.backend().log("two");
  rig.backend().log("three");
  CHECK(node.log_lines() == std::deque<std::string>{"one", "two"});
  CHECK(rig.backend().stats().log_lines_dropped == 1);
}

TEST_CASE("names resolve to what the test says") {
  sim::World world({.seed = 6});
  sim::Node& node = world.add_node();
  SimRig rig(world, node);
  node.names()["db"] = {"10.0.0.7", "10.0.0.8"};
  std::vector<std::string> out;
  CHECK(rig.resolve("db", out) == 0);
  CHECK(out == std::vector<std::string>{"10.0.0.7", "10.0.0.8"});
  CHECK(rig.resolve("nowhere", out) == -ENOENT);
}

TEST_CASE("breaking the contract is a violation") {
  sim::World world({.seed = 7});
  SimRig rig(world, world.add_node());
  std::string said;
  world.on_violation = [&](const std::string& text) { said = text; };
  const auto contains = [&](const char* part) {
    CAPTURE(said);
    return said.find(part) != std::string::npos;
  };
  const int fd = rig.open("f", flag_write | flag_create);
  rig.close(fd);
  CHECK(rig.write(fd, 0, "x") == -EBADF);
  CHECK(contains("not open"));

  const auto [a, b] = rig.socket_pair("127.0.0.1");
  TestOp recv(OpCode::recv);
  recv.fd = a;
  rig.backend().submit(recv);
  rig.backend().submit(recv);
  CHECK(contains("submitted while in flight"));
  CHECK(rig.close(a) == -EBADF);
  CHECK(contains("while operations are in flight"));
  std::string into;
  CHECK(rig.recv_into(a, into, 1) == -EBADF);
  CHECK(contains("another receive"));

  rig.send_all(b, "x");
  rig.wait([&] { return !recv.completions.empty(); });
  rig.backend().recycle(recv.completions[0].buffer);
  rig.backend().recycle(recv.completions[0].buffer);
  CHECK(contains("recycled twice"));
  rig.stop(recv);
  CHECK(world.check_quiescent(rig.node()).find("descriptor") != std::string::npos);
  rig.close(a);
  rig.close(b);
  CHECK(world.check_quiescent(rig.node()) == "");
}

TEST_CASE("cores get their turns in an order of the seed") {
  struct Counter final : sim::Driver {
    Counter(Backend& of, std::string& into, char mark) : backend(of), order(into), name(mark) {}
    bool tick() override {
      backend.reap();
      order += name;
      backend.enter(0);
      return order.size() < 40;
    }
    Backend& backend;
    std::string& order;
    char name;
  };
  const auto run = [](uint64_t seed) {
    sim::World world({.seed = seed});
    sim::Node& node = world.add_node({.cores = 2});
    sim::SimBackend one(node, 0);
    sim::SimBackend two(node, 1);
    std::string order;
    Counter a(one, order, 'a');
    Counter b(two, order, 'b');
    node.drive(0, a);
    node.drive(1, b);
    CHECK(world.run_until([&] { return node.ended(); }, seconds(1)) == sim::Stop::satisfied);
    return order;
  };
  CHECK(run(1) == run(1));
  CHECK(run(1) != run(2));
  CHECK(run(1).find("aa") != std::string::npos);
}

// --- a whole program on reactors -----------------------------------------------------------------

namespace {

// A log of fixed records, each written with dsync before it counts as acknowledged.
constexpr size_t record_bytes = 4096;

struct Outcome {
  size_t acknowledged = 0;
  bool failed = false;
};

Task<void> write_records(size_t count, Outcome& outcome) {
  auto opened = co_await File::open("log", flag_write | flag_create | flag_direct);
  if (!opened) co_return;
  auto synced = co_await sync_directory("/");
  AlignedBuffer buffer(record_bytes);
  for (size_t i = 0; i < count && synced && !outcome.failed; ++i) {
    std::memset(buffer.data(), static_cast<char>('A' + i), record_bytes);
    auto written =
        co_await opened->write_full(i * record_bytes, {buffer.data(), record_bytes}, flag_dsync);
    if (written) {
      ++outcome.acknowledged;
    } else {
      outcome.failed = true;
    }
    (void)co_await sleep_for(milliseconds(1));
  }
  (void)co_await opened->close();
}

// How many records can be read back; a torn one ends the log.
Task<void> count_records(size_t& found) {
  auto content = co_await read_file("log", 1 << 20);
  if (!content) co_return;
  while ((found + 1) * record_bytes <= content->size()) {
    const std::string_view record(content->data() + found * record_bytes, record_bytes);
    if (record != std::string(record_bytes, static_cast<char>('A' + found))) break;
    ++found;
  }
}

// Runs a task to its end, or to the crash point of the node's disk.
sim::Stop run_program(sim::World& world, sim::Node& node, Task<void> main, sim::CrashMode mode) {
  sim::Life life(world, node);
  life.start(0, std::move(main));
  const sim::Stop stop = life.run(seconds(60));
  if (stop == sim::Stop::crash_point) REQUIRE(life.crash(mode));
  CHECK(life.ended());
  CHECK(world.check_quiescent(node) == "");
  CHECK(life.reactor().operations_in_flight() == 0);
  return stop;
}

// Crashes a run at every write point in every phase; returns how many acknowledged records any
// of them lost.
size_t sweep(uint8_t skip_durability, sim::CrashMode mode, size_t& crashes) {
  size_t lost = 0;
  for (const auto phase :
       {sim::CrashPhase::before, sim::CrashPhase::during, sim::CrashPhase::after}) {
    for (uint64_t point = 1;; ++point) {
      sim::World world({.seed = 11});
      sim::Node& node = world.add_node({.disk = {.skip_durability = skip_durability}});
      node.disk().stop_at(point, phase);
      Outcome outcome;
      if (run_program(world, node, write_records(8, outcome), mode) != sim::Stop::crash_point) {
        CHECK(outcome.acknowledged == 8);
        break;
      }
      ++crashes;
      size_t found = 0;
      run_program(world, node, count_records(found), mode);
      if (found < outcome.acknowledged) lost += outcome.acknowledged - found;
      REQUIRE(found <= outcome.acknowledged + 1);
    }
  }
  return lost;
}

}  // namespace

TEST_CASE("a sweep over all write points loses nothing that was acknowledged") {
  size_t crashes = 0;
  for (const auto mode : {sim::CrashMode::lost, sim::CrashMode::torn, sim::CrashMode::garbled,
                          sim::CrashMode::random}) {
    CHECK(sweep(sim::skip_nothing, mode, crashes) == 0);
  }
  CHECK(crashes == 4 * 3 * 10);  // create, sync of the directory, 8 records
}

TEST_CASE("a sweep finds a skipped dsync and a skipped directory sync") {
  size_t crashes = 0;
  CHECK(sweep(sim::skip_dsync, sim::CrashMode::lost, crashes) > 0);
  CHECK(sweep(sim::skip_dsync, sim::CrashMode::torn, crashes) > 0);
  CHECK(sweep(sim::skip_dir_fsync, sim::CrashMode::lost, crashes) > 0);
}

namespace {

Task<void> echo_server(bool& ready) {
  Listener listener;
  Listener::Options options;
  options.address = "0.0.0.0";
  options.port = 7000;
  auto opened = co_await listener.open(options);
  REQUIRE(opened);
  ready = true;
  auto accepted = co_await listener.accept();
  if (accepted) {
    Socket socket(std::move(*accepted));
    for (;;) {
      auto bytes = co_await socket.receive();
      if (!bytes || bytes->empty()) break;
      socket.append(*bytes);
      socket.release();
      (void)co_await socket.drained(64 << 10);
    }
    (void)co_await socket.drained(0);
    co_await socket.close();
  }
  co_await listener.close();
}

Task<void> echo_client(std::string address, const bool& ready, std::string& answer, size_t bytes) {
  while (!ready) (void)co_await sleep_for(milliseconds(1));
  auto fd = co_await connect_to(address, 7000);
  REQUIRE(fd);
  Socket socket(std::move(*fd));
  size_t sent = 0;
  while (answer.size() < bytes) {
    while (sent < bytes && socket.output_bytes() < 4096) {
      const std::string piece(1000, static_cast<char>('a' + sent / 1000 % 26));
      socket.append(piece);
      sent += piece.size();
    }
    auto got = co_await socket.receive();
    if (!got || got->empty()) break;
    answer.append(*got);
    socket.release();
  }
  co_await socket.close();
}

}  // namespace

TEST_CASE("two reactors on two nodes echo through the simulated network") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    sim::World world({.seed = seed});
    sim::Node& a = world.add_node({.buffer_count = 4, .buffer_bytes = 512});
    sim::Node& b = world.add_node({.buffer_count = 4, .buffer_bytes = 512});
    bool ready = false;
    std::string answer;
    {
      sim::Life server(world, a);
      sim::Life client(world, b);
      server.start(0, echo_server(ready));
      client.start(0, echo_client(a.address(), ready, answer, 50'000));
      REQUIRE(world.run_until([&] { return server.ended() && client.ended(); }, seconds(600)) ==
              sim::Stop::satisfied);
    }
    REQUIRE(answer.size() == 50'000);
    bool equal = true;
    for (size_t i = 0; i < answer.size(); ++i) {
      equal &= answer[i] == static_cast<char>('a' + i / 1000 % 26);
    }
    CHECK(equal);
    CHECK(world.check_quiescent(a) == "");
    CHECK(world.check_quiescent(b) == "");
  }
}

namespace {

struct Ping : Message {
  Event* arrived = nullptr;
  int hops = 0;
};

void deliver_ping(Message& message, Reactor& at) noexcept {
  auto& ping = static_cast<Ping&>(message);
  if (at.core() == 0) {
    ping.arrived->set();
  } else {
    ++ping.hops;
    at.send(0, message);
  }
}

Task<void> ping(int rounds, int& hops) {
  for (int i = 0; i < rounds; ++i) {
    Event arrived;
    Ping message;
    message.deliver = &deliver_ping;
    message.arrived = &arrived;
    Reactor::current().send(1, message);
    (void)co_await arrived.wait();
    hops += message.hops;
  }
}

Task<void> sleep_a_second() {
  (void)co_await sleep_for(seconds(1));
}

}  // namespace

TEST_CASE("reactors run the same way whatever addresses their memory has") {
  const auto run = [](uint64_t seed) {
    sim::World world({.seed = seed});
    sim::Node& a = world.add_node();
    sim::Node& b = world.add_node();
    bool ready = false;
    std::string answer;
    sim::Life server(world, a);
    sim::Life client(world, b);
    server.start(0, echo_server(ready));
    client.start(0, echo_client(a.address(), ready, answer, 20'000));
    REQUIRE(world.run_until([&] { return server.ended() && client.ended(); }, seconds(600)) ==
            sim::Stop::satisfied);
    return world.trace_hash();
  };
  std::vector<std::unique_ptr<char[]>> ballast;
  const uint64_t first = run(5);
  for (size_t i = 1; i <= 5; ++i) {
    ballast.push_back(std::make_unique<char[]>(i * 1234));
    CHECK(run(5) == first);
  }
  CHECK(run(6) != first);
}

TEST_CASE("messages between the cores of a node wake the receiver") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    sim::World world({.seed = seed});
    sim::Node& node = world.add_node({.cores = 2});
    sim::Life life(world, node);
    int hops = 0;
    life.start(0, ping(50, hops));
    life.start(1, sleep_a_second());
    CHECK(life.run(seconds(10)) == sim::Stop::satisfied);
    CHECK(hops == 50);
    CHECK(world.time() < seconds(2));
  }
}

TEST_CASE("two cores write to each other at work and asleep: all arrives, in order") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    sim::World world({.seed = seed});
    sim::Node& node = world.add_node({.cores = 2});
    sim::Life life(world, node);
    testing::Letters all(3000);
    life.start(0, testing::Letters::write(all, 0));
    life.start(1, testing::Letters::write(all, 1));
    CHECK(life.run(seconds(60)) == sim::Stop::satisfied);
    for (const unsigned core : {0u, 1u}) {
      CHECK(all.arrived(core) == 3000);
      CHECK(all.returned(core) == 3000);
      CHECK(all.in_order(core));
    }
  }
}

TEST_CASE("a killed program of two nodes starts again and finds its connections reset") {
  sim::World world({.seed = 31});
  sim::Node& a = world.add_node();
  sim::Node& b = world.add_node();
  bool ready = false;
  std::string answer;
  auto server = std::make_unique<sim::Life>(world, a);
  sim::Life client(world, b);
  server->start(0, echo_server(ready));
  client.start(0, echo_client(a.address(), ready, answer, 5'000'000));
  CHECK(world.run_until([&] { return answer.size() > 10'000; }, seconds(60)) ==
        sim::Stop::satisfied);
  CHECK(server->kill());
  CHECK(client.run(seconds(60)) == sim::Stop::satisfied);
  CHECK(answer.size() < 5'000'000);
  ready = false;
  server.reset();
  server = std::make_unique<sim::Life>(world, a);
  server->start(0, echo_server(ready));
  answer.clear();
  client.start(0, echo_client(a.address(), ready, answer, 10'000));
  CHECK(world.run_until([&] { return server->ended() && client.ended(); }, seconds(60)) ==
        sim::Stop::satisfied);
  CHECK(answer.size() == 10'000);
}
