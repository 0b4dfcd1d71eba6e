// Socket operations against the real kernel, on loopback and socket pairs.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>
#include <string>

#include "base/limits.hpp"
#include "runtime/uring/sockets.hpp"
#include "uring_fixture.hpp"

using namespace gyre;
using namespace gyre::uring;

namespace {

int32_t send_text(Loop& loop, int fd, std::string text) {
  iovec piece{text.data(), text.size()};
  TestOp op(OpCode::send, fd);
  op.data = &piece;
  op.len = 1;
  return loop.perform(op);
}

// Appends what came and gives the buffers back.
void take_received(Loop& loop, TestOp& op, std::string& to) {
  for (const Completion& completion : op.completions) {
    if (!completion.has_buffer) continue;
    to.append(loop.backend.buffer(completion.buffer).data(),
              static_cast<size_t>(completion.result));
    loop.backend.recycle(completion.buffer);
  }
  op.completions.clear();
}

std::string pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i / 7 % 26);
  return text;
}

int connect_to(Loop& loop, const char* address, uint16_t port) {
  TestOp op(OpCode::connect);
  op.path = address;
  op.offset = port;
  return loop.perform(op);
}

}  // namespace

TEST_CASE("connections over IPv4 and IPv6, with the options of the listener") {
  Loop loop;
  for (const char* address : {"127.0.0.1", "::1"}) {
    const int listener = loop.listen(address);
    if (listener == -EADDRNOTAVAIL || listener == -EAFNOSUPPORT) continue;  // no IPv6 here
    REQUIRE(listener >= 0);
    TestOp accept(OpCode::accept, listener);
    loop.backend.submit(accept);
    std::vector<int> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to(loop, address, local_port(listener)));
    REQUIRE(loop.until([&] { return accept.completions.size() == 3; }));
    for (int i = 0; i < 3; ++i) {
      const int fd = accept.completions[i].result;
      REQUIRE(fd >= 0);
      CHECK(accept.completions[i].more);
      for (int end : {fd, clients[i]}) {
        int no_delay = 0;
        socklen_t length = sizeof no_delay;
        CHECK(::getsockopt(end, IPPROTO_TCP, TCP_NODELAY, &no_delay, &length) == 0);
        CHECK(no_delay != 0);
        CHECK((::fcntl(end, F_GETFD) & FD_CLOEXEC) != 0);
        CHECK((::fcntl(end, F_GETFL) & O_NONBLOCK) == 0);
      }
      CHECK(send_text(loop, clients[i], "ping") == 4);
      char got[4];
      TestOp recv(OpCode::recv_into, fd);
      recv.data = got;
      recv.len = 4;
      recv.flags = flag_wait_all;
      CHECK(loop.perform(recv) == 4);
      ::close(fd);
      ::close(clients[i]);
    }
    loop.stop(accept);
    CHECK(accept.result() == -ECANCELED);
    ::close(listener);
  }
}

TEST_CASE("addresses: only numeric ones") {
  sockaddr_in6 out;
  CHECK(parse_address("10.1.2.3", 80, out) == sizeof(sockaddr_in));
  CHECK(parse_address("::", 80, out) == sizeof(sockaddr_in6));
  CHECK(parse_address("fe80::1%lo", 80, out) == sizeof(sockaddr_in6));
  CHECK(out.sin6_scope_id != 0);
  for (const char* bad :
       {"", "localhost", "1.2.3", "1.2.3.4%lo", "fe80::1%no-such-card", "[::1]"}) {
    CHECK(parse_address(bad, 80, out) == 0);
  }
  Loop loop;
  CHECK(loop.listen("localhost") == -EINVAL);
  CHECK(connect_to(loop, "localhost", 80) == -EINVAL);
}

