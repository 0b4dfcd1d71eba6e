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

constexpr int peer = 9;

// A socket that stays open while the test writes to it from inside ticks.
struct Writing {
  Socket* socket = nullptr;
  Event close;
  bool closed = false;
};
Task<void> keep_open(Writing& writing) {
  Socket socket(peer);
  writing.socket = &socket;
  static_cast<void>(co_await writing.close.wait());
  co_await socket.close();
  writing.closed = true;
}

struct Owned {
  std::string bytes;
  int released = 0;
  static void release(void* self) noexcept { ++static_cast<Owned*>(self)->released; }
};

void start(Stage& stage, Writing& writing) {
  stage.start(keep_open(writing));
  stage.tick(2);
}
void end(Stage& stage, Writing& writing) {
  stage.inside([&] { writing.close.set(); });
  stage.finish();
  CHECK(writing.closed);
}

Task<void> drain(Socket& socket, size_t bytes, int& outcome) {
  outcome = co_await socket.drained(bytes) ? 1 : 0;
}

}  // namespace

TEST_CASE("everything appended in a tick leaves in one gathered send at its end") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  Owned owned{"referenced "};
  stage.inside([&] {
    writing.socket->append("one ");
    writing.socket->append("two ");
    writing.socket->append_reference(owned.bytes, &owned, &Owned::release);
    char* room = writing.socket->reserve(100);
    std::memcpy(room, "three", 5);
    writing.socket->commit(5);
    CHECK(writing.socket->output_bytes() == 24);
    CHECK(stage.backend.submissions(OpCode::send) == 0);
  });
  CHECK(stage.backend.submissions(OpCode::send) == 1);
  CHECK(stage.backend.last(OpCode::send).bytes == "one two referenced three");
  CHECK(owned.released == 0);
  stage.backend.complete(OpCode::send, 24);
  stage.tick();
  CHECK(owned.released == 1);
  CHECK(writing.socket->output_bytes() == 0);
  CHECK(writing.socket->bytes_sent() == 24);
  stage.tick(3);
  CHECK(stage.backend.submissions(OpCode::send) == 1);
  end(stage, writing);
}

TEST_CASE("one send is in flight at a time; the next takes everything that gathered meanwhile") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  stage.inside([&] { writing.socket->append("a"); });
  for (const char* more : {"b", "c", "d"}) {
    stage.inside([&] { writing.socket->append(more); });
    CHECK(stage.backend.submissions(OpCode::send) == 1);
  }
  stage.backend.complete(OpCode::send, 1);
  stage.tick();
  CHECK(stage.backend.submissions(OpCode::send) == 2);
  CHECK(stage.backend.last(OpCode::send).bytes == "bcd");
  stage.backend.complete(OpCode::send, 3);
  end(stage, writing);
}

TEST_CASE("short sends continue where they ended, over chunks and references") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  Owned owned{std::string(20'000, 'r')};
  std::string expected;
  stage.inside([&] {
    for (int i = 0; i < 3; ++i) {
      std::string piece(10'000, static_cast<char>('a' + i));
      writing.socket->append(piece);
      expected += piece;
    }
    writing.socket->append_reference(owned.bytes, &owned, &Owned::release);
    expected += owned.bytes;
    writing.socket->append("tail");
    expected += "tail";
  });
  std::string sent;
  const size_t steps[] = {1, 9'999, 6'384, 1, 14'000, 3, 12'000, 10'000};
  for (size_t step = 0; writing.socket->output_bytes() > 0; ++step) {
    const std::string offered = stage.backend.last(OpCode::send).bytes;
    CHECK(offered == expected.substr(sent.size()));
    const size_t count = std::min(offered.size(), steps[step % 8]);
    sent += offered.substr(0, count);
    CHECK(owned.released == 0);
    stage.backend.complete(OpCode::send, static_cast<int32_t>(count));
    stage.tick();
    if (step == 3) stage.backend.complete(OpCode::send, -EINTR), stage.tick();
    REQUIRE(step < 50);
  }
  CHECK(sent == expected);
  CHECK(owned.released == 1);
  end(stage, writing);
}

TEST_CASE("bytes appended behind a referenced chunk in flight don't touch it") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  Owned owned{"0123456789"};
  stage.inside([&] { writing.socket->append_reference(owned.bytes, &owned, &Owned::release); });
  stage.inside([&] { writing.socket->append("behind"); });
  stage.backend.complete(OpCode::send, 4);
  stage.tick();
  CHECK(stage.backend.last(OpCode::send).bytes == "456789behind");
  CHECK(owned.bytes == "0123456789");
  stage.backend.complete(OpCode::send, 12);
  stage.tick();
  CHECK(owned.released == 1);
  end(stage, writing);
}

TEST_CASE("more chunks than one send can gather go with the next") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  std::string expected;
  std::vector<Owned> owned(200);
  stage.inside([&] {
    for (size_t i = 0; i < owned.size(); ++i) {
      owned[i].bytes = std::to_string(i) + ",";
      writing.socket->append_reference(owned[i].bytes, &owned[i], &Owned::release);
      expected += owned[i].bytes;
    }
  });
  std::string sent;
  while (writing.socket->output_bytes() > 0) {
    const std::string offered = stage.backend.last(OpCode::send).bytes;
    sent += offered;
    stage.backend.complete(OpCode::send, static_cast<int32_t>(offered.size()));
    stage.tick();
  }
  CHECK(sent == expected);
  for (const Owned& one : owned) CHECK(one.released == 1);
  end(stage, writing);
}

TEST_CASE("room that was reserved but not used sends nothing") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  Owned owned{"value"};
  stage.inside([&] {
    static_cast<void>(writing.socket->reserve(100));
    writing.socket->append_reference(owned.bytes, &owned, &Owned::release);
    static_cast<void>(writing.socket->reserve(100));
    CHECK(writing.socket->output_bytes() == 5);
  });
  CHECK(stage.backend.last(OpCode::send).len == 1);
  CHECK(stage.backend.last(OpCode::send).bytes == "value");
  stage.backend.complete(OpCode::send, 5);
  stage.tick(3);
  CHECK(stage.backend.submissions(OpCode::send) == 1);
  CHECK(owned.released == 1);
  end(stage, writing);
}

