// Publish and subscribe through `gyre proxy --resp`: what a client hears is compared, byte for byte,
// with what it hears of the same Redis directly.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "http_client.hpp"
#include "proxy_process.hpp"
#include "redis_process.hpp"
#include "resp_socket.hpp"

using namespace gyre::test;
using Clock = std::chrono::steady_clock;

namespace {

using Words = std::vector<std::string>;

uint64_t figure(const ProxyProcess& proxy, const std::string& name) {
  const std::string stats = HttpClient(proxy.port()).get("/stats").body;
  const size_t at = stats.find("\"" + name + "\":");
  REQUIRE(at != std::string::npos);
  return std::stoull(stats.substr(at + name.size() + 3));
}

template <class Holds>
void eventually(Holds holds) {
  const auto end = Clock::now() + std::chrono::seconds(60);
  while (!holds() && Clock::now() < end) {
  }
  CHECK(holds());
}

// What is said in one piece, and how many frames it is answered by.
struct Said {
  std::vector<Words> commands;
  int frames = 1;
};

}  // namespace

TEST_CASE("subscriptions are confirmed and ended as Redis does it") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  const std::vector<std::vector<Said>> scripts = {
      {{{{"SUBSCRIBE", "a", "b", "a"}}, 3},
       {{{"PSUBSCRIBE", "x*"}}, 1},
       {{{"SSUBSCRIBE", "s"}}, 1},
       {{{"PING"}}, 1},
       {{{"PING", "text"}}, 1},
       {{{"GET", "k"}}, 1},
       {{{"Set", "k", "v"}}, 1},
       {{{"MULTI"}, {"DISCARD"}}, 2},
       {{{"UNSUBSCRIBE", "b", "none"}}, 2},
       {{{"PUNSUBSCRIBE"}}, 1},
       {{{"UNSUBSCRIBE"}}, 1},
       {{{"GET", "k"}}, 1},
       {{{"SUNSUBSCRIBE"}}, 1},
       {{{"PING"}}, 1},
       {{{"DEL", "k"}}, 1},
       {{{"GET", "k"}}, 1}},
      // In one piece: what a command means depends on the one before it.
      {{{{"SUBSCRIBE", "a"}, {"GET", "k"}, {"UNSUBSCRIBE"}, {"GET", "k"}, {"PING"}}, 5}},
      {{{{"GET", "k"}, {"SUBSCRIBE", "a", "b"}, {"PING"}, {"UNSUBSCRIBE"}, {"ECHO", "t"}}, 7}},
      // Without a subscription.
      {{{{"UNSUBSCRIBE"}}, 1}, {{{"PUNSUBSCRIBE", "p", "q"}}, 2}, {{{"SUNSUBSCRIBE"}}, 1}},
      {{{{"SUBSCRIBE"}}, 1}, {{{"PSUBSCRIBE"}}, 1}, {{{"SSUBSCRIBE"}}, 1}, {{{"PING"}}, 1}},
      {{{{"SUBSCRIBE", "a"}}, 1}, {{{"RESET"}}, 1}, {{{"GET", "k"}}, 1}, {{{"PING"}}, 1}},
      {{{{"MULTI"}}, 1}, {{{"SET", "k", "v"}}, 1}, {{{"RESET"}}, 1}, {{{"GET", "k"}}, 1}},
      {{{{"SUBSCRIBE", "a"}, {"QUIT"}}, 2}, {{}, 1}},
      {{{{"PUBLISH", "nobody", "x"}}, 1}, {{{"SPUBLISH", "nobody", "x"}}, 1}},
  };
  for (const char* protocol : {"2", "3"}) {
    for (size_t i = 0; i < scripts.size(); ++i) {
      CAPTURE(protocol);
      CAPTURE(i);
      std::vector<Said> script = scripts[i];
      // Not compared: HELLO tells an id.
      const auto run = [&](uint16_t port) {
        RespSocket socket(port);
        socket.ask({"HELLO", protocol});
        std::string heard;
        for (const Said& said : script) {
          std::string bytes;
          for (const Words& words : said.commands) bytes += command_bytes(words);
          if (!bytes.empty()) socket.say(bytes);
          for (int frame = 0; frame < said.frames; ++frame) heard += socket.hear();
          heard += "|";
        }
        return heard;
      };
      CHECK(run(proxy.resp_port()) == run(redis.port()));
    }
  }
}

