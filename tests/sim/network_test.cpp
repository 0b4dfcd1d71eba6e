#include <doctest/doctest.h>
#include <sys/socket.h>

#include <cerrno>
#include <numeric>
#include <string>
#include <vector>

#include "rig.hpp"

namespace {

using namespace gyre;
using namespace gyre::testing;

std::string pattern(size_t n) {
  std::string out(n, '\0');
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<char>(i * 31 + i / 251);
  return out;
}

// Receives by multishot until the stream ends, arming again whenever it has to.
struct Receiver {
  Receiver(Rig& of, int fd) : rig(of) {
    op.code = OpCode::recv;
    op.fd = fd;
    rig.backend().submit(op);
  }
  void take() {
    for (; seen < op.completions.size(); ++seen) {
      const Completion& c = op.completions[seen];
      if (c.has_buffer) {
        bytes.append(rig.backend().buffer(c.buffer).data(), static_cast<size_t>(c.result));
        rig.backend().recycle(c.buffer);
      }
      if (c.result <= 0) last = c.result;
      ended_by_result |= c.result <= 0 && c.result != -ENOBUFS;
    }
    if (op.ended && !ended_by_result) {
      ++rearmed;
      op.reset();
      seen = 0;
      rig.backend().submit(op);
    }
  }
  bool until(const std::function<bool()>& predicate) {
    return rig.wait([&] {
      take();
      return predicate();
    });
  }

  Rig& rig;
  TestOp op;
  std::string bytes;
  size_t seen = 0;
  int rearmed = 0;
  int32_t last = 1;
  bool ended_by_result = false;
};

// Two nodes with a connection between them: client on 0, server on 1.
struct TwoNodes {
  explicit TwoNodes(uint64_t seed, sim::NetworkOptions network = {})
      : world({.seed = seed, .network = network}),
        client(world, world.add_node()),
        server(world, world.add_node()) {
    listener = server.listen("0.0.0.0", 9000);
    REQUIRE(listener >= 0);
    accept.code = OpCode::accept;
    accept.fd = listener;
    server.backend().submit(accept);
    client_fd = client.connect(server.node().address(), 9000);
    REQUIRE(client_fd >= 0);
    server.wait([&] { return !accept.completions.empty(); });
    server_fd = accept.completions[0].result;
    REQUIRE(server_fd >= 0);
    server.stop(accept);
  }
  void close_listener() { server.close(listener); }

  sim::World world;
  SimRig client;
  SimRig server;
  TestOp accept;
  int listener = -1;
  int client_fd = -1;
  int server_fd = -1;
};

}  // namespace

TEST_CASE("a stream arrives whole and in order, in pieces, through few buffers") {
  int rearmed = 0;
  bool partial = false;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    TwoNodes net(seed);
    const std::string sent = pattern(600'000);
    Receiver receiver(net.server, net.server_fd);
    size_t at = 0;
    iovec pieces[2];
    TestOp send(OpCode::send);
    send.fd = net.client_fd;
    send.data = pieces;
    send.len = 2;
    while (at < sent.size()) {
      const size_t half = (sent.size() - at) / 2;
      pieces[0] = {const_cast<char*>(sent.data() + at), half};
      pieces[1] = {const_cast<char*>(sent.data() + at + half), sent.size() - at - half};
      send.reset();
      net.client.backend().submit(send);
      REQUIRE(receiver.until([&] { return send.ended; }));
      REQUIRE(send.result() > 0);
      partial |= at + static_cast<size_t>(send.result()) < sent.size();
      at += static_cast<size_t>(send.result());
    }
    net.client.close(net.client_fd);
    REQUIRE(receiver.until([&] { return receiver.ended_by_result; }));
    CHECK(receiver.last == 0);
    CHECK(receiver.bytes == sent);
    rearmed += receiver.rearmed;
    net.server.close(net.server_fd);
    net.close_listener();
    CHECK(net.world.check_quiescent(net.client.node()) == "");
    CHECK(net.world.check_quiescent(net.server.node()) == "");
  }
  CHECK(partial);
  CHECK(rearmed > 0);
}

