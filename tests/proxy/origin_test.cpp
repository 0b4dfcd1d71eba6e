// One core's Origin by itself, before a Redis made for tests, in the simulation.
#include "proxy/origin.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "../resp/fake_redis.hpp"
#include "../store/sim_rig.hpp"

using namespace gyre;
using namespace gyre::test;
using proxy::Origin;
using Status = proxy::Answer::Status;

namespace {

struct Play {
  FakeRedis redis;
  proxy::Options options;
};

// What became of a lookup; the value itself is not kept.
struct Asked final : proxy::Waiter {
  explicit Asked(std::string name) : name_(std::move(name)), begun_at(Reactor::current().now()) {}
  std::string_view key() const override { return name_; }
  void answered(const proxy::Answer& answer) noexcept override {
    ++answers;
    status = answer.status;
    value_bytes = answer.value.size();
    reason.assign(answer.reason);
    took = Reactor::current().now() - begun_at;
    done.set();
  }
  std::string name_;
  Nanos begun_at;
  int answers = 0;
  Status status = Status::unavailable;
  size_t value_bytes = 0;
  std::string reason;
  Nanos took = 0;
  Event done;
};

using Lookups = std::vector<std::unique_ptr<Asked>>;

Asked& ask(Lookups& lookups, Origin& origin, const std::string& key) {
  lookups.push_back(std::make_unique<Asked>(key));
  origin.ask(*lookups.back());
  return *lookups.back();
}

// Runs `body` beside the server, in several schedules.
void play(
    Task<void> (*body)(Play& play, Origin& origin), void (*prepare)(Play& play) = [](Play&) {},
    uint64_t seeds = 5) {
  struct Run {
    static Task<void> run(Task<void> (*body)(Play&, Origin&), void (*prepare)(Play&)) {
      Play play;
      prepare(play);
      Scope scope(nullptr, "server");
      scope.spawn(play.redis.main());
      static_cast<void>(co_await play.redis.listening.wait());
      {
        Origin origin(play.options, 0, 1);
        origin.open("");
        while (!origin.is_up()) static_cast<void>(co_await sleep_for(milliseconds(1)));
        co_await body(play, origin);
        if (!origin.upstream().is_closing()) co_await origin.close();
      }
      play.redis.stop();
      co_await scope.join();
    }
  };
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    // Windows in which a large value comes before its connection is given up.
    SimRig rig(
        {.seed = seed, .network = {.window_bytes_min = 1u << 20, .window_bytes_max = 4u << 20}},
        {});
    rig.run(Run::run(body, prepare));
  }
}

}  // namespace