TEST_CASE("a large value goes in pieces, so that progress can be seen") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  Owned owned{std::string(1'000'000, 'v')};
  stage.inside([&] {
    writing.socket->append("head");
    writing.socket->append_reference(owned.bytes, &owned, &Owned::release);
  });
  uint64_t sent = 0;
  for (int sends = 1; writing.socket->output_bytes() > 0; ++sends) {
    const size_t offered = stage.backend.last(OpCode::send).bytes.size();
    CHECK(offered <= Socket::send_bytes_max);
    stage.backend.complete(OpCode::send, static_cast<int32_t>(offered));
    stage.tick();
    sent += offered;
    CHECK(writing.socket->bytes_sent() == sent);
    REQUIRE(sends <= 4);
  }
  CHECK(sent == 1'000'004);
  CHECK(owned.released == 1);
  end(stage, writing);
}

TEST_CASE("a reference is released exactly once when the connection breaks") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  Owned in_flight{"in flight"};
  Owned queued{"queued"};
  Owned later{"later"};
  Owned empty{""};
  stage.inside([&] {
    writing.socket->append_reference(in_flight.bytes, &in_flight, &Owned::release);
    writing.socket->append_reference(empty.bytes, &empty, &Owned::release);
  });
  CHECK(empty.released == 1);
  stage.inside([&] { writing.socket->append_reference(queued.bytes, &queued, &Owned::release); });
  stage.backend.complete(OpCode::send, -EPIPE);
  stage.tick();
  CHECK(writing.socket->broken());
  CHECK(in_flight.released == 1);
  CHECK(queued.released == 1);
  CHECK(writing.socket->output_bytes() == 0);
  stage.inside([&] {
    writing.socket->append("ignored");
    writing.socket->append_reference(later.bytes, &later, &Owned::release);
  });
  stage.tick();
  CHECK(later.released == 1);
  CHECK(stage.backend.submissions(OpCode::send) == 1);
  end(stage, writing);
  CHECK(in_flight.released + queued.released + later.released + empty.released == 4);
}

TEST_CASE("a reference is released once when the socket is closed while its send is in flight") {
  for (const int32_t outcome : {-ECANCELED, 5, 3, -ECONNRESET}) {
    CAPTURE(outcome);
    Stage stage;
    stage.backend.answer_cancels = false;
    Writing writing;
    start(stage, writing);
    Owned in_flight{"12345"};
    Owned queued{"67"};
    stage.inside(
        [&] { writing.socket->append_reference(in_flight.bytes, &in_flight, &Owned::release); });
    stage.inside([&] { writing.socket->append_reference(queued.bytes, &queued, &Owned::release); });
    stage.inside([&] { writing.close.set(); });
    stage.tick(3);
    CHECK_FALSE(writing.closed);
    CHECK(in_flight.released == 0);
    CHECK(stage.backend.cancelled.size() == 1);
    stage.backend.complete(OpCode::send, outcome);
    stage.finish();
    CHECK(in_flight.released == 1);
    CHECK(queued.released == 1);
    CHECK(stage.backend.submissions(OpCode::send) == 1);
    CHECK(output_bytes_live() <= 256 * Socket::chunk_bytes);
  }
}

