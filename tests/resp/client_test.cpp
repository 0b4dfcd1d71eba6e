#include "resp/client.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "../store/sim_rig.hpp"
#include "../tls/tls_rig.hpp"
#include "fake_redis.hpp"

using namespace gyre;
using namespace gyre::test;
using resp::ClientState;

namespace {

// What happened on a connection, in order.
struct Log : resp::ClientListener {
  void connected(bool tracking) noexcept override {
    events.push_back(tracking ? "connected, tracking" : "connected");
  }
  void pushed(const resp::Reply& push) noexcept override {
    std::string text = "pushed";
    for (const resp::Reply part : push) {
      if (part.is_aggregate()) {
        for (const resp::Reply key : part) text += " " + std::string(key.text());
      } else {
        text += " " + (part.is_null() ? "null" : std::string(part.text()));
      }
    }
    events.push_back(text);
  }
  void lost() noexcept override { events.push_back("lost"); }
  size_t count(const std::string& event) const {
    return static_cast<size_t>(std::ranges::count(events, event));
  }
  std::vector<std::string> events;
};

struct TestCommand : resp::ClientCommand {
  TestCommand(Log& to, std::initializer_list<std::string_view> words, Nanos until = nanos_never)
      : log(to) {
    resp::append_command(encoded, words);
    bytes = encoded;
    deadline = until;
    reply = [](resp::ClientCommand& self, uint32_t, const resp::Reply& said) noexcept {
      auto& command = static_cast<TestCommand&>(self);
      command.said.push_back(said.is_null() ? "null" : std::string(said.text()));
      command.log.events.push_back("reply " + command.said.back());
    };
    done = [](resp::ClientCommand& self) noexcept {
      auto& command = static_cast<TestCommand&>(self);
      ++command.ended;
      if (command.outcome == Errc::closed) command.log.events.push_back("closed");
      command.finished.set();
    };
  }
  void also(std::initializer_list<std::string_view> words) {
    resp::append_command(encoded, words);
    bytes = encoded;
    ++replies;
  }
  Log& log;
  std::string encoded;
  std::vector<std::string> said;
  int ended = 0;
  Event finished;
};

struct Play {
  void use_tls() {
    client_context = std::move(*tls::Context::make({
        .authorities = trust.authority.certificate(),
        .remedies = {.wrong_name = "(name)", .untrusted = "(trust)", .no_tls = "(no TLS)"},
    }));
    server_context = std::move(*tls::Context::make({
        .role = tls::Role::server,
        .certificate = trust.server.certificate(),
        .key = trust.server.key(),
    }));
    redis.tls = server_context.get();
    options.tls = client_context.get();
    options.tls_name = "redis.test";
  }
  TestTrust trust;
  std::unique_ptr<tls::Context> client_context;
  std::unique_ptr<tls::Context> server_context;
  FakeRedis redis;
  Log log;
  resp::ClientOptions options;
};

// Runs `body` beside the server, in several schedules.
void play(
    Task<void> (*body)(Play& play, resp::Client& client),
    void (*prepare)(Play& play) = [](Play&) {}) {
  struct Run {
    static Task<void> run(Task<void> (*body)(Play&, resp::Client&), void (*prepare)(Play&)) {
      Play play;
      play.options.tracking = true;
      prepare(play);
      Scope scope(nullptr, "server");
      scope.spawn(play.redis.main());
      static_cast<void>(co_await play.redis.listening.wait());
      {
        resp::Client client(play.options, play.log);
        co_await body(play, client);
        co_await client.close();
      }
      play.redis.stop();
      co_await scope.join();
    }
  };
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    const RepeatableRandom random(seed);
    SimRig rig(seed);
    rig.run(Run::run(body, prepare));
  }
}

Task<void> until(std::function<bool()> holds, Nanos limit = seconds(30)) {
  const Nanos end = Reactor::current().after(limit);
  while (!holds() && Reactor::current().now() < end) {
    static_cast<void>(co_await sleep_for(microseconds(500)));
  }
  CHECK(holds());
}

}  // namespace

