// Keys of several databases, walks over all keys, and what HTTP sees of them, on whole nodes in the
// simulation. Single commands: command_fuzz_test.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <csignal>
#include <set>

#include "../node_sim_rig.hpp"
#include "http/client.hpp"
#include "resp_line.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

ServeConfig config_with_resp() {
  ServeConfig config = two_core_config({{"shards", "3"}});
  config.resp = Address{"0.0.0.0", resp_port};
  return config;
}

// Lives of a node, one for each client, ended in between as by `kill`.
void live(std::vector<Task<void> (*)(std::string host)> clients) {
  sim::World world({.seed = 7});
  sim::Node& machine = world.add_node({.cores = 2});
  sim::Node& client_machine = world.add_node();
  for (Task<void> (*client)(std::string) : clients) {
    live_node(config_with_resp(), world, machine, client_machine, client(machine.address()),
              [&](gyre::Node&, sim::Life& life) {
                machine.signal(SIGTERM);
                REQUIRE(world.run_until([&] { return life.ended(); }, seconds(600)) ==
                        sim::Stop::satisfied);
              });
  }
}

Task<std::string> http(std::string host, std::string method, std::string target,
                       std::optional<std::string> body = {}) {
  http::Client client({host, port}, seconds(60));
  std::string answer = "no answer";
  if (!co_await client.connect()) co_return answer;
  client.send_request(method, target, body ? std::optional<std::string_view>(*body) : std::nullopt);
  if (co_await client.answer()) {
    Result<std::string> text = co_await client.text(1 << 20);
    answer = fmt::format("{} {}", client.status(), text ? *text : "");
  }
  co_await client.close();
  co_return answer;
}

Task<void> expect(RespLine& line, CommandWords words, std::string reply) {
  std::string asked;
  for (const std::string& word : words) asked += word.substr(0, 40) + " ";
  CAPTURE(asked);
  const std::string got = co_await line.ask(std::move(words));
  CHECK(got == reply);
}

// --- databases and HTTP ---------------------------------------------------------------------------

Task<void> databases_and_http(std::string host) {
  co_await await_ready();
  auto fd = co_await dial(host);
  REQUIRE_OR_RETURN(fd.has_value());
  RespLine line(std::move(*fd));
  const std::string reserved =
      "\xff"
      "db\x01"
      "a";  // as "a" of database 1 is stored
  co_await expect(line, {"SET", "a", "0"}, "+OK\r\n");
  co_await expect(line, {"SET", reserved, "mine"}, "+OK\r\n");
  co_await expect(line, {"SELECT", "1"}, "+OK\r\n");
  co_await expect(line, {"GET", "a"}, "$-1\r\n");
  co_await expect(line, {"SET", "a", "1"}, "+OK\r\n");
  co_await expect(line, {"SELECT", "15"}, "+OK\r\n");
  co_await expect(line, {"SET", "a", "15"}, "+OK\r\n");

  CHECK(co_await http(host, "GET", "/v0/entity?id=a") == "200 0");
  CHECK(co_await http(host, "GET", "/v0/entity?id=%FFdb%01a") == "200 mine");
  CHECK(co_await http(host, "GET", "/v0/entity?id=%FFdb%0Fa") ==
        "404 no value is stored under this key\n");
  CHECK(co_await http(host, "PUT", "/v0/entity?id=%FFdb%0Fa", "http") == "201 ");
  CHECK(co_await http(host, "GET", "/v0/entities?start=%01") == "200 a\n0" + reserved + "\nmine" +
                                                                    "\xff"
                                                                    "db\x0f"
                                                                    "a\nhttp");
  CHECK(co_await http(host, "GET", "/v0/entities?start=%FFdb%02") ==
        "200 \xff"
        "db\x0f"
        "a\nhttp");

  co_await expect(line, {"GET", "a"}, "$2\r\n15\r\n");
  co_await expect(line, {"SELECT", "0"}, "+OK\r\n");
  co_await expect(line,
                  {"GET",
                   "\xff"
                   "db\x0f"
                   "a"},
                  "$4\r\nhttp\r\n");
  co_await expect(line, {"DBSIZE"}, ":3\r\n");
  co_await expect(line, {"FLUSHDB"}, "+OK\r\n");
  co_await expect(line, {"DBSIZE"}, ":0\r\n");
  co_await expect(line, {"SELECT", "1"}, "+OK\r\n");
  co_await expect(line, {"GET", "a"}, "$1\r\n1\r\n");
  co_await expect(line, {"FLUSHALL"}, "+OK\r\n");
  co_await expect(line, {"SELECT", "15"}, "+OK\r\n");
  co_await expect(line, {"EXISTS", "a"}, ":0\r\n");
  co_await line.close();
}

// --- SCAN -----------------------------------------------------------------------------------------

constexpr unsigned scanned_keys = 500;
std::set<std::string> scanned;
std::string scan_cursor;

