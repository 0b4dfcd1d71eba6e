// What commands of Redis clients ask of malloc on their whole way: cached reads nothing, writes in
// bulk only (memtables, and what flushing one takes). See allocation_test.cpp.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "../../contract/http_client.hpp"
#include "../live_node.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

constexpr int commands_counted = GYRE_COUNT_MALLOC ? 4000 : 300;
constexpr int warm_up = 500;
// Something kept for reuse may reach its peak late: a command must do without in one of so many goes.
constexpr int attempts_max = 4;
constexpr double per_cached_read = 0;
// Replies that wait for those of the other core are gathered in strings; how many there are at a time
// depends on how the two run.
constexpr double per_read_elsewhere = 0.01;
constexpr double per_write = 0.02;
// A command of several keys is an array of large parts, of which a burst has more than a core keeps.
constexpr double per_write_of_keys = 0.1;
constexpr int keys = 500;

struct Load {
  const char* name;
  std::string (*command)(int index);
  std::string (*reply)(int index);
  double allowed;  // mallocs per command
};

std::string bulk(const std::string& bytes) {
  return fmt::format("${}\r\n{}\r\n", bytes.size(), bytes);
}
std::string key_of(int index) {
  return fmt::format("key{:05}", index % keys);
}
std::string value_of(int index) {
  return std::string(100, static_cast<char>('a' + index % keys % 26));
}
std::string get(int index) {
  return "*2\r\n" + bulk("GET") + bulk(key_of(index));
}
std::string get_absent(int index) {
  return "*2\r\n" + bulk("GET") + bulk("absent" + key_of(index));
}
std::string mget(int index) {
  return "*4\r\n" + bulk("MGET") + bulk(key_of(index)) + bulk(key_of(index + 1)) + bulk("absent");
}
std::string set(int index) {
  return "*3\r\n" + bulk("SET") + bulk(key_of(index)) + bulk(value_of(index));
}
std::string mset(int index) {
  return "*5\r\n" + bulk("MSET") + bulk(key_of(index)) + bulk(value_of(index)) +
         bulk(key_of(index + 1)) + bulk(value_of(index + 1));
}

constexpr auto ok = [](int) -> std::string { return "+OK\r\n"; };

const Load reads[] = {
    {"PING", [](int) -> std::string { return "PING\r\n"; },
     [](int) -> std::string { return "+PONG\r\n"; }, per_cached_read},
    {"GET", get, [](int index) { return bulk(value_of(index)); }, per_cached_read},
    {"GET, absent", get_absent, [](int) -> std::string { return "$-1\r\n"; }, per_cached_read},
    {"MGET", mget,
     [](int index) {
       return "*3\r\n" + bulk(value_of(index)) + bulk(value_of(index + 1)) + "$-1\r\n";
     },
     per_cached_read},
    {"ECHO, a line", [](int) -> std::string { return "ECHO x\r\n"; },
     [](int) -> std::string { return bulk("x"); }, per_cached_read},
};
const Load writes[] = {
    {"SET", set, ok, per_write},
    {"MSET", mset, ok, per_write_of_keys},
};

struct Shape {
  size_t connections;
  int depth;
};
constexpr Shape shapes[] = {{1, 1}, {4, 16}};

using Clients = std::vector<std::unique_ptr<HttpClient>>;

int send_all(const Load& load, Clients& clients, int depth, int count) {
  int sent = 0;
  int wrong = 0;
  while (sent < count) {
    std::vector<std::string> expected;
    for (auto& client : clients) {
      std::string commands;
      std::string replies;
      for (int i = 0; i < depth; ++i, ++sent) {
        commands += load.command(sent);
        replies += load.reply(sent);
      }
      client->send(commands);
      expected.push_back(std::move(replies));
    }
    for (size_t i = 0; i < clients.size(); ++i) {
      std::string heard;
      while (heard.size() < expected[i].size()) {
        const std::string more = clients[i]->read_some();
        REQUIRE_FALSE(more.empty());  // the connection has ended
        heard += more;
      }
      wrong += heard != expected[i];
    }
  }
  CHECK(wrong == 0);
  return sent;
}

void measure(LiveNode& node, const std::string& where, Load load, Shape shape) {
  if (load.allowed == 0 && node.cores() > 1) load.allowed = per_read_elsewhere;
  Clients clients;
  while (clients.size() < shape.connections) {
    clients.push_back(std::make_unique<HttpClient>(node.resp_port()));
  }
  send_all(load, clients, shape.depth, warm_up);
  double cost = 0;
  uint64_t before = node.mallocs_of_cores();
  int sent = 0;
  for (int attempt = 0; attempt < attempts_max; ++attempt) {
    sent += send_all(load, clients, shape.depth, commands_counted);
    const uint64_t after = node.mallocs_of_cores();
    cost = static_cast<double>(after - before) / sent;
    if (cost <= load.allowed) break;
    if (load.allowed > 0) continue;
    before = after;
    sent = 0;
  }
  fmt::print("{:<22} {:<18} {} x {:<4} {:.4f} allocations per command\n", where, load.name,
             shape.connections, shape.depth, cost);
  CAPTURE(where);
  const std::string name = load.name;
  CAPTURE(name);
  CAPTURE(shape.depth);
  CHECK(cost <= load.allowed);
}

}  // namespace

TEST_CASE("commands allocate nothing but what writes need in bulk") {
  for (const unsigned cores : {1u, 2u}) {
    for (const char* durability : {"none", "group"}) {
      const Directory directory;
      LiveNode node(directory, cores, durability);
      REQUIRE(progress == Progress::serving);
      const std::string where = fmt::format("{} cores, {}", cores, durability);
      for (const Load& load : writes) {
        for (const Shape shape : shapes) measure(node, where, load, shape);
      }
      for (const Load& load : reads) {
        for (const Shape shape : shapes) measure(node, where, load, shape);
      }
    }
  }
}
