// What requests ask of malloc on their whole way: a node on the kernel's io_uring answers clients
// on the loopback interface, and only what the threads of its cores allocate is counted. Cached
// reads ask for nothing. Writes ask in bulk: memtables, and what flushing one takes.
//
// Sanitizers bring their own malloc, so there the counts stay at zero and only answers are checked.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "../contract/http_client.hpp"
#include "live_node.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

constexpr int requests_counted = GYRE_COUNT_MALLOC ? 10'000 : 300;
constexpr int warm_up = 1000;
// Something kept for reuse may reach its peak late: a read must do without in one of so many goes.
// A flush costs writes the same whenever it comes: their average over all goes is looked at.
constexpr int attempts_max = 4;
constexpr double per_cached_read = 0;
constexpr double per_write = 0.01;
constexpr int keys = 500;
// --- requests -----------------------------------------------------------------------------------

using MakeRequest = std::string (*)(int index);

struct Load {
  const char* name;
  MakeRequest request;
  int status;
  double allowed;  // mallocs per request
  bool head_only = false;
};

// How a load is sent: so many requests at a time on each of so many connections.
struct Shape {
  size_t connections;
  int depth;
};
constexpr Shape one_by_one{1, 1};
constexpr Shape pipelined{4, 16};

std::string line(const char* method, const std::string& target) {
  return fmt::format("{} {} HTTP/1.1\r\nHost: node\r\n", method, target);
}
std::string entity(const char* method, const std::string& key) {
  return line(method, "/v0/entity?id=" + key) + "\r\n";
}
std::string key_of(int index) {
  return fmt::format("key{:05}", index % keys);
}
// Of a size that is answered in one piece with the head, and one that is not.
std::string put_of(const std::string& key, size_t bytes) {
  return line("PUT", "/v0/entity?id=" + key) + fmt::format("Content-Length: {}\r\n\r\n", bytes) +
         std::string(bytes, 'v');
}
constexpr size_t small_bytes = 100;
constexpr size_t middle_bytes = 10'000;

std::string get_small(int index) {
  return entity("GET", key_of(index));
}
std::string get_middle(int index) {
  return entity("GET", "middle" + key_of(index % 50));
}
std::string get_absent(int index) {
  return entity("GET", "absent" + key_of(index));
}
std::string head_small(int index) {
  return entity("HEAD", key_of(index));
}
std::string put_small(int index) {
  return put_of(key_of(index), small_bytes);
}
std::string put_middle(int index) {
  return put_of("middle" + key_of(index % 50), middle_bytes);
}
std::string put_new(int) {
  static int next = 0;
  return put_of(fmt::format("new{:09}", next++), small_bytes);
}
std::string delete_other(int index) {
  return entity("DELETE", "other" + key_of(index));
}
std::string tag;  // of the first small value
std::string get_known(int) {
  return line("GET", "/v0/entity?id=" + key_of(0)) + fmt::format("If-None-Match: {}\r\n\r\n", tag);
}
std::string get_status(int) {
  return line("GET", "/v0/status") + "\r\n";
}

constexpr Load reads[] = {
    {"GET, 304", get_known, 304, per_cached_read, true},
    {"GET", get_small, 200, per_cached_read},
    {"GET 10 kB", get_middle, 200, per_cached_read},
    {"GET, absent", get_absent, 404, per_cached_read},
    {"HEAD", head_small, 200, per_cached_read, true},
    {"status", get_status, 200, per_cached_read},
};
constexpr Load writes[] = {
    {"PUT, known keys", put_small, 201, per_write},
    {"PUT, new keys", put_new, 201, per_write},
    {"DELETE", delete_other, 202, per_write},
};
// A value that another core hands over is copied: beyond what an exchange holds, to the heap.
constexpr Load reads_elsewhere[] = {
    {"GET, 304", get_known, 304, per_cached_read, true},
    {"GET", get_small, 200, per_cached_read},
    {"GET, absent", get_absent, 404, per_cached_read},
    {"HEAD", head_small, 200, per_cached_read, true},
};

using Clients = std::vector<std::unique_ptr<HttpClient>>;

// Sends `count` requests at least; answers how many.
int send_all(const Load& load, Clients& clients, int depth, int count) {
  int sent = 0;
  int wrong = 0;
  while (sent < count) {
    for (auto& client : clients) {
      std::string requests;
      for (int i = 0; i < depth; ++i) requests += load.request(sent++);
      client->send(requests);
    }
    for (auto& client : clients) {
      for (int i = 0; i < depth; ++i) {
        wrong += client->read_answer(load.head_only).status != load.status;
      }
    }
  }
  CHECK(wrong == 0);
  return sent;
}

void measure(LiveNode& node, const std::string& where, const Load& load, Shape shape) {
  Clients clients;
  while (clients.size() < shape.connections) {
    clients.push_back(std::make_unique<HttpClient>(node.port()));
  }
  send_all(load, clients, shape.depth, warm_up);
  double cost = 0;
  uint64_t before = node.mallocs_of_cores();
  int sent = 0;
  for (int attempt = 0; attempt < attempts_max; ++attempt) {
    sent += send_all(load, clients, shape.depth, requests_counted);
    const uint64_t after = node.mallocs_of_cores();
    cost = static_cast<double>(after - before) / sent;
    if (cost <= load.allowed) break;
    if (load.allowed > 0) continue;
    before = after;
    sent = 0;
  }
  fmt::print("{:<22} {:<18} {} x {:<4} {:.4f} allocations per request\n", where, load.name,
             shape.connections, shape.depth, cost);
  CAPTURE(where);
  const std::string name = load.name;
  CAPTURE(name);
  CAPTURE(shape.depth);
  CHECK(cost <= load.allowed);
}

template <size_t count>
void measure_all(LiveNode& node, const std::string& where, const Load (&loads)[count]) {
  for (const Load& load : loads) {
    measure(node, where, load, one_by_one);
    measure(node, where, load, pipelined);
  }
}

void fill(LiveNode& node) {
  Clients clients;
  clients.push_back(std::make_unique<HttpClient>(node.port()));
  send_all({"", put_small, 201, 0}, clients, 1, keys);
  send_all({"", put_middle, 201, 0}, clients, 1, 50);
  tag = clients[0]->head("/v0/entity?id=" + key_of(0)).header("etag");
}

}  // namespace

TEST_CASE("cached reads allocate nothing, from a memtable and from a table") {
  const Directory directory;
  {
    LiveNode node(directory, 1, "none");
    REQUIRE(progress == Progress::serving);
    fill(node);
    measure_all(node, "memtable", reads);
  }
  LiveNode node(directory, 1, "none");  // the end of the one before has flushed
  REQUIRE(progress == Progress::serving);
  measure_all(node, "table", reads);
}

TEST_CASE("writes allocate in bulk only") {
  for (const char* durability : {"none", "group"}) {
    const Directory directory;
    LiveNode node(directory, 1, durability);
    REQUIRE(progress == Progress::serving);
    measure_all(node, durability, writes);
  }
}

TEST_CASE("keys of another core cost no more") {
  for (const char* durability : {"none", "group"}) {
    const Directory directory;
    LiveNode node(directory, 2, durability);
    REQUIRE(progress == Progress::serving);
    const std::string where = fmt::format("two cores, {}", durability);
    if (durability == std::string_view("none")) {
      fill(node);
      measure_all(node, where, reads_elsewhere);
    }
    measure_all(node, where, writes);
  }
}
