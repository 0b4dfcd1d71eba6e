// Streams over the simulated network, against our own server side.
#include "tls/stream.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "../store/sim_rig.hpp"
#include "tls_rig.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

constexpr uint16_t server_port = 6379;
constexpr uint16_t relay_port = 6380;

// A server, and before it a relay that does to the bytes what a network, or somebody in it, may do.
struct Stage {
  std::unique_ptr<tls::Context> client_context;
  std::unique_ptr<tls::Context> server_context;
  // What the server does with a connection that is secure.
  Task<void> (*serve)(tls::Stream& stream) = nullptr;
  std::string instead;          // of TLS
  bool silent = false;          // takes all and says nothing
  bool bytewise = false;        // of the relay
  size_t cut_after = SIZE_MAX;  // bytes of the server, then the connection ends
  std::string server_failure;
  std::string peer = "redis.test";
  size_t relayed = 0;
  Event listening;
};

Task<void> serve_one(Stage* stage, Descriptor fd) {
  tls::Stream stream(std::move(fd));
  if (!stage->instead.empty() || stage->silent) {
    stream.socket().append(stage->instead);
    for (;;) {
      Result<std::string_view> bytes = co_await stream.socket().receive();
      if (!bytes || bytes->empty()) break;
      stream.socket().release();
    }
  } else {
    Result<void> secure =
        co_await stream.secure(*stage->server_context, "", Reactor::current().after(seconds(5)));
    if (!secure) {
      stage->server_failure = secure.error().message();
    } else {
      co_await stage->serve(stream);
    }
  }
  co_await stream.close();
}

Task<void> listen(Stage* stage, uint16_t port, Task<void> (*each)(Stage*, Descriptor)) {
  Scope scope(nullptr, "connections");
  Listener listener;
  CHECK(co_await listener.open({.address = "0.0.0.0", .port = port}));
  stage->listening.set();
  for (;;) {
    Result<Descriptor> fd = co_await listener.accept();
    if (!fd) break;
    scope.spawn(each(stage, std::move(*fd)));
  }
  co_await listener.close();
  scope.request_stop();
  co_await scope.join();
}

Task<void> pump(Stage* stage, Socket* from, Socket* to, bool counted) {
  for (;;) {
    Result<std::string_view> got = co_await from->receive();
    if (!got || got->empty()) break;
    const std::string bytes(*got);
    from->release();
    for (size_t at = 0; at < bytes.size();) {
      if (counted && stage->relayed == stage->cut_after) break;
      const size_t left = counted ? stage->cut_after - stage->relayed : SIZE_MAX;
      const size_t piece = stage->bytewise ? 1 : std::min(bytes.size() - at, left);
      to->append(std::string_view(bytes).substr(at, piece));
      at += piece;
      if (counted) stage->relayed += piece;
      if (stage->bytewise && !co_await sleep_for(microseconds(20))) break;
    }
    if (counted && stage->relayed == stage->cut_after) break;
  }
  if (co_await to->drained(0)) static_cast<void>(co_await to->shutdown_send());
}

Task<void> relay_one(Stage* stage, Descriptor fd) {
  Socket near(std::move(fd));
  Result<Descriptor> reached = co_await connect_to("127.0.0.1", server_port);
  if (reached) {
    Socket far(std::move(*reached));
    {
      Scope scope(nullptr, "relay");
      scope.spawn(pump(stage, &near, &far, false));
      co_await pump(stage, &far, &near, true);
      scope.request_stop();
      co_await scope.join();
    }
    co_await far.close();
  }
  co_await near.close();
}

