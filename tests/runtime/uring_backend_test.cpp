// What is neither a socket nor a file: signals, clocks, the end of a backend.
#include <doctest/doctest.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <set>

#include "uring_fixture.hpp"

using namespace gyre;
using namespace gyre::uring;

TEST_CASE("signals arrive as completions, again and again") {
  block_signals();
  Loop loop;
  TestOp op(OpCode::signal);
  loop.backend.submit(op);
  loop.ticks(1);
  for (int number : {SIGHUP, SIGTERM, SIGINT}) {
    op.completions.clear();
    REQUIRE(::kill(::getpid(), number) == 0);
    REQUIRE(loop.until([&] { return !op.completions.empty(); }));
    CHECK(op.result() == number);
    CHECK(op.completions.back().more);
    CHECK(op.in_flight);
  }
  loop.stop(op);
  CHECK(op.result() == -ECANCELED);
}

TEST_CASE("completions come from reap alone") {
  Loop loop;
  TestOp nop(OpCode::nop), listen(OpCode::listen), shutdown(OpCode::shutdown, -1);
  listen.path = "127.0.0.1";
  for (TestOp* op : {&nop, &listen, &shutdown}) loop.backend.submit(*op);
  loop.backend.enter(seconds(10));  // returns: results are there
  for (TestOp* op : {&nop, &listen, &shutdown}) CHECK(op->completions.empty());
  CHECK(loop.backend.completions_pending());
  REQUIRE(loop.until([&] { return nop.ended() && listen.ended() && shutdown.ended(); }));
  CHECK(nop.result() == 0);
  ::close(listen.result());
  CHECK(loop.backend.stats().submitted == 3);
  CHECK(loop.backend.stats().completed == 3);
}

TEST_CASE("clocks go forward, random numbers differ") {
  Loop loop;
  const Nanos start = loop.backend.now();
  CHECK(loop.backend.now() >= start);
  CHECK(loop.backend.wall_us() > 1'600'000'000'000'000);
  std::set<uint64_t> numbers;
  for (int i = 0; i < 1000; ++i) numbers.insert(loop.backend.random());
  CHECK(numbers.size() == 1000);
  Loop other;
  CHECK(numbers.count(other.backend.random()) == 0);
}

TEST_CASE("enter returns when its time is over") {
  Loop loop;
  const Nanos start = loop.backend.now();
  loop.backend.enter(milliseconds(5));
  CHECK(loop.backend.now() - start >= milliseconds(5));
  CHECK(loop.backend.stats().sleeps == 1);
}

TEST_CASE("a core that woke itself does not sleep") {
  Loop loop;
  loop.backend.wake(0);
  CHECK(loop.backend.completions_pending());
  loop.backend.enter(nanos_never);
  CHECK(loop.backend.stats().sleeps == 0);
  CHECK_FALSE(loop.backend.completions_pending());
}

TEST_CASE("the end of a backend ends its operations, and no descriptor stays behind") {
  const size_t before = open_descriptors();
  SocketPair pair;
  std::vector<std::string> addresses;
  char memory[8];
  TestOp accept(OpCode::accept), recv(OpCode::recv, pair.ends[0]),
      recv_into(OpCode::recv_into, pair.ends[1]), signal(OpCode::signal), resolve(OpCode::resolve);
  recv_into.data = memory;
  recv_into.len = 8;
  resolve.path = "localhost";
  resolve.out = &addresses;
  {
    Loop loop;
    accept.fd = loop.listen();
    for (TestOp* op : {&accept, &recv, &recv_into, &signal, &resolve}) loop.backend.submit(*op);
    loop.backend.enter(0);
  }
  for (TestOp* op : {&accept, &recv, &recv_into, &signal}) {
    CHECK(op->ended());
    CHECK(op->result() == -ECANCELED);
  }
  CHECK(resolve.ended());
  ::close(accept.fd);
  pair.close(0), pair.close(1);
  CHECK(open_descriptors() == before);
}

TEST_CASE("rings come and go on one node") {
  UringNode node(1);
  const size_t before = open_descriptors();
  for (int i = 0; i < 20; ++i) {
    FileStatus status;
    TestOp left_behind(OpCode::stat), nop(OpCode::nop);
    UringBackend backend({.node = &node});
    left_behind.path = "/";  // the answer may reach the next backend, which drops it
    left_behind.out = &status;
    backend.submit(left_behind);
    backend.submit(nop);
    backend.enter(milliseconds(100));
    backend.reap();
    CHECK(nop.ended());
  }
  CHECK(open_descriptors() == before);
}
