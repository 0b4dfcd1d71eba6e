// Whole nodes in the simulation: what clients see of states that pass too quickly on a real
// machine.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cerrno>
#include <csignal>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "http/client.hpp"
#include "node_sim_rig.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

constexpr int keys = 200;

struct Answer {
  uint16_t status = 0;
  std::string retry_after;
  std::string body;
};

// One request on a connection of its own; status 0 if there was none.
Task<Answer> ask(std::string host, std::string method, std::string target) {
  Answer answer;
  http::Client client({host, port}, seconds(60));
  if (!co_await client.connect()) co_return answer;
  const bool has_body = method == "PUT";
  client.send_request(method, target,
                      has_body ? std::optional<std::string_view>("value") : std::nullopt);
  if (co_await client.answer()) {
    answer.status = client.status();
    answer.retry_after = client.field("retry-after");
    Result<std::string> body = co_await client.text(1 << 20);
    if (body) answer.body = std::move(*body);
  }
  co_await client.close();
  co_return answer;
}

std::string target_of(int key) {
  return fmt::format("/v0/entity?id=key{}", key);
}

Task<void> fill(std::string host, int& stored) {
  co_await await_ready();
  for (int key = 0; key < keys; ++key) {
    const Answer answer = co_await ask(host, "PUT", target_of(key));
    stored += answer.status == 201;
  }
}

struct Seen {
  std::map<std::string, int> while_recovering;  // by request
  std::vector<std::string> wrong;
  int found = 0;
};

Task<void> watch_recovery(std::string host, Seen& seen) {
  const std::pair<const char*, std::string> requests[] = {
      {"GET", "/v0/status"},      {"GET", target_of(1)},       {"HEAD", target_of(1)},
      {"PUT", target_of(keys)},   {"DELETE", target_of(keys)}, {"GET", "/v0/entities?start=k"},
      {"GET", "/readyz?verbose"}, {"GET", "/livez"},           {"GET", "/v0/entity?id="},
      {"GET", "/metrics"},
  };
  while (ready_line.empty()) {
    for (const auto& [method, target] : requests) {
      const Answer answer = co_await ask(host, method, target);
      // No answer: the port is not open yet. Ready by now: the answer may be of either state.
      if (answer.status == 0 || !ready_line.empty()) continue;
      const bool alive = target == "/livez" || target == "/metrics";
      const uint16_t expected = alive ? 200 : target == "/v0/entity?id=" ? 400 : 503;
      ++seen.while_recovering[fmt::format("{} {}", method, target)];
      if (answer.status != expected) {
        seen.wrong.push_back(fmt::format("{} {}: {}", method, target, answer.status));
      }
      if (expected == 503 && (answer.retry_after.empty() || answer.retry_after == "0")) {
        seen.wrong.push_back(fmt::format("{} {}: no Retry-After", method, target));
      }
    }
    static_cast<void>(co_await sleep_for(milliseconds(1)));
  }
  for (const char* target : {"/v0/status", "/readyz"}) {
    if ((co_await ask(host, "GET", target)).status != 200) seen.wrong.push_back(target);
  }
  for (int key = 0; key < keys; ++key) {
    const Answer answer = co_await ask(host, "GET", target_of(key));
    seen.found += answer.status == 200 && answer.body == "value";
  }
}

// `end` ends the node's life.
template <class End>
void live(sim::World& world, sim::Node& machine, sim::Node& client_machine, Task<void> client,
          End end) {
  live_node(two_core_config(), world, machine, client_machine, std::move(client),
            [&](gyre::Node&, sim::Life& node_life) { end(node_life); });
}

}  // namespace

TEST_CASE("while a node recovers it answers 503 with Retry-After, and then what it had") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    sim::World world({.seed = seed});
    sim::Node& machine = world.add_node({.cores = 2});
    sim::Node& client_machine = world.add_node();
    int stored = 0;
    live(world, machine, client_machine, fill(machine.address(), stored),
         [](sim::Life& life) { REQUIRE(life.kill()); });
    CHECK(stored == keys);

    machine.disk().options.read = {milliseconds(500), seconds(1)};
    Seen seen;
    live(world, machine, client_machine, watch_recovery(machine.address(), seen),
         [&](sim::Life& life) {
           machine.signal(SIGTERM);
           REQUIRE(life.run(seconds(600)) == sim::Stop::satisfied);
         });
    CHECK(seen.while_recovering.size() == 10);
    for (const std::string& wrong : seen.wrong) CHECK_MESSAGE(false, wrong);
    CHECK(seen.found == keys);
    CHECK(ready_line.find(fmt::format("records_recovered={}\n", keys)) != std::string::npos);
    CHECK(world.check_quiescent(machine) == "");
  }
}