TEST_CASE("messages come as Redis sends them, to clients of both protocols") {
  RedisProcess redis({"--notify-keyspace-events", "KEA"});
  ProxyProcess proxy(redis);
  RedisClient through(proxy.resp_port());
  RedisClient direct(redis.port());
  const std::string large(3u << 20, 'm');
  for (const char* protocol : {"2", "3"}) {
    CAPTURE(protocol);
    RespSocket ours(proxy.resp_port());
    RespSocket theirs(redis.port());
    const auto both = [&](const Words& words, int frames) {
      std::string heard[2];
      RespSocket* const sockets[] = {&ours, &theirs};
      for (int i = 0; i < 2; ++i) {
        sockets[i]->say(command_bytes(words));
        for (int frame = 0; frame < frames; ++frame) heard[i] += sockets[i]->hear();
      }
      CHECK(heard[0] == heard[1]);
    };
    const auto next = [&] { CHECK(ours.hear() == theirs.hear()); };
    ours.ask({"HELLO", protocol});
    theirs.ask({"HELLO", protocol});
    both({"SUBSCRIBE", "news", "binary"}, 2);
    both({"PSUBSCRIBE", "n?ws", "__keyevent@0__:*"}, 2);
    both({"SSUBSCRIBE", "shard"}, 1);
    CHECK(through.run({"PUBLISH", "news", "1"}) == "4");  // twice each: by name and by pattern
    next();
    next();
    CHECK(direct.run({"PUBLISH", "binary", std::string("\0\r\n\xff", 4)}) == "2");
    next();
    CHECK(through.run({"SPUBLISH", "shard", ""}) == "2");
    next();
    CHECK(direct.run({"PUBLISH", "binary", large}) == "2");
    next();
    // Notifications of what is written, whoever does it.
    CHECK(through.run({"SET", "k", "v"}) == "OK");
    next();
    CHECK(direct.run({"DEL", "k"}) == "1");
    next();
    // What is published after the end of a subscription is not heard.
    both({"UNSUBSCRIBE", "news"}, 1);
    CHECK(through.run({"PUBLISH", "news", "2"}) == "2");
    next();
    both({"PUNSUBSCRIBE"}, 2);
    CHECK(through.run({"PUBLISH", "news", "3"}) == "0");
    both({"PING"}, 1);
  }
}

TEST_CASE("a client of RESP3 goes on as before while it is subscribed") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  RespSocket client(proxy.resp_port());
  client.ask({"HELLO", "3"});
  CHECK(client.ask({"SUBSCRIBE", "c"}) == ">3\r\n" + bulk("subscribe") + bulk("c") + ":1\r\n");
  CHECK(client.ask({"SET", "k", "0"}) == "+OK\r\n");
  RedisClient publisher(proxy.resp_port());
  std::vector<std::string> messages;
  for (int i = 0; i < 200; ++i) {
    publisher.run({"PUBLISH", "c", std::to_string(i)});
    client.say(command_bytes({"GET", "k"}) + command_bytes({"MULTI"}) +
               command_bytes({"INCR", "k"}) + command_bytes({"EXEC"}));
    std::vector<std::string> replies;
    while (replies.size() < 4) {
      std::string frame = client.hear();
      REQUIRE(!frame.empty());
      (frame[0] == '>' ? messages : replies).push_back(std::move(frame));
    }
    const std::string next = ":" + std::to_string(i + 1) + "\r\n";
    CHECK(replies == std::vector<std::string>{bulk(std::to_string(i)), "+OK\r\n", "+QUEUED\r\n",
                                              "*1\r\n" + next});
  }
  while (messages.size() < 200) messages.push_back(client.hear());
  for (int i = 0; i < 200; ++i) {
    CHECK(messages[static_cast<size_t>(i)] ==
          ">3\r\n" + bulk("message") + bulk("c") + bulk(std::to_string(i)));
  }
  CHECK(figure(proxy, "pushes") == 201);
  CHECK(figure(proxy, "subscribers") == 1);
  CHECK(client.ask({"UNSUBSCRIBE"}).starts_with(">3"));
  CHECK(figure(proxy, "subscribers") == 0);
}

