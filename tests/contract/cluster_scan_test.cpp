// Ranges over a whole cluster: all keys in order through any node, as fresh as reads are, with nodes
// that were away, hang, or die in the middle.
#include <doctest/doctest.h>

#include <csignal>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "node_group.hpp"

using namespace gyre::test;

namespace {

const std::vector<std::string> small = {"--memory", "128M"};
using Records = std::map<std::string, std::string>;

std::string key_of(int number) {
  std::string digits = std::to_string(number);
  return "key" + std::string(6 - digits.size(), '0') + digits;
}

std::string scan_target(const std::string& replicas = "", const std::string& end = "") {
  return range("k", end) + (replicas.empty() ? "" : "&replicas=" + replicas);
}

// What the chunks say; every key has to come after the one before.
Records records_of(const std::vector<std::string>& chunks) {
  Records records;
  for (const std::string& chunk : chunks) {
    const size_t at = chunk.find('\n');
    REQUIRE(at != std::string::npos);
    const std::string key = chunk.substr(0, at);
    CHECK((records.empty() || records.rbegin()->first < key));
    records[key] = chunk.substr(at + 1);
  }
  return records;
}

Records scan(NodeGroup& group, size_t node, const std::string& replicas = "") {
  HttpClient client(group.node(node).port());
  const HttpAnswer answer = client.get(scan_target(replicas));
  CHECK(answer.status == 200);
  CHECK(answer.chunked);
  return records_of(answer.chunks);
}

// More than windows, pages and sockets hold together.
Records fill(NodeGroup& group, int keys, size_t value_bytes, const std::string& replicas) {
  Records records;
  HttpClient client(group.node(0).port());
  for (int i = 0; i < keys; ++i) {
    const std::string value = random_bytes(static_cast<uint64_t>(i), value_bytes);
    CHECK(client.put(entity(key_of(i)) + "&replicas=" + replicas, value).status == 201);
    records[key_of(i)] = value;
  }
  return records;
}

// The rest of a chunked body. Nothing if it ends without its last chunk.
std::optional<std::vector<std::string>> rest_of(HttpClient& client) {
  std::vector<std::string> chunks;
  try {
    while (const std::optional<std::string> chunk = client.read_chunk()) chunks.push_back(*chunk);
  } catch (const ConnectionEnded&) {
    return std::nullopt;
  }
  return chunks;
}

}  // namespace

TEST_CASE("every node shows all keys of the cluster in order, however many copies they have") {
  NodeGroup group(3, small);
  for (const std::string replicas : {"1/1", "2/2", "2/3"}) {
    const int keys = static_cast<int>(scaled(2000, 200));
    Records expected;
    std::vector<std::unique_ptr<HttpClient>> clients;
    for (size_t n = 0; n < 3; ++n) {
      clients.push_back(std::make_unique<HttpClient>(group.node(n).port()));
    }
    for (int i = 0; i < keys; ++i) {
      HttpClient& client = *clients[static_cast<size_t>(i) % 3];
      const std::string target = entity(key_of(i)) + "&replicas=" + replicas;
      CHECK(client.put(target, "value" + std::to_string(i) + replicas).status == 201);
      expected[key_of(i)] = "value" + std::to_string(i) + replicas;
    }
    for (size_t n = 0; n < 3; ++n) CHECK(scan(group, n, replicas) == expected);
  }
}

TEST_CASE(
    "a range has its bounds, may be empty, and is refused as any other where it is nonsense") {
  NodeGroup group(3, small);
  fill(group, 20, 1, "3/3");
  HttpClient client(group.node(1).port());
  const auto ask = [&](const std::string& start, const std::string& end) {
    const HttpAnswer answer = client.get(range(start, end));
    CHECK(answer.status == 200);
    return records_of(answer.chunks);
  };
  const Records some = ask(key_of(5), key_of(9));
  REQUIRE(some.size() == 4);
  CHECK(some.begin()->first == key_of(5));
  CHECK(some.rbegin()->first == key_of(8));
  CHECK(ask(key_of(5) + "x", key_of(7)).size() == 1);
  CHECK(ask(key_of(9), key_of(9)).empty());
  CHECK(ask(key_of(9), key_of(3)).empty());
  CHECK(ask("z", "").empty());
  for (const std::string target :
       {"/v0/entities", "/v0/entities?start=", "/v0/entities?start=a&end=",
        "/v0/entities?start=a&replicas=4/3", "/v0/entities?start=a&replicas=0/3"}) {
    CHECK(client.get(target).status == 400);
  }
  // One node's own are still to be had.
  CHECK(records_of(client.get(range("k") + "&scope=node").chunks).size() == 20);
}