// Runs `body` with a client's stream that is not secure yet, in several schedules.
void play(Task<void> (*body)(Stage& stage, tls::Stream& stream), void (*prepare)(Stage& stage),
          uint64_t seeds = 5) {
  struct Run {
    static Task<void> run(Task<void> (*body)(Stage&, tls::Stream&), Stage* stage) {
      Scope scope(nullptr, "server");
      scope.spawn(listen(stage, server_port, &serve_one));
      static_cast<void>(co_await stage->listening.wait());
      stage->listening.reset();
      scope.spawn(listen(stage, relay_port, &relay_one));
      static_cast<void>(co_await stage->listening.wait());
      Result<Descriptor> fd = co_await connect_to("127.0.0.1", relay_port);
      CHECK(fd);
      if (fd) {
        tls::Stream stream(std::move(*fd));
        co_await body(*stage, stream);
        co_await stream.close();
      }
      scope.request_stop();
      co_await scope.join();
    }
  };
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    const RepeatableRandom random(seed);
    const TestTrust trust;
    Stage stage;
    stage.client_context = std::move(*tls::Context::make(
        {.authorities = trust.authority.certificate(), .remedies = {.no_tls = "ask elsewhere"}}));
    stage.server_context = std::move(*tls::Context::make({.role = tls::Role::server,
                                                          .certificate = trust.server.certificate(),
                                                          .key = trust.server.key()}));
    prepare(stage);
    SimRig rig(seed);
    CHECK(rig.run(Run::run(body, &stage)));
  }
}

Task<Result<void>> secure(Stage& stage, tls::Stream& stream) {
  co_return co_await stream.secure(*stage.client_context, stage.peer,
                                   Reactor::current().after(seconds(5)));
}

Task<void> echo(tls::Stream& stream) {
  for (;;) {
    Result<std::string_view> bytes = co_await stream.receive();
    if (!bytes || bytes->empty()) break;
    const std::string text(*bytes);
    stream.release();
    stream.append(text);
    if (!co_await stream.socket().drained(1u << 20)) break;
  }
  static_cast<void>(co_await stream.finish());
}