TEST_CASE("a port is shared between cores, but not with a server that was there before") {
  Loop loop;
  const int first = loop.listen("127.0.0.1", 0, flag_reuse_port);
  REQUIRE(first >= 0);
  const uint16_t port = local_port(first);
  REQUIRE(port != 0);
  const int second = loop.listen("127.0.0.1", port, flag_reuse_port);
  CHECK(second >= 0);
  CHECK(loop.listen("127.0.0.1", port, 0) == -EADDRINUSE);
  CHECK(loop.listen("127.0.0.1", port, flag_reuse_port | flag_probe_port) == -EADDRINUSE);
  ::close(first);
  ::close(second);
  const int third = loop.listen("127.0.0.1", port, flag_reuse_port | flag_probe_port);
  CHECK(third >= 0);
  ::close(third);
}

TEST_CASE("a refused connection is an error and leaves no descriptor") {
  Loop loop;
  const int listener = loop.listen();
  const uint16_t port = local_port(listener);
  ::close(listener);
  const size_t before = open_descriptors();
  CHECK(connect_to(loop, "127.0.0.1", port) == -ECONNREFUSED);
  CHECK(open_descriptors() == before);
}

TEST_CASE("a connection attempt that hangs can be cancelled") {
  Loop loop;
  const int listener = loop.listen("127.0.0.1", 0, 0, 0);
  std::vector<std::unique_ptr<TestOp>> attempts;
  for (int i = 0; i < 8; ++i) {  // far more than the backlog takes
    auto& op = *attempts.emplace_back(std::make_unique<TestOp>(OpCode::connect));
    op.path = "127.0.0.1";
    op.offset = local_port(listener);
    loop.backend.submit(op);
  }
  loop.ticks(20);
  int cancelled = 0;
  for (auto& op : attempts) {
    if (!op->ended()) loop.stop(*op);
    if (op->result() == -ECANCELED) ++cancelled;
    if (op->result() >= 0) ::close(op->result());
  }
  CHECK(cancelled > 0);
  ::close(listener);
}

TEST_CASE("multishot receive: data in provided buffers, then the end of the stream") {
  Loop loop;
  SocketPair pair;
  TestOp recv(OpCode::recv, pair.ends[0]);
  loop.backend.submit(recv);
  std::string got;
  for (int i = 0; i < 10; ++i) {
    CHECK(send_text(loop, pair.ends[1], "message") == 7);
    REQUIRE(loop.until([&] { return !recv.completions.empty(); }));
    CHECK(recv.completions.back().more);
    take_received(loop, recv, got);
  }
  CHECK(got.size() == 70);
  CHECK(loop.backend.buffers_free() == loop.backend.buffer_count());
  pair.close(1);
  REQUIRE(loop.until([&] { return recv.ended(); }));
  CHECK(recv.result() == 0);
  CHECK_FALSE(recv.completions.back().has_buffer);
  CHECK(loop.backend.buffers_free() == loop.backend.buffer_count());
}

TEST_CASE("without buffers a receive ends with ENOBUFS, does not spin, and goes on later") {
  Loop loop({.buffer_count = 4, .buffer_bytes = 256});
  SocketPair pair;
  const std::string sent = pattern(4000);
  REQUIRE(::send(pair.ends[1], sent.data(), sent.size(), 0) == 4000);
  TestOp recv(OpCode::recv, pair.ends[0]);
  std::string got;
  bool starved = false;
  while (got.size() < sent.size()) {
    REQUIRE(loop.backend.buffers_free() == 4);
    loop.backend.submit(recv);
    loop.ticks(5);
    if (recv.ended() && recv.result() == -ENOBUFS) {
      starved = true;
      CHECK(loop.backend.buffers_free() == 0);
      const uint64_t completed = loop.backend.stats().completed;
      loop.ticks(10);
      CHECK(loop.backend.stats().completed == completed);
    }
    if (recv.in_flight) loop.stop(recv);
    take_received(loop, recv, got);
  }
  CHECK(starved);
  CHECK(got == sent);
}