TEST_CASE("commands are answered in their order, however they come") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    play.redis.data["a"] = {"1"};
    play.redis.data["long"] = {std::string(300'000, 'x')};
    std::vector<std::unique_ptr<TestCommand>> commands;
    for (int i = 0; i < 300; ++i) {
      const char* key = i % 50 == 7 ? "long" : i % 3 == 0 ? "a" : "none";
      commands.push_back(std::make_unique<TestCommand>(
          play.log, std::initializer_list<std::string_view>{"GET", key}));
      if (i % 2 == 0) commands.back()->also({"PTTL", key});
      REQUIRE_OR_RETURN(client.start(*commands.back()));
      if (i % 40 == 0) static_cast<void>(co_await sleep_for(milliseconds(2)));
    }
    for (auto& command : commands) static_cast<void>(co_await command->finished.wait());
    for (size_t i = 0; i < commands.size(); ++i) {
      const TestCommand& command = *commands[i];
      CHECK(command.ended == 1);
      CHECK(command.outcome == Errc::ok);
      REQUIRE_OR_RETURN(command.said.size() == (i % 2 == 0 ? 2 : 1));
      CHECK(command.said[0] == (i % 50 == 7  ? play.redis.data["long"].bytes
                                : i % 3 == 0 ? "1"
                                             : "null"));
      if (i % 2 == 0) CHECK(command.said[1] == (i % 50 == 7 || i % 3 == 0 ? "-1" : "-2"));
    }
    CHECK(play.redis.connections == 1);
    CHECK(client.commands_under_way() == 0);
    CHECK(client.server_version() == "7.0.15");
    CHECK(client.protocol() == 3);
    CHECK(play.log.events.front() == "connected, tracking");
  });
}

TEST_CASE("an invalidation comes behind the reply that it is about") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    play.redis.data["k"] = {"old"};
    TestCommand get(play.log, {"CLIENT", "CACHING", "YES"});
    get.also({"GET", "k"});
    REQUIRE_OR_RETURN(client.start(get));
    // As soon as the reply has been written, perhaps before it was read here.
    co_await until([&] { return play.redis.count("GET") == 1; });
    play.redis.set("k", "new");
    co_await until([&] { return play.log.count("pushed invalidate k") == 1; });
    const auto reply = std::ranges::find(play.log.events, "reply old");
    const auto push = std::ranges::find(play.log.events, "pushed invalidate k");
    CHECK(reply < push);
    play.redis.flush_all();
    co_await until([&] { return play.log.count("pushed invalidate null") == 1; });
  });
}

TEST_CASE("a command ends at its deadline, and the replies that come later harm nobody") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    client.connect();
    co_await until([&] { return client.state() == ClientState::ready; });
    play.redis.data["a"] = {"1"};
    play.redis.data["b"] = {"2"};
    play.redis.delay = milliseconds(100);
    const Nanos begin = Reactor::current().now();
    TestCommand late(play.log, {"GET", "a"}, begin + milliseconds(30));
    TestCommand other(play.log, {"GET", "b"}, begin + seconds(5));
    REQUIRE_OR_RETURN(client.start(late));
    REQUIRE_OR_RETURN(client.start(other));
    static_cast<void>(co_await late.finished.wait());
    CHECK(late.outcome == Errc::timed_out);
    CHECK(Reactor::current().now() >= begin + milliseconds(30));
    CHECK(Reactor::current().now() < begin + milliseconds(40));
    static_cast<void>(co_await other.finished.wait());
    CHECK(other.said == std::vector<std::string>{"2"});
    CHECK(late.said.empty());
    CHECK(client.stats().replies_late == 1);
    CHECK(play.redis.connections == 1);
  });
}

TEST_CASE("a server that owes replies and says nothing is given up, the listener first") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    client.connect();
    co_await until([&] { return client.state() == ClientState::ready; });
    play.redis.silent = true;
    const Nanos begin = Reactor::current().now();
    TestCommand first(play.log, {"GET", "a"}, begin + seconds(60));
    TestCommand second(play.log, {"GET", "b"}, begin + seconds(60));
    REQUIRE_OR_RETURN(client.start(first));
    REQUIRE_OR_RETURN(client.start(second));
    static_cast<void>(co_await second.finished.wait());
    CHECK(Reactor::current().now() < begin + seconds(2));
    CHECK(play.log.events ==
          std::vector<std::string>{"connected, tracking", "lost", "closed", "closed"});
    CHECK(client.is_down());
    // Nobody waits in vain for who is known to be silent.
    TestCommand third(play.log, {"GET", "c"}, begin + seconds(60));
    CHECK_FALSE(client.start(third));
    CHECK(third.outcome == Errc::closed);
    play.redis.silent = false;
    co_await until([&] { return client.state() == ClientState::ready; });
    REQUIRE_OR_RETURN(client.start(third));
    static_cast<void>(co_await third.finished.wait());
    CHECK(third.outcome == Errc::ok);
  });
}