TEST_CASE(
    "what is published after a subscription was confirmed is received, by all who subscribed") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  RedisClient publisher(proxy.resp_port());
  std::vector<std::unique_ptr<RespSocket>> subscribers;
  for (int i = 0; i < 50; ++i) {
    subscribers.push_back(std::make_unique<RespSocket>(proxy.resp_port()));
    CHECK(subscribers.back()->ask({"SUBSCRIBE", "c"}).starts_with("*3"));
    CHECK(publisher.run({"PUBLISH", "c", std::to_string(i)}) == std::to_string(i + 1));
  }
  for (int i = 0; i < 50; ++i) {
    for (int message = i; message < 50; ++message) {
      REQUIRE(subscribers[static_cast<size_t>(i)]->hear() ==
              "*3\r\n" + bulk("message") + bulk("c") + bulk(std::to_string(message)));
    }
  }
  // Their connections at Redis end with them.
  subscribers.resize(10);
  eventually([&] { return publisher.run({"PUBSUB", "NUMSUB", "c"}) == "c\n10\n"; });
  CHECK(figure(proxy, "subscribers") == 10);
  CHECK(proxy.stop().code == 0);
  CHECK(subscribers[0]->hear_the_end().empty());
}

TEST_CASE("a subscriber that does not read is cut off, and others are not") {
  RedisProcess redis;
  ProxyProcess proxy(redis, {"--stats-rate", "0"});
  RespSocket slow(proxy.resp_port());
  RespSocket quick(proxy.resp_port());
  slow.ask({"SUBSCRIBE", "c"});
  quick.ask({"SUBSCRIBE", "c"});
  RedisClient publisher(redis.port());
  const std::string message(1u << 20, 'm');
  const std::string frame = "*3\r\n" + bulk("message") + bulk("c") + bulk(message);
  int sent = 0;
  while (figure(proxy, "pushes_cut_off") == 0 && sent < 400) {
    publisher.run({"PUBLISH", "c", message});
    ++sent;
    REQUIRE(quick.hear() == frame);
  }
  CHECK(figure(proxy, "pushes_cut_off") == 1);
  CHECK(sent > 30);  // as much as Redis lets wait
  CHECK(publisher.run({"PUBLISH", "c", "last"}) != "0");
  CHECK(quick.hear() == "*3\r\n" + bulk("message") + bulk("c") + bulk("last"));
  eventually([&] { return publisher.run({"PUBSUB", "NUMSUB", "c"}) == "c\n1\n"; });
}

TEST_CASE("who is subscribed learns of it when Redis is lost, and others do not notice") {
  RedisProcess redis;
  ProxyProcess proxy(redis);
  RespSocket subscribed(proxy.resp_port());
  RespSocket was_subscribed(proxy.resp_port());
  subscribed.ask({"SUBSCRIBE", "c"});
  was_subscribed.ask({"SUBSCRIBE", "c"});
  was_subscribed.ask({"UNSUBSCRIBE"});
  redis.kill();
  CHECK(subscribed.hear_the_end().empty());
  CHECK(was_subscribed.ask({"SUBSCRIBE", "c"}).starts_with("-ERR gyre proxy: "));
  CHECK(was_subscribed.ask({"PING"}) == "+PONG\r\n");
  CHECK(figure(proxy, "subscribers") == 0);
  redis.start();
  eventually([&] { return was_subscribed.ask({"SUBSCRIBE", "c"}).starts_with("*3"); });
  RedisClient publisher(redis.port());
  CHECK(publisher.run({"PUBLISH", "c", "x"}) == "1");
  CHECK(was_subscribed.hear() == "*3\r\n" + bulk("message") + bulk("c") + bulk("x"));
}

TEST_CASE("what Redis does not let a user subscribe to is an error, and nothing gets out of step") {
  RedisProcess redis;
  RedisClient direct(redis.port());
  CHECK(direct.run({"ACL", "SETUSER", "default", "resetchannels", "&open*"}) == "OK");
  ProxyProcess proxy(redis);
  for (const char* protocol : {"2", "3"}) {
    RespSocket client(proxy.resp_port());
    client.ask({"HELLO", protocol});
    for (int i = 0; i < 3; ++i) {
      CHECK(client.ask({"SUBSCRIBE", "open", "closed"}).starts_with("-NOPERM"));
      CHECK(client.ask({"SET", "k", "v"}) == "+OK\r\n");
      CHECK(client.ask({"SUBSCRIBE", "open"}).find("subscribe") != std::string::npos);
      // And what there is of subscriptions stays.
      CHECK(client.ask({"SUBSCRIBE", "closed"}).starts_with("-NOPERM"));
      CHECK(direct.run({"PUBLISH", "open", "x"}) == "1");
      CHECK(client.hear().find(bulk("open") + bulk("x")) != std::string::npos);
      CHECK(client.ask({"UNSUBSCRIBE"}).find("unsubscribe") != std::string::npos);
      CHECK(client.ask({"GET", "k"}) == bulk("v"));
    }
  }
}
