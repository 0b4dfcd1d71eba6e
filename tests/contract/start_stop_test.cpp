// Start and stop as users and supervisors see them.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"

using namespace gyre::test;
namespace fs = std::filesystem;

namespace {

// Sends the head of a PUT, and returns once the node has read it: an answer to another connection
// would not show that, as another core may give it.
void begin_put(HttpClient& client, const std::string& key, size_t body_bytes) {
  client.send("PUT " + entity(key) + " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" +
              "Content-Length: " + std::to_string(body_bytes) + "\r\n\r\n");
  REQUIRE(client.read_some() == "HTTP/1.1 100 Continue\r\n\r\n");
}

}  // namespace

TEST_CASE("a node that was not started refuses connections") {
  NodeProcess node({}, false);
  CHECK(is_refused(listening_port_of_new_socket()));
}

TEST_CASE("a started node says so in one line and answers 200 on /v0/status") {
  NodeProcess node;
  CHECK(HttpClient(node.port()).get("/v0/status").status == 200);
  const std::string line = node.ready_line();
  CHECK(line.find("http://127.0.0.1:" + std::to_string(node.port())) != std::string::npos);
  CHECK(line.find("cores=" + std::to_string(cores_under_test())) != std::string::npos);
  CHECK(line.find("durability=group") != std::string::npos);
  CHECK(line.find("data=" + node.data()) != std::string::npos);
  CHECK(line.find("records_recovered=0") != std::string::npos);
}

TEST_CASE(
    "a stopped node's port refuses connections, and the same directory starts again at once") {
  NodeProcess node;
  const std::string value = random_bytes(1, 1024);
  CHECK(HttpClient(node.port()).put(entity("kept"), value).status == 201);
  for (int round = 0; round < 3; ++round) {
    const Exit exit = node.stop();
    CHECK(exit.code == 0);
    CHECK(is_refused(node.port()));
    node.start();
    HttpClient client(node.port());
    CHECK(client.get("/v0/status").status == 200);
    CHECK(client.get(entity("kept")).body == value);
  }
}

TEST_CASE("a node that was killed says how many records all its shards recovered") {
  NodeProcess node;
  {
    HttpClient client(node.port());
    for (int i = 0; i < 100; ++i) {
      CHECK(client.put(entity("key" + std::to_string(i)), "value").status == 201);
    }
  }
  node.kill();
  node.start();
  CHECK(node.ready_line().find("records_recovered=100\n") != std::string::npos);
}

TEST_CASE("SIGINT stops a node as SIGTERM does") {
  NodeProcess node;
  node.signal(SIGINT);
  const Exit exit = node.wait(30);
  REQUIRE(exit.ended);
  CHECK(exit.code == 0);
  CHECK(is_refused(node.port()));
}

TEST_CASE("port 0 is a free port, which the ready line names") {
  NodeProcess node({"--listen", "127.0.0.1:0"});
  CHECK(node.port() != 0);
  CHECK(HttpClient(node.port()).get("/v0/status").status == 200);
}

TEST_CASE("a missing data directory is created with its parents") {
  const std::string root = make_temporary_directory();
  {
    NodeProcess node({"--data", root + "/a/b/c"});
    CHECK(HttpClient(node.port()).put(entity("k"), "v").status == 201);
    CHECK(fs::exists(root + "/a/b/c"));
  }
  remove_directory(root);
}

TEST_CASE("a data directory in use is refused with a sentence that names it") {
  NodeProcess node;
  NodeProcess second({"--data", node.data()}, false);
  const Exit exit = second.start_refused();
  REQUIRE(exit.ended);
  CHECK(exit.code == 1);
  CHECK(second.error_output().find(node.data()) != std::string::npos);
  CHECK(second.error_output().find("use") != std::string::npos);
  CHECK(HttpClient(node.port()).get("/v0/status").status == 200);
}

TEST_CASE("a port that another node serves is refused, although both would share it") {
  NodeProcess node;
  const std::string address = "127.0.0.1:" + std::to_string(node.port());
  NodeProcess second({"--listen", address}, false);
  const Exit exit = second.start_refused();
  REQUIRE(exit.ended);
  CHECK(exit.code == 1);
  CHECK(second.error_output().find(address) != std::string::npos);
  CHECK(second.error_output().find("in use") != std::string::npos);
  CHECK(second.ready_line().empty());
  // Every connection still reaches the first.
  for (int i = 0; i < 20; ++i) CHECK(HttpClient(node.port()).get("/v0/status").status == 200);
}

TEST_CASE("a data directory that cannot be made is refused with a sentence") {
  const std::string root = make_temporary_directory();
  std::ofstream(root + "/file") << "not a directory";
  NodeProcess node({"--data", root + "/file"}, false);
  const Exit exit = node.start_refused();
  REQUIRE(exit.ended);
  CHECK(exit.code == 1);
  CHECK(node.error_output().find(root + "/file") != std::string::npos);
  remove_directory(root);
}

TEST_CASE("an address that is not this machine's is refused with a sentence") {
  NodeProcess node({"--listen", "192.0.2.1:8080"}, false);
  const Exit exit = node.start_refused();
  REQUIRE(exit.ended);
  CHECK(exit.code == 1);
  CHECK(node.error_output().find("192.0.2.1:8080") != std::string::npos);
}

