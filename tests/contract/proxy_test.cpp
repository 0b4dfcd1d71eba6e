// `gyre proxy` in front of a real Redis, with a second client that talks to Redis directly.
#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"
#include "redis_process.hpp"

using namespace gyre::test;
using Clock = std::chrono::steady_clock;

namespace {

// Only against hanging for ever.
constexpr auto patience = std::chrono::seconds(60);

class ProxyProcess : public NodeProcess {
 public:
  explicit ProxyProcess(const RedisProcess& redis, std::vector<std::string> more = {})
      : ProxyProcess(redis.port(), std::move(more)) {}
  explicit ProxyProcess(uint16_t redis_port, std::vector<std::string> more = {})
      : NodeProcess({"--redis-port", std::to_string(redis_port), "--admin", "127.0.0.1:0"}, false) {
    command = "proxy";
    flags.insert(flags.end(), more.begin(), more.end());
    start();
  }
  uint16_t admin_port() const {
    const std::string line = ready_line();
    const size_t at = line.find("admin=http://");
    return static_cast<uint16_t>(std::atoi(line.c_str() + line.find(':', at + 13) + 1));
  }
};

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

// Asks until `holds` says yes to an answer; what came before is handed to it too.
HttpAnswer ask_until(HttpClient& client, const std::string& target,
                     const std::function<bool(const HttpAnswer&)>& holds) {
  const auto end = Clock::now() + patience;
  for (;;) {
    const HttpAnswer answer = client.get(target);
    if (holds(answer)) return answer;
    if (Clock::now() > end) {
      FAIL("it stays at " << answer.status << " " << answer.body);
      return answer;
    }
  }
}

uint64_t figure(const std::string& json, const std::string& name) {
  const size_t at = json.find("\"" + name + "\":");
  REQUIRE(at != std::string::npos);
  return std::stoull(json.substr(at + name.size() + 3));
}

std::string lookup(const std::string& key) {
  return "/lookup?key=" + percent_encode(key);
}

}  // namespace

TEST_CASE("values of Redis as JSON and as bytes, from Redis and then from memory") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  direct.run({"SET", "key", "value"});
  direct.run({"SET", "bytes", std::string_view("\0\xff\r\n", 4)});
  direct.run({"LPUSH", "list", "a"});
  const std::string large = random_bytes(1, 3'000'000);
  direct.run({"SET", "large", large});
  ProxyProcess proxy(redis);
  CHECK(proxy.ready_line().find(" coherent ") != std::string::npos);
  HttpClient client(proxy.port());
  for (int round = 0; round < 2; ++round) {
    HttpAnswer answer = client.get("/lookup?key=key");
    CHECK(answer.status == 200);
    CHECK(answer.body == R"({"key":"key","value":"value","status":200})");
    CHECK(answer.header("content-type") == "application/json");
    answer = client.get("/lookup?key=none");
    CHECK(answer.status == 404);
    CHECK(answer.body == R"({"key":"none","value":null,"status":404})");
    answer = client.get("/lookup");
    CHECK(answer.status == 400);
    CHECK(answer.body == R"({"key":null,"value":null,"status":400})");
    answer = client.get("/lookup?key=bytes");
    CHECK(answer.body == R"({"key":"bytes","value":"AP8NCg==","status":200,"encoding":"base64"})");
    CHECK(client.get("/v1/entity?id=bytes").body == std::string("\0\xff\r\n", 4));
    answer = client.get("/v1/entity?id=large");
    CHECK(answer.status == 200);
    CHECK(answer.body == large);
    answer = client.get("/v1/entity?id=list");
    CHECK(answer.status == 503);
    CHECK(answer.body.find("WRONGTYPE") != std::string::npos);
    CHECK(client.get("/abracadabra").status == 400);
  }
  const std::string stats = client.get("/stats").body;
  CHECK(figure(stats, "fetches") == 6);  // a list is asked for each time
  CHECK(figure(stats, "hits") == 6);
  CHECK(proxy.stop().code == 0);
  CHECK(is_refused(proxy.port()));
}

TEST_CASE("pipelined lookups are answered in order") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  for (int i = 0; i < 50; i += 2) {
    direct.run({"SET", "k" + std::to_string(i), "v" + std::to_string(i)});
  }
  ProxyProcess proxy(redis);
  HttpClient client(proxy.port());
  for (int round = 0; round < 3; ++round) {
    std::string requests;
    for (int i = 0; i < 100; ++i) {
      requests += get_request("/v1/entity?id=k" + std::to_string(i % 50));
    }
    client.send(requests);
    for (int i = 0; i < 100; ++i) {
      const HttpAnswer answer = client.read_answer();
      CHECK(answer.status == (i % 2 == 0 ? 200 : 404));
      if (i % 2 == 0) CHECK(answer.body == "v" + std::to_string(i % 50));
    }
  }
}

