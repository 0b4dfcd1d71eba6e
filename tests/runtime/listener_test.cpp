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

constexpr int listening = 3;

struct Accepting {
  std::vector<int> accepted;
  Errc ended = Errc::ok;
  size_t wanted = SIZE_MAX;
  Event close;
  bool closed = false;
};

Task<void> accept_all(Listener& listener, Accepting& accepting) {
  while (accepting.accepted.size() < accepting.wanted) {
    Result<Descriptor> fd = co_await listener.accept();
    if (!fd) {
      accepting.ended = fd.error().code;
      co_return;
    }
    accepting.accepted.push_back(fd->release());
  }
}
Task<void> serve(Accepting& accepting) {
  Listener listener;
  Result<void> opened =
      co_await listener.open({.address = "127.0.0.1", .port = 8080, .reuse_port = true});
  if (!opened) {
    accepting.ended = opened.error().code;
    co_return;
  }
  Scope scope;
  scope.spawn(accept_all(listener, accepting));
  static_cast<void>(co_await accepting.close.wait());
  scope.request_stop();
  co_await scope.join();
  co_await listener.close();
  accepting.closed = true;
}
void accept_on(Stage& stage, int32_t result, bool more = true) {
  stage.backend.complete(stage.backend.get(OpCode::accept), {.result = result, .more = more});
}

}  // namespace

TEST_CASE("a listener opens with what it was told, and accepts with one multishot operation") {
  Stage stage;
  stage.backend.answers[OpCode::listen] = listening;
  Accepting accepting;
  stage.start(serve(accepting));
  stage.tick(3);
  const auto& opened = stage.backend.last(OpCode::listen);
  CHECK(opened.path == "127.0.0.1");
  CHECK(opened.offset == 8080);
  CHECK(opened.flags == flag_reuse_port);
  for (int fd = 10; fd < 13; ++fd) accept_on(stage, fd);
  stage.tick(2);
  accept_on(stage, 13);
  stage.tick(2);
  CHECK(accepting.accepted == std::vector<int>{10, 11, 12, 13});
  CHECK(stage.backend.submissions(OpCode::accept) == 1);
  stage.inside([&] { accepting.close.set(); });
  stage.finish();
  CHECK(accepting.ended == Errc::cancelled);
  CHECK(stage.backend.last(OpCode::close).fd == listening);
}

TEST_CASE("an address in use fails the opening, and leaves nothing behind") {
  Stage stage;
  stage.backend.answers[OpCode::listen] = -EADDRINUSE;
  Accepting accepting;
  stage.run(serve(accepting));
  CHECK(accepting.ended == Errc::busy);
}

TEST_CASE("too many open files pause accepting for a while; it goes on by itself") {
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
    CAPTURE(error);
    Stage stage;
    stage.backend.answers[OpCode::listen] = listening;
    Accepting accepting;
    stage.start(serve(accepting));
    stage.tick(3);
    accept_on(stage, -error, false);
    stage.tick(50);
    CHECK(stage.backend.submissions(OpCode::accept) == 1);  // no spinning
    stage.advance(milliseconds(100));
    stage.tick(2);
    CHECK(stage.backend.submissions(OpCode::accept) == 2);
    accept_on(stage, 20);
    stage.tick(2);
    CHECK(accepting.accepted == std::vector<int>{20});
    stage.inside([&] { accepting.close.set(); });
    stage.finish();
  }
}

TEST_CASE("a connection that was gone before it was accepted is nobody's problem") {
  Stage stage;
  stage.backend.answers[OpCode::listen] = listening;
  Accepting accepting;
  stage.start(serve(accepting));
  stage.tick(3);
  accept_on(stage, -ECONNABORTED, false);
  stage.tick(2);
  CHECK(stage.backend.submissions(OpCode::accept) == 2);
  accept_on(stage, -ECONNABORTED, true);
  accept_on(stage, 21, false);  // a multishot that ends without an error
  stage.tick(2);
  CHECK(stage.backend.submissions(OpCode::accept) == 3);
  CHECK(accepting.accepted == std::vector<int>{21});
  CHECK(accepting.ended == Errc::ok);
  stage.inside([&] { accepting.close.set(); });
  stage.finish();
}

TEST_CASE("a network in trouble does not end the acceptor") {
  Stage stage;
  stage.backend.answers[OpCode::listen] = listening;
  Accepting accepting;
  stage.start(serve(accepting));
  stage.tick(3);
  for (const int error : {EPERM, EPROTO, ENETDOWN, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT}) {
    accept_on(stage, -error, false);
    stage.tick(2);
  }
  accept_on(stage, 22);
  stage.tick(2);
  CHECK(accepting.accepted == std::vector<int>{22});
  CHECK(stage.backend.submissions(OpCode::accept) == 7);
  stage.inside([&] { accepting.close.set(); });
  stage.finish();
}

TEST_CASE("other errors end the acceptor") {
  Stage stage;
  stage.backend.answers[OpCode::listen] = listening;
  Accepting accepting;
  stage.start(serve(accepting));
  stage.tick(3);
  accept_on(stage, -EINVAL, false);
  stage.tick(2);
  CHECK(accepting.ended != Errc::ok);
  CHECK(accepting.ended != Errc::cancelled);
  stage.inside([&] { accepting.close.set(); });
  stage.finish();
}

TEST_CASE("connections accepted but never taken are closed, also one the cancel still brought") {
  Stage stage;
  stage.backend.answers[OpCode::listen] = listening;
  stage.backend.answer_cancels = false;
  Accepting accepting;
  accepting.wanted = 1;
  stage.start(serve(accepting));
  stage.tick(3);
  for (int fd = 30; fd < 33; ++fd) accept_on(stage, fd);
  stage.tick(2);
  CHECK(accepting.accepted == std::vector<int>{30});
  stage.inside([&] { accepting.close.set(); });
  stage.tick(3);
  CHECK_FALSE(accepting.closed);
  accept_on(stage, 33, false);
  stage.finish();
  CHECK(stage.backend.submissions(OpCode::close) == 4);  // 31, 32, 33 and the listener
  CHECK(stage.backend.last(OpCode::close).fd == listening);
}

TEST_CASE("closing under a waiting acceptor ends it with closed") {
  struct Body {
    static Task<void> run(Accepting& accepting) {
      Listener listener;
      CHECK((co_await listener.open({})).has_value());
      Scope scope;
      scope.spawn(accept_all(listener, accepting));
      co_await yield();
      co_await yield();
      co_await listener.close();
      co_await scope.join();
    }
  };
  Stage stage;
  stage.backend.answers[OpCode::listen] = listening;
  Accepting accepting;
  stage.run(Body::run(accepting));
  CHECK(accepting.ended == Errc::closed);
  CHECK(stage.backend.submissions(OpCode::accept) == 1);
}
