// More connections than allowed, and more than the process has descriptors for.
#include <doctest/doctest.h>
#include <unistd.h>

#include <memory>
#include <string>
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
