// Redis clients that talk to `gyre proxy --resp` as if it were Redis, beside others that talk to
// Redis directly.
#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"
#include "proxy_process.hpp"
#include "redis_process.hpp"

using namespace gyre::test;
using Clock = std::chrono::steady_clock;

namespace {

struct Ran {
  int exit_code = -1;
  std::string output;
};

Ran run_shell(const std::string& command) {
  Ran ran;
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  char bytes[4096];
  for (size_t got = 0; (got = fread(bytes, 1, sizeof bytes, pipe)) > 0;) {
    ran.output.append(bytes, got);
  }
  ran.exit_code = pclose(pipe);
  return ran;
}

void becomes(RedisClient& client, const std::string& key, const std::string& value) {
  const auto end = Clock::now() + std::chrono::seconds(60);
  std::string seen;
  while ((seen = client.run({"GET", key})) != value && Clock::now() < end) {
  }
  CHECK(seen == value);
}

uint64_t hits(const ProxyProcess& proxy) {
  const std::string stats = HttpClient(proxy.port()).get("/stats").body;
  return std::stoull(stats.substr(stats.find("\"hits\":") + 7));
}

}  // namespace

TEST_CASE("reads of strings are answered from memory as Redis answers them") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  direct.run({"SET", "k", "Hello World"});
  direct.run({"SET", "empty", ""});
  direct.run({"LPUSH", "list", "a", "b"});
  ProxyProcess proxy(redis);
  RedisClient client(proxy.resp_port());
  const std::vector<std::vector<std::string>> commands = {
      {"GET", "k"},
      {"GET", "empty"},
      {"GET", "none"},
      {"GET", "list"},
      {"GET"},
      {"GET", "a", "b"},
      {"MGET", "k", "none", "list", "empty", "k"},
      {"MGET"},
      {"STRLEN", "k"},
      {"STRLEN", "none"},
      {"STRLEN", "list"},
      {"GETRANGE", "k", "0", "4"},
      {"GETRANGE", "k", "-5", "-1"},
      {"GETRANGE", "k", "3", "100"},
      {"GETRANGE", "k", "-100", "2"},
      {"GETRANGE", "k", "5", "2"},
      {"GETRANGE", "k", "-1", "-3"},
      {"GETRANGE", "k", "x", "2"},
      {"GETRANGE", "none", "0", "-1"},
      {"SUBSTR", "k", "1", "3"},
      {"LRANGE", "list", "0", "-1"},
      {"TYPE", "list"},
      {"EXISTS", "k", "none"},
      {"TTL", "k"},
      {"OBJECT", "ENCODING", "empty"},
      {"HGETALL", "none"},
      {"NOSUCHCOMMAND", "x"},
      {"PING"},
      {"PING", "text"},
      {"ECHO", "text"},
      {"DBSIZE"},
  };
  for (int round = 0; round < 2; ++round) {
    for (const auto& words : commands) {
      CAPTURE(words[0]);
      CAPTURE(words.size());
      CHECK(client.run_all(words) == direct.run_all(words));
    }
  }
  CHECK(hits(proxy) > 10);
}

TEST_CASE("who wrote reads what it wrote, and so does everybody after that") {
  RedisProcess redis;
  for (const char* tracking : {"on", "off"}) {
    CAPTURE(tracking);
    ProxyProcess proxy(redis, {"--tracking", tracking});
    RedisClient writer(proxy.resp_port());
    RedisClient reader(proxy.resp_port());
    HttpClient http(proxy.port());
    for (int i = 0; i < 500; ++i) {
      const std::string key = "k" + std::to_string(i % 7);
      const std::string value = std::to_string(i);
      REQUIRE(writer.run({"SET", key, value}) == "OK");
      REQUIRE(writer.run({"GET", key}) == value);
      REQUIRE(reader.run({"GET", key}) == value);
      REQUIRE(http.get("/v1/entity?id=" + key).body == value);
      REQUIRE(writer.run({"APPEND", key, "x"}) == std::to_string(value.size() + 1));
      REQUIRE(reader.run({"GET", key}) == value + "x");
      REQUIRE(writer.run({"EVAL", "return redis.call('INCRBY', KEYS[1], 2)", "1", "n"}) ==
              std::to_string(2 * (i + 1)));
      REQUIRE(reader.run({"GET", "n"}) == std::to_string(2 * (i + 1)));
      REQUIRE(writer.run({"MSET", "a", value, "b", value, "c", value}) == "OK");
      REQUIRE(reader.run({"MGET", "a", "b", "c"}) == value + "\n" + value + "\n" + value + "\n");
      REQUIRE(writer.run({"RENAME", "a", "b2"}) == "OK");
      REQUIRE(reader.run({"MGET", "a", "b2"}) == "(nil)\n" + value + "\n");
      REQUIRE(writer.run({"DEL", "b2"}) == "1");
      REQUIRE(reader.run({"GET", "b2"}) == "(nil)");
    }
    REQUIRE(writer.run({"FLUSHALL"}) == "OK");
    CHECK(reader.run({"GET", "c"}) == "(nil)");
  }
}