TEST_CASE("a peer that does not read blocks the sender") {
  TwoNodes net(2);
  const std::string much(1 << 20, 'x');
  iovec piece{const_cast<char*>(much.data()), much.size()};
  TestOp send(OpCode::send);
  send.fd = net.client_fd;
  send.data = &piece;
  send.len = 1;
  size_t sent = 0;
  while (sent < much.size()) {
    send.reset();
    net.client.backend().submit(send);
    net.world.run_for(seconds(2));
    if (!send.ended) break;
    sent += static_cast<size_t>(send.result());
  }
  CHECK_FALSE(send.ended);
  CHECK(sent <= net.world.network().options.window_bytes_max);
  Receiver receiver(net.server, net.server_fd);
  CHECK(receiver.until([&] { return send.ended; }));
  net.server.stop(receiver.op);
}

TEST_CASE("receive buffers run out and come back") {
  sim::World world({.seed = 3, .multishot_end_ppm = 0});
  SimRig client(world, world.add_node());
  SimRig server(world, world.add_node({.buffer_count = 2, .buffer_bytes = 8}));
  const auto [a, b] = server.socket_pair("127.0.0.1");
  server.send_all(a, "0123456789abcdefghijklmnopqrst");
  world.run_for(seconds(1));
  TestOp recv(OpCode::recv);
  recv.fd = b;
  server.backend().submit(recv);
  REQUIRE(server.wait([&] { return recv.ended; }));
  CHECK(recv.result() == -ENOBUFS);
  REQUIRE(recv.completions.size() == 3);
  CHECK(server.backend().buffers_free() == 0);
  CHECK(world.check_quiescent(server.node()).find("holds 2 provided buffers") != std::string::npos);
  std::string got;
  for (int i = 0; i < 2; ++i) {
    const Completion& c = recv.completions[static_cast<size_t>(i)];
    CHECK(c.more);
    got.append(server.backend().buffer(c.buffer).data(), static_cast<size_t>(c.result));
    server.backend().recycle(c.buffer);
  }
  CHECK(got == "0123456789abcdef");
  std::string rest;
  CHECK(server.recv_into(b, rest, 14, flag_wait_all) == 14);
  CHECK(rest == "ghijklmnopqrst");
}

TEST_CASE("nobody listens, nobody there, and the port is taken") {
  sim::World world({.seed = 4});
  SimRig rig(world, world.add_node());
  CHECK(rig.connect("127.0.0.1", 81) == -ECONNREFUSED);
  CHECK(rig.connect("10.9.9.9", 81) == -ETIMEDOUT);
  CHECK(rig.connect("nonsense", 81) == -EINVAL);
  const int plain = rig.listen("127.0.0.1", 80);
  CHECK(plain >= 0);
  CHECK(rig.listen("0.0.0.0", 80) == -EADDRINUSE);
  CHECK(rig.listen("0.0.0.0", 80, flag_reuse_port) == -EADDRINUSE);
  CHECK(rig.listen("10.0.77.1", 80) == -EADDRNOTAVAIL);
  const int first = rig.listen("0.0.0.0", 82, flag_reuse_port | flag_probe_port);
  CHECK(first >= 0);
  CHECK(rig.listen("0.0.0.0", 82, flag_reuse_port) > first);
  CHECK(rig.listen("0.0.0.0", 82, flag_reuse_port | flag_probe_port) == -EADDRINUSE);
  world.network().occupy_port(0, 83);
  CHECK(rig.listen("0.0.0.0", 83, flag_reuse_port) >= 0);
  CHECK(rig.listen("0.0.0.0", 83, flag_reuse_port | flag_probe_port) == -EADDRINUSE);
  const int any = rig.listen("127.0.0.1", 0);
  CHECK(rig.node().port_of(any) != 0);
}

TEST_CASE("closing with unread bytes resets the connection") {
  TwoNodes net(5);
  net.client.send_all(net.client_fd, "request");
  net.world.run_for(seconds(1));
  net.server.close(net.server_fd);
  std::string into;
  CHECK(net.client.recv_into(net.client_fd, into, 10) == -ECONNRESET);
}