TEST_CASE("one flooding peer's receive ends after a bounded number of bytes") {
  Loop loop({.buffer_count = 64, .buffer_bytes = 1024});
  if (loop.backend.abilities().recv_bytes_max == 0) return;  // Linux before 6.17
  SocketPair pair;
  const std::string sent = pattern(60'000);
  REQUIRE(::send(pair.ends[1], sent.data(), sent.size(), 0) == 60'000);
  TestOp recv(OpCode::recv, pair.ends[0]);
  loop.backend.submit(recv);
  REQUIRE(loop.until([&] { return recv.ended(); }));
  CHECK(recv.result() > 0);
  std::string got;
  take_received(loop, recv, got);
  CHECK(got.size() <= limits::recv_buffers_per_arm_max * 1024);
  CHECK(sent.starts_with(got));
}

TEST_CASE("a hundred sockets that are ready together are served in a few ticks") {
  Loop loop;
  std::vector<std::unique_ptr<SocketPair>> pairs;
  std::vector<std::unique_ptr<TestOp>> receives;
  for (int i = 0; i < 100; ++i) {
    pairs.push_back(std::make_unique<SocketPair>());
    receives.push_back(std::make_unique<TestOp>(OpCode::recv, pairs.back()->ends[0]));
    loop.backend.submit(*receives.back());
  }
  loop.backend.enter(0);
  CHECK(loop.backend.reap() == 0);
  for (auto& pair : pairs) REQUIRE(::send(pair->ends[1], "x", 1, 0) == 1);
  CHECK(loop.backend.completions_pending());
  size_t served = 0;
  for (int tick = 0; tick < 2; ++tick) {  // the kernel hands out 20 per enter, a tick re-enters
    loop.backend.enter(milliseconds(1000));
    served += loop.backend.reap();
  }
  CHECK(served == 100);
  std::string got;
  for (auto& receive : receives) {
    take_received(loop, *receive, got);
    loop.stop(*receive);
  }
  CHECK(got == std::string(100, 'x'));
}

TEST_CASE("a core that was woken by nothing sleeps again: no system call without work") {
  Loop loop;
  loop.ticks(3);
  const uint64_t enters = loop.backend.stats().enters;
  for (int i = 0; i < 1000; ++i) {
    loop.backend.enter(0);
    loop.backend.reap();
  }
  CHECK(loop.backend.stats().enters - enters < 10);
}

TEST_CASE("sends are gathered, and whole however slowly the peer reads") {
  Loop loop;
  SocketPair pair;
  const std::string text = pattern(3 << 20);
  std::vector<iovec> pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min<size_t>(text.size() - at, 100'000);
    pieces.push_back({const_cast<char*>(text.data()) + at, size});
    at += size;
  }
  TestOp send(OpCode::send, pair.ends[1]);
  send.data = pieces.data();
  send.len = static_cast<uint32_t>(pieces.size());
  loop.backend.submit(send);
  std::string got;
  std::vector<char> buffer(50'000);
  while (got.size() < text.size()) {
    TestOp recv(OpCode::recv_into, pair.ends[0]);
    recv.data = buffer.data();
    recv.len = static_cast<uint32_t>(buffer.size());
    const int32_t size = loop.perform(recv);
    REQUIRE(size > 0);
    got.append(buffer.data(), static_cast<size_t>(size));
  }
  REQUIRE(loop.until([&] { return send.ended(); }));
  CHECK(send.result() == static_cast<int32_t>(text.size()));
  CHECK(got == text);
}

TEST_CASE("more pieces than one system call takes are a short send") {
  Loop loop;
  SocketPair pair;
  char letter = 'x';
  std::vector<iovec> pieces(IOV_MAX + 100, iovec{&letter, 1});
  TestOp send(OpCode::send, pair.ends[1]);
  send.data = pieces.data();
  send.len = static_cast<uint32_t>(pieces.size());
  CHECK(loop.perform(send) == IOV_MAX);
}

TEST_CASE("a send to a peer that is gone is EPIPE, not a signal") {
  Loop loop;
  SocketPair pair;
  pair.close(0);
  CHECK(send_text(loop, pair.ends[1], "x") == -EPIPE);
}

TEST_CASE("recv_into fills its memory whole, or up to the end of the stream") {
  Loop loop;
  SocketPair pair;
  char memory[10] = {};
  TestOp recv(OpCode::recv_into, pair.ends[0]);
  recv.data = memory;
  recv.len = 10;
  recv.flags = flag_wait_all;
  loop.backend.submit(recv);
  send_text(loop, pair.ends[1], "12345");
  loop.ticks(3);
  CHECK(recv.in_flight);
  send_text(loop, pair.ends[1], "67890");
  REQUIRE(loop.until([&] { return recv.ended(); }));
  CHECK(recv.result() == 10);
  CHECK(std::string(memory, 10) == "1234567890");
  recv.completions.clear();
  loop.backend.submit(recv);
  send_text(loop, pair.ends[1], "abc");
  TestOp shutdown(OpCode::shutdown, pair.ends[1]);
  shutdown.len = SHUT_WR;
  CHECK(loop.perform(shutdown) == 0);
  REQUIRE(loop.until([&] { return recv.ended(); }));
  CHECK(recv.result() == 3);
  TestOp bad(OpCode::shutdown, -1);
  CHECK(loop.perform(bad) == -EBADF);
}

TEST_CASE("every waiting operation can be cancelled, and ends exactly once") {
  Loop loop;
  SocketPair pair;
  const int listener = loop.listen();
  char memory[8];
  TestOp accept(OpCode::accept, listener), recv(OpCode::recv, pair.ends[0]),
      recv_into(OpCode::recv_into, pair.ends[1]), signal(OpCode::signal);
  recv_into.data = memory;
  recv_into.len = 8;
  for (bool submitted_before : {false, true}) {
    for (TestOp* op : {&accept, &recv, &recv_into, &signal}) {
      op->completions.clear();
      loop.backend.submit(*op);
      if (submitted_before) loop.ticks(2);
      loop.backend.cancel(*op);
      loop.backend.cancel(*op);  // again: no effect
      REQUIRE(loop.until([&] { return op->ended(); }));
      CHECK(op->completions.size() == 1);
      CHECK(op->result() == -ECANCELED);
    }
  }
  loop.backend.cancel(recv);  // not in flight: no effect
  loop.ticks(2);
  CHECK(loop.backend.operations_in_flight() == 0);
  CHECK(loop.backend.stats().stale_completions == 0);
  ::close(listener);
}

TEST_CASE("a full completion queue ends receives, and nothing is lost") {
  Loop loop({.sq_entries = 4, .cq_entries = 8, .buffer_count = 256, .buffer_bytes = 1024});
  std::vector<std::unique_ptr<SocketPair>> pairs;
  std::vector<std::unique_ptr<TestOp>> receives;
  for (int i = 0; i < 64; ++i) {
    pairs.push_back(std::make_unique<SocketPair>());
    receives.push_back(std::make_unique<TestOp>(OpCode::recv, pairs.back()->ends[0]));
    loop.backend.submit(*receives.back());
  }
  loop.ticks(2);
  std::string got;
  for (int round = 0; round < 5; ++round) {
    for (auto& pair : pairs) REQUIRE(::send(pair->ends[1], "y", 1, 0) == 1);
    const size_t expected = 64 * static_cast<size_t>(round + 1);
    REQUIRE(loop.until([&] {
      for (auto& receive : receives) {
        take_received(loop, *receive, got);
        if (!receive->in_flight) loop.backend.submit(*receive);
      }
      return got.size() == expected;
    }));
  }
  CHECK(got == std::string(320, 'y'));
  CHECK(loop.backend.stats().queue_overflows > 0);
  for (auto& receive : receives) loop.stop(*receive);
}