TEST_CASE("a pipeline is answered in order, reads seeing the writes before them") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  RedisClient client(proxy.resp_port());
  for (int round = 0; round < 20; ++round) {
    std::vector<std::vector<std::string>> commands;
    std::vector<std::string> expected;
    for (int i = 0; i < 50; ++i) {
      const std::string key = "k" + std::to_string(i % 5);
      const std::string value = std::to_string(round * 100 + i);
      commands.push_back({"SET", key, value});
      expected.push_back("OK");
      commands.push_back({"GET", key});
      expected.push_back(value);
      commands.push_back({"STRLEN", key});
      expected.push_back(std::to_string(value.size()));
      if (i % 10 == 0) {
        commands.push_back({"PING"});
        expected.push_back("PONG");
      }
    }
    CHECK(client.pipeline(commands) == expected);
  }
}

TEST_CASE("a transaction runs whole on a connection of its own") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  ProxyProcess proxy(redis);
  RedisClient client(proxy.resp_port());
  RedisClient other(proxy.resp_port());
  direct.run({"SET", "n", "1"});
  CHECK(other.run({"GET", "n"}) == "1");
  CHECK(client.run({"MULTI"}) == "OK");
  CHECK(client.run({"INCR", "n"}) == "QUEUED");
  CHECK(client.run({"GET", "n"}) == "QUEUED");
  CHECK(other.run({"GET", "n"}) == "1");
  CHECK(client.run({"EXEC"}) == "2\n2\n");
  CHECK(other.run({"GET", "n"}) == "2");
  CHECK(client.run({"GET", "n"}) == "2");
  // All in one piece.
  CHECK(client.pipeline({{"MULTI"}, {"SET", "n", "5"}, {"GET", "n"}, {"EXEC"}, {"GET", "n"}}) ==
        std::vector<std::string>{"OK", "QUEUED", "QUEUED", "OK\n5\n", "5"});
  CHECK(client.pipeline({{"MULTI"}, {"SET", "n", "6"}, {"DISCARD"}, {"GET", "n"}}) ==
        std::vector<std::string>{"OK", "QUEUED", "OK", "5"});
  // WATCH sees what others do.
  CHECK(client.run({"WATCH", "n"}) == "OK");
  CHECK(client.run({"GET", "n"}) == "5");
  CHECK(other.run({"SET", "n", "7"}) == "OK");
  CHECK(client.run({"MULTI"}) == "OK");
  CHECK(client.run({"SET", "n", "8"}) == "QUEUED");
  CHECK(client.run({"EXEC"}) == "(nil)");
  CHECK(client.run({"GET", "n"}) == "7");
  CHECK(client.run({"EXEC"}) == "(error) ERR EXEC without MULTI");
  // Lost in between: nothing of it is carried out.
  CHECK(client.run({"MULTI"}) == "OK");
  CHECK(client.run({"SET", "n", "9"}) == "QUEUED");
  CHECK(direct.run({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}) != "0");
  // It is either known by now, or noticed when EXEC is sent.
  const std::string said = client.run({"EXEC"});
  CAPTURE(said);
  CHECK((said.find("EXECABORT") != std::string::npos ||
         said.find("was lost; the command may have been carried out") != std::string::npos));
  becomes(client, "n", "7");
}