TEST_CASE("a dead link is noticed though nothing is asked") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    client.connect();
    co_await until([&] { return client.state() == ClientState::ready; });
    static_cast<void>(co_await sleep_for(seconds(5)));
    CHECK(client.stats().lost == 0);
    CHECK(play.redis.count("PING") >= 8);
    play.redis.deaf = true;
    const Nanos begin = Reactor::current().now();
    co_await until([&] { return play.log.count("lost") == 1; });
    CHECK(Reactor::current().now() - begin <
          play.options.ping_interval + play.options.silence_max + milliseconds(50));
    play.redis.deaf = false;
  });
}

TEST_CASE("what is under way when the connection breaks ends, and the client connects anew") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    client.connect();
    co_await until([&] { return client.state() == ClientState::ready; });
    play.redis.data["a"] = {"1"};
    play.redis.silent = true;
    TestCommand lost(play.log, {"GET", "a"});
    REQUIRE_OR_RETURN(client.start(lost));
    co_await until([&] { return play.redis.count("GET") == 1; });
    play.redis.silent = false;
    play.redis.cut();
    static_cast<void>(co_await lost.finished.wait());
    CHECK(lost.outcome == Errc::closed);
    // The attempt that follows is waited for.
    TestCommand next(play.log, {"GET", "a"}, Reactor::current().after(seconds(5)));
    REQUIRE_OR_RETURN(client.start(next));
    static_cast<void>(co_await next.finished.wait());
    CHECK(next.said == std::vector<std::string>{"1"});
    CHECK(play.log.count("connected, tracking") == 2);
    CHECK(play.log.count("lost") == 1);
  });
}

TEST_CASE(
    "what is started after a loss, on whatever occasion, is started after the listener knows") {
  // Who has told a connection something that later commands rely on must not miss its end.
  struct Watch : Log {
    void lost() noexcept override {
      Log::lost();
      known = true;
    }
    bool known = false;
  };
  play([](Play& play, resp::Client&) -> Task<void> {
    play.redis.data["a"] = {"1"};
    Watch watch;
    resp::Client client(play.options, watch);
    client.connect();
    co_await until([&] { return client.state() == ClientState::ready; });
    play.redis.cut();
    std::unique_ptr<TestCommand> waiting;
    while (waiting == nullptr) {
      // Every state that can be seen from outside.
      if (client.state() != ClientState::ready) {
        CHECK(watch.known);
        waiting = std::make_unique<TestCommand>(
            play.log, std::initializer_list<std::string_view>{"GET", "a"});
        REQUIRE_OR_RETURN(client.start(*waiting));
      } else {
        co_await yield();
      }
    }
    static_cast<void>(co_await waiting->finished.wait());
    CHECK(waiting->said == std::vector<std::string>{"1"});
    co_await client.close();
  });
}

TEST_CASE("bytes that are no replies end the connection, never a wrong answer") {
  static const std::vector<std::string> nonsense = {
      "hello\r\n",
      "$5\r\nabcdefg\r\n",
      "$-7\r\n",
      ":12x\r\n",
      "*2147483648\r\n",
      "$99999999999\r\n",
      "\r\n",
      std::string(100'000, '+'),
      std::string(1, '\0') + "\r\n",
      "HTTP/1.1 400 Bad Request\r\n\r\n",
      [] {
        std::string deep;
        for (int i = 0; i < 10'000; ++i) deep += "*1\r\n";
        return deep;
      }(),
  };
  static size_t index;
  for (index = 0; index < nonsense.size(); ++index) {
    CAPTURE(index);
    play([](Play& play, resp::Client& client) -> Task<void> {
      play.redis.data["a"] = {"1"};
      client.connect();
      co_await until([&] { return client.state() == ClientState::ready; });
      play.redis.instead = nonsense[index];
      TestCommand hit(play.log, {"GET", "a"}, Reactor::current().after(seconds(20)));
      REQUIRE_OR_RETURN(client.start(hit));
      static_cast<void>(co_await hit.finished.wait());
      CHECK(hit.outcome == Errc::closed);
      CHECK(hit.said.empty());
      co_await until([&] { return client.state() == ClientState::ready; });
      TestCommand next(play.log, {"GET", "a"}, Reactor::current().after(seconds(5)));
      REQUIRE_OR_RETURN(client.start(next));
      static_cast<void>(co_await next.finished.wait());
      CHECK(next.said == std::vector<std::string>{"1"});
    });
  }
}

TEST_CASE("a reply to nothing ends the connection: who knows what it belongs to") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    play.redis.data["a"] = {"1"};
    client.connect();
    co_await until([&] { return client.state() == ClientState::ready; });
    play.redis.instead = "$1\r\n1\r\n$1\r\n2\r\n";
    TestCommand get(play.log, {"GET", "a"});
    REQUIRE_OR_RETURN(client.start(get));
    co_await until([&] { return play.log.count("lost") == 1; });
    CHECK(get.said == std::vector<std::string>{"1"});
  });
}

