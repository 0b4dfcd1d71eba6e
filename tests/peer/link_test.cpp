#include "peer/link.hpp"

#include <algorithm>
#include <memory>

#include "peer_rig.hpp"

using namespace gyre;
using namespace gyre::test;
using peer::LinkState;
using peer::Status;
using Verb = EchoService::Verb;
using Calls = std::vector<std::unique_ptr<TestCall>>;

namespace {

void check_ended_once(const Calls& calls) {
  for (const auto& call : calls) CHECK(call->ended == 1);
}

Task<void> all_ended(const Calls* calls, Nanos limit = seconds(60)) {
  co_await wait_until(
      [calls] { return std::ranges::all_of(*calls, [](auto& call) { return call->ended != 0; }); },
      limit);
}

}  // namespace

TEST_CASE("replies find their calls, in any order and of any size") {
  struct Play {
    static Task<void> run(Stage* stage) {
      peer::Link link(stage->client, stage->link_options());
      co_await wait_until([stage] { return stage->server->listening; });
      Calls calls;
      for (uint64_t i = 0; i < 200; ++i) {
        // The later ones are answered sooner, and some are longer than every buffer.
        const size_t size_bytes = i % 50 == 7 ? 150'000 + i : 16 + i * 37 % 900;
        std::string payload = tagged((200 - i) * 100, size_bytes);
        calls.push_back(
            std::make_unique<TestCall>(i % 3 == 0 ? Verb::echo : Verb::echo_later, payload));
        REQUIRE_OR_RETURN(link.start(*calls.back()));
        if (i % 10 == 0) static_cast<void>(co_await sleep_for(microseconds(300)));
      }
      co_await all_ended(&calls);
      check_ended_once(calls);
      for (const auto& call : calls) {
        CHECK(call->status == Status::ok);
        CHECK(call->text == call->payload);
      }
      CHECK(link.calls_under_way() == 0);
      CHECK(link.stats().replies == 200);
      CHECK(link.stats().attempts == 1);
      co_await link.close();
    }
  };
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    Stage stage(seed);
    stage.run(Play::run(&stage));
    CHECK(stage.server->service.requests == 200);
  }
}

TEST_CASE("a payload in parts arrives put together, by copy and by reference") {
  struct Play {
    struct Bytes {
      std::string text = tagged(3, 40'000);
      int held = 0;
      int retained = 0;
    };
    static Task<void> run(Stage* stage, bool by_reference) {
      peer::Link link(stage->client, stage->link_options());
      co_await wait_until([stage] { return stage->server->listening; });
      Bytes bytes;
      TestCall call(Verb::echo, "");
      const std::string_view parts[] = {"head", "", bytes.text, "tail"};
      call.parts = parts;
      if (by_reference) {
        call.owner = &bytes;
        call.retain = [](void* owner) noexcept {
          ++static_cast<Bytes*>(owner)->held;
          ++static_cast<Bytes*>(owner)->retained;
        };
        call.release = [](void* owner) noexcept { --static_cast<Bytes*>(owner)->held; };
      }
      REQUIRE_OR_RETURN(link.start(call));
      co_await call.finished.wait();
      CHECK(call.text == "head" + bytes.text + "tail");
      CHECK(bytes.retained == (by_reference ? 1 : 0));
      co_await link.close();
      CHECK(bytes.held == 0);
    }
  };
  for (bool by_reference : {false, true}) {
    Stage stage(5);
    stage.run(Play::run(&stage, by_reference));
  }
}

TEST_CASE("a call ends at its deadline, and a reply after that harms nobody") {
  struct Play {
    static Task<void> run(Stage* stage) {
      peer::Link link(stage->client, stage->link_options());
      co_await wait_until([stage] { return stage->server->listening; });
      const Nanos begin = Reactor::current().now();
      TestCall late(Verb::hold, "late", begin + milliseconds(300));
      TestCall other(Verb::hold, "other", begin + seconds(100));
      REQUIRE_OR_RETURN(link.start(late));
      REQUIRE_OR_RETURN(link.start(other));
      co_await late.finished.wait();
      CHECK(late.status == Status::timed_out);
      CHECK(Reactor::current().now() >= begin + milliseconds(300));
      CHECK(Reactor::current().now() < begin + milliseconds(310));
      // Takes the place of the one that ended, and must not get its reply.
      TestCall next(Verb::echo_later, tagged(1'000'000, 16));
      REQUIRE_OR_RETURN(link.start(next));
      stage->server->release = true;
      co_await other.finished.wait();
      CHECK(other.status == Status::ok);
      CHECK(other.text == "other");
      co_await next.finished.wait();
      CHECK(next.text == next.payload);
      co_await wait_until([&link] { return link.stats().replies_late == 1; });
      CHECK(late.ended == 1);
      TestCall past(Verb::echo, "", Reactor::current().now());
      CHECK_FALSE(link.start(past));
      CHECK(past.status == Status::timed_out);
      CHECK(past.ended == 0);
      co_await link.close();
    }
  };
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Stage stage(seed);
    stage.world.network().set_latency(0, 1, {milliseconds(1), milliseconds(1)});
    stage.run(Play::run(&stage));
  }
}