TEST_CASE("how long a value is seen that another client has overwritten in Redis") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  ProxyProcess proxy(redis, {"--ttl-ms", "3600000"});
  HttpClient client(proxy.port());
  std::vector<double> new_after_ms;
  int old_answers = 0;
  const auto rounds = static_cast<int>(scaled(2000, 200));
  for (int i = 0; i < rounds; ++i) {
    const std::string key = "k" + std::to_string(i % 10);
    const std::string value = std::to_string(i);
    REQUIRE(direct.run({"SET", key, value}) == "OK");
    const auto written = Clock::now();
    ask_until(client, "/v1/entity?id=" + key, [&](const HttpAnswer& answer) {
      REQUIRE(answer.status == 200);
      old_answers += answer.body != value;
      return answer.body == value;
    });
    new_after_ms.push_back(milliseconds_since(written));
    // And it stays: now from memory.
    const HttpAnswer again = client.get("/v1/entity?id=" + key);
    REQUIRE(again.body == value);
    if (i % 7 == 0) client.get("/v1/entity?id=k" + std::to_string(i * 3 % 10));
  }
  std::ranges::sort(new_after_ms);
  const auto at = [&](double share) {
    return new_after_ms[static_cast<size_t>(share * static_cast<double>(rounds - 1))];
  };
  MESSAGE("of " << rounds << " writes to Redis the new value was answered after " << at(0.5)
                << " ms (p50), " << at(0.99) << " (p99), " << at(1) << " (most); " << old_answers
                << " answers were the old one");
  const std::string stats = client.get("/stats").body;
  CHECK(figure(stats, "hits") >= static_cast<uint64_t>(rounds));
  CHECK(figure(stats, "invalidations") > static_cast<uint64_t>(rounds) / 2);
}

TEST_CASE("a value over the limit is refused by itself; its connection stays, and it is not kept") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  direct.run({"SET", "large", random_bytes(1, 30'000'000)});
  direct.run({"SET", "k", "v"});
  ProxyProcess proxy(redis, {"--max-value", "1M"});
  HttpClient client(proxy.port());
  for (int round = 0; round < 8; ++round) {
    const HttpAnswer answer = client.get("/v1/entity?id=large");
    CHECK(answer.status == 503);
    CHECK(answer.body == "the value is longer than --max-value allows\n");
    CHECK(client.get("/v1/entity?id=k").body == "v");
  }
  const std::string stats = client.get("/stats").body;
  CHECK(figure(stats, "too_long") == 8);
  CHECK(figure(stats, "lost") == 0);
  direct.run({"SET", "large", "small"});
  CHECK(ask_until(client, "/v1/entity?id=large", [](const HttpAnswer& answer) {
          return answer.status == 200;
        }).body == "small");
}

TEST_CASE("once Redis has told of a change, the old value is not answered again") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  ProxyProcess proxy(redis, {"--ttl-ms", "3600000", "--stats-rate", "0"});
  HttpClient client(proxy.port());
  HttpClient watch(proxy.port());
  const auto told = [&] { return figure(watch.get("/stats").body, "invalidations"); };
  const auto rounds = static_cast<int>(scaled(500, 100));
  for (int i = 0; i < rounds; ++i) {
    const std::string key = "k" + std::to_string(i % 10);
    REQUIRE(client.get("/v1/entity?id=" + key).status == (i < 10 ? 404 : 200));  // remembered
    const uint64_t before = told();
    REQUIRE(direct.run({"SET", key, std::to_string(i)}) == "OK");
    const auto end = Clock::now() + patience;
    while (told() == before && Clock::now() < end) {
    }
    // However long that took: from here on nothing but the new value.
    REQUIRE(client.get("/v1/entity?id=" + key).body == std::to_string(i));
  }
  CHECK(told() == static_cast<uint64_t>(rounds));
}

