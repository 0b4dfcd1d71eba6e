// ack/from with nodes that go and come (contract history 2.5 to 2.7): two nodes and three.
#include <doctest/doctest.h>

#include <csignal>
#include <ctime>
#include <string>

#include "node_group.hpp"

using namespace gyre::test;

namespace {

const std::vector<std::string> small = {"--memory", "128M"};

struct Case {
  size_t nodes;
  std::string all;     // every replica
  std::string quorum;  // one of the nodes may be away
};
const Case two{2, "2/2", "1/2"};
const Case three{3, "3/3", "2/3"};

std::string fresh_key() {
  static int number = 0;
  return "key" + std::to_string(++number);
}

}  // namespace

TEST_CASE("nonsense in replicas= is a 400 for every method") {
  NodeGroup group(2, small);
  for (const std::string replicas : {"0/2", "3/2", "1/3", "0/0", "-1/2", "a/b", "1", "2/1"}) {
    CHECK(group.get(0, "k", replicas).status == 400);
    CHECK(group.put(0, "k", "v", replicas) == 400);
    CHECK(group.del(0, "k", replicas) == 400);
  }
  HttpClient client(group.node(0).port());
  CHECK(client.put(entity("k") + "&from=2&ack=1", "v").status == 201);
  CHECK(client.get(entity("k") + "&ack=2&from=2").body == "v");
}

TEST_CASE("more answers than there are nodes up is a 504 at once") {
  for (const Case& c : {two, three}) {
    NodeGroup group(c.nodes, small);
    CHECK(group.put(0, "k", "v", c.all) == 201);
    group.stop(0);
    const auto begun = std::time(nullptr);
    const HttpAnswer answer = group.get(1, "k", c.all);
    CHECK(answer.status == 504);
    CHECK(answer.body.find("Not Enough Replicas") != std::string::npos);
    CHECK(group.put(1, "k", "w", c.all) == 504);
    CHECK(group.del(1, "k", c.all) == 504);
    CHECK(std::time(nullptr) - begun <= 3);
  }
}

TEST_CASE("reads and writes whose replicas overlap see each other, through any node") {
  NodeGroup group(3, small);
  const std::string key = fresh_key();
  for (const auto& [write, read] :
       {std::pair("2/3", "2/3"), std::pair("1/3", "3/3"), std::pair("3/3", "1/3")}) {
    for (size_t n = 0; n < 6; ++n) {
      const std::string value = std::string(write) + std::to_string(n);
      CHECK(group.put(n, key, value, write) == 201);
      for (size_t reader = 0; reader < 3; ++reader)
        CHECK(group.get(reader, key, read).body == value);
    }
    for (size_t n = 0; n < 3; ++n) {
      CHECK(group.put(n, key, "v", "3/3") == 201);
      CHECK(group.del(n + 1, key, write) == 202);
      for (size_t reader = 0; reader < 3; ++reader)
        CHECK(group.get(reader, key, read).status == 404);
    }
  }
}

TEST_CASE(
    "a node that was away when something was written, deleted or written again learns of it") {
  for (const Case& c : {two, three}) {
    NodeGroup group(c.nodes, small);
    const std::string read = c.nodes == 2 ? "2/2" : "2/3";
    for (size_t away = 0; away < c.nodes; ++away) {
      const std::string written = fresh_key();
      const std::string deleted = fresh_key();
      const std::string overwritten = fresh_key();
      const std::string recreated = fresh_key();
      CHECK(group.put(away, deleted, "v1", c.all) == 201);
      CHECK(group.put(away, overwritten, "v1", c.all) == 201);
      CHECK(group.put(away, recreated, "v1", c.all) == 201);
      CHECK(group.del(away, recreated, c.all) == 202);
      group.stop(away);
      CHECK(group.put(away + 1, written, "v", c.quorum) == 201);
      CHECK(group.del(away + 1, deleted, c.quorum) == 202);
      CHECK(group.put(away + 1, overwritten, "v2", c.quorum) == 201);
      CHECK(group.put(away + 1, recreated, "v2", c.quorum) == 201);
      group.start(away);
      // The instant that it is back.
      CHECK(group.get(away, written, read).body == "v");
      CHECK(group.get(away, deleted, read).status == 404);
      CHECK(group.get(away, overwritten, read).body == "v2");
      CHECK(group.get(away, recreated, read).body == "v2");
    }
  }
}