TEST_CASE("bytes appended in the tick of the close are dropped, and no send starts") {
  struct Body {
    static Task<void> receive(Socket& socket) { static_cast<void>(co_await socket.receive()); }
    static Task<void> run(Owned& owned) {
      Socket socket(peer);
      Scope scope;
      scope.spawn(receive(socket));  // so that closing has something to wait for
      co_await yield();
      co_await yield();
      scope.request_stop();
      co_await scope.join();
      socket.append("never sent");
      socket.append_reference(owned.bytes, &owned, &Owned::release);
      co_await socket.close();
    }
  };
  Stage stage;
  stage.backend.answer_cancels = false;
  Owned owned{"x"};
  stage.start(Body::run(owned));
  stage.tick(5);
  REQUIRE(stage.backend.find(OpCode::recv) != nullptr);
  CHECK(stage.backend.submissions(OpCode::send) == 0);
  stage.backend.end_receive(peer, -ECANCELED);
  stage.tick(5);
  CHECK(stage.ended());
  CHECK(owned.released == 1);
}

TEST_CASE("drained wakes when enough was sent, when the connection breaks, and when stopped") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  int all = -1;
  int half = -1;
  int stopped = -1;
  stage.inside([&] { writing.socket->append(std::string(100, 'x')); });
  std::optional<Scope> scope;
  std::optional<Scope> other;
  stage.inside([&] {
    scope.emplace();
    other.emplace();
    scope->spawn(drain(*writing.socket, 0, all));
    scope->spawn(drain(*writing.socket, 50, half));
    other->spawn(drain(*writing.socket, 0, stopped));
  });
  stage.tick();
  stage.backend.complete(OpCode::send, 40);
  stage.tick(2);
  CHECK(half == -1);
  stage.backend.complete(OpCode::send, 10);
  stage.tick(2);
  CHECK(half == 1);
  CHECK(all == -1);
  stage.inside([&] { other->request_stop(); });
  stage.tick();
  CHECK(stopped == 0);
  stage.backend.complete(OpCode::send, 50);
  stage.tick(2);
  CHECK(all == 1);
  stage.inside([&] {
    writing.socket->append("more");
    scope->spawn(drain(*writing.socket, 0, all));
    scope->spawn(drain(*writing.socket, 4, half));  // true already
  });
  half = -1;
  stage.tick();
  CHECK(half == 1);
  stage.backend.complete(OpCode::send, -ECONNRESET);
  stage.tick(2);
  CHECK(all == 0);
  stage.inside([&] {
    scope.reset();
    other.reset();
  });
  end(stage, writing);
}

TEST_CASE("an aborted socket discards its output, wakes everybody, and closes") {
  struct Body {
    static Task<void> receive(Socket& socket, Errc& error) {
      Result<std::string_view> view = co_await socket.receive();
      error = view ? Errc::ok : view.error().code;
    }
    static Task<void> run(Owned& owned, Stage& stage) {
      Socket socket(peer);
      Scope scope;
      Errc error = Errc::ok;
      int drained = -1;
      scope.spawn(receive(socket, error));
      socket.append_reference(owned.bytes, &owned, &Owned::release);
      scope.spawn(drain(socket, 0, drained));
      co_await sleep_for(1);
      CHECK(stage.backend.find(OpCode::send) != nullptr);
      socket.abort();
      co_await scope.join();
      CHECK(error != Errc::ok);
      CHECK(drained == 0);
      co_await socket.close();
    }
  };
  Stage stage;
  stage.backend.sleep_moves_clock = true;
  Owned owned{"12345"};
  stage.run(Body::run(owned, stage));
  CHECK(owned.released == 1);
}

TEST_CASE("output memory returns to the pool") {
  Stage stage;
  Writing writing;
  start(stage, writing);
  release_output_pool();
  CHECK(output_bytes_live() == 0);
  stage.inside([&] { writing.socket->append(std::string(100'000, 'x')); });
  CHECK(output_bytes_live() == 7 * Socket::chunk_bytes);
  stage.backend.complete(OpCode::send, 100'000);
  end(stage, writing);
  CHECK(output_bytes_live() == 0);  // though it is kept
  release_output_pool();
}
