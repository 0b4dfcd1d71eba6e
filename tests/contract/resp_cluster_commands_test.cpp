// Redis clients of three real nodes: commands that read and write one key at once, and those that walk
// over all keys, each on every node.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "../resp/reply_bulks.hpp"
#include "node_group.hpp"
#include "resp_socket.hpp"

using namespace gyre::test;

namespace {

struct Cluster {
  Cluster() {
    for (size_t i = 0; i < 3; ++i) clients.push_back(std::make_unique<RespSocket>(group.node(i)));
  }
  std::string ask(size_t node, const std::vector<std::string>& words) {
    return clients[node]->ask(words);
  }
  NodeGroup group{3, {"--memory", "128M", "--resp", "127.0.0.1:0"}};
  std::vector<std::unique_ptr<RespSocket>> clients;
};

// A command, its answer, and what the key holds afterwards ("" for nothing).
struct Case {
  std::vector<std::string> words;
  std::string answer;
  std::string value;
};

}  // namespace

TEST_CASE("commands that read and write one key at once work on every node of a cluster") {
  Cluster cluster;
  // The key is "k", which each run of these begins without.
  const Case cases[] = {
      {{"INCR", "k"}, ":1\r\n", "1"},
      {{"INCRBY", "k", "9"}, ":10\r\n", "10"},
      {{"DECR", "k"}, ":9\r\n", "9"},
      {{"DECRBY", "k", "4"}, ":5\r\n", "5"},
      {{"INCRBYFLOAT", "k", "0.5"}, bulk("5.5"), "5.5"},
      {{"INCR", "k"}, "-ERR value is not an integer or out of range\r\n", "5.5"},
      {{"APPEND", "k", "abc"}, ":6\r\n", "5.5abc"},
      {{"SETRANGE", "k", "1", "xx"}, ":6\r\n", "5xxabc"},
      {{"STRLEN", "k"}, ":6\r\n", "5xxabc"},
      {{"GETRANGE", "k", "1", "3"}, bulk("xxa"), "5xxabc"},
      {{"SETNX", "k", "no"}, ":0\r\n", "5xxabc"},
      {{"SET", "k", "no", "NX"}, "$-1\r\n", "5xxabc"},
      {{"SET", "k", "one", "XX", "GET"}, bulk("5xxabc"), "one"},
      {{"GETSET", "k", "two"}, bulk("one"), "two"},
      {{"GETEX", "k", "EXAT", "4102444700"}, bulk("two"), "two"},
      {{"EXPIRETIME", "k"}, ":4102444700\r\n", "two"},
      {{"EXPIRE", "k", "200", "NX"}, ":0\r\n", "two"},
      {{"EXPIRE", "k", "200", "GT"}, ":0\r\n", "two"},
      {{"EXPIREAT", "k", "4102444600", "LT"}, ":1\r\n", "two"},
      {{"SET", "k", "three", "KEEPTTL"}, "+OK\r\n", "three"},
      {{"EXPIRETIME", "k"}, ":4102444600\r\n", "three"},
      {{"PEXPIRE", "k", "300000"}, ":1\r\n", "three"},
      {{"GETEX", "k"}, bulk("three"), "three"},
      {{"EXPIREAT", "k", "4102444800"}, ":1\r\n", "three"},
      {{"EXPIRETIME", "k"}, ":4102444800\r\n", "three"},
      {{"PEXPIREAT", "k", "4102444800500"}, ":1\r\n", "three"},
      {{"PEXPIRETIME", "k"}, ":4102444800500\r\n", "three"},
      {{"PERSIST", "k"}, ":1\r\n", "three"},
      {{"PTTL", "k"}, ":-1\r\n", "three"},
      {{"TYPE", "k"}, "+string\r\n", "three"},
      {{"OBJECT", "ENCODING", "k"}, bulk("embstr"), "three"},
      {{"COPY", "k", "copy"}, ":1\r\n", "three"},
      {{"COPY", "k", "copy"}, ":0\r\n", "three"},
      {{"GETDEL", "copy"}, bulk("three"), "three"},
      {{"RENAME", "k", "other"}, "+OK\r\n", ""},
      {{"RENAME", "k", "other"}, "-ERR no such key\r\n", ""},
      {{"RENAMENX", "other", "k"}, ":1\r\n", "three"},
      {{"MSETNX", "k", "1", "other", "2"}, ":0\r\n", "three"},
      {{"GETDEL", "k"}, bulk("three"), ""},
      {{"GETDEL", "k"}, "$-1\r\n", ""},
      {{"MSETNX", "k", "1", "other", "2"}, ":1\r\n", "1"},
      {{"DEL", "k", "other", "nothing", "k"}, ":2\r\n", ""},
      {{"SET", "k", "v", "XX"}, "$-1\r\n", ""},
      {{"EXPIRE", "k", "10"}, ":0\r\n", ""},
      {{"PERSIST", "k"}, ":0\r\n", ""},
      {{"TTL", "k"}, ":-2\r\n", ""},
      {{"SETEX", "k", "100", "v"}, "+OK\r\n", "v"},
      {{"EXPIRE", "k", "-1"}, ":1\r\n", ""},
  };
  for (size_t node = 0; node < 3; ++node) {
    for (const Case& one : cases) {
      std::string said = "node " + std::to_string(node) + ":";
      for (const std::string& word : one.words) said += " " + word;
      INFO(said);
      CHECK(cluster.ask(node, one.words) == one.answer);
      const std::string value = one.value.empty() ? "$-1\r\n" : bulk(one.value);
      CHECK(cluster.ask((node + 1) % 3, {"GET", "k"}) == value);
    }
  }
}