TEST_CASE("with one node down a quorum still reads, writes and deletes") {
  for (const Case& c : {two, three}) {
    NodeGroup group(c.nodes, small);
    for (size_t away = 0; away < c.nodes; ++away) {
      const std::string key = fresh_key();
      CHECK(group.put(away, key, "v", c.all) == 201);
      group.kill(away);
      for (size_t n = 0; n < c.nodes; ++n) {
        if (n != away) CHECK(group.get(n, key, c.quorum).body == "v");
      }
      CHECK(group.del(away + 1, key, c.quorum) == 202);
      for (size_t n = 0; n < c.nodes; ++n) {
        if (n != away) CHECK(group.get(n, key, c.quorum).status == 404);
      }
      group.start(away);
    }
  }
}

TEST_CASE("a write stores as many copies as it was told, on nested sets of nodes") {
  NodeGroup group(3, small);
  constexpr int keys = 12;
  for (int i = 0; i < keys; ++i) {
    CHECK(group.put(0, "one" + std::to_string(i), "v", "1/1") == 201);
    CHECK(group.put(0, "two" + std::to_string(i), "v", "2/2") == 201);
  }
  group.stop_all();
  int ones = 0;
  int twos = 0;
  for (size_t n = 0; n < 3; ++n) {
    group.start(n);
    for (int i = 0; i < keys; ++i) {
      ones += group.get(n, "one" + std::to_string(i), "1/1").status == 200;
      // From any of the three: a node without a copy doesn't answer 200.
      twos += group.get(n, "two" + std::to_string(i), "1/2").status == 200;
    }
    group.stop(n);
  }
  CHECK(ones == keys);
  CHECK(twos == 2 * keys);
}

TEST_CASE("a read repairs what it sees to be old") {
  NodeGroup group(3, small);
  const std::string key = fresh_key();
  // Two nodes have it, the third was away.
  group.stop(2);
  CHECK(group.put(0, key, "v1", "2/3") == 201);
  group.start(2);
  CHECK(group.get(2, key, "3/3").body == "v1");
  group.stop(0);
  group.stop(1);
  CHECK(group.get(2, key, "1/3").body == "v1");
}

TEST_CASE("a value expires everywhere at the same time") {
  NodeGroup group(3, small);
  HttpClient client(group.node(0).port());
  CHECK(client.put(entity("k") + "&replicas=3/3&ttl_ms=1200", "v").status == 201);
  CHECK(client.put(entity("stays") + "&replicas=3/3&ttl=100", "v").status == 201);
  for (size_t n = 0; n < 3; ++n) CHECK(group.get(n, "k", "3/3").body == "v");
  const timespec over{.tv_sec = 1, .tv_nsec = 300'000'000};
  nanosleep(&over, nullptr);
  for (size_t n = 0; n < 3; ++n) {
    CHECK(group.get(n, "k", "3/3").status == 404);
    CHECK(group.get(n, "stays", "2/3").body == "v");
  }
}

TEST_CASE("a stopped node, hanging, costs its own reads a moment and nobody else anything") {
  NodeGroup group(3, small);
  for (int i = 0; i < 30; ++i) CHECK(group.put(0, "k" + std::to_string(i), "v", "3/3") == 201);
  group.node(2).signal(SIGSTOP);
  for (int i = 0; i < 30; ++i) {
    CHECK(group.put(0, "k" + std::to_string(i), "w", "2/3") == 201);
    CHECK(group.get(1, "k" + std::to_string(i), "2/3").body == "w");
  }
  // Longer than what every replica sends at once.
  const std::string value = random_bytes(3, 300'000);
  for (int i = 0; i < 6; ++i) {
    CHECK(group.put(0, "long" + std::to_string(i), value, "2/3") == 201);
    CHECK(group.get(0, "long" + std::to_string(i), "2/3").body == value);
  }
  CHECK(group.put(0, "k0", "x", "3/3") == 504);
  group.node(2).signal(SIGCONT);
}
