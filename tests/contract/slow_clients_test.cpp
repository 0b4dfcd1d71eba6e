// Thousands of clients that send slowly, stop in the middle, or don't read: they are timed out,
// cost bounded memory, and good clients get right answers meanwhile.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"

using namespace gyre::test;
using Clock = std::chrono::steady_clock;

namespace {

constexpr uint64_t budget_bytes = 128u << 20;

// What good clients do all the time: small and larger values, written and read back.
struct GoodClients {
  explicit GoodClients(uint16_t port) {
    for (unsigned i = 0; i < 2; ++i) {
      threads.emplace_back([this, port, i] { work(port, i); });
    }
  }
  ~GoodClients() { stop(); }
  void stop() {
    stopping = true;
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }

  void work(uint16_t port, unsigned number) {
    std::vector<double>& latencies = milliseconds[number];
    try {
      auto connection = std::make_unique<HttpClient>(port);
      for (uint64_t n = 0; !stopping; ++n) {
        const std::string key = "good-" + std::to_string(number) + "-" + std::to_string(n % 50);
        // Most are small; some are streamed and need memory that the slow ones want too.
        const std::string value = random_bytes(n, n % 10 == 9 ? 100'000 : 500);
        const auto begin = Clock::now();
        const HttpAnswer put = connection->put(entity(key), value);
        if (put.header("connection") == "close") connection = std::make_unique<HttpClient>(port);
        const HttpAnswer get = connection->get(entity(key));
        latencies.push_back(
            std::chrono::duration<double, std::milli>(Clock::now() - begin).count() / 2);
        // Memory may be short for a moment, but what is said is right.
        const auto later = [](const HttpAnswer& answer) {
          return answer.status == 503 && !answer.header("retry-after").empty();
        };
        const bool refused = later(put) || later(get);
        if (refused) {
          ++refusals;
          if (get.header("connection") == "close") connection = std::make_unique<HttpClient>(port);
        } else if (put.status != 201 || get.status != 200 || get.body != value) {
          ++failures;
          first_failure = std::to_string(put.status) + " " + put.body + std::to_string(get.status);
        }
        ++done;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    } catch (const std::exception& error) {
      ++failures;
      first_failure = error.what();
    }
  }
  double p99() {
    std::vector<double> all(milliseconds[0]);
    all.insert(all.end(), milliseconds[1].begin(), milliseconds[1].end());
    if (all.empty()) return 0;
    std::sort(all.begin(), all.end());
    return all[all.size() * 99 / 100];
  }

  double slowest() {
    double most = 0;
    for (const auto& latencies : milliseconds) {
      for (const double one : latencies) most = std::max(most, one);
    }
    return most;
  }

  std::atomic<bool> stopping = false;
  std::atomic<uint64_t> done = 0;
  std::atomic<uint64_t> failures = 0;
  std::atomic<uint64_t> refusals = 0;
  std::string first_failure;
  std::vector<double> milliseconds[2];
  std::vector<std::thread> threads;
};

void wait_for_work(const GoodClients& good, uint64_t more) {
  const uint64_t target = good.done + more;
  while (good.done < target && good.failures == 0) usleep(10'000);
}

// How many of the sockets have been closed, or reset, by the node; what they sent is dropped.
size_t count_closed(const std::vector<std::unique_ptr<HttpClient>>& clients) {
  size_t closed = 0;
  char bytes[4096];
  for (const auto& client : clients) {
    for (;;) {
      const ssize_t size = recv(client->fd(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (size > 0) continue;
      if (size == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) ++closed;
      break;
    }
  }
  return closed;
}
struct SlowClients {
  size_t count = scaled(5000, 500);
  std::unique_ptr<NodeProcess> node;
  std::vector<std::unique_ptr<HttpClient>> slow;

  SlowClients() {
    const uint64_t descriptors = raise_descriptor_limit();
    count = std::min<size_t>(count, descriptors - 200);
    node = std::make_unique<NodeProcess>(std::vector<std::string>{
        "--memory", "128M", "--max-connections", std::to_string(count + 200), "--head-timeout",
        "4s", "--body-timeout", "4s", "--send-timeout", "4s", "--idle-timeout", "10s"});
  }
  // `first` is what each sends at once, `drip` what it goes on with.
  void attack(const std::function<std::string(size_t)>& first, std::string_view drip, bool reads) {
    GoodClients good(node->port());
    wait_for_work(good, 100);
    const double p99_alone = good.p99();
    CHECK(node->metric("connections") < 10);
    for (size_t i = 0; i < count; ++i) {
      // Who does not read shall not fill the kernel's buffers instead of the node's.
      slow.push_back(std::make_unique<HttpClient>(node->port(), reads ? 0 : 4096));
      slow.back()->try_send(first(i));
    }
    wait_for_work(good, 100);
    // Dripping on must not help. The deadline is a guard against hanging, not a measure.
    const auto give_up = Clock::now() + std::chrono::seconds(120);
    while (node->metric("connections") > 5 && Clock::now() < give_up) {
      for (size_t i = 0; i < slow.size() && !drip.empty(); i += 7) slow[i]->try_send(drip);
      usleep(300'000);
    }
    CHECK(node->metric("connections") <= 5);
    if (reads) CHECK(count_closed(slow) == count);
    wait_for_work(good, 50);
    good.stop();
    CHECK_MESSAGE(good.failures.load() == 0, good.first_failure);
    MESSAGE("p99 of good clients " << p99_alone << " ms alone, " << good.p99() << " ms over all, "
                                   << good.refusals.load() << " told to come back, at most "
                                   << good.slowest() << " ms");
    const uint64_t most = node->resident_bytes_max();
    MESSAGE(count << " slow clients, at most " << (most >> 20) << " MiB resident, "
                  << node->metric("connections_let_go_total") << " let go early");
    CHECK(most <= budget_bytes / 100 * 115);
    slow.clear();
    for (int i = 0; i < 1000 && node->metric("connections") > 2; ++i) usleep(10'000);
    CHECK(node->metric("connections") <= 2);
    CHECK(node->metric("transit_memory_used_bytes") == 0);
    CHECK(node->stop().code == 0);
  }
};

}  // namespace

TEST_CASE_FIXTURE(SlowClients, "clients that send a header slowly") {
  attack([](size_t) { return "GET /v0/entity?id=slow HTTP/1.1\r\nHost: a\r\nX-Drip: "; }, "x",
         false);
}

TEST_CASE_FIXTURE(SlowClients, "clients that leave off in a long header") {
  attack(
      [](size_t) {
        return "GET /v0/entity?id=slow HTTP/1.1\r\nHost: a\r\nX-Drip: " + std::string(50'000, 'x');
      },
      "x", true);
}

TEST_CASE_FIXTURE(SlowClients, "clients that send a body slowly") {
  attack(
      [](size_t i) {
        return "PUT /v0/entity?id=slow" + std::to_string(i) +
               " HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin";
      },
      "x", true);
}

TEST_CASE_FIXTURE(SlowClients, "clients that leave off in a chunked body") {
  attack(
      [](size_t i) {
        return "PUT /v0/entity?id=slow" + std::to_string(i) +
               " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n" +
               std::string(30'000, 'x');
      },
      "x", true);
}

TEST_CASE_FIXTURE(SlowClients, "clients that ask for much and don't read") {
  HttpClient writer(node->port());
  CHECK(writer.put(entity("middle"), random_bytes(1, 60'000)).status == 201);
  CHECK(writer.put(entity("large"), random_bytes(2, 3'000'000)).status == 201);
  writer.close();
  attack(
      [](size_t i) {
        std::string requests;
        for (int n = 0; n < 40; ++n) {
          requests += get_request(entity(i % 2 == 0 && n % 4 == 1 ? "large" : "middle"));
        }
        return requests;
      },
      "", false);
}

// What they ask is larger than what they let in: it can be left in the kernel, not in memory.
TEST_CASE_FIXTURE(SlowClients, "clients that ask very much at once and don't read") {
  HttpClient writer(node->port());
  CHECK(writer.put(entity("middle"), random_bytes(1, 60'000)).status == 201);
  writer.close();
  std::string requests;
  while (requests.size() < 150'000) requests += get_request(entity("middle"));
  attack([&](size_t) { return requests; }, "", false);
}

TEST_CASE("clients with nothing to say are let go") {
  raise_descriptor_limit();
  NodeProcess node({"--memory", "128M", "--idle-timeout", "500ms"});
  std::vector<std::unique_ptr<HttpClient>> idle;
  for (int i = 0; i < 200; ++i) {
    idle.push_back(std::make_unique<HttpClient>(node.port()));
    if (i % 2 == 0) CHECK(idle.back()->get("/v0/status").status == 200);
  }
  for (const auto& client : idle) CHECK(client->closed_by_peer());
}

TEST_CASE("a request that is not finished in time is told so") {
  NodeProcess node({"--head-timeout", "500ms", "--body-timeout", "500ms"});
  for (const char* begun :
       {"GET /v0/ent", "GET /v0/entity?id=k HTTP/1.1\r\nHost: a\r\n",
        "PUT /v0/entity?id=k HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345",
        "PUT /v0/entity?id=k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123"}) {
    HttpClient client(node.port());
    client.send(begun);
    const HttpAnswer answer = client.read_answer();
    CHECK(answer.status == 408);
    CHECK(answer.header("connection") == "close");
    CHECK(client.closed_by_peer());
  }
  // One that was answered before is answered, and then told.
  HttpClient client(node.port());
  client.send(get_request(entity("k")) + "GET /v0/enti");
  CHECK(client.read_answer().status == 404);
  CHECK(client.read_answer().status == 408);
  CHECK(HttpClient(node.port()).get(entity("k")).status == 404);
}