TEST_CASE("a slow server's replies come byte by byte and are whole") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    play.redis.data["a"] = {"some value\r\nwith lines"};
    play.redis.drips = true;
    TestCommand get(play.log, {"GET", "a"}, Reactor::current().after(seconds(20)));
    REQUIRE_OR_RETURN(client.start(get));
    static_cast<void>(co_await get.finished.wait());
    CHECK(get.said == std::vector<std::string>{"some value\r\nwith lines"});
  });
}

TEST_CASE("an old server is spoken to as it can, without tracking") {
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        play.redis.data["a"] = {"1"};
        TestCommand get(play.log, {"GET", "a"});
        TestCommand none(play.log, {"GET", "none"});
        REQUIRE_OR_RETURN(client.start(get));
        REQUIRE_OR_RETURN(client.start(none));
        static_cast<void>(co_await none.finished.wait());
        CHECK(get.said == std::vector<std::string>{"1"});
        CHECK(none.said == std::vector<std::string>{"null"});
        CHECK(client.protocol() == 2);
        CHECK_FALSE(client.tracking());
        CHECK(play.log.events.front() == "connected");
        CHECK(play.redis.count("AUTH") == 1);
      },
      [](Play& play) {
        play.redis.knows_hello = false;
        play.redis.password = "secret";
        play.options.password = "secret";
        play.options.name = "name";
      });
}

TEST_CASE("a server that can't track is used without") {
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        client.connect();
        co_await until([&] { return client.state() == ClientState::ready; });
        CHECK(client.protocol() == 3);
        CHECK_FALSE(client.tracking());
      },
      [](Play& play) { play.redis.knows_tracking = false; });
}

TEST_CASE("a password is told, and a wrong one is no connection") {
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        client.connect();
        co_await until([&] { return client.state() == ClientState::ready; });
        CHECK(client.tracking());
      },
      [](Play& play) { play.redis.password = play.options.password = "secret"; });
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        TestCommand get(play.log, {"GET", "a"});
        REQUIRE_OR_RETURN(client.start(get));
        static_cast<void>(co_await get.finished.wait());
        CHECK(get.outcome == Errc::closed);
        CHECK(client.trouble().find("WRONGPASS") != std::string::npos);
        CHECK(client.trouble().find("guess") == std::string::npos);
        CHECK(client.is_down());
      },
      [](Play& play) {
        play.redis.password = "secret";
        play.options.password = "guess";
      });
}

TEST_CASE("a server that is not there costs little, and is found when it comes") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    play.redis.refuses = true;
    const Nanos begin = Reactor::current().now();
    TestCommand get(play.log, {"GET", "a"}, begin + seconds(100));
    REQUIRE_OR_RETURN(client.start(get));
    static_cast<void>(co_await get.finished.wait());
    CHECK(get.outcome == Errc::closed);
    static_cast<void>(co_await sleep_for(seconds(60)));
    CHECK(client.stats().attempts < 60);  // it waits longer and longer
    CHECK(client.stats().attempts > 20);
    play.redis.refuses = false;
    co_await until([&] { return client.state() == ClientState::ready; }, seconds(3));
  });
}

