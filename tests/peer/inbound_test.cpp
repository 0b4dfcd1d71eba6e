#include "peer/inbound.hpp"

#include "peer_rig.hpp"

using namespace gyre;
using namespace gyre::test;
using namespace gyre::peer;
using Verb = EchoService::Verb;

namespace {

// A peer that writes frames of the test's own making.
class RawPeer {
 public:
  explicit RawPeer(Stage& stage) : stage_(stage) {}

  Task<bool> connect() {
    co_await wait_until([this] { return stage_.server->listening; });
    Result<Descriptor> fd = co_await connect_to(stage_.server_node.address(), peer_port);
    if (!fd) co_return false;
    socket_ = std::make_unique<Socket>(std::move(*fd));
    Result<Met> met = co_await meet_as_asker(*socket_, stage_.client, 0, {});
    co_return met.has_value();
  }
  void say(std::string_view bytes) { socket_->append(bytes); }
  void request(uint64_t id, Verb verb, std::string_view payload, uint32_t left_us = UINT32_MAX) {
    say(make_frame(
        {.type = FrameType::request, .verb = verb, .request_id = id, .time_left_us = left_us},
        payload));
  }
  // The next reply; nothing once the connection has ended.
  Task<bool> hear() {
    for (;;) {
      const FrameReader::Step step = reader_.feed(std::string_view(unread_).substr(at_));
      at_ += step.consumed;
      if (step.event == FrameReader::Event::header) continue;
      if (step.event == FrameReader::Event::frame) {
        id = reader_.header().request_id;
        status = static_cast<Status>(reader_.header().verb);
        payload = reader_.payload();
        co_return reader_.payload_intact();
      }
      if (step.event == FrameReader::Event::error) co_return false;
      Result<std::string_view> bytes = co_await socket_->receive();
      if (!bytes || bytes->empty()) co_return false;
      unread_.assign(*bytes);
      at_ = 0;
      socket_->release();
    }
  }
  Task<void> close() { co_await socket_->close(); }
  Socket& socket() { return *socket_; }

  uint64_t id = 0;
  Status status = Status::ok;
  std::string payload;

 private:
  Stage& stage_;
  std::unique_ptr<Socket> socket_;
  FrameReader reader_{64u << 20};
  std::string unread_;
  size_t at_ = 0;
};

}  // namespace

TEST_CASE("a corrupt payload fails its request only") {
  struct Play {
    static Task<void> run(Stage* stage) {
      RawPeer raw(*stage);
      REQUIRE_OR_RETURN(co_await raw.connect());
      std::string wrong =
          make_frame({.type = FrameType::request, .verb = Verb::echo, .request_id = 1}, "payload");
      wrong.back() = 'X';
      raw.say(wrong);
      raw.request(2, Verb::echo, "good");
      CHECK(co_await raw.hear());
      CHECK(raw.id == 1);
      CHECK(raw.status == Status::corrupt);
      CHECK(co_await raw.hear());
      CHECK(raw.id == 2);
      CHECK(raw.payload == "good");
      co_await raw.close();
    }
  };
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Stage stage(seed);
    stage.run(Play::run(&stage));
    CHECK(stage.server->service.requests == 1);
  }
}