TEST_CASE("a cancelled call is forgotten, wherever it was") {
  struct Play {
    static Task<void> run(Stage* stage) {
      peer::Link link(stage->client, stage->link_options());
      co_await wait_until([stage] { return stage->server->listening; });
      TestCall unsent(Verb::echo, "unsent");
      REQUIRE_OR_RETURN(link.start(unsent));
      link.cancel(unsent);
      CHECK(link.queue_bytes() == 0);
      TestCall sent(Verb::hold, "sent");
      TestCall other(Verb::hold, "other");
      REQUIRE_OR_RETURN(link.start(sent));
      REQUIRE_OR_RETURN(link.start(other));
      co_await wait_until([stage] { return stage->server->service.requests == 2; });
      link.cancel(sent);
      stage->server->release = true;
      co_await other.finished.wait();
      CHECK(other.text == "other");
      CHECK(sent.ended == 0);
      CHECK(unsent.ended == 0);
      co_await link.close();
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
}

TEST_CASE("a coroutine asks, and its stop cancels the call") {
  struct Play {
    static Task<void> ask(peer::Link* link, Verb verb, Status expected) {
      peer::AskedCall asked(*link);
      const std::string_view part = "payload";
      asked.verb = verb;
      asked.parts = {&part, 1};
      const Status status = co_await asked.ask();
      CHECK(status == expected);
      if (status == Status::ok) CHECK(asked.text == "payload");
    }
    static Task<void> run(Stage* stage) {
      peer::Link link(stage->client, stage->link_options());
      co_await wait_until([stage] { return stage->server->listening; });
      co_await ask(&link, Verb::echo, Status::ok);
      Scope scope(nullptr, "asking");
      scope.spawn(ask(&link, Verb::hold, Status::cancelled));
      co_await wait_until([stage] { return stage->server->service.requests == 2; });
      scope.request_stop();
      co_await scope.join();
      CHECK(link.calls_under_way() == 0);
      co_await link.close();
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
}

TEST_CASE(
    "a call to a peer that is not there fails at once, and one the instant it is back works") {
  struct Play {
    static Task<void> run(Stage* stage) {
      co_await wait_until([stage] { return stage->server->listening; });
      stage->kill_server();
      peer::Link link(stage->client, stage->link_options());
      // However long it was away: backoff is for those who are not asked.
      for (int i = 0; i < 20; ++i) {
        const Nanos begin = Reactor::current().now();
        TestCall call(Verb::echo, "x", begin + seconds(30));
        REQUIRE_OR_RETURN(link.start(call));
        co_await call.finished.wait();
        CHECK(call.status == Status::closed);
        CHECK(Reactor::current().now() < begin + milliseconds(500));
        CHECK_FALSE(link.trouble().empty());
        static_cast<void>(co_await sleep_for(milliseconds(200)));
      }
      CHECK(link.tried());
      stage->start_server();
      co_await wait_until([stage] { return stage->server->listening; });
      TestCall call(Verb::echo, "x", Reactor::current().now() + seconds(30));
      REQUIRE_OR_RETURN(link.start(call));
      co_await call.finished.wait();
      CHECK(call.status == Status::ok);
      co_await link.close();
    }
  };
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Stage stage(seed);
    stage.run(Play::run(&stage));
  }
}

TEST_CASE("attempts come at growing intervals, and a sign of life ends the wait") {
  struct Play {
    static Task<void> run(Stage* stage) {
      co_await wait_until([stage] { return stage->server->listening; });
      stage->kill_server();
      peer::Link link(stage->client, stage->link_options());
      link.connect();
      static_cast<void>(co_await sleep_for(seconds(60)));
      // 60 s at 1 to 2 s each, and the first few sooner; without jitter it would be 36.
      CHECK(link.stats().attempts >= 30);
      CHECK(link.stats().attempts <= 70);
      stage->start_server();
      co_await wait_until([stage] { return stage->server->listening; });
      const uint64_t before = link.stats().attempts;
      link.peer_seen(stage->server->node.me);
      co_await wait_until([&link] { return link.state() == LinkState::connected; },
                          milliseconds(500));
      CHECK(link.stats().attempts == before + 1);
      co_await link.close();
    }
  };
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Stage stage(seed);
    stage.world.network().options.spike_ppm = 0;
    stage.run(Play::run(&stage));
  }
}

TEST_CASE("who does not answer at all is asked anew, as long as somebody wants it") {
  struct Play {
    static Task<void> run(Stage* stage) {
      co_await wait_until([stage] { return stage->server->listening; });
      stage->world.network().partition(0, 1);
      peer::LinkOptions options = stage->link_options();
      options.connect_timeout = seconds(5);
      options.reach_timeout = milliseconds(100);
      peer::Link link(stage->client, options);
      for (int i = 0; i < 200; ++i) {
        TestCall call(Verb::echo, "anybody");
        call.deadline = Reactor::current().after(milliseconds(40));
        if (link.start(call)) co_await call.finished.wait();
        static_cast<void>(co_await sleep_for(milliseconds(10)));
      }
      CHECK(link.stats().attempts >= 15);
      stage->world.network().heal(0, 1);
      TestCall last(Verb::echo, "here again");
      co_await wait_until([&link] {
        link.connect();
        return link.state() == LinkState::connected;
      });
      REQUIRE_OR_RETURN(link.start(last));
      co_await last.finished.wait();
      CHECK(last.status == Status::ok);
      co_await link.close();
    }
  };
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Stage stage(seed);
    stage.run(Play::run(&stage));
  }
}

TEST_CASE("a connection to an earlier life of the peer is given up, and its calls asked again") {
  struct Play {
    static Task<void> run(Stage* stage) {
      co_await wait_until([stage] { return stage->server->listening; });
      peer::Link link(stage->client, stage->link_options());
      CHECK(co_await link.try_once());
      TestCall call(EchoService::hold, "x", Reactor::current().after(seconds(5)));
      call.idempotent = true;
      REQUIRE_OR_RETURN(link.start(call));
      co_await wait_until([stage] { return stage->server->service.requests == 1; });
      link.peer_seen(stage->server->node.me);  // nothing new
      static_cast<void>(co_await sleep_for(milliseconds(100)));
      CHECK(stage->server->service.requests == 1);
      stage->server->node.me.incarnation = 7;
      link.peer_seen(stage->server->node.me);
      co_await wait_until([stage] { return stage->server->service.requests == 2; });
      CHECK(link.stats().connected == 2);
      CHECK(call.retried());
      stage->server->release = true;
      co_await call.finished.wait();
      CHECK(call.status == Status::ok);
      co_await link.close();
    }
  };
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Stage stage(seed);
    stage.world.network().options.spike_ppm = 0;
    stage.run(Play::run(&stage));
  }
}