TEST_CASE("blocking commands hold up nobody else, and end with their client") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  ProxyProcess proxy(redis);
  RedisClient other(proxy.resp_port());
  std::string popped;
  std::thread waiting([&] {
    RedisClient client(proxy.resp_port());
    popped = client.run({"BLPOP", "list", "0"});
  });
  // It waits in Redis.
  while (direct.run({"INFO", "clients"}).find("blocked_clients:1") == std::string::npos) {
  }
  for (int i = 0; i < 100; ++i) CHECK(other.run({"SET", "k", std::to_string(i)}) == "OK");
  CHECK(other.run({"RPUSH", "list", "value"}) == "1");
  waiting.join();
  CHECK(popped == "list\nvalue\n");
  {
    auto gone = std::make_unique<RedisClient>(proxy.resp_port());
    gone->send({"BLPOP", "list", "0"});
    while (direct.run({"INFO", "clients"}).find("blocked_clients:1") == std::string::npos) {
    }
  }
  while (direct.run({"INFO", "clients"}).find("blocked_clients:0") == std::string::npos) {
  }
  // And with the proxy, which doesn't wait for it for ever.
  RedisClient last(proxy.resp_port());
  last.send({"BLPOP", "list", "0"});
  while (direct.run({"INFO", "clients"}).find("blocked_clients:1") == std::string::npos) {
  }
  CHECK(proxy.stop().code == 0);
}

TEST_CASE("what would change things for others is refused") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  RedisClient client(proxy.resp_port());
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"MONITOR"},
                                             {"SHUTDOWN"},
                                             {"DEBUG", "SLEEP", "1"},
                                             {"SELECT", "1"},
                                             {"CONFIG", "SET", "save", ""},
                                             {"CLIENT", "TRACKING", "ON"},
                                             {"REPLICAOF", "a", "1"}}) {
    CAPTURE(words[0]);
    CHECK(client.run_all(words).find("(error) ERR gyre proxy") == 0);
  }
  CHECK(client.run({"SELECT", "0"}) == "OK");
  CHECK(client.run({"PING"}) == "PONG");
}

TEST_CASE("handshakes of the usual clients") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  RedisClient client(proxy.resp_port());
  CHECK(client.run({"HELLO", "2"}).find("server\nredis\nversion\n7.") == 0);
  CHECK(client.run({"HELLO", "4"}) == "(error) NOPROTO unsupported protocol version");
  CHECK(client.run({"CLIENT", "SETNAME", "me"}) == "OK");
  CHECK(client.run({"CLIENT", "GETNAME"}) == "me");
  CHECK(client.run({"CLIENT", "SETINFO", "LIB-NAME", "x"}) == "OK");
  CHECK(client.run({"INFO", "server"}).find("redis_version:7.") != std::string::npos);
  CHECK(client.run({"CONFIG", "GET", "databases"}) == "databases\n16\n");
  CHECK(client.run({"COMMAND", "COUNT"}) != "0");
  CHECK(client.run({"AUTH", "x"}).find("(error) ERR AUTH <password> called without any") == 0);
}

TEST_CASE("with a password nothing is done before it was told") {
  RedisProcess redis;
  const std::string directory = make_temporary_directory();
  std::ofstream(directory + "/password") << "sesame\n";
  {
    ProxyProcess proxy(redis, {"--resp-password-file", directory + "/password"});
    RedisClient client(proxy.resp_port());
    CHECK(client.run({"GET", "k"}) == "(error) NOAUTH Authentication required.");
    CHECK(client.run({"AUTH", "wrong"}).find("WRONGPASS") != std::string::npos);
    CHECK(client.run({"GET", "k"}) == "(error) NOAUTH Authentication required.");
    CHECK(client.run({"AUTH", "default", "sesame"}) == "OK");
    CHECK(client.run({"GET", "k"}) == "(nil)");
    RedisClient other(proxy.resp_port());
    CHECK(other.run({"HELLO", "3", "AUTH", "default", "sesame"}).find("(error)") ==
          std::string::npos);
  }
  NodeProcess open({"--resp", "0.0.0.0:0"}, false);
  open.command = "proxy";
  CHECK(open.start_refused().code == 2);
  CHECK(open.error_output().find("--resp-password-file") != std::string::npos);
  remove_directory(directory);
}

