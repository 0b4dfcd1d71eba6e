#include <cerrno>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "stage.hpp"

using namespace gyre;
using gyre::testing::Stage;

namespace {

constexpr int peer = 7;

// A consumer driven by the test: receives while `open` is set, keeps what it saw.
struct Reading {
  std::string bytes;
  std::vector<size_t> views;
  bool ended = false;
  Errc error = Errc::ok;
  const char* last_data = nullptr;
  Event go;  // reset: the consumer is busy elsewhere
  Socket* socket = nullptr;
};

Task<void> read_all(Reading& reading) {
  Socket socket(peer);
  reading.socket = &socket;
  for (;;) {
    static_cast<void>(co_await reading.go.wait());
    Result<std::string_view> view = co_await socket.receive();
    if (!view) {
      reading.error = view.error().code;
      break;
    }
    if (view->empty()) {
      reading.ended = true;
      break;
    }
    reading.last_data = view->data();
    reading.bytes.append(*view);
    reading.views.push_back(view->size());
    socket.release();
  }
  reading.socket = nullptr;
  co_await socket.close();
}

// Takes the only buffer and keeps it until told.
Task<void> hold_buffer(int fd, Event& let_go) {
  Socket socket(fd);
  CHECK((co_await socket.receive()).has_value());
  static_cast<void>(co_await let_go.wait());
  co_await socket.close();  // gives the view's buffer back
}
Task<Result<int>> receive_nothing(Socket& socket) {
  Result<std::string_view> view = co_await socket.receive();
  if (!view) co_return fail(view.error());
  co_return 0;
}

}  // namespace

TEST_CASE("a waiting consumer reads in the provided buffer, which is free again in the same tick") {
  Stage stage;
  Reading reading;
  reading.go.set();
  stage.start(read_all(reading));
  stage.tick(2);
  CHECK(stage.backend.submissions(OpCode::recv) == 1);
  stage.backend.receive(peer, "hello");
  CHECK(stage.backend.buffers_free() == 3);
  stage.tick();
  CHECK(reading.bytes == "hello");
  CHECK(reading.last_data == stage.backend.buffer(0).data());
  CHECK(stage.backend.buffers_free() == 4);
  stage.backend.receive(peer, " again");
  stage.tick();
  CHECK(reading.bytes == "hello again");
  CHECK(stage.backend.submissions(OpCode::recv) == 1);  // one multishot receive for all
  stage.backend.end_receive(peer, 0);
  stage.finish();
  CHECK(reading.ended);
}

TEST_CASE("several buffers in one tick arrive in order, and none is kept") {
  Stage stage;
  Reading reading;
  reading.go.set();
  stage.start(read_all(reading));
  stage.tick(2);
  stage.backend.receive(peer, "one ");
  stage.backend.receive(peer, "two ");
  stage.backend.receive(peer, "three");
  stage.tick();
  CHECK(reading.bytes == "one two three");
  CHECK(stage.backend.buffers_free() == 4);
  stage.backend.receive(peer, ", four");
  stage.backend.end_receive(peer, 0);  // data and its end in one reap
  stage.finish();
  CHECK(reading.bytes == "one two three, four");
  CHECK(reading.ended);
}

