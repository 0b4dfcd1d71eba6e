// The whole proxy, on two cores of a simulated machine; Redis and the clients live on another one.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/time.hpp>

#include "../resp/fake_redis.hpp"
#include "http/client.hpp"
#include "proxy/proxy.hpp"
#include "sim/life.hpp"

// REQUIRE for coroutines, which an exception must not leave.
#define REQUIRE_OR_RETURN(condition)   \
  do {                                 \
    const bool holds_{condition};      \
    CHECK_MESSAGE(holds_, #condition); \
    if (!holds_) co_return;            \
  } while (false)

using namespace gyre;
using namespace gyre::test;

namespace {

constexpr uint16_t proxy_port = 8000;

std::string ready_line;

const proxy::Proxy::Environment environment{
    .port_of = [](int) { return proxy_port; },
    .print = [](std::string_view line) { ready_line = line; },
    .exit_now = [](int) { FAIL("a second signal"); },
};

struct Answer {
  int status = 0;  // 0: none
  std::string body;
  std::string cache_status;
  std::string retry_after;
  std::string content_type;
};

struct Stage {
  explicit Stage(uint64_t seed)
      : world({.seed = seed}),
        proxy_machine(world.add_node({.cores = 2})),
        machine(world.add_node()) {
    options.listen = {"0.0.0.0", proxy_port};
    options.cores = 2;
    options.redis_host = machine.address();
    options.stats_rate_per_s = 0;
  }

  // One request on a connection of its own.
  Task<Answer> ask(std::string target, std::string method = "GET") {
    Answer answer;
    http::Client client({proxy_machine.address(), proxy_port}, seconds(60));
    if (co_await client.connect()) {
      client.send_request(method, target);
      if (co_await client.answer()) {
        answer.status = client.status();
        answer.cache_status = client.field("cache-status");
        answer.retry_after = client.field("retry-after");
        answer.content_type = client.field("content-type");
        Result<std::string> body = co_await client.text(1 << 20);
        if (body) answer.body = std::move(*body);
      }
    }
    co_await client.close();
    co_return answer;
  }
  Task<Answer> get(std::string key) { return ask("/v1/entity?id=" + http::percent_encode(key)); }

  sim::World world;
  sim::Node& proxy_machine;
  sim::Node& machine;
  proxy::Options options;
  FakeRedis redis;
  bool stopped_by_test = false;
};

// Runs `body` beside the proxy and Redis, in several schedules.
void play(
    Task<void> (*body)(Stage& stage), void (*prepare)(Stage& stage) = [](Stage&) {},
    uint64_t seeds = 5) {
  struct Run {
    static Task<void> run(Stage* stage, Task<void> (*body)(Stage&)) {
      Scope scope(nullptr, "redis");
      scope.spawn(stage->redis.main());
      while (ready_line.empty()) static_cast<void>(co_await sleep_for(milliseconds(1)));
      co_await body(*stage);
      stage->redis.stop();
      co_await scope.join();
    }
  };
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    ready_line.clear();
    const int64_t frames_before = frames_live();
    {
      Stage stage(seed);
      prepare(stage);
      proxy::Proxy proxy(stage.options, environment);
      sim::Life proxy_life(stage.world, stage.proxy_machine);
      sim::Life client_life(stage.world, stage.machine);
      for (unsigned core = 0; core < 2; ++core) proxy_life.start(core, proxy.run(core));
      client_life.start(0, Run::run(&stage, body));
      REQUIRE(stage.world.run_until([&] { return client_life.ended(); }, seconds(3600)) ==
              sim::Stop::satisfied);
      if (!stage.stopped_by_test) stage.proxy_machine.signal(SIGTERM);
      REQUIRE(proxy_life.run(seconds(60)) == sim::Stop::satisfied);
      CHECK(proxy.exit_code() == 0);
      CHECK(stage.world.check_quiescent(stage.proxy_machine) == "");
    }
    CHECK(frames_live() == frames_before);
  }
}

Task<void> until(std::function<bool()> holds, Nanos limit = seconds(30)) {
  const Nanos end = Reactor::current().after(limit);
  while (!holds() && Reactor::current().now() < end) {
    static_cast<void>(co_await sleep_for(microseconds(500)));
  }
  CHECK(holds());
}

uint64_t figure(const std::string& json, const std::string& name) {
  const size_t at = json.find("\"" + name + "\":");
  return at == std::string::npos ? UINT64_MAX : std::stoull(json.substr(at + name.size() + 3));
}

}  // namespace