// Calls one after another while connections are reset under them, and the peer restarts.
TEST_CASE("every call ends once, and what may not be carried out twice never is") {
  struct Play {
    static Task<void> run(Stage* stage, bool idempotent, int* sent, int* closed, int* retried) {
      peer::Link link(stage->client, stage->link_options());
      co_await wait_until([stage] { return stage->server->listening; });
      Calls calls;
      for (uint64_t i = 0; i < 300; ++i) {
        const size_t size_bytes = i % 40 == 3 ? 30'000 : 16 + i;
        calls.push_back(std::make_unique<TestCall>(Verb::echo_later,
                                                   tagged(i * 7 % 900, size_bytes),
                                                   Reactor::current().now() + seconds(60)));
        calls.back()->payload.replace(8, 8, tagged(i + 1, 16).substr(8));  // its own beginning
        calls.back()->part = calls.back()->payload;
        calls.back()->idempotent = idempotent;
        REQUIRE_OR_RETURN(link.start(*calls.back()));
        if (i % 4 == 0) static_cast<void>(co_await sleep_for(milliseconds(3)));
        if (i % 60 == 59) {
          const auto ends = stage->world.network().connections(0);
          if (!ends.empty()) stage->world.network().reset(ends.back());
        }
        if (i == 150) {
          stage->kill_server();
          static_cast<void>(co_await sleep_for(milliseconds(2)));
          stage->start_server();
        }
      }
      co_await all_ended(&calls, seconds(100));
      check_ended_once(calls);
      for (const auto& call : calls) {
        CHECK((call->status == Status::ok || call->status == Status::closed));
        if (call->status == Status::ok) CHECK(call->text == call->payload);
        *sent += call->status == Status::ok;
        *closed += call->status == Status::closed;
      }
      *retried += static_cast<int>(link.stats().retried);
      co_await link.close();
    }
  };
  int retried_of[2] = {};
  int sent_of_all = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    for (bool idempotent : {false, true}) {
      Stage stage(seed, {.window_bytes_max = 16u << 10});
      int sent = 0, closed = 0, retried = 0;
      stage.run(Play::run(&stage, idempotent, &sent, &closed, &retried));
      sent_of_all += sent;
      for (const auto& [tag, times] : stage.server->service.times) {
        CHECK(times <= (idempotent ? 2 : 1));
      }
      retried_of[idempotent] += retried;
    }
  }
  CHECK(sent_of_all > 60 * 150);
  CHECK(retried_of[false] > 0);
  CHECK(retried_of[true] > retried_of[false]);
}

