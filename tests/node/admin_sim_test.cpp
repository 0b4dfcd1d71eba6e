// The administration of whole nodes in the simulation: verbs at once with clients, and a stop in the
// middle of them.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "http/client.hpp"
#include "node_sim_rig.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

constexpr uint16_t admin_port = 18080;
constexpr int keys = 300;

struct Seen {
  std::vector<std::string> wrong;
  std::vector<std::string> last_lines;
};

std::string target_of(int key) {
  return fmt::format("/v0/entity?id=key{}", key);
}

std::string value_of(int key, int round) {
  return fmt::format("{} {} {}", key, round, std::string(500, 'v'));
}

Task<void> put_all(std::string host, int round, Seen& seen) {
  http::Client client({host, port}, seconds(60));
  if (!co_await client.connect()) co_return seen.wrong.push_back("no connection");
  for (int key = 0; key < keys; ++key) {
    client.send_request("PUT", target_of(key), value_of(key, round));
    const bool good = co_await client.answer() && client.status() == 201;
    if (!good || !co_await client.text(1000)) seen.wrong.push_back("a PUT");
  }
  co_await client.close();
}

// Asks and reads to the end: the last line.
Task<std::string> run_verb(std::string host, std::string verb) {
  http::Client client({host, admin_port}, seconds(60));
  std::string last = "no connection";
  if (co_await client.connect()) {
    client.set_field("Gyre-Admin: 1");
    client.send_request("POST", "/admin/" + verb);
    last = "no answer";
    if (co_await client.answer()) {
      Result<std::string> text = co_await client.text(1u << 20);
      last = text ? *text : text.error().message();
      while (last.ends_with('\n')) last.pop_back();
      last = last.substr(last.rfind('\n') + 1);
    }
  }
  co_await client.close();
  co_return last;
}

// Asks, and goes away without reading.
Task<void> ask_and_leave(std::string host, std::string verb) {
  Result<Descriptor> fd = co_await connect_to(host, admin_port);
  if (!fd) co_return;
  Socket socket(std::move(*fd));
  socket.append(fmt::format("POST /admin/{} HTTP/1.1\r\nHost: n\r\nGyre-Admin: 1\r\n\r\n", verb));
  static_cast<void>(co_await socket.drained(0));
  static_cast<void>(co_await sleep_for(milliseconds(1)));
  co_await socket.close();
}

Task<void> all_verbs_with_clients(std::string host, Seen& seen) {
  co_await await_ready();
  for (int round = 0; round < 3; ++round) {
    co_await put_all(host, round, seen);
    Scope scope;
    scope.spawn(put_all(host, round, seen));
    for (const std::string& verb :
         {std::string("flush"), std::string("verify"), std::string("compact"),
          fmt::format("checkpoint?directory=/copy{}", round)}) {
      const std::string last = co_await run_verb(host, verb);
      if (!last.starts_with("ok ")) seen.wrong.push_back(verb + ": " + last);
    }
    co_await scope.join();
  }
}

Task<void> leave_verbs_under_way(std::string host, uint64_t delay_us, Seen& seen) {
  co_await await_ready();
  co_await put_all(host, 0, seen);
  std::string last = co_await run_verb(host, "flush");
  if (!last.starts_with("ok ")) seen.wrong.push_back(last);
  co_await put_all(host, 1, seen);
  for (const char* verb : {"compact", "checkpoint?directory=/copy", "verify", "flush"}) {
    co_await ask_and_leave(host, verb);
  }
  static_cast<void>(co_await sleep_for(microseconds(static_cast<int64_t>(delay_us))));
}

Task<void> read_all(std::string host, int round, Seen& seen) {
  co_await await_ready();
  http::Client client({host, port}, seconds(60));
  if (!co_await client.connect()) co_return seen.wrong.push_back("no connection");
  for (int key = 0; key < keys; ++key) {
    client.send_request("GET", target_of(key));
    const bool answered = co_await client.answer() && client.status() == 200;
    const Result<std::string> value = co_await client.text(1u << 20);
    if (!answered || !value || *value != value_of(key, round)) seen.wrong.push_back(target_of(key));
  }
  co_await client.close();
}