Task<void> scan_on(RespLine& line, unsigned calls_max) {
  for (unsigned calls = 0; calls < calls_max; ++calls) {
    const std::string reply = co_await line.ask({"SCAN", scan_cursor, "COUNT", "17"});
    resp::ReplyTree tree;
    REQUIRE_OR_RETURN((tree.parse(reply) && tree.root().size() == 2));
    scan_cursor = tree.root()[0].text();
    for (const resp::Reply key : tree.root()[1]) scanned.emplace(key.text());
    if (scan_cursor == "0") co_return;
  }
}

Task<void> begin_scan(std::string host) {
  co_await await_ready();
  auto fd = co_await dial(host);
  REQUIRE_OR_RETURN(fd.has_value());
  RespLine line(std::move(*fd));
  for (unsigned i = 0; i < scanned_keys; ++i) {
    co_await expect(line, {"SET", fmt::format("user:{:06}", i), "x"}, "+OK\r\n");
  }
  scanned.clear();
  scan_cursor = "0";
  co_await scan_on(line, 12);
  CHECK(scan_cursor != "0");
  CHECK(scanned.size() > 12 * 10);
  co_await line.close();
}

// After a restart nobody knows the cursor any more.
Task<void> end_scan(std::string host) {
  co_await await_ready();
  auto fd = co_await dial(host);
  REQUIRE_OR_RETURN(fd.has_value());
  RespLine line(std::move(*fd));
  co_await scan_on(line, 100);
  CHECK(scan_cursor == "0");
  CHECK(scanned.size() == scanned_keys);
  scan_cursor = "12345";  // never given by anybody
  scanned.clear();
  co_await scan_on(line, 100);
  CHECK(scanned.size() == scanned_keys);
  co_await line.close();
}

// Keys that are there all the time are all found, whatever is written and removed meanwhile, and
// on however many connections it goes on.
Task<void> scan_amid_writes(std::string host) {
  co_await await_ready();
  auto one = co_await dial(host);
  auto two = co_await dial(host);
  REQUIRE_OR_RETURN((one.has_value() && two.has_value()));
  RespLine line(std::move(*one));
  RespLine other(std::move(*two));
  scanned.clear();
  scan_cursor = "0";
  for (unsigned i = 0; i < 100; ++i) {
    co_await scan_on(i % 2 == 0 ? line : other, 1);
    if (scan_cursor == "0") break;
    co_await expect(other, {"SET", fmt::format("user:{:06}x", i * 7 % scanned_keys), "y"},
                    "+OK\r\n");
    static_cast<void>(co_await line.ask({"DEL", fmt::format("user:{:06}x", i * 5 % scanned_keys)}));
  }
  CHECK(scan_cursor == "0");
  for (unsigned i = 0; i < scanned_keys; ++i) {
    CHECK(scanned.contains(fmt::format("user:{:06}", i)));
  }
  co_await line.close();
  co_await other.close();
}

// --- large values ---------------------------------------------------------------------------------

Task<void> large_values(std::string host) {
  co_await await_ready();
  auto fd = co_await dial(host);
  REQUIRE_OR_RETURN(fd.has_value());
  RespLine line(std::move(*fd));
  const std::string large(300'000, 'L');
  co_await expect(line, {"SET", "large", large}, "+OK\r\n");
  co_await expect(line, {"APPEND", "large", "end"}, ":300003\r\n");
  co_await expect(line, {"GETRANGE", "large", "-5", "-1"}, "$5\r\nLLend\r\n");
  co_await expect(line, {"EXPIRE", "large", "1000"}, ":1\r\n");
  co_await expect(line, {"STRLEN", "large"}, ":300003\r\n");
  co_await line.close();
}

// From the table that the end of the life before has made.
Task<void> large_values_from_disk(std::string host) {
  co_await await_ready();
  auto fd = co_await dial(host);
  REQUIRE_OR_RETURN(fd.has_value());
  RespLine line(std::move(*fd));
  const std::string whole = std::string(300'000, 'L') + "end";
  co_await expect(line, {"GETRANGE", "large", "299998", "300001"}, "$4\r\nLLen\r\n");
  co_await expect(line, {"SETRANGE", "large", "300003", "!"}, ":300004\r\n");
  co_await expect(line, {"PERSIST", "large"}, ":1\r\n");
  co_await expect(line, {"RENAME", "large", "moved"}, "+OK\r\n");
  co_await expect(line, {"INCR", "moved"}, "-ERR value is not an integer or out of range\r\n");
  co_await expect(line, {"GETDEL", "moved"}, fmt::format("$300004\r\n{}!\r\n", whole));
  co_await expect(line, {"EXISTS", "moved", "large"}, ":0\r\n");
  co_await line.close();
}

}  // namespace

TEST_CASE("HTTP shows database 0 alone, whatever its keys look like") {
  live({databases_and_http});
}

TEST_CASE("a scan goes on after a restart, and misses nothing") {
  live({begin_scan, end_scan, scan_amid_writes});
}

TEST_CASE("large values are made, moved and cut, in memory and on the disk") {
  live({large_values, large_values_from_disk});
}