TEST_CASE("sending to a closed peer resets the connection") {
  TwoNodes net(6);
  net.server.close(net.server_fd);
  std::string into;
  CHECK(net.client.recv_into(net.client_fd, into, 10) == 0);
  CHECK(net.client.send_all(net.client_fd, "x") == 1);
  net.world.run_for(seconds(1));
  const int32_t result = net.client.send_all(net.client_fd, "y");
  CHECK((result == -EPIPE || result == -ECONNRESET));
}

TEST_CASE("half a close still carries the other direction") {
  TwoNodes net(7);
  CHECK(net.client.shutdown(net.client_fd, SHUT_WR) == 0);
  std::string into;
  CHECK(net.server.recv_into(net.server_fd, into, 10) == 0);
  CHECK(net.server.send_all(net.server_fd, "answer") == 6);
  CHECK(net.client.recv_into(net.client_fd, into, 6, flag_wait_all) == 6);
  CHECK(into == "answer");
  CHECK(net.client.send_all(net.client_fd, "x") == -EPIPE);
}

TEST_CASE("a partition delays and does not lose") {
  TwoNodes net(8);
  net.world.network().partition(0, 1);
  CHECK(net.client.send_all(net.client_fd, "late") == 4);
  TestOp recv(OpCode::recv_into);
  char memory[4];
  recv.fd = net.server_fd;
  recv.data = memory;
  recv.len = 4;
  recv.flags = flag_wait_all;
  net.server.backend().submit(recv);
  net.world.run_for(seconds(30));
  CHECK_FALSE(recv.ended);
  net.world.network().heal(0, 1);
  CHECK(net.server.wait([&] { return recv.ended; }));
  CHECK(std::string_view(memory, 4) == "late");
}

TEST_CASE("a direction can be cut alone") {
  TwoNodes net(9);
  net.world.network().block(0, 1);
  net.server.send_all(net.server_fd, "down");
  std::string into;
  CHECK(net.client.recv_into(net.client_fd, into, 4, flag_wait_all) == 4);
  net.client.send_all(net.client_fd, "up");
  TestOp recv(OpCode::recv_into);
  char memory[2];
  recv.fd = net.server_fd;
  recv.data = memory;
  recv.len = 2;
  net.server.backend().submit(recv);
  net.world.run_for(seconds(5));
  CHECK_FALSE(recv.ended);
  net.world.network().heal_all();
  CHECK(net.server.wait([&] { return recv.ended; }));
}

TEST_CASE("connecting into a partition times out, and works after it heals") {
  TwoNodes net(10);
  net.world.network().isolate(1);
  const Nanos before = net.world.time();
  CHECK(net.client.connect(net.server.node().address(), 9000) == -ETIMEDOUT);
  CHECK(net.world.time() - before >= seconds(120));
  net.world.network().heal_all();
  CHECK(net.client.connect(net.server.node().address(), 9000) >= 0);
}

TEST_CASE("clogs and stalled readers hold up for a time") {
  TwoNodes net(11);
  std::string into;
  net.world.network().clog(0, 1, seconds(3));
  Nanos before = net.world.time();
  net.client.send_all(net.client_fd, "x");
  CHECK(net.server.recv_into(net.server_fd, into, 1) == 1);
  CHECK(net.world.time() - before >= seconds(3));
  net.world.network().stall_reader(1, seconds(4));
  before = net.world.time();
  net.client.send_all(net.client_fd, "y");
  CHECK(net.server.recv_into(net.server_fd, into, 1) == 1);
  CHECK(net.world.time() - before >= seconds(4));
}

TEST_CASE("a node without power is silent; with power again it resets old connections") {
  sim::World world({.seed = 12});
  SimRig client(world, world.add_node());
  sim::Node& node = world.add_node();
  int fd = -1;
  {
    SimRig server(world, node);
    const int listener = server.listen("0.0.0.0", 9000);
    CHECK(listener >= 0);
    fd = client.connect(node.address(), 9000);
    REQUIRE(fd >= 0);
    world.crash(node, sim::CrashMode::lost);
  }
  CHECK(client.send_all(fd, "hello?") == 6);
  TestOp recv(OpCode::recv_into);
  char memory[1];
  recv.fd = fd;
  recv.data = memory;
  recv.len = 1;
  client.backend().submit(recv);
  world.run_for(seconds(20));
  CHECK_FALSE(recv.ended);
  world.power_on(node);
  // The old bytes were lost with the node; new ones meet a kernel that knows no such connection.
  CHECK(client.send_all(fd, "hello?") == 6);
  CHECK(client.wait([&] { return recv.ended; }));
  CHECK(recv.result() == -ECONNRESET);
}