TEST_CASE("a lookup is answered as JSON, with the status as HTTP's too") {
  play([](Stage& stage) -> Task<void> {
    stage.redis.data["key"] = {"value"};
    stage.redis.data["\"q\" \xc3\xa9"] = {"line\n\\\x01"};
    stage.redis.data["bytes"] = {"\xff\xfe"};
    stage.redis.data["\xff"] = {"v"};
    stage.redis.data["empty"] = {""};
    const std::pair<const char*, std::pair<int, const char*>> cases[] = {
        {"/lookup?key=key", {200, R"({"key":"key","value":"value","status":200})"}},
        {"/lookup?key=none", {404, R"({"key":"none","value":null,"status":404})"}},
        {"/lookup?key=empty", {200, R"({"key":"empty","value":"","status":200})"}},
        {"/lookup?key=", {400, R"({"key":null,"value":null,"status":400})"}},
        {"/lookup", {400, R"({"key":null,"value":null,"status":400})"}},
        {"/lookup?other=1", {400, R"({"key":null,"value":null,"status":400})"}},
        {"/lookup?key=a&key=b", {400, R"({"key":null,"value":null,"status":400})"}},
        {"/lookup?key=%zz", {400, R"({"key":null,"value":null,"status":400})"}},
        {"/lookup?key=%22q%22+%C3%A9",
         {200,
          "{\"key\":\"\\\"q\\\" \xc3\xa9\",\"value\":\"line\\u000a\\\\\\u0001\","
          "\"status\":200}"}},
        {"/lookup?key=bytes",
         {200, R"({"key":"bytes","value":"//4=","status":200,"encoding":"base64"})"}},
        {"/lookup?key=%FF",
         {200, R"({"key":"/w==","value":"v","status":200,"key_encoding":"base64"})"}},
    };
    for (int round = 0; round < 2; ++round) {  // from Redis, then from memory
      for (const auto& [target, expected] : cases) {
        CAPTURE(target);
        const Answer answer = co_await stage.ask(target);
        CHECK(answer.status == expected.first);
        CHECK(answer.body == expected.second);
        CHECK(answer.content_type == "application/json");
        if (answer.status == 200 || answer.status == 404) {
          CHECK(answer.cache_status == (round == 0 ? "gyre; fwd=miss" : "gyre; hit"));
        }
      }
    }
    CHECK(stage.redis.count("GET") == 6);
    CHECK(stage.redis.connections == 2);  // one for each core
  });
}

TEST_CASE("/v1/entity gives the bytes, and both know their methods") {
  play([](Stage& stage) -> Task<void> {
    const std::string bytes("\0\xff\r\n", 4);
    stage.redis.data["k"] = {bytes};
    Answer answer = co_await stage.get("k");
    CHECK(answer.status == 200);
    CHECK(answer.body == bytes);
    CHECK(answer.content_type == "application/octet-stream");
    answer = co_await stage.get("none");
    CHECK(answer.status == 404);
    CHECK(answer.body == "Redis has no value under this key\n");
    for (const char* target : {"/v1/entity?id=k", "/lookup?key=k"}) {
      answer = co_await stage.ask(target, "HEAD");
      CHECK(answer.status == 200);
      CHECK(answer.body == "");
      answer = co_await stage.ask(target, "PUT");
      CHECK(answer.status == 405);
    }
    CHECK((co_await stage.ask("/v1/entity?key=k")).body == bytes);
    CHECK((co_await stage.ask("/v1/entity")).status == 400);
    CHECK((co_await stage.ask("/nothing")).status == 400);
    const std::string long_key(65'537, 'k');
    CHECK((co_await stage.get(long_key)).status == 400);
    CHECK((co_await stage.get(std::string(65'536, 'k'))).status == 404);
  });
}

TEST_CASE("many who ask for one key at a time ask Redis once") {
  struct One {
    static Task<void> ask(Stage* stage, std::string key, std::map<int, int>* statuses) {
      const Answer answer = co_await stage->get(key);
      ++(*statuses)[answer.status];
      if (answer.status == 200) CHECK(answer.body == "value");
      if (answer.status == 503) CHECK(answer.retry_after == "1");
    }
  };
  play(
      [](Stage& stage) -> Task<void> {
        stage.redis.data["k"] = {"value"};
        stage.redis.delay = milliseconds(60);
        std::map<int, int> statuses;
        Scope scope(nullptr, "askers");
        for (int i = 0; i < 100; ++i) scope.spawn(One::ask(&stage, "k", &statuses));
        co_await scope.join();
        CHECK(stage.redis.count("GET") == 1);
        CHECK(statuses[200] == 40);  // more may not wait for one
        CHECK(statuses[503] == 60);
        const Answer stats = co_await stage.ask("/stats");
        CHECK(figure(stats.body, "fetches") == 1);
        CHECK(figure(stats.body, "joined") == 39);
      },
      [](Stage& stage) { stage.options.waiters_max = 40; });
}

TEST_CASE("a change in Redis is seen at once, and no older value after a newer one") {
  // Versions are numbers. A reader may see what was there when it asked, or newer; for how long it
  // saw something older than that is measured.
  struct Reader {
    struct Shared {
      Stage* stage;
      std::vector<uint64_t> version = std::vector<uint64_t>(4);
      std::vector<std::vector<Nanos>> written = std::vector<std::vector<Nanos>>(4);
      bool writing = true;
      Nanos stale_most = 0;
      uint64_t reads = 0;
      uint64_t hits = 0;
      uint64_t went_back = 0;
    };
    static Task<void> run(Shared* shared) {
      Reactor& reactor = Reactor::current();
      std::vector<uint64_t> seen(4);
      while (shared->writing) {
        const size_t key = reactor.random() % 4;
        const Nanos asked_at = reactor.now();
        const Answer answer = co_await shared->stage->get(fmt::format("k{}", key));
        CHECK(answer.status == 200);
        if (answer.status != 200) co_return;
        const uint64_t version = std::stoull(answer.body);
        ++shared->reads;
        shared->hits += answer.cache_status == "gyre; hit";
        shared->went_back += version < seen[key];
        seen[key] = std::max(seen[key], version);
        // When the version that it saw was overwritten.
        if (version + 1 < shared->written[key].size()) {
          const Nanos overwritten = shared->written[key][version + 1];
          shared->stale_most = std::max(shared->stale_most, asked_at - overwritten);
        }
      }
    }
  };
  static Nanos stale_most = 0;
  play(
      [](Stage& stage) -> Task<void> {
        Reactor& reactor = Reactor::current();
        Reader::Shared shared{&stage};
        for (size_t key = 0; key < 4; ++key) {
          stage.redis.data[fmt::format("k{}", key)] = {"0"};
          shared.written[key].push_back(reactor.now());
        }
        Scope scope(nullptr, "readers");
        for (int i = 0; i < 8; ++i) scope.spawn(Reader::run(&shared));
        for (int i = 0; i < 300; ++i) {
          static_cast<void>(
              co_await sleep_for(microseconds(static_cast<int64_t>(reactor.random() % 8000))));
          stage.redis.delay = reactor.random() % 3 == 0 ? milliseconds(1) : 0;
          const size_t key = reactor.random() % 4;
          stage.redis.set(fmt::format("k{}", key), std::to_string(++shared.version[key]));
          shared.written[key].push_back(reactor.now());
        }
        shared.writing = false;
        co_await scope.join();
        CHECK(shared.went_back == 0);
        CHECK(shared.hits > shared.reads / 4);
        stale_most = std::max(stale_most, shared.stale_most);
        // Once it is quiet all is as it is in Redis.
        static_cast<void>(co_await sleep_for(seconds(1)));
        for (size_t key = 0; key < 4; ++key) {
          const Answer answer = co_await stage.get(fmt::format("k{}", key));
          CHECK(answer.body == std::to_string(shared.version[key]));
        }
      },
      [](Stage& stage) { stage.options.others.ttl_max = seconds(3600); }, 10);
  MESSAGE("a read saw what was overwritten at most " << stale_most / 1000
                                                     << " us before it was asked");
  // What is on its way: an invalidation, or a reply of before (between two machines a message takes
  // up to 2 ms here, rarely 200).
  CHECK(stale_most < milliseconds(410));
}

TEST_CASE("who asks after a change does not join a fetch from before it") {
  struct One {
    static Task<void> ask(Stage* stage, Answer* answer) { *answer = co_await stage->get("k"); }
  };
  play(
      [](Stage& stage) -> Task<void> {
        stage.redis.set("k", "old");
        stage.redis.delay = milliseconds(500);  // of each of the three commands of a fetch
        Answer first;
        Scope scope(nullptr, "asker");
        scope.spawn(One::ask(&stage, &first));
        co_await until([&] { return stage.redis.count("PTTL") == 1; });
        stage.redis.set("k", "new");  // GET has been answered, PTTL has not
        static_cast<void>(co_await sleep_for(milliseconds(250)));
        CHECK(first.status == 0);
        const Answer second = co_await stage.get("k");
        co_await scope.join();
        CHECK(first.body == "old");
        CHECK(second.body == "new");
      },
      [](Stage& stage) { stage.options.redis_timeout_ms = 10'000; });
}

TEST_CASE("nothing is served past the time to live that Redis has for it") {
  play([](Stage& stage) -> Task<void> {
    Reactor& reactor = Reactor::current();
    for (int i = 0; i < 20; ++i) {
      const std::string key = fmt::format("k{}", i);
      const Nanos ttl = milliseconds(20 + 30 * i);
      const Nanos set_at = reactor.now();
      stage.redis.set(key, "value", ttl);
      bool hit = false;
      for (;;) {
        const Nanos asked_at = reactor.now();
        const Answer answer = co_await stage.get(key);
        hit = hit || answer.cache_status == "gyre; hit";
        if (answer.status == 404) {
          CHECK(reactor.now() >= set_at + ttl);
          break;
        }
        CHECK(answer.status == 200);
        CHECK(asked_at < set_at + ttl);
        static_cast<void>(co_await sleep_for(milliseconds(3)));
      }
      if (i > 10) CHECK(hit);
    }
  });
}

TEST_CASE("a lost connection takes with it what was remembered") {
  play(
      [](Stage& stage) -> Task<void> {
        stage.redis.set("k", "old");
        CHECK((co_await stage.get("k")).body == "old");
        CHECK((co_await stage.get("k")).cache_status == "gyre; hit");
        stage.redis.refuses = true;
        stage.redis.cut();
        stage.redis.data["k"] = {"new"};  // nobody is told
        co_await until([&] { return stage.redis.open_connections() == 0; });
        static_cast<void>(co_await sleep_for(milliseconds(500)));
        Answer answer = co_await stage.ask("/lookup?key=k");
        CHECK(answer.status == 503);
        CHECK(answer.retry_after == "1");
        CHECK(answer.body == R"({"key":"k","value":null,"status":503})");
        answer = co_await stage.ask("/readyz?verbose");
        CHECK(answer.status == 503);
        CHECK(answer.body.find("[-]redis") == 0);
        CHECK((co_await stage.ask("/livez")).status == 200);
        stage.redis.refuses = false;
        co_await until([&] { return stage.redis.open_connections() == 2; });
        static_cast<void>(co_await sleep_for(milliseconds(500)));
        CHECK((co_await stage.ask("/readyz")).status == 200);
        answer = co_await stage.get("k");
        CHECK(answer.status == 200);
        CHECK(answer.body == "new");
      },
      [](Stage& stage) { stage.options.others.ttl_max = seconds(3600); });
}

TEST_CASE("a Redis that says nothing costs a bounded wait, then none") {
  play(
      [](Stage& stage) -> Task<void> {
        Reactor& reactor = Reactor::current();
        stage.redis.set("k", "value");
        CHECK((co_await stage.get("k")).status == 200);
        stage.redis.silent = true;
        Nanos longest = 0;
        Nanos shortest = nanos_never;
        for (int i = 0; i < 30; ++i) {
          const Nanos begin = reactor.now();
          const Answer answer = co_await stage.get(fmt::format("other{}", i));
          CHECK(answer.status == 503);
          CHECK(answer.retry_after == "1");
          longest = std::max(longest, reactor.now() - begin);
          shortest = std::min(shortest, reactor.now() - begin);
        }
        CHECK(longest < milliseconds(300 + 500));
        CHECK(shortest < milliseconds(250));
        stage.redis.silent = false;
        static_cast<void>(co_await sleep_for(seconds(10)));
        CHECK((co_await stage.get("other1")).status == 404);
        CHECK((co_await stage.get("k")).status == 200);
      },
      [](Stage& stage) { stage.options.redis_timeout_ms = 300; });
}

TEST_CASE("an error of Redis is a 503 that repeats it, and is not remembered") {
  play([](Stage& stage) -> Task<void> {
    stage.redis.set("k", "value");
    stage.redis.error = "LOADING Redis is loading the dataset in memory";
    Answer answer = co_await stage.get("k");
    CHECK(answer.status == 503);
    CHECK(answer.body.find("LOADING") != std::string::npos);
    stage.redis.error = "WRONGTYPE Operation against a key holding the wrong kind of value";
    for (int i = 0; i < 20; ++i) {  // says nothing about Redis' health
      answer = co_await stage.get("k");
      CHECK(answer.body.find("WRONGTYPE") != std::string::npos);
    }
    stage.redis.error.clear();
    CHECK((co_await stage.get("k")).body == "value");
  });
}

TEST_CASE("nonsense from Redis is a 503, and the next lookup is answered") {
  play([](Stage& stage) -> Task<void> {
    stage.redis.set("k", "value");
    for (const char* nonsense : {"nonsense\r\n", "$3\r\nabcdef\r\n", "*1\r\n$1\r\nx\r\n"}) {
      stage.redis.instead = nonsense;
      const Answer answer = co_await stage.get("k");
      CHECK((answer.status == 503 || answer.body == "value"));
      static_cast<void>(co_await sleep_for(seconds(5)));
      CHECK((co_await stage.get("k")).body == "value");
      stage.redis.set("k", "value");
      static_cast<void>(co_await sleep_for(seconds(1)));
    }
  });
}

TEST_CASE("a value past its time is served while it is fetched anew, and while Redis is away") {
  play(
      [](Stage& stage) -> Task<void> {
        stage.redis.data["r:k"] = {"1"};
        stage.redis.data["e:k"] = {"1"};
        CHECK((co_await stage.get("r:k")).body == "1");
        CHECK((co_await stage.get("e:k")).body == "1");
        stage.redis.data["r:k"] = {"2"};  // nobody is told
        static_cast<void>(co_await sleep_for(seconds(2)));
        Answer answer = co_await stage.get("r:k");
        CHECK(answer.body == "1");
        CHECK(answer.cache_status == "gyre; hit; detail=revalidating");
        static_cast<void>(co_await sleep_for(milliseconds(700)));
        answer = co_await stage.get("r:k");
        CHECK(answer.body == "2");
        CHECK(answer.cache_status == "gyre; hit");

        stage.redis.refuses = true;
        stage.redis.cut();
        static_cast<void>(co_await sleep_for(seconds(1)));
        answer = co_await stage.get("e:k");
        CHECK(answer.status == 200);
        CHECK(answer.body == "1");
        CHECK(answer.cache_status == "gyre; hit; detail=origin-unavailable");
        CHECK((co_await stage.get("r:k")).status == 503);
        stage.redis.refuses = false;
        stage.redis.data["e:k"] = {"2"};
        static_cast<void>(co_await sleep_for(seconds(5)));
        CHECK((co_await stage.get("e:k")).body == "2");
      },
      [](Stage& stage) {
        proxy::Policy policy;
        policy.ttl_max = seconds(1);
        policy.prefix = "r:";
        policy.revalidate = seconds(60);
        stage.options.policies.push_back(policy);
        policy.revalidate = 0;
        policy.prefix = "e:";
        policy.on_error = seconds(60);
        stage.options.policies.push_back(policy);
      });
}

TEST_CASE("who asks too much is told so: 503 on /lookup, else 429; others are served") {
  play(
      [](Stage& stage) -> Task<void> {
        stage.redis.data["k"] = {"value"};
        std::map<int, int> entity;
        std::map<int, int> lookup;
        for (int i = 0; i < 40; ++i) {
          Answer answer = co_await stage.get("k");
          ++entity[answer.status];
          if (answer.status == 429) CHECK(answer.retry_after == "1");
          answer = co_await stage.ask("/lookup?key=k");
          ++lookup[answer.status];
          if (answer.status == 503) {
            CHECK(answer.retry_after == "1");
            CHECK(answer.body == R"({"key":"k","value":null,"status":503})");
          }
        }
        CHECK(entity[200] > 0);
        CHECK(entity[429] > 10);
        CHECK(entity[200] + entity[429] == 40);
        CHECK(lookup[503] > 10);
        CHECK(lookup[200] + lookup[503] == 40);
        // Who watches has a bucket of its own.
        const Answer stats = co_await stage.ask("/stats");
        CHECK(stats.status == 200);
        CHECK(figure(stats.body, "client") == static_cast<uint64_t>(entity[429] + lookup[503]));
      },
      [](Stage& stage) { stage.options.client_rate_per_s = 10; });
}

TEST_CASE("told to stop, the proxy answers what is under way and takes nothing new") {
  struct One {
    static Task<void> ask(Stage* stage, Answer* answer) { *answer = co_await stage->get("k"); }
  };
  play([](Stage& stage) -> Task<void> {
    stage.redis.data["k"] = {"value"};
    stage.redis.delay = milliseconds(200);
    Answer under_way;
    Scope scope(nullptr, "asker");
    scope.spawn(One::ask(&stage, &under_way));
    co_await until([&] { return stage.redis.count("GET") == 1; });
    stage.stopped_by_test = true;
    stage.proxy_machine.signal(SIGTERM);
    co_await scope.join();
    CHECK(under_way.status == 200);
    CHECK(under_way.body == "value");
    static_cast<void>(co_await sleep_for(milliseconds(500)));
    CHECK((co_await stage.get("k")).status == 0);
  });
}

TEST_CASE("an old Redis, without tracking, is cached by time alone") {
  play(
      [](Stage& stage) -> Task<void> {
        CHECK(ready_line.find(" connected ") != std::string::npos);
        stage.redis.data["k"] = {"1"};
        CHECK((co_await stage.get("k")).body == "1");
        stage.redis.data["k"] = {"2"};
        CHECK((co_await stage.get("k")).body == "1");
        static_cast<void>(co_await sleep_for(seconds(2)));
        CHECK((co_await stage.get("k")).body == "2");
        CHECK((co_await stage.ask("/stats")).body.find("\"coherent\":false") != std::string::npos);
      },
      [](Stage& stage) {
        stage.redis.knows_hello = false;
        stage.options.others.ttl_max = seconds(1);
      });
}

TEST_CASE("what the proxy tells of itself") {
  play([](Stage& stage) -> Task<void> {
    CHECK(ready_line.find("gyre proxy serves http://0.0.0.0:8000 ") == 0);
    CHECK(ready_line.find(" coherent ") != std::string::npos);
    stage.redis.data["k"] = {"value"};
    for (int i = 0; i < 3; ++i) co_await stage.get("k");
    co_await stage.get("none");
    stage.redis.set("k", "other");
    static_cast<void>(co_await sleep_for(seconds(1)));
    Answer answer = co_await stage.ask("/stats");
    CHECK(answer.status == 200);
    CHECK(answer.content_type == "application/json");
    CHECK(figure(answer.body, "entity") == 4);
    CHECK(figure(answer.body, "hits") == 2);
    CHECK(figure(answer.body, "misses") == 2);
    CHECK(figure(answer.body, "fetches") == 2);
    CHECK(figure(answer.body, "invalidations") == 1);
    CHECK(answer.body.find("\"coherent\":true") != std::string::npos);
    CHECK(answer.body.find("\"hit_ratio\":0.5") != std::string::npos);
    answer = co_await stage.ask("/metrics");
    CHECK(answer.body.find("# TYPE gyre_proxy_cache_hits_total counter\n") != std::string::npos);
    CHECK(answer.body.find("gyre_proxy_redis_coherent{core=\"1\"} 1\n") != std::string::npos);
    CHECK((co_await stage.ask("/readyz")).body == "ok\n");
    answer = co_await stage.ask("/readyz?verbose");
    CHECK(answer.body == "[+]redis ok\n[+]serving ok\n");
  });
}

TEST_CASE("a value that is too long is refused by itself, each time, and nobody else notices") {
  play(
      [](Stage& stage) -> Task<void> {
        stage.redis.data["long"] = {std::string(300'000, 'x')};
        stage.redis.data["brim"] = {std::string(100'000, 'y')};
        stage.redis.data["k"] = {"value"};
        struct One {
          static Task<void> ask(Stage* stage, std::string key, std::map<int, int>* statuses) {
            const Answer answer = co_await stage->get(key);
            ++(*statuses)[answer.status];
            if (answer.status == 503) {
              CHECK(answer.body == "the value is longer than --max-value allows\n");
            }
          }
        };
        for (int round = 1; round <= 10; ++round) {  // more than the circuit breaker takes
          std::map<int, int> statuses;
          Scope scope(nullptr, "askers");
          for (int i = 0; i < 3; ++i) scope.spawn(One::ask(&stage, "long", &statuses));
          for (int i = 0; i < 3; ++i) scope.spawn(One::ask(&stage, "k", &statuses));
          scope.spawn(One::ask(&stage, "brim", &statuses));
          co_await scope.join();
          CHECK(statuses == std::map<int, int>{{200, 4}, {503, 3}});
          CHECK(figure((co_await stage.ask("/stats")).body, "too_long") >=
                static_cast<uint64_t>(round));
        }
        CHECK(stage.redis.connections == 2);
        // What is short now is had.
        stage.redis.set("long", "short");
        const Answer answer = co_await stage.get("long");
        CHECK(answer.status == 200);
        CHECK(answer.body == "short");
      },
      [](Stage& stage) { stage.options.value_bytes_max = 100u << 10; });
}