TEST_CASE("a call on a connection that went stale is sent once more") {
  struct Play {
    static Task<void> run(Stage* stage) {
      peer::Link link(stage->client, stage->link_options());
      co_await wait_until([stage] { return stage->server->listening; });
      for (int i = 0; i < 5; ++i) {
        TestCall call(Verb::echo, tagged(static_cast<uint64_t>(i), 100));
        call.idempotent = true;
        REQUIRE_OR_RETURN(link.start(call));
        co_await call.finished.wait();
        CHECK(call.status == Status::ok);
        // The peer forgets the connection; this side learns of it with the next call.
        const auto ends = stage->world.network().connections(1);
        REQUIRE_OR_RETURN(!ends.empty());
        stage->world.network().reset_one_side(ends.back());
        static_cast<void>(co_await sleep_for(seconds(1)));
      }
      CHECK(link.stats().retried == 4);
      co_await link.close();
    }
  };
  Stage stage(3);
  stage.run(Play::run(&stage));
}

TEST_CASE("a peer that is silent is noticed, and calls to it end") {
  struct Play {
    static Task<void> run(Stage* stage) {
      peer::Link link(stage->client, stage->link_options());
      co_await wait_until([stage] { return stage->server->listening; });
      TestCall first(Verb::echo, "first");
      REQUIRE_OR_RETURN(link.start(first));
      co_await first.finished.wait();
      CHECK(first.status == Status::ok);
      stage->world.network().partition(0, 1);
      const Nanos cut = Reactor::current().now();
      TestCall second(Verb::echo, "second");  // without a deadline
      REQUIRE_OR_RETURN(link.start(second));
      co_await second.finished.wait();
      CHECK(second.status == Status::closed);
      CHECK(Reactor::current().now() - cut < seconds(4));
      CHECK(link.trouble() == "the peer is silent");
      stage->world.network().heal(0, 1);
      TestCall third(Verb::echo, "third");
      co_await wait_until([&link] { return link.state() == LinkState::connected; });
      REQUIRE_OR_RETURN(link.start(third));
      co_await third.finished.wait();
      CHECK(third.status == Status::ok);
      co_await link.close();
    }
  };
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Stage stage(seed);
    stage.run(Play::run(&stage));
  }
}

