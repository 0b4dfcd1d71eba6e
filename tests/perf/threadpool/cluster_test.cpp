// What the comparator's cluster is made of, piece by piece; whole clusters are under test in
// tests/contract (sharding, replication).
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "gather.hpp"
#include "peer_client.hpp"
#include "placement.hpp"

using namespace gyre;
using namespace gyre::threadpool;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 60s;  // a hang, never a measure of speed

std::vector<std::string> urls_of(size_t count) {
  std::vector<std::string> urls;
  for (size_t i = 0; i < count; ++i) urls.push_back("http://node-" + std::to_string(i) + ":80");
  return urls;
}

// A peer by hand: connections are accepted and answered by the test.
class PeerByHand {
 public:
  PeerByHand() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(bind(fd_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(listen(fd_, 8) == 0);
    REQUIRE(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = ntohs(address.sin_port);
  }
  ~PeerByHand() { close(fd_); }
  int accept_one() { return accept(fd_, nullptr, nullptr); }

  uint16_t port = 0;

 private:
  int fd_;
};

// The head of a request without a body, and the answer to it.
std::string take_head(int fd) {
  std::string head;
  for (char c; head.find("\r\n\r\n") == std::string::npos && recv(fd, &c, 1, 0) == 1;) head += c;
  return head;
}
void answer(int fd, std::string_view bytes) {
  CHECK(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}
constexpr std::string_view good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";

struct Calls {
  explicit Calls(uint16_t port, std::chrono::milliseconds timeout = 60s, size_t waiting_max = 100)
      : client({"127.0.0.1", port}, timeout, waiting_max) {}

  std::shared_ptr<Gather> call(Clock::time_point deadline = Clock::now() + patience) {
    auto request = std::make_shared<PeerRequest>(transit, 0);
    request->head = "GET /x HTTP/1.1\r\nHost: peer\r\n\r\n";
    auto gather = std::make_shared<Gather>(1);
    client.call({request, gather, 0, deadline});
    return gather;
  }
  // Its answer, or "failed".
  static std::string result(Gather& gather) {
    const Gather::Counts counts = gather.wait(1, 0, Clock::now() + patience);
    REQUIRE(counts.answered + counts.failed == 1);
    return counts.answered == 1 ? *gather.take()[0] : "failed";
  }

  TransitMemory transit{1 << 20};
  PeerClient client;
};

}  // namespace

TEST_CASE("nodes of fewer copies are among those of more, whatever the order of the list") {
  const std::vector<std::string> urls = urls_of(7);
  const std::vector<std::string> backwards(urls.rbegin(), urls.rend());
  const Placement placement(urls);
  const Placement other(backwards);
  for (int i = 0; i < 500; ++i) {
    const std::string key = "key" + std::to_string(i);
    const Placement::Replicas five = placement.replicas_of(key, 5);
    CHECK(std::set<size_t>(five.begin(), five.end()).size() == 5);
    for (size_t from = 1; from < 5; ++from) {
      const Placement::Replicas fewer = placement.replicas_of(key, from);
      for (size_t rank = 0; rank < from; ++rank) {
        CHECK(fewer[rank] == five[rank]);
        CHECK(backwards[other.replicas_of(key, from)[rank]] == urls[five[rank]]);
      }
    }
  }
}

TEST_CASE("keys are spread evenly, and a further node takes only what becomes its own") {
  const Placement four(urls_of(4));
  const Placement five(urls_of(5));
  constexpr size_t keys = 20'000;
  size_t held[5] = {};
  size_t moved = 0;
  for (size_t i = 0; i < keys; ++i) {
    const std::string key = "key" + std::to_string(i);
    const size_t before = four.replicas_of(key, 1)[0];
    const size_t after = five.replicas_of(key, 1)[0];
    ++held[after];
    if (before != after) {
      CHECK(after == 4);
      ++moved;
    }
  }
  for (const size_t count : held) {
    CHECK(count > keys / 5 * 9 / 10);
    CHECK(count < keys / 5 * 11 / 10);
  }
  CHECK(moved == held[4]);
}

TEST_CASE("a latch opens with enough answers, with too many failures, and when it is late") {
  Gather gather(3);
  const Clock::time_point later = Clock::now() + patience;
  CHECK(gather.wait(1, 2, Clock::now()).answered == 0);
  std::thread late([&] { gather.finish(2, "two"); });
  CHECK(gather.wait(1, 2, later).answered == 1);
  late.join();
  CHECK(gather.unfinished(3) == std::vector<size_t>{0, 1});
  gather.finish(0, std::nullopt);
  CHECK(gather.wait(3, 0, later).failed == 1);
  const auto bodies = gather.take();
  CHECK(bodies[2] == "two");
  CHECK_FALSE(bodies[0]);
  gather.finish(1, "after that");  // the request was answered meanwhile
}

TEST_CASE("calls share a connection, and an answer of 404 is nothing, not a failure") {
  PeerByHand listener;
  Calls calls(listener.port);
  calls.client.start(1);
  const auto first = calls.call();
  const int fd = listener.accept_one();
  CHECK(take_head(fd).starts_with("GET /x "));
  answer(fd, good);
  CHECK(calls.result(*first) == "good");
  const auto second = calls.call();
  CHECK(take_head(fd).starts_with("GET /x "));
  answer(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  CHECK(calls.result(*second).empty());
  const auto third = calls.call();
  take_head(fd);
  answer(fd, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
  CHECK(calls.result(*third) == "failed");
  close(fd);
}

TEST_CASE("a call on a connection that the peer has closed is made once more on a new one") {
  PeerByHand listener;
  Calls calls(listener.port);
  calls.client.start(1);
  const auto first = calls.call();
  int fd = listener.accept_one();
  take_head(fd);
  answer(fd, good);
  CHECK(calls.result(*first) == "good");
  close(fd);
  const auto second = calls.call();
  fd = listener.accept_one();
  take_head(fd);
  answer(fd, good);
  CHECK(calls.result(*second) == "good");
  CHECK_FALSE(calls.client.was_suspected());
  close(fd);
  // Of a new connection it is a failure.
  const auto third = calls.call();
  fd = listener.accept_one();
  take_head(fd);
  close(fd);
  CHECK(calls.result(*third) == "failed");
}

TEST_CASE("a peer that does not answer in time fails the call and is suspected") {
  PeerByHand listener;
  Calls calls(listener.port, 50ms);
  calls.client.start(1);
  const auto call = calls.call();
  const int fd = listener.accept_one();
  CHECK(calls.result(*call) == "failed");
  CHECK(calls.client.was_suspected());
  close(fd);
}

TEST_CASE("calls that nobody listens to, that are late or too many, fail at once") {
  uint16_t closed_port = 0;
  {
    PeerByHand listener;
    closed_port = listener.port;
  }
  Calls refused(closed_port);
  refused.client.start(1);
  CHECK(refused.result(*refused.call()) == "failed");

  PeerByHand listener;
  Calls late(listener.port);
  const auto call = late.call(Clock::now());
  late.client.start(1);
  CHECK(late.result(*call) == "failed");

  Calls full(listener.port, 60s, 1);
  const auto waits = full.call(Clock::now());
  CHECK(full.result(*full.call()) == "failed");
  full.client.start(1);  // which ends the other
  CHECK(full.result(*waits) == "failed");
}

TEST_CASE("what a request's body was charged is given back after the last call with it") {
  TransitMemory transit(1000);
  CHECK(transit.try_charge(600));
  auto request = std::make_shared<PeerRequest>(transit, 600);
  std::shared_ptr<PeerRequest> other = request;
  request.reset();
  CHECK(transit.used() == 600);
  other.reset();
  CHECK(transit.used() == 0);
}