// Until the client is done and the node told to stop.
void live(sim::World& world, sim::Node& machine, sim::Node& client_machine, Task<void> client,
          Nanos stop_within) {
  live_node(two_core_config({{"admin", "0.0.0.0:18080"}}), world, machine, client_machine,
            std::move(client), [&](gyre::Node& node, sim::Life& node_life) {
              machine.signal(SIGTERM);
              REQUIRE(node_life.run(stop_within) == sim::Stop::satisfied);
              CHECK(node.exit_code() == 0);
            });
  CHECK(world.check_quiescent(machine) == "");
}

}  // namespace

TEST_CASE("every verb works on both cores while clients write") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    sim::World world({.seed = seed});
    sim::Node& machine = world.add_node({.cores = 2});
    sim::Node& client_machine = world.add_node();
    Seen seen;
    live(world, machine, client_machine, all_verbs_with_clients(machine.address(), seen),
         seconds(10));
    for (const std::string& wrong : seen.wrong) CHECK_MESSAGE(false, wrong);
    for (int round = 0; round < 3; ++round) {
      FileStatus status;
      machine.disk().stat(fmt::format("/copy{}/GYRE", round), status);
      CHECK(status.exists);
    }
  }
}

namespace {

// The ports that are held at first; until when.
struct HeldPorts {
  Nanos clients_until = 0;
  Nanos admin_until = 0;  // 0: for good
};

Task<void> wait_for_start(sim::World& world, HeldPorts held, Nanos& took) {
  const Nanos begin = Reactor::current().now();
  co_await sleep_until(begin + held.clients_until);
  world.network().release_port(0, port);
  if (held.admin_until != 0) {
    co_await sleep_until(begin + held.admin_until);
    world.network().release_port(0, admin_port);
  }
  co_await await_ready();
  took = Reactor::current().now() - begin;
}

// Whether it took another port.
bool gave_way(HeldPorts held, const Flags& flags, Nanos& took) {
  sim::World world({.seed = 3});
  sim::Node& machine = world.add_node({.cores = 2});
  sim::Node& client_machine = world.add_node();
  if (held.clients_until != 0) world.network().occupy_port(0, port);
  world.network().occupy_port(0, admin_port);
  live_node(two_core_config(flags), world, machine, client_machine,
            wait_for_start(world, held, took), [&](gyre::Node& node, sim::Life& node_life) {
              machine.signal(SIGTERM);
              REQUIRE(node_life.run(seconds(10)) == sim::Stop::satisfied);
              CHECK(node.exit_code() == 0);
            });
  const auto& lines = machine.log_lines();
  return std::any_of(lines.begin(), lines.end(), [](const std::string& line) {
    return line.find("event=admin_port_taken") != std::string::npos;
  });
}

}  // namespace

TEST_CASE(
    "the default admin port gives way at once, unless it is one that a dead node still holds") {
  Nanos took = 0;
  CHECK(gave_way({}, {}, took));
  CHECK(took < seconds(1));
  // The node before dies slowly, and lets go of the one behind the other.
  CHECK_FALSE(
      gave_way({.clients_until = milliseconds(500), .admin_until = milliseconds(900)}, {}, took));
  // A port that was asked for is waited for.
  CHECK_FALSE(gave_way({.admin_until = milliseconds(900)}, {{"admin", "127.0.0.1:18080"}}, took));
  CHECK(took >= milliseconds(900));
}

TEST_CASE("a stop in the middle of every verb ends in time and loses nothing") {
  unsigned copies = 0;
  unsigned lives = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    sim::World world({.seed = seed});
    sim::Node& machine = world.add_node({.cores = 2});
    sim::Node& client_machine = world.add_node();
    machine.disk().options.read = {milliseconds(1), milliseconds(8)};
    machine.disk().options.name = {milliseconds(1), milliseconds(8)};
    Seen seen;
    live(world, machine, client_machine,
         leave_verbs_under_way(machine.address(), seed * 3000, seen), seconds(10));
    FileStatus whole;
    FileStatus incomplete;
    machine.disk().stat("/copy", whole);
    machine.disk().stat("/copy.incomplete", incomplete);
    CHECK(!incomplete.exists);  // what was stopped was taken away
    copies += whole.exists;
    ++lives;
    machine.disk().options.read = {microseconds(60), microseconds(400)};
    live(world, machine, client_machine, read_all(machine.address(), 1, seen), seconds(10));
    for (const std::string& wrong : seen.wrong) CHECK_MESSAGE(false, wrong);
  }
  CHECK(copies > 0);
  CHECK(copies < lives);
}