TEST_CASE("every way in which a key changes is seen") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  ProxyProcess proxy(redis, {"--ttl-ms", "3600000", "--negative-ttl-ms", "3600000"});
  HttpClient client(proxy.port());
  const auto becomes = [&](const std::string& key, const std::string& value) {
    CAPTURE(key);
    CAPTURE(value);
    ask_until(client, "/v1/entity?id=" + key, [&](const HttpAnswer& answer) {
      return value.empty() ? answer.status == 404 : answer.body == value;
    });
    // And is remembered. (A key that Redis finds expired when it is asked for is invalidated by that.)
    ask_until(client, "/v1/entity?id=" + key, [](const HttpAnswer& answer) {
      return answer.header("cache-status") == "gyre; hit";
    });
  };
  becomes("k", "");
  direct.run({"SET", "k", "1"});
  becomes("k", "1");
  direct.run({"INCR", "k"});
  becomes("k", "2");
  direct.run({"APPEND", "k", "x"});
  becomes("k", "2x");
  direct.run({"DEL", "k"});
  becomes("k", "");
  direct.run({"MSET", "k", "a", "other", "b"});
  becomes("k", "a");
  becomes("other", "b");
  direct.run({"RENAME", "other", "k"});
  becomes("k", "b");
  becomes("other", "");
  direct.run({"PEXPIRE", "k", "1"});
  becomes("k", "");
  direct.run({"SET", "k", "c"});
  becomes("k", "c");
  direct.run({"FLUSHALL"});
  becomes("k", "");
  direct.run({"EVAL", "return redis.call('SET', KEYS[1], 'd')", "1", "k"});
  becomes("k", "d");
}

TEST_CASE("a Redis that dies is a 503 at once, and what comes back is what it has then") {
  RedisProcess redis;
  ProxyProcess proxy(redis, {"--ttl-ms", "3600000"});
  HttpClient client(proxy.port());
  for (int round = 0; round < 3; ++round) {
    const std::string value = "value" + std::to_string(round);
    RedisClient(redis.port()).run({"SET", "k", value});
    ask_until(client, lookup("k"), [&](const HttpAnswer& answer) {
      if (answer.status != 200) return false;
      // Never one of an earlier life.
      REQUIRE(answer.body.find(value) != std::string::npos);
      return true;
    });
    CHECK(client.get("/v1/entity?id=k").body == value);
    redis.kill();
    ask_until(client, lookup("k"), [](const HttpAnswer& answer) { return answer.status == 503; });
    const auto begin = Clock::now();
    const HttpAnswer refused = client.get(lookup("another"));
    CHECK(refused.status == 503);
    CHECK(refused.header("retry-after") == "1");
    MESSAGE("a lookup without Redis took " << milliseconds_since(begin) << " ms");
    CHECK(client.get("/readyz").status == 503);
    CHECK(client.get("/livez").status == 200);
    redis.start();
    ask_until(client, lookup("k"), [](const HttpAnswer& answer) {
      REQUIRE(answer.status != 200);  // the new one has no such key
      return answer.status == 404;
    });
    ask_until(client, "/readyz", [](const HttpAnswer& answer) { return answer.status == 200; });
  }
}

TEST_CASE("a Redis that hangs costs a bounded wait, and is used again when it goes on") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  direct.run({"SET", "k", "1"});
  ProxyProcess proxy(redis, {"--ttl-ms", "3600000", "--redis-timeout-ms", "500"});
  HttpClient client(proxy.port());
  CHECK(client.get("/v1/entity?id=k").body == "1");
  redis.signal(SIGSTOP);
  double longest = 0;
  for (int i = 0; i < 20; ++i) {
    const auto begin = Clock::now();
    const HttpAnswer answer = client.get("/v1/entity?id=other" + std::to_string(i));
    longest = std::max(longest, milliseconds_since(begin));
    CHECK(answer.status == 503);
  }
  MESSAGE("the longest lookup while Redis hung took " << longest << " ms");
  // What was remembered goes when the silence is noticed, at the latest: nobody would tell of a
  // change.
  ask_until(client, "/v1/entity?id=k",
            [](const HttpAnswer& answer) { return answer.status == 503; });
  redis.signal(SIGCONT);
  direct.run({"SET", "k", "2"});
  ask_until(client, "/v1/entity?id=k", [](const HttpAnswer& answer) {
    if (answer.status != 200) return false;
    REQUIRE(answer.body == "2");
    return true;
  });
}

TEST_CASE("without Redis at the start it serves 503 until there is one") {
  RedisProcess redis;
  redis.kill();
  ProxyProcess proxy(redis);
  CHECK(proxy.ready_line().find(" unreachable ") != std::string::npos);
  HttpClient client(proxy.port());
  CHECK(client.get(lookup("k")).status == 503);
  redis.start();
  ask_until(client, lookup("k"), [](const HttpAnswer& answer) { return answer.status == 404; });
}

