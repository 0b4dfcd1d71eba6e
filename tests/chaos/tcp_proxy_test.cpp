#include "tcp_proxy.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

#include "../contract/http_client.hpp"

namespace gyre::chaos {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

sockaddr_in local(const std::string& address, uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  REQUIRE(inet_pton(AF_INET, address.c_str(), &out.sin_addr) == 1);
  return out;
}

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) { REQUIRE(fd >= 0); }
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&&) = delete;

  int fd() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      REQUIRE(sent > 0);
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  bool readable_within(milliseconds time) const {
    pollfd watched{.fd = fd_, .events = POLLIN, .revents = 0};
    return poll(&watched, 1, static_cast<int>(time.count())) == 1;
  }
  std::string receive(size_t size_bytes) const {
    std::string all;
    char bytes[65536];
    while (all.size() < size_bytes) {
      REQUIRE(readable_within(std::chrono::seconds(60)));
      const ssize_t size = recv(fd_, bytes, std::min(sizeof bytes, size_bytes - all.size()), 0);
      REQUIRE(size > 0);
      all.append(bytes, static_cast<size_t>(size));
    }
    return all;
  }
  // "end", "reset", or the byte that came.
  std::string next() const {
    REQUIRE(readable_within(std::chrono::seconds(60)));
    char byte = 0;
    const ssize_t size = recv(fd_, &byte, 1, 0);
    if (size == 1) return {byte};
    return size == 0 ? "end" : errno == ECONNRESET ? "reset" : "?";
  }
  void finish_sending() const { shutdown(fd_, SHUT_WR); }

 private:
  int fd_;
};

// Machine 9 behind the proxy, and clients that come from 127.0.0.N as machine N.
struct Rig {
  Rig() : listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_in at = local("127.0.0.1", 0);
    REQUIRE(bind(listener.fd(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    REQUIRE(listen(listener.fd(), 16) == 0);
    sockaddr_in bound{};
    socklen_t size = sizeof bound;
    REQUIRE(getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&bound), &size) == 0);
    front = proxy.front(server, "127.0.0.1", 0, "127.0.0.1", ntohs(bound.sin_port));
    for (const unsigned machine : {2u, 3u}) proxy.know(address(machine), machine);
  }
  static std::string address(unsigned machine) { return "127.0.0." + std::to_string(machine); }