TEST_CASE("what waits, and what is not sent, is bounded") {
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        client.connect();
        co_await until([&] { return client.state() == ClientState::ready; });
        play.redis.silent = true;
        std::vector<std::unique_ptr<TestCommand>> commands;
        for (int i = 0; i < 20; ++i) {
          commands.push_back(std::make_unique<TestCommand>(
              play.log, std::initializer_list<std::string_view>{"GET", "a"}));
          const bool taken = client.start(*commands.back());
          CHECK(taken == (i < 10));
          if (!taken) CHECK(commands.back()->outcome == Errc::overloaded);
        }
        client.cancel(*commands[3]);
        CHECK(client.commands_under_way() == 9);
        play.redis.cut();
        co_await until([&] { return commands[9]->ended == 1; });
        CHECK(commands[3]->ended == 0);
      },
      [](Play& play) { play.options.commands_max = 10; });
}

TEST_CASE("closing ends what is under way and what waits") {
  play([](Play& play, resp::Client&) -> Task<void> {
    play.redis.silent = true;
    resp::Client other(play.options, play.log);
    TestCommand waiting(play.log, {"GET", "a"});
    REQUIRE_OR_RETURN(other.start(waiting));
    static_cast<void>(co_await sleep_for(milliseconds(5)));
    co_await other.close();
    CHECK(waiting.outcome == Errc::cancelled);
    CHECK_FALSE(other.start(waiting));
    CHECK(waiting.outcome == Errc::cancelled);
  });
}

TEST_CASE("over TLS everything is as without: order, pushes, losses, passwords") {
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        play.redis.data["a"] = {"1"};
        play.redis.data["long"] = {std::string(300'000, 'x')};
        for (int life = 0; life < 3; ++life) {
          std::vector<std::unique_ptr<TestCommand>> commands;
          for (int i = 0; i < 100; ++i) {
            commands.push_back(std::make_unique<TestCommand>(
                play.log,
                std::initializer_list<std::string_view>{"GET", i % 10 == 7 ? "long" : "a"}));
            REQUIRE_OR_RETURN(client.start(*commands.back()));
            if (i % 40 == 0) static_cast<void>(co_await sleep_for(milliseconds(2)));
          }
          for (size_t i = 0; i < commands.size(); ++i) {
            static_cast<void>(co_await commands[i]->finished.wait());
            REQUIRE_OR_RETURN(commands[i]->said.size() == 1);
            CHECK(commands[i]->said[0] == play.redis.data[i % 10 == 7 ? "long" : "a"].bytes);
          }
          TestCommand get(play.log, {"CLIENT", "CACHING", "YES"});
          get.also({"GET", "a"});
          REQUIRE_OR_RETURN(client.start(get));
          static_cast<void>(co_await get.finished.wait());
          play.redis.set("a", std::to_string(life));
          const auto pushes = static_cast<size_t>(life) + 1;
          co_await until([&] { return play.log.count("pushed invalidate a") == pushes; });
          play.redis.cut();
          co_await until([&] { return play.log.count("lost") == pushes; });
        }
      },
      [](Play& play) {
        play.use_tls();
        play.redis.password = play.options.password = "secret";
      });
}

TEST_CASE("a server that is not the one, or speaks no TLS, is no connection, and it is said why") {
  static const auto trouble_of = [](Play& play, resp::Client& client,
                                    std::string_view expected) -> Task<void> {
    TestCommand get(play.log, {"GET", "a"});
    REQUIRE_OR_RETURN(client.start(get));
    static_cast<void>(co_await get.finished.wait());
    CHECK(get.outcome == Errc::closed);
    CHECK_MESSAGE(client.trouble().find(expected) != std::string::npos, client.trouble());
    CHECK(play.redis.commands.empty());  // it has been told nothing
    CHECK(play.log.count("lost") == 0);
  };
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        co_await trouble_of(play, client,
                            "not for '127.0.0.1' but for 'redis.test', 10.0.0.2; (name)");
      },
      [](Play& play) {
        play.use_tls();
        play.options.tls_name.clear();
        play.options.password = "secret";
      });
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        co_await trouble_of(play, client, "signed by 'CN = other', which is not trusted; (trust)");
      },
      [](Play& play) {
        play.use_tls();
        const TestCertificate other({.name = "other"});
        play.server_context = std::move(*tls::Context::make(
            {.role = tls::Role::server, .certificate = other.certificate(), .key = other.key()}));
        play.redis.tls = play.server_context.get();
      });
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        co_await trouble_of(play, client, "does the other side speak TLS?");
      },
      [](Play& play) {
        play.use_tls();
        play.redis.tls = nullptr;
        play.redis.deaf = true;
      });
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        co_await trouble_of(play, client, "does it expect TLS (--redis-tls)?");
      },
      [](Play& play) {
        play.use_tls();
        play.options.tls = nullptr;
      });
}