namespace {

struct Outcome {
  std::map<std::string, uint16_t> put;  // what each key's only PUT was answered
  std::vector<std::string> wrong;
};

// Puts keys of its own until it was refused a few times.
Task<void> put_until_refused(std::string host, int client, Outcome& outcome) {
  int refused = 0;
  for (int i = 0; refused < 3; ++i) {
    const std::string target = fmt::format("/v0/entity?id=c{}-{}", client, i);
    const Answer answer = co_await ask(host, "PUT", target);
    outcome.put[target] = answer.status;
    if (answer.status == 201) continue;
    ++refused;
    const bool says_so = answer.status == 500
                             ? answer.body.find("whether it is stored") != std::string::npos
                             : answer.status == 503 && !answer.retry_after.empty();
    if (!says_so) outcome.wrong.push_back(fmt::format("{} {}", answer.status, answer.body));
  }
}

Task<void> put_on_failing_disk(std::string host, sim::Disk& disk, Outcome& outcome) {
  co_await await_ready();
  for (int shard = 0; shard < 2; ++shard) {
    disk.plan({.code = OpCode::write,
               .path_part = fmt::format("shard-00{}/", shard),
               .nth = 20,
               .error = EIO,
               .times = UINT32_MAX});
  }
  Scope scope;
  for (int client = 0; client < 12; ++client) {
    scope.spawn(put_until_refused(host, client, outcome));
  }
  co_await scope.join();
}

Task<void> look_again(std::string host, Outcome& outcome) {
  co_await await_ready();
  for (const auto& [target, put] : outcome.put) {
    const uint16_t got = (co_await ask(host, "GET", target)).status;
    const bool good = put == 500 ? got == 200 || got == 404 : got == (put == 201 ? 200 : 404);
    if (!good) outcome.wrong.push_back(fmt::format("{}: PUT {}, GET {}", target, put, got));
  }
}

}  // namespace

TEST_CASE("a write that the disk failed under is answered 500: only then it may be stored") {
  int answers_500 = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    sim::World world({.seed = seed});
    sim::Node& machine = world.add_node({.cores = 2});
    sim::Node& client_machine = world.add_node();
    const auto stop = [&](sim::Life& life) {
      machine.signal(SIGTERM);
      REQUIRE(life.run(seconds(600)) == sim::Stop::satisfied);
    };
    Outcome outcome;
    live(world, machine, client_machine,
         put_on_failing_disk(machine.address(), machine.disk(), outcome), stop);
    for (const auto& [target, status] : outcome.put) answers_500 += status == 500;
    machine.disk().clear_plans();
    live(world, machine, client_machine, look_again(machine.address(), outcome), stop);
    for (const std::string& wrong : outcome.wrong) CHECK_MESSAGE(false, wrong);
  }
  CHECK(answers_500 > 0);
}

namespace {

// In simulated time: shorter than anything after which the node lets a client go.
constexpr Nanos prompt = milliseconds(200);
constexpr size_t middle_bytes = 60'000;  // read as a whole, unlike a large one
constexpr size_t large_bytes = 900'000;  // more than a client lets in that doesn't read

struct Promptness {
  int stalled = 0;  // clients that have asked
  Nanos slowest = 0;
  std::vector<std::string> wrong;
};

Task<uint16_t> put_value(std::string host, std::string target, std::string value) {
  http::Client client({host, port}, seconds(60));
  if (!co_await client.connect()) co_return uint16_t{0};
  client.send_request("PUT", target, value);
  const uint16_t status = co_await client.answer() ? client.status() : uint16_t{0};
  co_await client.close();
  co_return status;
}

// A large value, and behind it small ones whose answers are ready at once; reads nothing.
Task<void> ask_much_and_not_read(std::string host, int large, Event& end, Promptness& seen) {
  Result<Descriptor> fd = co_await connect_to(host, port);
  if (!fd) co_return seen.wrong.push_back(fd.error().message());
  Socket socket(std::move(*fd));
  const auto ask = [&](const std::string& key) {
    socket.append(fmt::format("GET /v0/entity?id={} HTTP/1.1\r\nHost: n\r\n\r\n", key));
  };
  ask(fmt::format("large{}", large));
  for (int i = 0; i < 8; ++i) ask(fmt::format("middle{}", i));
  ++seen.stalled;
  static_cast<void>(co_await end.wait());
  co_await socket.close();
}

Task<void> read_beside_stalled(std::string host, Promptness& seen) {
  co_await await_ready();
  for (int i = 0; i < 8; ++i) {
    const std::string middle = fmt::format("/v0/entity?id=middle{}", i);
    const std::string large = fmt::format("/v0/entity?id=large{}", i);
    if (co_await put_value(host, middle, std::string(middle_bytes, 'm')) != 201 ||
        co_await put_value(host, large, std::string(large_bytes, 'l')) != 201) {
      seen.wrong.push_back("a value was not stored");
    }
  }
  Event end;
  Scope clients;
  for (int i = 0; i < 80; ++i) clients.spawn(ask_much_and_not_read(host, i % 8, end, seen));
  while (seen.stalled < 80) static_cast<void>(co_await sleep_for(milliseconds(1)));
  static_cast<void>(co_await sleep_for(milliseconds(20)));  // until what can be read was read
  for (int i = 0; i < 8; ++i) {
    const Nanos before = Reactor::current().now();
    const Answer answer = co_await ask(host, "GET", fmt::format("/v0/entity?id=middle{}", i));
    seen.slowest = std::max(seen.slowest, Reactor::current().now() - before);
    if (answer.status != 200 || answer.body.size() != middle_bytes) {
      seen.wrong.push_back(fmt::format("{} {}", answer.status, answer.body));
    }
  }
  end.set();
  co_await clients.join();
}

}  // namespace

TEST_CASE("answers that are ready behind a stalled one do not hold up who asks next") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    sim::World world({.seed = seed,
                      .network = {.between_nodes = {microseconds(50), microseconds(200)},
                                  .spike_ppm = 0,
                                  .window_bytes_min = 32u << 10}});
    sim::Node& machine = world.add_node({.cores = 2});
    sim::Node& client_machine = world.add_node();
    Promptness seen;
    live(world, machine, client_machine, read_beside_stalled(machine.address(), seen),
         [&](sim::Life& life) {
           machine.signal(SIGTERM);
           REQUIRE(life.run(seconds(600)) == sim::Stop::satisfied);
         });
    CHECK(seen.slowest < prompt);
    for (const std::string& wrong : seen.wrong) CHECK_MESSAGE(false, wrong);
  }
}
