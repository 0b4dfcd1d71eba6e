// Calls whose reply is preceded by pages, as fast as the asker takes them.
#include "peer_rig.hpp"

using namespace gyre;
using namespace gyre::test;
using peer::Status;
using Verb = EchoService::Verb;

namespace {

struct PagesCall : TestCall {
  PagesCall(peer::Link& of, uint64_t count, Nanos until = nanos_never)
      : TestCall(Verb::pages, tagged(count, 16), until), link(of) {
    page = [](Call& call, std::string_view bytes) noexcept {
      auto& self = static_cast<PagesCall&>(call);
      CHECK(bytes == std::string(10'000, static_cast<char>('a' + self.seen % 26)));
      CHECK(self.ended == 0);
      ++self.seen;
      if (self.grants) self.link.grant(self, static_cast<uint32_t>(bytes.size()));
    };
  }
  peer::Link& link;
  uint64_t seen = 0;
  bool grants = true;
};

// As many pages as fit into the window, the last one begun before its end.
constexpr uint64_t window_pages = peer::stream_window_bytes / 10'000 + 1;

}  // namespace

TEST_CASE("pages come in order and whole, then the reply, and other calls pass them") {
  struct Play {
    static Task<void> run(Stage* stage) {
      co_await wait_until([stage] { return stage->server->listening; });
      peer::Link link(stage->client, stage->link_options());
      PagesCall pages(link, 500);
      PagesCall others(link, 300);
      TestCall small(Verb::echo, "small");
      REQUIRE_OR_RETURN(link.start(pages));
      REQUIRE_OR_RETURN(link.start(others));
      REQUIRE_OR_RETURN(link.start(small));
      co_await small.finished.wait();
      CHECK(pages.seen < 500);
      co_await pages.finished.wait();
      co_await others.finished.wait();
      CHECK(pages.seen == 500);
      CHECK(others.seen == 300);
      CHECK(pages.text == "the end");
      co_await link.close();
    }
  };
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Stage stage(seed);
    stage.run(Play::run(&stage));
  }
}

TEST_CASE("who takes no pages gets a window of them; taking one makes room for one") {
  struct Play {
    static Task<void> run(Stage* stage) {
      co_await wait_until([stage] { return stage->server->listening; });
      peer::Link link(stage->client, stage->link_options());
      PagesCall pages(link, 20);
      pages.grants = false;
      REQUIRE_OR_RETURN(link.start(pages));
      co_await wait_until([&pages] { return pages.seen == window_pages; });
      static_cast<void>(co_await sleep_for(seconds(5)));
      CHECK(pages.seen == window_pages);
      CHECK(stage->server->service.pages_sent == window_pages);
      link.grant(pages, 10'000);
      co_await wait_until([&pages] { return pages.seen == window_pages + 1; });
      static_cast<void>(co_await sleep_for(seconds(5)));
      CHECK(pages.seen == window_pages + 1);
      // A call beside it is not held up.
      TestCall small(Verb::echo, "small");
      REQUIRE_OR_RETURN(link.start(small));
      co_await small.finished.wait();
      link.grant(pages, 1'000'000);
      co_await pages.finished.wait();
      CHECK(pages.seen == 20);
      co_await link.close();
    }
  };
  Stage stage(1);
  stage.run(Play::run(&stage));
}

TEST_CASE("the peer stops when the asker cancels, its time is over or the connection breaks") {
  enum class End : uint8_t { cancel, deadline, reset };
  struct Play {
    static Task<void> run(Stage* stage, End end) {
      co_await wait_until([stage] { return stage->server->listening; });
      peer::Link link(stage->client, stage->link_options());
      const Nanos deadline =
          end == End::deadline ? Reactor::current().after(seconds(3)) : nanos_never;
      PagesCall pages(link, 1000, deadline);
      pages.idempotent = true;  // but it has had pages
      pages.grants = false;
      REQUIRE_OR_RETURN(link.start(pages));
      co_await wait_until([&pages] { return pages.seen == window_pages; });
      if (end == End::cancel) {
        link.cancel(pages);
      } else {
        if (end == End::reset) {
          const auto ends = stage->world.network().connections(0);
          stage->world.network().reset(ends.back());
        }
        co_await pages.finished.wait();
        CHECK(pages.status == (end == End::reset ? Status::closed : Status::timed_out));
      }
      co_await wait_until([stage] { return stage->server->service.pages_stopped == 1; });
      CHECK(stage->server->service.requests == 1);
      CHECK(stage->server->budget.bytes == 0);
      co_await link.close();
    }
  };
  for (End end : {End::cancel, End::deadline, End::reset}) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      Stage stage(seed);
      stage.run(Play::run(&stage, end));
    }
  }
}