std::string pattern(size_t size_bytes) {
  std::string bytes(size_bytes, '\0');
  for (size_t i = 0; i < size_bytes; ++i) bytes[i] = static_cast<char>(i * 131 + i / 251);
  return bytes;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("bytes go both ways whole, in any sizes") {
  play(
      [](Stage& stage, tls::Stream& stream) -> Task<void> {
        REQUIRE_OR_RETURN(co_await secure(stage, stream));
        for (size_t size = 1; size <= 1u << 20; size = size * 9 + 5) {
          const std::string bytes = pattern(size);
          stream.append(bytes.substr(0, size / 3));
          stream.append(bytes.substr(size / 3));
          CHECK(stream.output_bytes() >= size);
          std::string back;
          while (back.size() < size) {
            Result<std::string_view> got = co_await stream.receive();
            REQUIRE_OR_RETURN(got);
            REQUIRE_OR_RETURN(!got->empty());
            back += *got;
            stream.release();
          }
          CHECK(back == bytes);
        }
        CHECK(co_await stream.finish());
        Result<std::string_view> end = co_await stream.receive();
        REQUIRE_OR_RETURN(end);
        CHECK(end->empty());
      },
      [](Stage& stage) { stage.serve = &echo; });
}

TEST_CASE("a network that delivers byte by byte changes nothing") {
  play(
      [](Stage& stage, tls::Stream& stream) -> Task<void> {
        REQUIRE_OR_RETURN(co_await secure(stage, stream));
        const std::string bytes = pattern(3000);
        stream.append(bytes);
        std::string back;
        while (back.size() < bytes.size()) {
          Result<std::string_view> got = co_await stream.receive();
          REQUIRE_OR_RETURN(got);
          back += *got;
          stream.release();
          // Whoever waits meanwhile gives the buffer back and loses nothing.
          static_cast<void>(co_await sleep_for(microseconds(50)));
        }
        CHECK(back == bytes);
      },
      [](Stage& stage) {
        stage.serve = &echo;
        stage.bytewise = true;
      });
}

TEST_CASE("what is appended in one tick goes as one record") {
  play(
      [](Stage& stage, tls::Stream& stream) -> Task<void> {
        REQUIRE_OR_RETURN(co_await secure(stage, stream));
        static_cast<void>(co_await sleep_for(milliseconds(5)));
        const uint64_t before = stream.socket().bytes_sent();
        for (int i = 0; i < 100; ++i) stream.append("ten bytes.");
        static_cast<void>(co_await sleep_for(milliseconds(5)));
        CHECK(stream.socket().bytes_sent() - before == 1000 + 22);
      },
      [](Stage& stage) { stage.serve = &echo; });
}

TEST_CASE("an end that was not announced is an error, wherever it comes") {
  static size_t cut;
  bool announced = false;
  for (cut = 50; !announced && cut < 4000; cut += 53) {
    CAPTURE(cut);
    static bool whole;
    whole = false;
    play(
        [](Stage& stage, tls::Stream& stream) -> Task<void> {
          Result<void> done = co_await secure(stage, stream);
          if (!done) {
            CHECK_MESSAGE(has(done.error().message(), "ended during the TLS handshake"),
                          done.error().message());
            co_return;
          }
          std::string got;
          for (;;) {
            Result<std::string_view> bytes = co_await stream.receive();
            if (!bytes) {
              CHECK(bytes.error().code == Errc::closed);
              CHECK_MESSAGE(has(bytes.error().detail, "without an end of TLS"),
                            bytes.error().detail);
              break;
            }
            if (bytes->empty()) {
              whole = true;
              break;
            }
            got += *bytes;
            stream.release();
          }
          CHECK(got.size() <= 1000);
          CHECK(got == pattern(1000).substr(0, got.size()));
          if (whole) CHECK(got.size() == 1000);
        },
        [](Stage& stage) {
          stage.cut_after = cut;
          stage.serve = [](tls::Stream& stream) -> Task<void> {
            stream.append(pattern(1000));
            static_cast<void>(co_await stream.finish());
          };
        },
        1);
    announced = whole;
  }
  CHECK(cut > 1000);
  CHECK(announced);
}

TEST_CASE("who is no TLS server, or says nothing, is told from one that is refused") {
  play(
      [](Stage& stage, tls::Stream& stream) -> Task<void> {
        Result<void> done = co_await secure(stage, stream);
        REQUIRE_OR_RETURN(!done);
        CHECK_MESSAGE(has(done.error().detail, "what came is not TLS; ask elsewhere"),
                      done.error().detail);
      },
      [](Stage& stage) { stage.instead = "-ERR unknown command\r\n"; });
  play(
      [](Stage& stage, tls::Stream& stream) -> Task<void> {
        const Nanos begin = Reactor::current().now();
        Result<void> done = co_await secure(stage, stream);
        REQUIRE_OR_RETURN(!done);
        CHECK(done.error().code == Errc::timed_out);
        CHECK(has(done.error().detail, "not complete within 5000 ms"));
        CHECK(Reactor::current().now() - begin < seconds(5) + milliseconds(10));
      },
      [](Stage& stage) { stage.silent = true; });
  play(
      [](Stage& stage, tls::Stream& stream) -> Task<void> {
        Result<void> done = co_await secure(stage, stream);
        REQUIRE_OR_RETURN(!done);
        CHECK(has(done.error().detail, "is not for 'other.test'"));
        static_cast<void>(co_await sleep_for(milliseconds(50)));
        // By the alert.
        CHECK_MESSAGE(has(stage.server_failure, "bad certificate"), stage.server_failure);
      },
      [](Stage& stage) {
        stage.serve = &echo;
        stage.peer = "other.test";
      });
}

TEST_CASE("a connection that breaks under what is sent ends it, and nothing is left") {
  play(
      [](Stage& stage, tls::Stream& stream) -> Task<void> {
        REQUIRE_OR_RETURN(co_await secure(stage, stream));
        stream.append(pattern(1u << 20));
        stream.socket().abort();
        stream.append("more");
        CHECK_FALSE(co_await stream.finish());
        CHECK_FALSE(co_await stream.receive());
      },
      [](Stage& stage) { stage.serve = &echo; });
}