TEST_CASE("a corrupt header ends the connection") {
  struct Play {
    static Task<void> run(Stage* stage) {
      RawPeer raw(*stage);
      REQUIRE_OR_RETURN(co_await raw.connect());
      std::string wrong =
          make_frame({.type = FrameType::request, .verb = Verb::echo, .request_id = 1}, "payload");
      wrong[4] = 'X';
      raw.say(wrong);
      raw.request(2, Verb::echo, "good");
      CHECK_FALSE(co_await raw.hear());
      co_await raw.close();
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
  CHECK(stage.server->service.requests == 0);
  REQUIRE(stage.server->errors.size() == 1);
  CHECK(stage.server->errors[0].find("does not match its hash") != std::string::npos);
}

TEST_CASE("a frame that is no request ends the connection") {
  struct Play {
    static Task<void> run(Stage* stage) {
      RawPeer raw(*stage);
      REQUIRE_OR_RETURN(co_await raw.connect());
      raw.say(make_frame({.type = FrameType::reply, .request_id = 1}, "payload"));
      CHECK_FALSE(co_await raw.hear());
      co_await raw.close();
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
  CHECK(stage.server->errors.size() == 1);
}

TEST_CASE("a request whose time is over is dropped unread") {
  struct Play {
    static Task<void> run(Stage* stage) {
      RawPeer raw(*stage);
      REQUIRE_OR_RETURN(co_await raw.connect());
      raw.request(1, Verb::echo, std::string(100'000, 'x'), 0);
      raw.request(2, Verb::echo, "in time", 1'000'000);
      CHECK(co_await raw.hear());
      CHECK(raw.id == 2);
      REQUIRE_OR_RETURN(!stage->server->inbounds.empty());
      CHECK(stage->server->inbounds[0]->stats().expired == 1);
      co_await raw.close();
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
  CHECK(stage.server->service.requests == 1);
}

TEST_CASE("bytes under way are bounded: the rest is busy, and its payload is not kept") {
  struct Play {
    static Task<void> run(Stage* stage) {
      RawPeer raw(*stage);
      REQUIRE_OR_RETURN(co_await raw.connect());
      for (uint64_t i = 1; i <= 4; ++i) raw.request(i, Verb::hold, std::string(40'000, 'x'));
      for (uint64_t i = 3; i <= 4; ++i) {
        CHECK(co_await raw.hear());
        CHECK(raw.id == i);
        CHECK(raw.status == Status::busy);
      }
      CHECK(stage->server->budget.bytes > 80'000);
      CHECK(stage->server->budget.bytes <= 100'000);
      stage->server->release = true;
      for (int i = 0; i < 2; ++i) {
        CHECK(co_await raw.hear());
        CHECK(raw.status == Status::ok);
      }
      CHECK(stage->server->budget.bytes == 0);
      // One always fits.
      raw.request(5, Verb::echo, std::string(300'000, 'y'));
      CHECK(co_await raw.hear());
      CHECK(raw.status == Status::ok);
      CHECK(raw.payload.size() == 300'000);
      co_await raw.close();
    }
  };
  for (bool of_all : {false, true}) {
    Stage stage(1);
    (of_all ? stage.server->budget.bytes_max : stage.server->options.bytes_max) = 100'000;
    stage.run(Play::run(&stage));
    CHECK(stage.server->service.requests == 3);
  }
}

TEST_CASE("a peer that does not read its replies is not read from, and cut off in the end") {
  struct Play {
    static Task<void> run(Stage* stage) {
      RawPeer raw(*stage);
      REQUIRE_OR_RETURN(co_await raw.connect());
      raw.socket().pause_receive();
      for (uint64_t i = 1; i <= 2000; ++i) raw.request(i, Verb::echo, std::string(10'000, 'x'));
      static_cast<void>(co_await sleep_for(seconds(20)));
      CHECK(stage->server->service.requests < 2000);
      CHECK(stage->server->output_bytes_most < 400'000 + output_bytes_live());
      co_await wait_until([stage] { return stage->server->inbounds.empty(); }, seconds(40));
      co_await raw.close();
    }
  };
  Stage stage(1, {.window_bytes_min = 4096, .window_bytes_max = 4096});
  stage.server->options.output_bytes_pause = 100'000;
  stage.run(Play::run(&stage));
}

TEST_CASE("a connection that is idle for long is closed; one that is pinged is not") {
  struct Play {
    static Task<void> run(Stage* stage) {
      RawPeer raw(*stage);
      REQUIRE_OR_RETURN(co_await raw.connect());
      peer::Link link(stage->client, stage->link_options());
      link.connect();
      static_cast<void>(co_await sleep_for(seconds(100)));
      CHECK(stage->server->inbounds.size() == 2);
      CHECK_FALSE(co_await raw.hear());
      static_cast<void>(co_await sleep_for(seconds(300)));
      CHECK(link.stats().attempts == 1);
      CHECK(link.state() == LinkState::connected);
      co_await raw.close();
      co_await link.close();
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
}

TEST_CASE("a drained connection answers what is under way and reads no further") {
  struct Play {
    static Task<void> run(Stage* stage) {
      RawPeer raw(*stage);
      REQUIRE_OR_RETURN(co_await raw.connect());
      raw.request(1, Verb::echo_later, tagged(50'000, 16));  // 50 ms
      co_await wait_until([stage] { return stage->server->service.requests == 1; });
      stage->server->inbounds[0]->drain();
      CHECK(co_await raw.hear());
      CHECK(raw.id == 1);
      CHECK_FALSE(co_await raw.hear());
      co_await raw.close();
    }
  };
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Stage stage(seed);
    stage.run(Play::run(&stage));
    CHECK(stage.server->errors.empty());
  }
}

TEST_CASE("calls of a peer that went away are answered into nothing, and their bytes come back") {
  struct Play {
    static Task<void> run(Stage* stage) {
      RawPeer raw(*stage);
      REQUIRE_OR_RETURN(co_await raw.connect());
      for (uint64_t i = 1; i <= 5; ++i) raw.request(i, Verb::hold, std::string(1000, 'x'));
      co_await wait_until([stage] { return stage->server->service.requests == 5; });
      // And half a request.
      raw.say(
          make_frame({.type = FrameType::request, .verb = Verb::echo}, std::string(100'000, 'x'))
              .substr(0, 50'000));
      CHECK(co_await raw.socket().drained(0));
      co_await raw.close();
      co_await wait_until([stage] { return !stage->server->service.held->connected(); });
      stage->server->release = true;
      co_await wait_until([stage] { return stage->server->inbounds.empty(); });
      CHECK(stage->server->budget.bytes == 0);
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
}