  Socket client(unsigned machine) const {
    Socket made(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in from = local(address(machine), 0);
    REQUIRE(bind(made.fd(), reinterpret_cast<const sockaddr*>(&from), sizeof from) == 0);
    const sockaddr_in to = local("127.0.0.1", front);
    REQUIRE(connect(made.fd(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    return made;
  }
  Socket accepted() const {
    REQUIRE(listener.readable_within(std::chrono::seconds(60)));
    return Socket(accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  }

  static constexpr unsigned server = 9;
  Socket listener;
  TcpProxy proxy{1};
  uint16_t front = 0;
};

// Long enough for what would come to come; that it does not can't be known, only believed.
constexpr milliseconds a_while(50);

TEST_CASE("bytes pass both ways as they are, and so does each end") {
  Rig rig;
  const Socket client = rig.client(2);
  const Socket server = rig.accepted();
  const std::string question = test::random_bytes(1, 60'000);
  const std::string answer = test::random_bytes(2, 70'000);
  client.send(question);
  CHECK(server.receive(question.size()) == question);
  client.finish_sending();
  CHECK(server.next() == "end");
  server.send(answer);
  CHECK(client.receive(answer.size()) == answer);
  server.finish_sending();
  CHECK(client.next() == "end");
  CHECK(rig.proxy.counts(2, rig.server).bytes == question.size());
  CHECK(rig.proxy.counts(rig.server, 2).bytes == answer.size());
}

TEST_CASE("a cut way holds bytes and ends until it is whole again; the other way goes on") {
  Rig rig;
  const Socket client = rig.client(2);
  const Socket server = rig.accepted();
  client.send("a");
  CHECK(server.next() == "a");
  rig.proxy.set_way(2, rig.server, {.cut = true});
  client.send("b");
  client.finish_sending();
  CHECK_FALSE(server.readable_within(a_while));
  server.send("c");
  CHECK(client.next() == "c");
  rig.proxy.heal();
  CHECK(server.next() == "b");
  CHECK(server.next() == "end");
}

TEST_CASE("a reset is not heard over a cut way, neither by who sends towards it") {
  Rig rig;
  Socket client = rig.client(2);
  const Socket server = rig.accepted();
  client.send("a");
  CHECK(server.next() == "a");
  rig.proxy.set_way(2, rig.server, {.cut = true});
  server.send("unread");
  CHECK(client.readable_within(std::chrono::seconds(60)));
  client.close();  // with something unread: a reset
  for (int i = 0; i < 5; ++i) server.send("more");
  CHECK_FALSE(server.readable_within(a_while));
  rig.proxy.heal();
  CHECK(server.next() == "reset");
}

TEST_CASE("ways of other machines are not concerned") {
  Rig rig;
  rig.proxy.set_both_ways(2, rig.server, {.cut = true});
  const Socket cut = rig.client(2);
  const Socket at_cut = rig.accepted();
  const Socket whole = rig.client(3);
  const Socket at_whole = rig.accepted();
  cut.send("x");
  whole.send("y");
  CHECK(at_whole.next() == "y");
  CHECK_FALSE(at_cut.readable_within(a_while));
  CHECK(rig.proxy.connections(2, rig.server) == 1);
  CHECK(rig.proxy.connections(rig.server, 3) == 1);
  CHECK(rig.proxy.reset(3, rig.server) == 1);
  CHECK(whole.next() == "reset");
  CHECK(at_whole.next() == "reset");
  rig.proxy.heal();
  CHECK(at_cut.next() == "x");
}

TEST_CASE("what a cut way holds of a connection that is reset never comes") {
  Rig rig;
  const Socket client = rig.client(2);
  const Socket server = rig.accepted();
  client.send("a");
  CHECK(server.next() == "a");
  rig.proxy.set_way(2, rig.server, {.cut = true});
  client.send("b");
  CHECK_FALSE(server.readable_within(a_while));
  CHECK(rig.proxy.reset(2, rig.server) == 1);
  rig.proxy.heal();
  CHECK(server.next() == "reset");
}

TEST_CASE("what is delayed comes later, whole and in order") {
  Rig rig;
  rig.proxy.set_way(2, rig.server, {.delay = milliseconds(80)});
  const Socket client = rig.client(2);
  const Socket server = rig.accepted();
  const auto begun = steady_clock::now();
  client.send("a");
  CHECK(server.next() == "a");
  CHECK(steady_clock::now() - begun >= milliseconds(80));
  const std::string much = test::random_bytes(3, 1 << 20);  // more than the proxy holds at a time
  std::thread sender([&] { client.send(much); });
  CHECK(server.receive(much.size()) == much);
  sender.join();
}

TEST_CASE("a slow way takes its bytes per second from all its connections together") {
  Rig rig;
  rig.proxy.set_way(2, rig.server, {.bytes_per_second = 200'000});
  const Socket clients[] = {rig.client(2), rig.client(2)};
  const Socket servers[] = {rig.accepted(), rig.accepted()};
  const std::string some = test::random_bytes(4, 40'000);
  const auto begun = steady_clock::now();
  for (const Socket& client : clients) client.send(some);
  for (const Socket& server : servers) CHECK(server.receive(some.size()) == some);
  // 80000 bytes, less what may come at once.
  CHECK(steady_clock::now() - begun >= milliseconds(350));
}

TEST_CASE("the bits that are said to be flipped are, and no others") {
  Rig rig;
  rig.proxy.set_way(2, rig.server, {.bytes_between_errors = 2000});
  const Socket client = rig.client(2);
  const Socket server = rig.accepted();
  const std::string sent = test::random_bytes(5, 200'000);
  std::thread sender([&] { client.send(sent); });
  const std::string came = server.receive(sent.size());
  sender.join();
  int bits = 0;
  for (size_t i = 0; i < sent.size(); ++i) {
    bits += std::popcount(static_cast<unsigned char>(sent[i] ^ came[i]));
  }
  CHECK(bits > 20);
  CHECK(rig.proxy.counts(2, rig.server).flipped == static_cast<uint64_t>(bits));
  server.send(sent.substr(0, 50'000));
  CHECK(client.receive(50'000) == sent.substr(0, 50'000));
  CHECK(rig.proxy.counts(rig.server, 2).flipped == 0);
}

TEST_CASE("a connection to a machine that takes none is reset") {
  Rig rig;
  const uint16_t nobody = test::listening_port_of_new_socket();
  const uint16_t front = rig.proxy.front(8, "127.0.0.1", 0, "127.0.0.1", nobody);
  const Socket client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in to = local("127.0.0.1", front);
  REQUIRE(connect(client.fd(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
  CHECK(client.next() == "reset");
}

}  // namespace
}  // namespace gyre::chaos
