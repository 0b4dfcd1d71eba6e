// More connections than allowed, and more than the process has descriptors for.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"

using namespace gyre::test;

namespace {

bool serves(HttpClient& client) {
  try {
    return client.get("/v0/status").status == 200;
  } catch (const ConnectionEnded&) {
    return false;
  }
}

// The sum of a metric over its labels, over a connection that exists.
double metric(HttpClient& client, const std::string& name) {
  std::istringstream lines(client.get("/metrics").body);
  double sum = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + "{")) sum += std::atof(line.c_str() + line.rfind(' '));
  }
  return sum;
}

// The process can open nothing more for a while, again and again. Its hard limit stays.
void take_descriptors_away(pid_t pid, const std::atomic<bool>& stop) {
  rlimit usual{};
  prlimit(pid, RLIMIT_NOFILE, nullptr, &usual);
  rlimit none = usual;
  none.rlim_cur = 3;
  while (!stop) {
    prlimit(pid, RLIMIT_NOFILE, &none, nullptr);
    usleep(150'000);
    prlimit(pid, RLIMIT_NOFILE, &usual, nullptr);
    usleep(30'000);
  }
}

}  // namespace

TEST_CASE("connections over the limit are refused, those below it served") {
  NodeProcess node({"--max-connections", "64"});
  std::vector<std::unique_ptr<HttpClient>> clients;
  size_t served = 0;
  for (int i = 0; i < 200; ++i) {
    try {
      auto client = std::make_unique<HttpClient>(node.port());
      if (!serves(*client)) continue;
      ++served;
      clients.push_back(std::move(client));
    } catch (const ConnectionEnded&) {
    }
  }
  CHECK(served >= 60);
  CHECK(served <= 64 + 2 * cores_under_test());
  for (auto& client : clients) CHECK(serves(*client));
  // Room again as soon as somebody leaves.
  for (int i = 0; i < 10; ++i) clients.pop_back();
  bool again = false;
  for (int i = 0; i < 500 && !again; ++i) {
    usleep(10'000);
    HttpClient client(node.port());
    again = serves(client);
  }
  CHECK(again);
}

TEST_CASE("a node without descriptors left survives and accepts again") {
  NodeProcess node({}, false);
  node.descriptors_max = 150;
  node.start();
  HttpClient first(node.port());
  CHECK(first.put(entity("k"), "value").status == 201);
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 300; ++i) clients.push_back(std::make_unique<HttpClient>(node.port()));
  for (int i = 0; i < 50; ++i) {
    CHECK(first.get(entity("k")).body == "value");
    CHECK(first.put(entity("k"), "value").status == 201);
  }
  clients.clear();
  // The node hears of the closes one by one; until then it has no room.
  bool again = false;
  for (int i = 0; i < 500 && !again; ++i) {
    usleep(10'000);
    HttpClient later(node.port());
    again = serves(later);
  }
  CHECK(again);
  CHECK(node.stop().code == 0);
}

TEST_CASE("descriptors that run out for moments end no writes") {
  NodeProcess node({"--memory", "128M", "--max-value", "1M"});
  HttpClient client(node.port());
  std::atomic<bool> stop{false};
  std::thread thief([&] { take_descriptors_away(node.pid(), stop); });
  const std::string value = random_bytes(1, 256 << 10);
  double flushes = 0;
  for (int i = 0; i < 4000 && flushes < 3; ++i) {
    const HttpAnswer answer = client.put(entity("k" + std::to_string(i)), value);
    // While a table or a segment waits for its descriptor, memory may fill up, and on a slow
    // disk flushing falls behind; then the client comes back after a moment.
    const bool busy =
        answer.status == 503 && (answer.body.starts_with("the store can't take more") ||
                                 answer.body.starts_with("flushing and merging are behind"));
    CHECK_MESSAGE((answer.status == 201 || busy), answer.body);
    if (answer.status != 201 && !busy) break;
    if (busy) usleep(10'000);
    if (i % 50 == 49) flushes = metric(client, "gyre_flushes_total");
  }
  stop = true;
  thief.join();
  CHECK(flushes >= 3);
  CHECK(metric(client, "gyre_shard_read_only") == 0);
  CHECK(node.error_output().find("event=open_waits") != std::string::npos);
  client.close();
  CHECK(node.stop().code == 0);
}