TEST_CASE("redis-cli and redis-benchmark work through it") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  const std::string port = std::to_string(proxy.resp_port());
  for (const char* protocol : {"-2", "-3"}) {
    const std::string cli = std::string("redis-cli ") + protocol + " -p " + port + " ";
    CHECK(run_shell(cli + "set k value").output == "OK\n");
    CHECK(run_shell(cli + "get k").output == "value\n");
    CHECK(run_shell(cli + "rpush l a b c").exit_code == 0);
    CHECK(run_shell(cli + "hset h f v").exit_code == 0);
    CHECK(run_shell(cli + "hgetall h").output ==
          (std::string(protocol) == "-2" ? "f\nv\n" : "f v\n"));
    CHECK(run_shell(cli + "del l").output == "1\n");
  }
  const auto bench = run_shell("redis-benchmark -p " + port +
                               " -t ping,set,get,incr,lpush,mset -n 2000 -c 10 -P 8 -q 2>&1");
  CHECK(bench.exit_code == 0);
  CHECK(bench.output.find("rror") == std::string::npos);
}

TEST_CASE("versions never go back, while Redis is killed now and then") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> reads{0};
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 3; ++reader) {
    readers.emplace_back([&, reader] {
      RedisClient client(proxy.resp_port());
      uint64_t seen[10] = {};
      for (uint64_t i = static_cast<uint64_t>(reader); !stop; ++i) {
        const size_t key = i * 7 % 10;
        const std::string said = client.run({"GET", "k" + std::to_string(key)});
        ++reads;
        if (said == "(nil)" || said.starts_with("(error)")) continue;
        const uint64_t version = std::stoull(said);
        if (version < seen[key]) ++wrong;
        seen[key] = std::max(seen[key], version);
      }
    });
  }
  RedisClient writer(proxy.resp_port());
  uint64_t version = 0;
  for (int life = 0; life < 4; ++life) {
    const auto end = Clock::now() + std::chrono::milliseconds(300);
    while (Clock::now() < end) {
      ++version;
      const std::string key = "k" + std::to_string(version % 10);
      if (writer.run({"SET", key, std::to_string(version)}) != "OK") continue;
      const std::string said = writer.run({"GET", key});
      if (said != std::to_string(version) && !said.starts_with("(error)")) ++wrong;
    }
    redis.kill();
    redis.start();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  MESSAGE(reads.load() << " reads beside " << version << " writes");
  CHECK(wrong == 0);
  CHECK(proxy.stop().code == 0);
}

TEST_CASE("a reply over the limit is an error by itself, read here or passed on") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  direct.run({"SET", "large", std::string(20'000'000, 'x')});
  direct.run({"SET", "k", "v"});
  const std::string element(1'000'000, 'y');
  for (int i = 0; i < 70; ++i) direct.run({"RPUSH", "list", element});
  ProxyProcess proxy(redis, {"--max-value", "1M"});
  RedisClient client(proxy.resp_port());
  for (int round = 0; round < 6; ++round) {
    CHECK(client.run({"GET", "large"}) ==
          "(error) ERR gyre proxy: the value is longer than --max-value allows");
    CHECK(client.run({"MGET", "k", "large"}) ==
          "(error) ERR gyre proxy: the value is longer than --max-value allows");
    CHECK(client.run({"GET", "k"}) == "v");
  }
  const std::vector<std::string> replies =
      client.pipeline({{"LLEN", "list"}, {"LRANGE", "list", "0", "-1"}, {"LLEN", "list"}});
  CHECK(replies[0] == "70");
  CHECK(replies[1] ==
        "(error) ERR gyre proxy: the reply is longer than --max-value and 64 MiB allow");
  CHECK(replies[2] == "70");
  CHECK(client.run({"LRANGE", "list", "0", "1"}) == element + "\n" + element + "\n");
  const std::string stats = HttpClient(proxy.port()).get("/stats").body;
  CHECK(stats.find("\"lost\":0") != std::string::npos);
}