TEST_CASE("copies of one value for all who wait for it stay within 128 MiB") {
  play(
      [](Play& play, Origin& origin) -> Task<void> {
        constexpr size_t size = 40u << 20;
        play.redis.data["large"] = {std::string(size, 'x')};
        play.redis.data["small"] = {"value"};
        Lookups lookups;
        for (int i = 0; i < 7; ++i) ask(lookups, origin, "large");
        for (auto& asked : lookups) static_cast<void>(co_await asked->done.wait());
        CHECK(play.redis.count("GET") == 1);
        for (size_t i = 0; i < lookups.size(); ++i) {
          CAPTURE(i);
          CHECK(lookups[i]->answers == 1);
          if (i < 3) {  // 3 * 40 fit, 4 don't
            CHECK(lookups[i]->status == Status::found);
            CHECK(lookups[i]->value_bytes == size);
          } else {
            CHECK(lookups[i]->status == Status::unavailable);
            CHECK(lookups[i]->reason == "too many lookups are under way; try again");
          }
        }
        // Of what is small, all get theirs.
        lookups.clear();
        for (int i = 0; i < 1000; ++i) ask(lookups, origin, "small");
        for (auto& asked : lookups) {
          static_cast<void>(co_await asked->done.wait());
          CHECK(asked->status == Status::found);
        }
        CHECK(play.redis.count("GET") == 2);
      },
      [](Play& play) { play.options.redis_timeout_ms = 60'000; }, 1);
}

TEST_CASE("a value that by itself is over that bound is still given to one") {
  play(
      [](Play& play, Origin& origin) -> Task<void> {
        play.redis.data["large"] = {std::string(130u << 20, 'x')};
        Lookups lookups;
        ask(lookups, origin, "large");
        ask(lookups, origin, "large");
        for (auto& asked : lookups) static_cast<void>(co_await asked->done.wait());
        CHECK(lookups[0]->status == Status::found);
        CHECK(lookups[1]->status == Status::unavailable);
      },
      [](Play& play) {
        play.options.redis_timeout_ms = 60'000;
        play.options.value_bytes_max = 256u << 20;
      },
      1);
}

TEST_CASE(
    "a share of fetches is delayed, or up to their deadline, until the fault ends by itself") {
  play(
      [](Play& play, Origin& origin) -> Task<void> {
        for (int i = 0; i < 2000; ++i) play.redis.data["k" + std::to_string(i)] = {"value"};
        const Nanos begin = Reactor::current().now();
        origin.faults = {
            .delay_permille = 300, .delay = milliseconds(200), .until = begin + seconds(20)};
        Lookups lookups;
        const auto slow = [&] {
          return std::ranges::count_if(
              lookups, [](const auto& asked) { return asked->took >= milliseconds(200); });
        };
        for (int i = 0; i < 1000; ++i) ask(lookups, origin, "k" + std::to_string(i));
        for (auto& asked : lookups) {
          static_cast<void>(co_await asked->done.wait());
          CHECK(asked->status == Status::found);
          CHECK(asked->took < milliseconds(300));
        }
        CHECK(slow() > 200);
        CHECK(slow() < 400);
        CHECK(origin.stats().injected_delays == static_cast<uint64_t>(slow()));
        // What is remembered is not fetched.
        proxy::Answer answer;
        CHECK(origin.try_answer("k1", answer));

        origin.faults.delay_permille = 1000;
        origin.faults.delay = seconds(10);
        Asked& late = ask(lookups, origin, "k1500");
        static_cast<void>(co_await late.done.wait());
        CHECK(late.status == Status::unavailable);
        CHECK(late.reason == "Redis did not answer in time");
        CHECK(late.took >= seconds(1));
        CHECK(late.took < milliseconds(1010));
        CHECK(play.redis.count("GET") == 1000);

        static_cast<void>(co_await sleep_until(begin + seconds(20)));
        lookups.clear();
        for (int i = 1000; i < 1200; ++i) ask(lookups, origin, "k" + std::to_string(i));
        for (auto& asked : lookups) static_cast<void>(co_await asked->done.wait());
        CHECK(slow() == 0);
      },
      [](Play& play) { play.options.keys_max = 10'000; });
}

TEST_CASE("a value that changes while its fetch is delayed is the new one, and told of later") {
  play([](Play& play, Origin& origin) -> Task<void> {
    play.redis.data["k"] = {"1"};
    origin.faults = {.delay_permille = 1000, .delay = milliseconds(100), .until = nanos_never};
    Lookups lookups;
    Asked& first = ask(lookups, origin, "k");
    static_cast<void>(co_await sleep_for(milliseconds(50)));
    play.redis.set("k", "22");
    static_cast<void>(co_await first.done.wait());
    CHECK(first.value_bytes == 2);
    play.redis.set("k", "333");
    static_cast<void>(co_await sleep_for(milliseconds(50)));
    proxy::Answer answer;
    CHECK_FALSE(origin.try_answer("k", answer));
  });
}

TEST_CASE("a share of fetches fails, until the fault ends by itself") {
  play([](Play& play, Origin& origin) -> Task<void> {
    const Nanos begin = Reactor::current().now();
    origin.faults = {.fail_permille = 500, .until = begin + seconds(5)};
    Lookups lookups;
    for (int i = 0; i < 400; ++i) ask(lookups, origin, "k" + std::to_string(i));
    for (auto& asked : lookups) static_cast<void>(co_await asked->done.wait());
    const auto failed = std::ranges::count_if(
        lookups, [](const auto& asked) { return asked->reason == "a fault was injected"; });
    CHECK(failed > 120);
    CHECK(failed < 280);
    static_cast<void>(co_await sleep_until(begin + seconds(5)));
    lookups.clear();
    for (int i = 400; i < 500; ++i) {
      static_cast<void>(co_await ask(lookups, origin, "k" + std::to_string(i)).done.wait());
      CHECK(lookups.back()->status == Status::absent);
    }
    CHECK(play.redis.count("GET") == static_cast<uint64_t>(400 - failed + 100));
  });
}

TEST_CASE("closing ends fetches that are delayed, and an end of the connection refuses them") {
  play([](Play& play, Origin& origin) -> Task<void> {
    origin.faults = {.delay_permille = 1000, .delay = milliseconds(500), .until = nanos_never};
    Lookups lookups;
    Asked& refused = ask(lookups, origin, "a");
    play.redis.refuses = true;
    play.redis.cut();
    static_cast<void>(co_await refused.done.wait());
    CHECK(refused.status == Status::unavailable);
    play.redis.refuses = false;
    while (!origin.is_up()) static_cast<void>(co_await sleep_for(milliseconds(1)));
    Asked& under_way = ask(lookups, origin, "b");
    co_await origin.close();
    CHECK(under_way.answers == 1);
    CHECK(under_way.reason == "shutting down");
  });
}