TEST_CASE(
    "RESP3 has its own null from another node's answer, and databases keep their keys apart") {
  Cluster cluster;
  CHECK(cluster.ask(0, {"HELLO", "3"}).front() == '%');
  for (int i = 0; i < 8; ++i) {
    CHECK(cluster.ask(0, {"GETDEL", "none" + std::to_string(i)}) == "_\r\n");
  }
  for (size_t node = 0; node < 3; ++node) {
    CHECK(cluster.ask(node, {"SELECT", "5"}) == "+OK\r\n");
    CHECK(cluster.ask(node, {"INCR", "k"}) == ":" + std::to_string(node + 1) + "\r\n");
  }
  CHECK(cluster.ask(1, {"SELECT", "0"}) == "+OK\r\n");
  CHECK(cluster.ask(1, {"GET", "k"}) == "$-1\r\n");
}

TEST_CASE("a pipeline of one client takes effect in its order, whichever node does the work") {
  Cluster cluster;
  for (size_t node = 0; node < 3; ++node) {
    for (int i = 0; i < 20; ++i) {
      const std::string key = "key" + std::to_string(i);
      std::string pipeline;
      std::string answers;
      const auto add = [&](const std::vector<std::string>& words, const std::string& answer) {
        pipeline += command_bytes(words);
        answers += answer;
      };
      add({"SET", key, "5"}, "+OK\r\n");
      add({"INCR", key}, ":6\r\n");
      add({"APPEND", key, "x"}, ":2\r\n");
      add({"APPEND", key, "y"}, ":3\r\n");
      add({"GET", key}, bulk("6xy"));
      add({"GETDEL", key}, bulk("6xy"));
      add({"SETNX", key, "7"}, ":1\r\n");
      add({"SET", key, "8"}, "+OK\r\n");
      add({"INCR", key}, ":9\r\n");
      add({"DEL", key}, ":1\r\n");
      add({"EXISTS", key}, ":0\r\n");
      cluster.clients[node]->say(pipeline);
      std::string said;
      for (int reply = 0; reply < 11; ++reply) said += cluster.clients[node]->hear();
      CHECK(said == answers);
    }
  }
}

TEST_CASE("odd commands are refused as such by every node") {
  Cluster cluster;
  std::vector<std::string> set = {"SET", "k", "v"};
  std::vector<std::string> getex = {"GETEX", "k"};
  for (int i = 0; i < 100; ++i) {
    set.emplace_back("NX");
    getex.emplace_back("PERSIST");
  }
  const std::string empty = "-ERR a cluster does not store the empty key: name it\r\n";
  for (size_t node = 0; node < 3; ++node) {
    CHECK(cluster.ask(node, {"DEL", "k"}) == (node == 0 ? ":0\r\n" : ":1\r\n"));
    CHECK(cluster.ask(node, set) == "+OK\r\n");
    CHECK(cluster.ask(node, getex) == "-ERR syntax error\r\n");
    CHECK(cluster.ask(node, {"INCR", ""}) == empty);
    CHECK(cluster.ask(node, {"SET", "", "v"}) == empty);
    CHECK(cluster.ask(node, {"RENAME", "k", ""}) == empty);
    CHECK(cluster.ask(node, {"RENAME", "", "k"}) == "-ERR no such key\r\n");
    CHECK(cluster.ask(node, {"SETRANGE", "k", "99999999999", "x"}) ==
          "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n");
  }
}