TEST_CASE("a range is as fresh as a read, also through and with a node that was away") {
  NodeGroup group(3, small);
  Records expected;
  const int keys = 300;
  for (int i = 0; i < keys; ++i) CHECK(group.put(0, key_of(i), "old", "3/3") == 201);
  group.stop(2);
  for (int i = 0; i < keys; ++i) {
    if (i % 3 == 0) {
      CHECK(group.put(i % 2, key_of(i), "new") == 201);
    } else if (i % 3 == 1) {
      CHECK(group.del(i % 2, key_of(i)) == 202);
      continue;
    }
    expected[key_of(i)] = i % 3 == 0 ? "new" : "old";
  }
  CHECK(group.put(0, key_of(keys), "only of two") == 201);
  expected[key_of(keys)] = "only of two";
  group.start(2);
  for (size_t n = 0; n < 3; ++n) CHECK(scan(group, n) == expected);
  // Two of three are asked: each of the others may be the one that is not.
  group.kill(0);
  for (size_t n = 1; n < 3; ++n) CHECK(scan(group, n) == expected);
}

TEST_CASE("expired values are gone everywhere") {
  NodeGroup group(3, small);
  HttpClient client(group.node(0).port());
  CHECK(client.put(entity("k1") + "&replicas=3/3", "v").status == 201);
  CHECK(client.put(entity("k1") + "&replicas=3/3&ttl_ms=300", "v").status == 201);
  CHECK(client.put(entity("k2") + "&replicas=3/3&ttl=100", "v").status == 201);
  const timespec over{.tv_sec = 0, .tv_nsec = 400'000'000};
  nanosleep(&over, nullptr);
  CHECK(scan(group, 1) == Records{{"k2", "v"}});
}

TEST_CASE("long values come whole, in their places") {
  NodeGroup group(3, {"--memory", "256M"});
  Records expected;
  for (int i = 0; i < 24; ++i) {
    const std::string value =
        random_bytes(static_cast<uint64_t>(i), i % 3 == 0 ? 700'000 + i : 60'000 + 2000 * i);
    CHECK(group.put(static_cast<size_t>(i) % 3, key_of(i), value) == 201);
    expected[key_of(i)] = value;
  }
  for (size_t n = 0; n < 3; ++n) CHECK(scan(group, n) == expected);
}

TEST_CASE("a node that hangs costs a range a moment, not its keys") {
  NodeGroup group(3, small);
  const Records expected = fill(group, static_cast<int>(scaled(1000, 300)), 1000, "3/3");
  group.node(2).signal(SIGSTOP);
  for (const size_t n : {0, 1, 0, 1}) {
    const std::time_t begun = std::time(nullptr);
    CHECK(scan(group, n) == expected);
    CHECK(std::time(nullptr) - begun <= 4);
  }
  const std::time_t begun = std::time(nullptr);
  HttpClient client(group.node(0).port());
  const HttpAnswer answer = client.get(scan_target("3/3"));
  CHECK(answer.status == 504);
  CHECK(answer.body.find("Not Enough Replicas") != std::string::npos);
  CHECK(std::time(nullptr) - begun <= 9);
  group.node(2).signal(SIGCONT);
}

TEST_CASE("a node that hangs or dies in the middle of a range is replaced from there on") {
  for (const int signal : {SIGSTOP, SIGKILL}) {
    for (const size_t victim : {1, 2}) {
      NodeGroup group(3, small);
      Records expected = fill(group, 4000, 3000, "3/3");
      // The node that is asked has old values at the end of the range.
      group.stop(0);
      HttpClient writer(group.node(1).port());
      for (int i = 3000; i < 4000; ++i) {
        if (i % 4 == 0) {
          CHECK(writer.del(entity(key_of(i))).status == 202);
          expected.erase(key_of(i));
        } else if (i % 4 == 1) {
          CHECK(writer.put(entity(key_of(i)), "new").status == 201);
          expected[key_of(i)] = "new";
        }
      }
      group.start(0);
      HttpClient client(group.node(0).port(), 16 << 10);
      client.send(get_request(scan_target()));
      CHECK(client.read_head().status == 200);
      std::vector<std::string> chunks;
      for (int i = 0; i < 20; ++i) chunks.push_back(client.read_chunk().value());
      if (signal == SIGKILL) {
        group.kill(victim);
      } else {
        group.node(victim).signal(SIGSTOP);
      }
      const auto rest = rest_of(client);
      REQUIRE(rest);
      chunks.insert(chunks.end(), rest->begin(), rest->end());
      CHECK(records_of(chunks) == expected);
      if (signal == SIGSTOP) group.node(victim).signal(SIGCONT);
    }
  }
}

TEST_CASE("a range that can't go on ends without its last chunk") {
  NodeGroup group(3, small);
  const Records expected = fill(group, 4000, 3000, "3/3");
  HttpClient client(group.node(0).port(), 16 << 10);
  client.send(get_request(scan_target("3/3")));
  CHECK(client.read_head().status == 200);
  CHECK(client.read_chunk());
  group.kill(1);
  CHECK_FALSE(rest_of(client));
  HttpClient another(group.node(0).port());
  CHECK(another.get(scan_target("3/3")).status == 504);
  CHECK(another.get(scan_target()).status == 200);
}