TEST_CASE("a peer that works long on a request is not taken for dead") {
  struct Play {
    static Task<void> run(Stage* stage) {
      peer::Link link(stage->client, stage->link_options());
      co_await wait_until([stage] { return stage->server->listening; });
      TestCall call(Verb::echo_later, tagged(100'000'000, 16));  // 100 s
      REQUIRE_OR_RETURN(link.start(call));
      co_await call.finished.wait();
      CHECK(call.status == Status::ok);
      CHECK(link.stats().attempts == 1);
      co_await link.close();
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
}

TEST_CASE("what waits for a peer is bounded, and the rest is refused at once") {
  struct Play {
    static Task<void> run(Stage* stage) {
      co_await wait_until([stage] { return stage->server->listening; });
      peer::LinkOptions options = stage->link_options();
      options.queue_bytes_max = 100'000;
      peer::Link link(stage->client, options);
      stage->world.network().partition(0, 1);
      Calls calls;
      const auto begin = [&](size_t size_bytes) {
        calls.push_back(std::make_unique<TestCall>(Verb::echo, std::string(size_bytes, 'x'),
                                                   Reactor::current().now() + milliseconds(100)));
        return link.start(*calls.back());
      };
      CHECK(begin(500'000));  // one always fits
      CHECK_FALSE(begin(1));
      CHECK(calls.back()->status == Status::overloaded);
      CHECK(calls.back()->ended == 0);
      calls.pop_back();
      co_await all_ended(&calls);
      CHECK(calls[0]->status == Status::timed_out);
      CHECK(link.queue_bytes() == 0);
      for (int i = 0; i < 9; ++i) CHECK(begin(10'000));
      CHECK_FALSE(begin(10'000));
      calls.pop_back();
      CHECK(link.stats().refused_here == 2);
      stage->world.network().heal(0, 1);
      co_await all_ended(&calls);
      co_await link.close();
    }
  };
  Stage stage(2);
  stage.run(Play::run(&stage));
}

TEST_CASE("closing a link ends what is under way, connected or not") {
  struct Play {
    static Task<void> run(Stage* stage, Nanos wait) {
      co_await wait_until([stage] { return stage->server->listening; });
      peer::Link link(stage->client, stage->link_options());
      TestCall sent(Verb::hold, "sent");
      REQUIRE_OR_RETURN(link.start(sent));
      static_cast<void>(co_await sleep_for(wait));
      TestCall second(Verb::hold, "second");
      REQUIRE_OR_RETURN(link.start(second));
      co_await link.close();
      CHECK(sent.status == Status::cancelled);
      CHECK(second.status == Status::cancelled);
      TestCall after(Verb::echo, "after");
      CHECK_FALSE(link.start(after));
      CHECK(after.status == Status::cancelled);
      CHECK(link.state() == LinkState::closed);
    }
  };
  for (int64_t wait_us : {0, 50, 200, 1000, 3000, 100'000}) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      Stage stage(seed);
      stage.run(Play::run(&stage, microseconds(wait_us)));
    }
  }
}

TEST_CASE("frames carry epoch and clock both ways") {
  struct Play {
    static Task<void> run(Stage* stage) {
      co_await wait_until([stage] { return stage->server->listening; });
      stage->client.clock = 5000;
      stage->client.me.epoch = 3;
      stage->server->node.me.epoch = 4;
      peer::Link link(stage->client, stage->link_options());
      TestCall call(Verb::echo, "x");
      REQUIRE_OR_RETURN(link.start(call));
      co_await call.finished.wait();
      CHECK(call.peer_epoch == 4);
      CHECK(stage->server->node.clock > 5000);
      CHECK(stage->client.clock >= stage->server->node.clock);
      stage->server->node.trusted_to = 5100;
      stage->client.clock = 9000;
      TestCall ahead(Verb::echo, "ahead");
      REQUIRE_OR_RETURN(link.start(ahead));
      co_await ahead.finished.wait();
      CHECK(ahead.status == Status::clock_ahead);
      CHECK(stage->server->service.requests == 1);
      co_await link.close();
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
}