TEST_CASE("a reply that is too long costs its command, nothing else, and no memory") {
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        play.redis.data["long"] = {std::string(3'000'000, 'x')};
        play.redis.data["brim"] = {std::string(9'000, 'y')};
        client.connect();
        co_await until([&] { return client.state() == ClientState::ready; });
        play.redis.data["a"] = {"1"};
        for (int round = 0; round < 3; ++round) {
          TestCommand before(play.log, {"GET", "a"});
          TestCommand both(play.log, {"GET", "long"});
          both.also({"PTTL", "long"});
          TestCommand forgotten(play.log, {"GET", "long"});
          TestCommand after(play.log, {"GET", "brim"});
          for (TestCommand* command : {&before, &both, &forgotten, &after}) {
            REQUIRE_OR_RETURN(client.start(*command));
          }
          client.cancel(forgotten);
          size_t held_most = 0;
          while (after.ended == 0) {
            held_most = std::max(held_most, client.held_bytes());
            static_cast<void>(co_await sleep_for(microseconds(20)));
          }
          CHECK(held_most < 200'000);  // the limit, and what a tick brings
          CHECK(before.said == std::vector<std::string>{"1"});
          CHECK_FALSE(before.too_long);
          CHECK(both.outcome == Errc::ok);
          CHECK(both.said == std::vector<std::string>{"ERR no room", "-1"});
          CHECK(both.too_long);
          CHECK(after.said == std::vector<std::string>{play.redis.data["brim"].bytes});
        }
        CHECK(client.stats().replies_too_long == 6);
        CHECK(play.redis.connections == 1);
      },
      [](Play& play) {
        play.options.kept_bytes_max = 10'000;
        play.options.too_long_reply = "-ERR no room\r\n";
      });
}

TEST_CASE("a push that is too long ends the connection: it may not be missed") {
  play(
      [](Play& play, resp::Client& client) -> Task<void> {
        const std::string key(20'000, 'k');
        play.redis.data[key] = {"1"};
        TestCommand get(play.log, {"CLIENT", "CACHING", "YES"});
        get.also({"GET", key});
        REQUIRE_OR_RETURN(client.start(get));
        static_cast<void>(co_await get.finished.wait());
        CHECK(get.said.size() == 2);
        play.redis.set(key, "2");
        co_await until([&] { return play.log.count("lost") == 1; });
      },
      [](Play& play) { play.options.kept_bytes_max = 10'000; });
}

TEST_CASE("what is answered by pushes ends with its fence, whatever is answered before it") {
  play([](Play& play, resp::Client& client) -> Task<void> {
    for (const auto& [channel, answer] :
         {std::pair<std::string, std::string>{"news", "pushed subscribe news 1"},
          {"forbidden", "reply NOPERM No permissions to access a channel"},
          {"more", "pushed subscribe more 2"}}) {
      TestCommand subscribing(play.log, {"SUBSCRIBE", channel});
      subscribing.also({"HELLO"});
      subscribing.fenced = true;
      TestCommand behind(play.log, {"GET", "a"});
      REQUIRE_OR_RETURN(client.start(subscribing));
      REQUIRE_OR_RETURN(client.start(behind));
      co_await until([&] { return behind.ended == 1; });
      CHECK(subscribing.ended == 1);
      CHECK(subscribing.outcome == Errc::ok);
      CHECK(play.log.count(answer) == 1);
      CHECK(behind.said == std::vector<std::string>{"null"});
    }
    // One that is forgotten meanwhile doesn't bring the others out of step.
    {
      TestCommand forgotten(play.log, {"SUBSCRIBE", "forbidden"});
      forgotten.also({"HELLO"});
      forgotten.fenced = true;
      REQUIRE_OR_RETURN(client.start(forgotten));
      client.cancel(forgotten);
    }
    TestCommand behind(play.log, {"GET", "a"});
    REQUIRE_OR_RETURN(client.start(behind));
    co_await until([&] { return behind.ended == 1; });
    CHECK(behind.said == std::vector<std::string>{"null"});
    CHECK(play.log.count("lost") == 0);
  });
}