TEST_CASE("the environment of the reference service is understood") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  for (int i = 0; i < 20; ++i) direct.run({"SET", "k" + std::to_string(i), "v"});
  const uint16_t port = listening_port_of_new_socket();
  const std::pair<const char*, std::string> variables[] = {
      {"PROXY_HOST", "127.0.0.1"}, {"PROXY_PORT", std::to_string(port)},
      {"PROXY_MAX_KEYS", "10"},    {"PROXY_TTL_MS", "60000"},
      {"REDIS_HOST", "localhost"}, {"REDIS_PORT", std::to_string(redis.port())},
  };
  for (const auto& [name, value] : variables) setenv(name, value.c_str(), 1);
  {
    NodeProcess proxy({"--admin", "off"}, false);
    proxy.command = "proxy";
    proxy.start();
    for (const auto& [name, value] : variables) unsetenv(name);
    CHECK(proxy.port() == port);
    HttpClient client(port);
    for (int i = 0; i < 20; ++i) CHECK(client.get(lookup("k" + std::to_string(i))).status == 200);
    const std::string stats = client.get("/stats").body;
    CHECK(figure(stats, "keys") <= 10);
    CHECK(figure(stats, "keys_max") == 10);
    CHECK(proxy.ready_line().find("ttl_ms=60000") != std::string::npos);
  }
}

TEST_CASE("a password comes from a file, and is shown nowhere") {
  RedisProcess redis({"--requirepass", "hunter2"});
  RedisClient direct(redis.port());
  CHECK(direct.run({"AUTH", "hunter2"}) == "OK");
  direct.run({"SET", "k", "value"});
  const std::string directory = make_temporary_directory();
  std::ofstream(directory + "/password") << "hunter2\n";
  std::ofstream(directory + "/wrong") << "hunter3\n";
  {
    ProxyProcess proxy(redis, {"--redis-password-file", directory + "/password"});
    HttpClient client(proxy.port());
    CHECK(client.get("/v1/entity?id=k").body == "value");
    CHECK(client.get("/stats").body.find("hunter") == std::string::npos);
  }
  {
    ProxyProcess proxy(redis, {"--redis-password-file", directory + "/wrong"});
    HttpClient client(proxy.port());
    CHECK(client.get("/v1/entity?id=k").status == 503);
    CHECK(client.get("/readyz").body.find("WRONGPASS") != std::string::npos);
    CHECK(proxy.error_output().find("hunter") == std::string::npos);
  }
  remove_directory(directory);
}

TEST_CASE("the administration: hot keys, dropping everything, and faults, for who means it") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  direct.run({"SET", "hot", "v"});
  direct.run({"SET", "cold", "v"});
  ProxyProcess proxy(redis);
  HttpClient client(proxy.port());
  HttpClient admin(proxy.admin_port());
  for (int i = 0; i < 100; ++i) client.get("/v1/entity?id=hot");
  client.get("/v1/entity?id=cold");
  const std::string hot = admin.get("/hotkeys").body;
  CHECK(hot.find(R"([{"key":"hot","count":)") == 0);
  CHECK(client.get("/hotkeys").status == 400);  // not for everybody
  CHECK(client.request("POST", "/admin/flush", "Gyre-Admin: 1\r\n").status == 400);

  CHECK(admin.request("POST", "/admin/flush").status == 403);
  CHECK(admin.get("/admin/flush").status == 405);
  CHECK(admin.request("POST", "/admin/flush", "Gyre-Admin: 1\r\nOrigin: http://a\r\n").status ==
        403);
  CHECK(client.get("/v1/entity?id=hot").header("cache-status") == "gyre; hit");
  CHECK(admin.request("POST", "/admin/flush", "Gyre-Admin: 1\r\n").status == 200);
  CHECK(client.get("/v1/entity?id=hot").header("cache-status") == "gyre; fwd=miss");

  const auto faults = [&](const std::string& query) {
    return admin.request("POST", "/admin/faults" + query, "Gyre-Admin: 1\r\n").status;
  };
  for (const char* query : {"", "?fail_permille=1001", "?fail=1", "?fail_permille=1&x=2",
                            "?delay_ms=60001", "?for_ms=0", "?delay_ms=1x", "?delay_permille="}) {
    CAPTURE(query);
    CHECK(faults(query) == 400);
  }
  CHECK(client.request("POST", "/admin/faults?fail_permille=1", "Gyre-Admin: 1\r\n").status == 400);
  CHECK(faults("?fail_permille=1000") == 200);
  CHECK(client.get("/v1/entity?id=new").status == 503);
  CHECK(client.get("/v1/entity?id=hot").status == 200);
  CHECK(client.get("/stats").body.find("\"faults\":{\"active\":true") != std::string::npos);
  CHECK(faults("?fail_permille=0") == 200);
  CHECK(client.get("/v1/entity?id=new").status == 404);

  CHECK(faults("?delay_ms=300") == 200);
  const auto begin = Clock::now();
  CHECK(client.get("/v1/entity?id=delayed").status == 404);
  CHECK(milliseconds_since(begin) >= 300);
  CHECK(figure(client.get("/stats").body, "delays") == 1);
  // One that was forgotten ends.
  CHECK(faults("?fail_permille=1000&for_ms=200") == 200);
  ask_until(client, "/v1/entity?id=later",
            [](const HttpAnswer& answer) { return answer.status == 404; });
  CHECK(client.get("/stats").body.find("\"faults\":{\"active\":false") != std::string::npos);
}