TEST_CASE("a large value is changed where its first replica is") {
  Cluster cluster;
  const std::string large(300'000, 'x');
  for (size_t node = 0; node < 3; ++node) {
    const std::string key = "large" + std::to_string(node);
    CHECK(cluster.ask(node, {"SET", key, large}) == "+OK\r\n");
    CHECK(cluster.ask(node, {"APPEND", key, "tail"}) == ":300004\r\n");
    CHECK(cluster.ask((node + 1) % 3, {"EXPIRE", key, "100"}) == ":1\r\n");
    CHECK(cluster.ask((node + 2) % 3, {"GETSET", key, large}) == bulk(large + "tail"));
    CHECK(cluster.ask(node, {"GETDEL", key}) == bulk(large));
  }
}

TEST_CASE("increments of clients on all nodes are counted, and go on when a node is killed") {
  Cluster cluster;
  std::vector<std::set<std::string>> answers(3);
  std::vector<std::thread> threads;
  for (size_t node = 0; node < 3; ++node) {
    threads.emplace_back([&, node] {
      for (int i = 0; i < 200; ++i) answers[node].insert(cluster.ask(node, {"INCR", "hits"}));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> all;
  for (const auto& some : answers) all.insert(some.begin(), some.end());
  CHECK(all.size() == 600);
  CHECK(all.contains(":600\r\n"));

  cluster.group.kill(2);
  // The first replica of some of these is gone.
  for (int i = 0; i < 12; ++i) {
    const std::string key = "after" + std::to_string(i);
    std::string answer;
    for (int tries = 0; tries < 300 && !answer.starts_with(":"); ++tries) {
      answer = cluster.ask(static_cast<size_t>(i) % 2, {"INCR", key});
    }
    CHECK(answer.starts_with(":"));
  }
  CHECK(cluster.ask(0, {"GET", "hits"}) == bulk("600"));
  cluster.group.kill(1);
  std::string alone;
  for (int tries = 0; tries < 3; ++tries) alone = cluster.ask(0, {"INCR", "hits"});
  CHECK(alone.starts_with("-NOREPLICAS "));
}

// --- walks over all keys ----------------------------------------------------------------------------

namespace {

// A whole SCAN; `next` says who is asked for the page of that number.
template <class Next>
std::multiset<std::string> scan_all(std::vector<std::string> options, Next next) {
  std::multiset<std::string> keys;
  std::string cursor = "0";
  for (unsigned page = 0; page < 1000; ++page) {
    std::vector<std::string> words = {"SCAN", cursor};
    words.insert(words.end(), options.begin(), options.end());
    const std::string reply = next(page, words);
    INFO(reply);
    REQUIRE(reply.starts_with("*2\r\n"));
    const std::vector<std::string> bulks = bulks_of(reply);
    cursor = bulks.front();
    keys.insert(bulks.begin() + 1, bulks.end());
    if (cursor == "0") return keys;
  }
  FAIL("no end");
  return keys;
}

std::string key_of(int i) {
  return "key" + std::to_string(1000 + i);
}

}  // namespace

TEST_CASE("walks over all keys work on every node of a cluster") {
  Cluster cluster;
  constexpr int keys = 300;
  for (int i = 0; i < keys; ++i) {
    CHECK(cluster.ask(static_cast<size_t>(i) % 3, {"SET", key_of(i), "v"}) == "+OK\r\n");
  }
  CHECK(cluster.ask(0, {"SET", "large", std::string(100'000, 'x')}) == "+OK\r\n");
  CHECK(cluster.ask(0, {"DEL", key_of(7)}) == ":1\r\n");
  CHECK(cluster.ask(0, {"PEXPIRE", key_of(8), "1"}) == ":1\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(cluster.ask(1, {"SELECT", "3"}) == "+OK\r\n");
  CHECK(cluster.ask(1, {"SET", "elsewhere", "v"}) == "+OK\r\n");
  CHECK(cluster.ask(1, {"DBSIZE"}) == ":1\r\n");
  CHECK(cluster.ask(1, {"KEYS", "*"}) == "*1\r\n" + bulk("elsewhere"));
  CHECK(cluster.ask(1, {"RANDOMKEY"}) == bulk("elsewhere"));
  CHECK(cluster.ask(1, {"SELECT", "0"}) == "+OK\r\n");
  for (size_t node = 0; node < 3; ++node) {
    CHECK(cluster.ask(node, {"DBSIZE"}) == ":299\r\n");
    CHECK(bulks_of(cluster.ask(node, {"KEYS", "*"})).size() == 299);
    CHECK(cluster.ask(node, {"KEYS", "l*e"}) == "*1\r\n" + bulk("large"));
    CHECK(bulks_of(cluster.ask(node, {"KEYS", "key123?"})).size() == 10);
    CHECK(cluster.ask(node, {"RANDOMKEY"}).starts_with("$"));
    const auto ask_it = [&](unsigned, const std::vector<std::string>& words) {
      return cluster.ask(node, words);
    };
    const std::multiset<std::string> all = scan_all({"COUNT", "50"}, ask_it);
    CHECK(all.size() == 299);
    CHECK(all.count(key_of(7)) == 0);
    CHECK(all.count("large") == 1);
    CHECK(scan_all({"MATCH", "key111?", "COUNT", "7"}, ask_it).size() == 10);
    CHECK(scan_all({"TYPE", "list"}, ask_it).empty());
  }
  CHECK(cluster.ask(2, {"FLUSHDB"}) == "+OK\r\n");
  for (size_t node = 0; node < 3; ++node) {
    CHECK(cluster.ask(node, {"DBSIZE"}) == ":0\r\n");
    CHECK(cluster.ask(node, {"RANDOMKEY"}) == "$-1\r\n");
    CHECK(cluster.ask(node, {"SCAN", "0"}) == "*2\r\n" + bulk("0") + "*0\r\n");
    CHECK(cluster.ask(node, {"SELECT", "3"}) == "+OK\r\n");
    CHECK(cluster.ask(node, {"EXISTS", "elsewhere"}) == ":1\r\n");
  }
  CHECK(cluster.ask(1, {"FLUSHALL", "ASYNC"}) == "+OK\r\n");
  CHECK(cluster.ask(2, {"DBSIZE"}) == ":0\r\n");
}

TEST_CASE("a scan misses no key when a node dies, and when it goes on elsewhere") {
  Cluster cluster;
  constexpr int keys = 200;
  for (int i = 0; i < keys; ++i) {
    CHECK(cluster.ask(static_cast<size_t>(i) % 3, {"SET", key_of(i), "v"}) == "+OK\r\n");
  }
  const auto has_all = [&](const std::multiset<std::string>& found) {
    for (int i = 0; i < keys; ++i) {
      if (!found.contains(key_of(i))) return false;
    }
    return true;
  };
  // Other keys are written and removed meanwhile, and a node that is no client's goes away.
  CHECK(has_all(scan_all({"COUNT", "10"}, [&](unsigned page, const auto& words) {
    cluster.ask(0, {"SET", "a" + std::to_string(page), "v"});
    cluster.ask(0, {"DEL", "a" + std::to_string(page - 1)});
    if (page == 7) cluster.group.kill(2);
    return cluster.ask(0, words);
  })));
  // Either node knows the other's cursors.
  const std::multiset<std::string> in_turns =
      scan_all({"COUNT", "10"},
               [&](unsigned page, const auto& words) { return cluster.ask(page % 2, words); });
  CHECK(has_all(in_turns));
  for (int i = 0; i < keys; ++i) CHECK(in_turns.count(key_of(i)) == 1);
  // One that nobody knows begins again.
  CHECK(bulks_of(cluster.ask(0, {"SCAN", "4503599627370497", "COUNT", "1"})).back() ==
        bulks_of(cluster.ask(0, {"SCAN", "0", "COUNT", "1"})).back());
  cluster.group.kill(1);
  CHECK(cluster.ask(0, {"DBSIZE"}) ==
        "-NOREPLICAS Not enough good replicas to walk over all keys.\r\n");
  CHECK(cluster.ask(0, {"FLUSHALL"}).starts_with("-NOREPLICAS "));
  CHECK(cluster.ask(0, {"SCAN", "0"}).starts_with("-NOREPLICAS "));
}