TEST_CASE("a killed process says goodbye") {
  TwoNodes net(13);
  net.world.kill(net.server.node());
  std::string into;
  CHECK(net.client.recv_into(net.client_fd, into, 1) == 0);
  CHECK(net.client.connect(net.server.node().address(), 9000) == -ECONNREFUSED);
}

TEST_CASE("resets strike both ends or one") {
  TwoNodes net(14, {.reset_ppm = 1'000'000});
  net.client.send_all(net.client_fd, "x");
  std::string into;
  CHECK(net.server.recv_into(net.server_fd, into, 1) == -ECONNRESET);
  CHECK(net.client.recv_into(net.client_fd, into, 1) == -ECONNRESET);
  CHECK(net.world.faults()["connection reset"] == 1);
}

TEST_CASE("a half-open connection is noticed by sending") {
  TwoNodes net(16);
  CHECK(net.world.network().connections(1).size() == 1);
  net.world.network().reset_one_side(net.server.node().endpoint_of(net.server_fd));
  std::string into;
  CHECK(net.server.recv_into(net.server_fd, into, 1) == -ECONNRESET);
  TestOp recv(OpCode::recv);
  recv.fd = net.client_fd;
  net.client.backend().submit(recv);
  net.world.run_for(seconds(10));
  CHECK_FALSE(recv.ended);
  CHECK(net.client.send_all(net.client_fd, "x") == 1);
  CHECK(net.client.wait([&] { return recv.ended; }));
  CHECK(recv.result() == -ECONNRESET);
}

TEST_CASE("a cancelled accept may still bring a connection") {
  bool cancelled = false;
  bool late = false;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    sim::World world({.seed = seed});
    SimRig rig(world, world.add_node());
    const int listener = rig.listen("127.0.0.1", 80);
    TestOp accept(OpCode::accept);
    accept.fd = listener;
    TestOp connect(OpCode::connect);
    connect.path = "127.0.0.1";
    connect.offset = 80;
    rig.backend().submit(accept);
    rig.backend().submit(connect);
    world.run_for(sim::Prng(seed).between(1, microseconds(60)));
    rig.stop(accept);
    rig.wait([&] { return connect.ended; });
    CHECK(connect.result() >= 0);  // the backlog takes it
    cancelled |= accept.completions.front().result == -ECANCELED;
    late |= accept.result() >= 0;
    for (const Completion& c : accept.completions) {
      if (c.result >= 0) rig.close(c.result);
    }
    rig.close(connect.result());
    rig.close(listener);
    CHECK(world.check_quiescent(rig.node()) == "");
  }
  CHECK(cancelled);
  CHECK(late);
}

TEST_CASE("several listeners share a port") {
  sim::World world({.seed = 15});
  sim::Node& node = world.add_node({.cores = 2});
  SimRig one(world, node, 0);
  SimRig two(world, node, 1);
  TestOp accepts[2];
  Rig* rigs[2] = {&one, &two};
  for (int i = 0; i < 2; ++i) {
    accepts[i].code = OpCode::accept;
    accepts[i].fd = rigs[i]->listen("0.0.0.0", 80, flag_reuse_port);
    rigs[i]->backend().submit(accepts[i]);
  }
  for (int i = 0; i < 20; ++i) CHECK(one.connect("127.0.0.1", 80) >= 0);
  world.run_for(seconds(1));
  CHECK(accepts[0].completions.size() > 2);
  CHECK(accepts[1].completions.size() > 2);
  for (int i = 0; i < 2; ++i) {
    rigs[i]->stop(accepts[i]);
  }
}