TEST_CASE("a command line that makes no sense ends with code 2") {
  for (const std::vector<std::string>& flags : {std::vector<std::string>{"--memry", "1G"},
                                                {"--memory", "lots"},
                                                {"--durability", "maybe"}}) {
    NodeProcess node(flags, false);
    const Exit exit = node.start_refused();
    REQUIRE(exit.ended);
    CHECK(exit.code == 2);
    CHECK(!node.error_output().empty());
  }
}

TEST_CASE("a request under way when the node is told to stop is still answered") {
  NodeProcess node;
  HttpClient idle(node.port());
  CHECK(idle.get("/v0/status").status == 200);
  HttpClient busy(node.port());
  const std::string value = random_bytes(2, 100'000);
  begin_put(busy, "late", value.size());
  busy.send(value.substr(0, value.size() / 2));
  node.signal(SIGTERM);
  CHECK(idle.closed_by_peer());  // at once, it has nothing under way
  busy.send(value.substr(value.size() / 2));
  const HttpAnswer answer = busy.read_answer();
  CHECK(answer.status == 201);
  CHECK(answer.header("connection") == "close");
  const Exit exit = node.wait(30);
  REQUIRE(exit.ended);
  CHECK(exit.code == 0);
  node.start();
  CHECK(HttpClient(node.port()).get(entity("late")).body == value);
}

TEST_CASE("a client that never finishes its request does not hold up a stop") {
  NodeProcess node;
  HttpClient client(node.port());
  begin_put(client, "never", 100'000);
  client.send("abc");
  HttpClient half_head(node.port());
  half_head.send("GET /v0/entity?id=never HTT");
  CHECK(HttpClient(node.port()).get("/v0/status").status == 200);
  CHECK(node.stop().code == 0);
  node.start();
  CHECK(HttpClient(node.port()).get(entity("never")).status == 404);
}

TEST_CASE("a second SIGTERM stops at once, and what was acknowledged is there") {
  NodeProcess node;
  HttpClient stuck(node.port());
  begin_put(stuck, "stuck", 100'000);
  stuck.send("abc");
  CHECK(HttpClient(node.port()).put(entity("k"), "value").status == 201);
  node.signal(SIGTERM);
  while (!is_refused(node.port())) usleep(1000);  // the first one has arrived
  CHECK(!node.wait(0).ended);
  node.signal(SIGTERM);
  const Exit exit = node.wait(30);
  REQUIRE(exit.ended);
  CHECK(exit.code == 130);
  node.start();
  CHECK(HttpClient(node.port()).get(entity("k")).body == "value");
}

namespace {

// Writes keys `prefix`0, 1, … until the node goes; the number of those that were acknowledged.
uint64_t write_until_gone(uint16_t port, const std::string& prefix, std::atomic<uint64_t>& total) {
  uint64_t acknowledged = 0;
  try {
    HttpClient client(port);
    for (;; ++acknowledged) {
      const std::string key = prefix + std::to_string(acknowledged);
      if (client.put(entity(key), "value of " + key).status != 201) break;
      ++total;
    }
  } catch (const ConnectionEnded&) {
  }
  return acknowledged;
}

}  // namespace

TEST_CASE("a stop under load loses nothing that was acknowledged") {
  NodeProcess node;
  constexpr size_t writers = 8;
  std::vector<uint64_t> acknowledged(writers);
  std::vector<std::thread> threads;
  std::atomic<uint64_t> total = 0;
  for (size_t i = 0; i < writers; ++i) {
    threads.emplace_back([&, i] {
      acknowledged[i] = write_until_gone(node.port(), "w" + std::to_string(i) + "-", total);
    });
  }
  while (total < scaled(400, 50)) usleep(1000);
  const Exit exit = node.stop();
  for (std::thread& thread : threads) thread.join();
  CHECK(exit.code == 0);
  CHECK(is_refused(node.port()));
  node.start();
  HttpClient client(node.port());
  for (size_t i = 0; i < writers; ++i) {
    for (uint64_t n = 0; n < acknowledged[i]; ++n) {
      const std::string key = "w" + std::to_string(i) + "-" + std::to_string(n);
      const HttpAnswer answer = client.get(entity(key));
      CHECK_MESSAGE(answer.body == "value of " + key, key << " status " << answer.status);
    }
  }
}

TEST_CASE("a node that was killed serves again what it had acknowledged") {
  NodeProcess node;
  std::atomic<uint64_t> total = 0;
  uint64_t acknowledged = 0;
  std::thread writer([&] { acknowledged = write_until_gone(node.port(), "k", total); });
  while (total < 50) usleep(1000);
  node.kill();
  writer.join();
  node.start();
  HttpClient client(node.port());
  for (uint64_t n = 0; n < acknowledged; ++n) {
    const std::string key = "k" + std::to_string(n);
    CHECK(client.get(entity(key)).body == "value of " + key);
  }
  CHECK(node.ready_line().find("records_recovered=0") == std::string::npos);
}