TEST_CASE("a page that calls itself by another name gets nothing, here and at the administration") {
  RedisProcess redis;
  RedisClient(redis.port()).run({"SET", "k", "v"});
  const auto status = [](uint16_t port, const std::string& host, const std::string& target) {
    HttpClient client(port);
    client.send("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
    return client.read_answer().status;
  };
  const std::string key = "/v1/entity?id=k";
  {
    ProxyProcess proxy(redis);
    const std::string port = ":" + std::to_string(proxy.port());
    for (const std::string host : {"localhost", "127.0.0.1", "[::1]", "192.168.1.2"}) {
      CHECK(status(proxy.port(), host + port, key) == 200);
      CHECK(status(proxy.admin_port(), host, "/hotkeys") == 200);
    }
    for (const char* target : {"/v1/entity?id=k", "/lookup?key=k", "/stats", "/livez"}) {
      CHECK(status(proxy.port(), "attacker.example" + port, target) == 403);
    }
    CHECK(status(proxy.admin_port(), "attacker.example", "/hotkeys") == 403);
    HttpClient old(proxy.port());
    old.send("GET " + key + " HTTP/1.0\r\n\r\n");
    CHECK(old.read_answer().status == 200);
    HttpClient client(proxy.port());
    client.send("GET http://attacker.example" + key + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const HttpAnswer refused = client.read_answer();
    CHECK(refused.status == 403);
    CHECK(refused.body.find("name it with --allowed-hosts") != std::string::npos);
  }
  {
    ProxyProcess proxy(redis, {"--allowed-hosts", "cache.example"});
    CHECK(status(proxy.port(), "cache.example", key) == 200);
    CHECK(status(proxy.port(), "other.example", key) == 403);
  }
  {
    ProxyProcess proxy(redis, {"--host", "0.0.0.0"});
    CHECK(status(proxy.port(), "any.example:8000", key) == 200);
    CHECK(status(proxy.admin_port(), "any.example", "/hotkeys") == 403);
  }
}

TEST_CASE("a port in use and a mistaken flag are refused with the remedy") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  NodeProcess second({"--port", std::to_string(proxy.port())}, false);
  second.command = "proxy";
  Exit exit = second.start_refused();
  CHECK(exit.code == 1);
  CHECK(second.error_output().find("in use by another process") != std::string::npos);
  NodeProcess mistaken({"--max-keys", "none"}, false);
  mistaken.command = "proxy";
  exit = mistaken.start_refused();
  CHECK(exit.code == 2);
  CHECK(mistaken.error_output().find("--max-keys none is not a whole number") != std::string::npos);
}

TEST_CASE("many clients, while another writes and Redis is killed now and then") {
  RedisProcess redis;
  ProxyProcess proxy(redis, {"--ttl-ms", "3600000"});
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&, reader] {
      HttpClient client(proxy.port());
      uint64_t seen[20] = {};
      for (uint64_t i = static_cast<uint64_t>(reader); !stop; ++i) {
        const size_t key = i * 7 % 20;
        const HttpAnswer answer = client.get("/v1/entity?id=k" + std::to_string(key));
        ++reads;
        if (answer.status == 503 || answer.status == 404) continue;
        // Versions only grow, over Redis' lives too.
        const uint64_t version = answer.status == 200 ? std::stoull(answer.body) : 0;
        if (answer.status != 200 || version < seen[key]) ++wrong;
        seen[key] = std::max(seen[key], version);
      }
    });
  }
  uint64_t version = 0;
  for (int life = 0; life < 4; ++life) {
    {
      RedisClient direct(redis.port());
      const auto end = Clock::now() + std::chrono::milliseconds(400);
      while (Clock::now() < end) {
        ++version;
        direct.run({"SET", "k" + std::to_string(version % 20), std::to_string(version)});
      }
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