TEST_CASE("bytes for a busy consumer are copied out at once; beyond the bound receiving pauses") {
  Stage stage(4, 4096);
  Reading reading;
  reading.go.set();
  stage.start(read_all(reading));
  stage.tick(2);
  stage.inside([&] { reading.go.reset(); });
  stage.backend.receive(peer, "first");
  stage.tick();
  stage.tick();  // the consumer waits for `go` now
  const std::string part(4000, 'p');
  for (int i = 0; i < 2; ++i) {
    stage.backend.receive(peer, part);
    stage.tick();
    CHECK(stage.backend.buffers_free() == 4);
    CHECK(stage.backend.cancelled.empty());
  }
  stage.backend.receive(peer, part);
  stage.tick();
  CHECK(reading.socket->spill_bytes() == 12'000);
  CHECK(stage.backend.cancelled.size() == 1);
  stage.tick(3);
  CHECK(stage.backend.find(OpCode::recv) == nullptr);  // TCP pushes back on the peer now
  stage.inside([&] { reading.go.set(); });
  stage.tick(3);
  CHECK(reading.bytes.size() == 12'005);
  CHECK(reading.views.back() == 12'000);
  CHECK(stage.backend.find(OpCode::recv) != nullptr);
  stage.backend.end_receive(peer, 0);
  stage.finish();
}

TEST_CASE("a paused consumer receives no more, and gets what was on its way when it comes back") {
  Stage stage(4, 4096);
  Reading reading;
  reading.go.set();
  stage.start(read_all(reading));
  stage.tick(2);
  stage.inside([&] { reading.go.reset(); });
  stage.backend.receive(peer, "first");
  stage.tick(2);                        // the consumer waits for `go` now
  stage.backend.receive(peer, "late");  // completed before the cancel, seen after it
  stage.inside([&] { reading.socket->pause_receive(); });
  stage.tick(3);
  CHECK(stage.backend.cancelled.size() == 1);
  CHECK(stage.backend.find(OpCode::recv) == nullptr);
  CHECK(reading.socket->spill_bytes() == 4);
  stage.inside([&] { reading.socket->pause_receive(); });  // again: nothing to cancel
  CHECK(stage.backend.cancelled.size() == 1);
  stage.inside([&] { reading.go.set(); });
  stage.tick(3);
  CHECK(reading.bytes == "firstlate");
  CHECK(stage.backend.find(OpCode::recv) != nullptr);

  stage.inside([&] { reading.go.reset(); });
  stage.backend.receive(peer, "read");
  stage.tick(2);
  stage.backend.receive(peer, "dropped");
  stage.tick();
  CHECK(reading.socket->spill_bytes() == 7);
  stage.inside([&] { reading.socket->discard_received(); });
  CHECK(reading.socket->receive_bytes_kept() <= 2 * Socket::spill_bytes_kept);
  stage.inside([&] { reading.go.set(); });
  stage.tick(2);
  CHECK(reading.bytes == "firstlateread");
  stage.backend.end_receive(peer, 0);
  stage.finish();
}

TEST_CASE("a consumer that comes back before the cancel has completed is armed again afterwards") {
  Stage stage(4, 16'384);
  stage.backend.answer_cancels = false;
  Reading reading;
  reading.go.set();
  stage.start(read_all(reading));
  stage.tick(2);
  stage.inside([&] { reading.go.reset(); });
  stage.backend.receive(peer, "x");
  stage.tick(2);
  stage.backend.receive(peer, std::string(10'000, 'y'));
  stage.tick();
  CHECK(stage.backend.cancelled.size() == 1);
  stage.inside([&] { reading.go.set(); });
  stage.tick(3);
  CHECK(reading.bytes.size() == 10'001);
  CHECK(stage.backend.submissions(OpCode::recv) == 1);
  SUBCASE("it was cancelled") {
    stage.backend.end_receive(peer, -ECANCELED);
  }
  SUBCASE("it still carried data") {
    stage.backend.receive(peer, "last", false);
    stage.tick(2);
    CHECK(reading.bytes.substr(10'001) == "last");
  }
  stage.tick(2);
  CHECK(stage.backend.submissions(OpCode::recv) == 2);
  stage.backend.end_receive(peer, 0);
  stage.finish();
  CHECK(reading.ended);
}

TEST_CASE("the end of the stream and a reset come after the data before them") {
  for (const int32_t result : {0, -ECONNRESET}) {
    CAPTURE(result);
    Stage stage;
    Reading reading;
    reading.go.set();
    stage.start(read_all(reading));
    stage.tick(2);
    stage.inside([&] { reading.go.reset(); });
    stage.backend.receive(peer, "a");
    stage.tick(2);
    stage.backend.receive(peer, "b");
    stage.backend.end_receive(peer, result);
    stage.tick(2);
    CHECK(reading.bytes == "a");
    stage.inside([&] { reading.go.set(); });
    stage.finish();
    CHECK(reading.bytes == "ab");
    CHECK(reading.ended == (result == 0));
    CHECK(reading.error == (result == 0 ? Errc::ok : Errc::closed));
  }
}

TEST_CASE("without buffers a socket parks, and is armed again by a recycle, never in a loop") {
  struct Holder {
    static Task<void> run(Event& let_go) {  // a view that is not given back for a while
      Socket socket(8);
      Result<std::string_view> view = co_await socket.receive();
      CHECK(view->size() == 4);
      static_cast<void>(co_await let_go.wait());
      socket.release();
      static_cast<void>(co_await socket.receive());
      co_await socket.close();
    }
    static Task<void> both(Reading& reading, Event& let_go) {
      Scope scope;
      scope.spawn(run(let_go));
      scope.spawn(read_all(reading));
      co_await scope.join();
    }
  };
  Stage stage(1);
  Reading reading;
  Event let_go;
  reading.go.set();
  stage.start(Holder::both(reading, let_go));
  stage.tick(2);
  stage.backend.receive(8, "held");
  stage.tick();
  CHECK(stage.backend.buffers_free() == 0);
  stage.backend.end_receive(peer, -ENOBUFS);
  stage.tick(100);
  CHECK(stage.backend.submissions(OpCode::recv) == 2);  // no spinning
  CHECK_FALSE(reading.ended);                           // and it is no end of the stream
  stage.inside([&] { let_go.set(); });
  stage.tick(3);
  CHECK(stage.backend.submissions(OpCode::recv) == 3);
  stage.backend.receive(peer, "at last");
  stage.tick();
  CHECK(reading.bytes == "at last");
  stage.backend.end_receive(peer, 0);
  stage.backend.end_receive(8, 0);
  stage.finish();
}

TEST_CASE(
    "buffers that were free again before the ENOBUFS was seen: armed once, in the next tick") {
  Stage stage(1);
  Reading reading;
  reading.go.set();
  stage.start(read_all(reading));
  stage.tick(2);
  stage.backend.end_receive(peer, -ENOBUFS);
  stage.tick(10);
  CHECK(stage.backend.submissions(OpCode::recv) == 2);
  stage.backend.end_receive(peer, 0);
  stage.finish();
}

TEST_CASE("parked sockets share the buffers that come back; one that nobody reads is not armed") {
  struct Crowd {
    static Task<void> hold(Event& let_go) {
      Socket socket(100);
      static_cast<void>(co_await socket.receive());
      static_cast<void>(co_await let_go.wait());
      socket.release();
      co_await socket.close();
    }
    static Task<void> one(int fd, int& ended) {
      Socket socket(fd);
      for (;;) {
        Result<std::string_view> view = co_await socket.receive();
        if (!view || view->empty()) break;
        socket.release();
      }
      ++ended;
      co_await socket.close();
    }
    static Task<void> run(int count, Event& let_go, int& ended) {
      Scope scope;
      scope.spawn(hold(let_go));
      for (int i = 0; i < count; ++i) scope.spawn(one(101 + i, ended));
      co_await scope.join();
    }
  };
  constexpr int count = 5;
  Stage stage(1);
  Event let_go;
  int ended = 0;
  stage.start(Crowd::run(count, let_go, ended));
  stage.tick(2);
  stage.backend.receive(100, "x");
  stage.tick();
  for (int i = 0; i < count; ++i) stage.backend.end_receive(101 + i, -ENOBUFS);
  stage.tick(5);
  CHECK(stage.backend.submissions(OpCode::recv) == count + 1);
  stage.inside([&] { let_go.set(); });
  stage.tick(2);
  // Each arms when a buffer is there, uses it, gives it back: the next one's turn.
  for (int i = 0; i < count; ++i) {
    CAPTURE(i);
    REQUIRE(stage.backend.find(OpCode::recv) != nullptr);
    const int fd = stage.backend.get(OpCode::recv).fd;
    stage.backend.receive(fd, "y");
    stage.tick();
    stage.backend.end_receive(fd, 0);
    stage.tick(2);
  }
  stage.finish();
  CHECK(ended == count);
}

TEST_CASE("quiet sockets that were armed first don't keep the others parked") {
  struct Crowd {
    static Task<void> one(int fd) {
      Socket socket(fd);
      static_cast<void>(co_await socket.receive());
      co_await socket.close();
    }
    static Task<void> run(int count, Event& let_go) {
      Scope scope;
      scope.spawn(hold_buffer(100, let_go));
      for (int i = 0; i < count; ++i) scope.spawn(one(101 + i));
      co_await scope.join();
    }
  };
  constexpr int count = 20;
  Stage stage(3);
  Event let_go;
  stage.start(Crowd::run(count, let_go));
  stage.tick(2);
  stage.backend.receive(100, "x");
  stage.tick();
  for (int i = 0; i < count; ++i) stage.backend.end_receive(101 + i, -ENOBUFS);
  stage.inside([&] { let_go.set(); });
  // No buffer is used from here on, so none is ever given back.
  stage.tick(20);
  CHECK(stage.backend.submissions(OpCode::recv) == 1 + 2 * count);
  for (int i = 0; i < count; ++i) stage.backend.end_receive(101 + i, 0);
  stage.finish();
}

TEST_CASE("a multishot receive that ends without an error is armed again") {
  Stage stage;
  Reading reading;
  reading.go.set();
  stage.start(read_all(reading));
  stage.tick(2);
  stage.backend.receive(peer, "a", false);
  stage.tick(2);
  CHECK(stage.backend.submissions(OpCode::recv) == 2);
  stage.backend.end_receive(peer, -ECANCELED);  // a full completion queue looks like this
  stage.tick(2);
  CHECK(stage.backend.submissions(OpCode::recv) == 3);
  stage.backend.receive(peer, "b", false);
  stage.tick(2);
  CHECK(stage.backend.submissions(OpCode::recv) == 4);
  stage.backend.end_receive(peer, 0);
  stage.finish();
  CHECK(reading.bytes == "ab");
}

TEST_CASE("a stopped receive is cancelled; data that beat the stop is delivered; nothing is lost") {
  struct Body {
    static Task<void> receive_once(Socket& socket, Result<std::string>& result) {
      Result<std::string_view> view = co_await socket.receive();
      if (view) {
        result = std::string(*view);
      } else {
        result = fail(view.error());
      }
      socket.release();
    }
    static Task<void> run(bool data_first, Stage& stage) {
      Socket socket(peer);
      Result<std::string> result = fail(Errc::busy);
      {
        Scope scope;
        scope.spawn(receive_once(socket, result));
        co_await sleep_for(1);
        if (data_first) stage.backend.receive(peer, "in time");
        co_await sleep_for(1);
        scope.request_stop();
        co_await scope.join();
      }
      if (data_first) {
        CHECK(result.value() == "in time");
      } else {
        CHECK(result.error().code == Errc::cancelled);
      }
      stage.backend.receive(peer, "later");
      co_await sleep_for(1);
      Result<std::string_view> later = co_await socket.receive();
      CHECK(*later == "later");
      co_await socket.close();
    }
  };
  for (const bool data_first : {true, false}) {
    CAPTURE(data_first);
    Stage stage;
    stage.backend.sleep_moves_clock = true;
    stage.run(Body::run(data_first, stage));
  }
}

TEST_CASE("closing waits for the receive in flight, and gives back what it still brings") {
  struct Body {
    static Task<void> run(bool& closed) {
      Socket socket(peer);
      StopSource stop;
      Result<int> timed_out = co_await with_timeout(1, receive(socket));
      CHECK_FALSE(timed_out.has_value());
      co_await socket.close();
      closed = true;
    }
    static Task<Result<int>> receive(Socket& socket) {
      Result<std::string_view> view = co_await socket.receive();
      if (!view) co_return fail(view.error());
      co_return 0;
    }
  };
  Stage stage;
  stage.backend.answer_cancels = false;
  bool closed = false;
  stage.start(Body::run(closed));
  stage.tick(2);
  stage.advance(2);
  stage.tick(3);
  CHECK_FALSE(closed);
  CHECK(stage.backend.cancelled.size() == 1);
  CHECK(stage.backend.submissions(OpCode::close) == 0);
  stage.backend.receive(peer, "too late");
  stage.tick(2);
  CHECK(stage.backend.buffers_free() == 4);
  CHECK_FALSE(closed);
  stage.backend.receive(peer, "and the last", false);
  stage.finish();
  CHECK(closed);
  CHECK(stage.backend.last(OpCode::close).fd == peer);
}

TEST_CASE("an idle connection keeps no memory of a burst") {
  Stage stage(16, 16'384);
  Reading reading;
  reading.go.set();
  stage.start(read_all(reading));
  stage.tick(2);
  stage.inside([&] { reading.go.reset(); });
  stage.backend.receive(peer, "x");
  stage.tick(2);
  for (int i = 0; i < 16; ++i) {
    stage.backend.receive(peer, std::string(16'000, 'y'));
    if (stage.backend.buffers_free() == 0) break;
  }
  stage.tick();
  stage.inside([&] { reading.go.set(); });
  stage.tick(3);
  CHECK(reading.bytes.size() > 100'000);
  CHECK(reading.socket->receive_bytes_kept() <= 1024);
  stage.backend.end_receive(peer, 0);
  stage.finish();
}

TEST_CASE("an interrupt ends the present or the next receive, once, and comes before the spill") {
  struct Body {
    static Task<void> interrupt_soon(Socket& socket) {
      co_await sleep_for(1);
      socket.interrupt_receive();
    }
    static Task<void> run(Stage& stage) {
      Socket socket(peer);
      socket.interrupt_receive();
      CHECK((co_await socket.receive()).error().code == Errc::timed_out);

      Scope scope;
      scope.spawn(interrupt_soon(socket));
      CHECK((co_await socket.receive()).error().code == Errc::timed_out);
      co_await scope.join();

      stage.backend.receive(peer, "spilled");
      co_await sleep_for(1);
      socket.interrupt_receive();
      CHECK((co_await socket.receive()).error().code == Errc::timed_out);
      CHECK((co_await socket.receive()).value() == "spilled");
      co_await socket.close();
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  stage.run(Body::run(stage));
}

TEST_CASE("a peer whose bytes arrive with the interrupt can't outrun it") {
  struct Deadline : Timer {
    explicit Deadline(Socket& of)
        : Timer([](Timer& self) noexcept {
            static_cast<Deadline&>(self).socket.interrupt_receive();
          }),
          socket(of) {}
    Socket& socket;
  };
  Stage stage;
  Reading reading;
  reading.go.set();
  stage.start(read_all(reading));
  stage.tick(2);
  Deadline deadline(*reading.socket);
  stage.reactor.arm(deadline, stage.backend.clock);
  stage.backend.receive(peer, "x");
  stage.finish();
  CHECK(reading.bytes == "x");
  CHECK(reading.error == Errc::timed_out);
}

TEST_CASE("a parked socket whose reader has gone is not armed; the next receive arms it") {
  struct Body {
    static Task<void> reader(Event& again) {
      Socket socket(peer);
      CHECK_FALSE((co_await with_timeout(milliseconds(1), receive_nothing(socket))).has_value());
      static_cast<void>(co_await again.wait());
      CHECK((co_await socket.receive()).value() == "late");
      co_await socket.close();
    }
    static Task<void> run(Event& let_go, Event& again) {
      Scope scope;
      scope.spawn(hold_buffer(8, let_go));
      scope.spawn(reader(again));
      co_await scope.join();
    }
  };
  Stage stage(1);
  Event let_go;
  Event again;
  stage.start(Body::run(let_go, again));
  stage.tick(2);
  stage.backend.receive(8, "held");
  stage.tick();
  stage.backend.end_receive(peer, -ENOBUFS);
  stage.tick();
  stage.advance(milliseconds(1));
  stage.inside([&] { let_go.set(); });
  stage.tick(5);
  CHECK(stage.backend.buffers_free() == 1);
  CHECK(stage.backend.find(OpCode::recv) == nullptr);
  stage.inside([&] { again.set(); });
  stage.tick(2);
  stage.backend.receive(peer, "late");
  stage.finish();
}

TEST_CASE("a socket that closes while parked is forgotten, and its neighbours are not") {
  struct Body {
    static Task<void> short_lived() {
      Socket socket(20);
      CHECK_FALSE((co_await with_timeout(milliseconds(1), receive_nothing(socket))).has_value());
      co_await socket.close();
    }
    static Task<void> run(Reading& reading, Event& let_go) {
      Scope scope;
      scope.spawn(hold_buffer(8, let_go));
      scope.spawn(short_lived());
      scope.spawn(read_all(reading));
      co_await scope.join();
    }
  };
  Stage stage(1);
  Event let_go;
  Reading reading;
  reading.go.set();
  stage.start(Body::run(reading, let_go));
  stage.tick(2);
  stage.backend.receive(8, "held");
  stage.tick();
  stage.backend.end_receive(20, -ENOBUFS);
  stage.backend.end_receive(peer, -ENOBUFS);
  stage.tick();
  stage.advance(milliseconds(1));
  stage.tick(3);
  CHECK(stage.backend.submissions(OpCode::close) == 1);
  stage.inside([&] { let_go.set(); });
  stage.tick(5);
  CHECK(stage.backend.submissions(OpCode::recv) == 4);  // the neighbour's, nobody else's
  stage.backend.receive(peer, "x");
  stage.backend.end_receive(peer, 0);
  stage.finish();
  CHECK(reading.bytes == "x");
}
