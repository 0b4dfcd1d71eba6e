// Whole nodes in the simulation, asked by Redis clients: pipelines of random commands, cut into
// random pieces, against what one after the other would have done.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <csignal>
#include <map>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "../node_sim_rig.hpp"
#include "resp/reply_parser.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

constexpr uint16_t resp_port = 6379;

ServeConfig config_with_resp(const char* durability) {
  ServeConfig config = two_core_config({{"durability", durability}});
  config.resp = Address{"0.0.0.0", resp_port};
  return config;
}

std::string bulk(std::string_view bytes) {
  return fmt::format("${}\r\n{}\r\n", bytes.size(), bytes);
}

std::string command_of(const std::vector<std::string>& words) {
  std::string bytes = fmt::format("*{}\r\n", words.size());
  for (const std::string& word : words) bytes += bulk(word);
  return bytes;
}

// Numbers that depend on the seed alone.
struct Dice {
  uint64_t state;
  uint64_t below(uint64_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % bound;
  }
};

// What one client's own keys hold: it alone writes them.
class Model {
 public:
  Model(uint64_t seed, int client)
      : dice_{seed * 977 + static_cast<uint64_t>(client)}, client_(client) {}

  // A command, and the answer it must get.
  std::pair<std::string, std::string> next() {
    const std::string key = any_key();
    switch (dice_.below(8)) {
      case 0:
      case 1: {
        const std::string value = any_value();
        held()[key] = value;
        return {command_of({"SET", key, value}), "+OK\r\n"};
      }
      case 2: {
        std::vector<std::string> words = {"MSET"};
        for (uint64_t i = 0, count = 1 + dice_.below(4); i < count; ++i) {
          words.push_back(any_key());
          words.push_back(any_value());
          held()[words[words.size() - 2]] = words.back();
        }
        return {command_of(words), "+OK\r\n"};
      }
      case 3: {
        std::vector<std::string> words = {"MGET"};
        std::string answer;
        const uint64_t count = 1 + dice_.below(5);
        for (uint64_t i = 0; i < count; ++i) {
          words.push_back(any_key());
          answer += value_of(words.back());
        }
        return {command_of(words), fmt::format("*{}\r\n{}", count, answer)};
      }
      case 4: {
        const std::string other = any_key();
        const size_t deleted = held().erase(key) + held().erase(other);
        return {command_of({"DEL", key, other}), fmt::format(":{}\r\n", deleted)};
      }
      case 5:
        return {command_of({"EXISTS", key}), fmt::format(":{}\r\n", held().count(key))};
      case 6:
        if (dice_.below(4) == 0) {
          database_ = static_cast<unsigned>(dice_.below(3));
          return {fmt::format("select {}\r\n", database_), "+OK\r\n"};
        }
        return {"ping\r\n", "+PONG\r\n"};
      default:
        return {command_of({"GET", key}), value_of(key)};
    }
  }
  uint64_t below(uint64_t bound) { return dice_.below(bound); }

 private:
  using Held = std::map<std::string, std::string>;
  Held& held() { return databases_[database_]; }
  std::string any_key() { return fmt::format("client {} key {}", client_, dice_.below(12)); }
  std::string any_value() {
    const uint64_t kind = dice_.below(30);
    const size_t size = kind == 0 ? 100'000 : kind < 4 ? dice_.below(3000) : dice_.below(40);
    return std::string(size, static_cast<char>('a' + dice_.below(26)));
  }
  std::string value_of(const std::string& key) {
    const auto found = held().find(key);
    return found == held().end() ? "$-1\r\n" : bulk(found->second);
  }

  Dice dice_;
  int client_;
  unsigned database_ = 0;
  std::map<unsigned, Held> databases_;
};

Task<void> converse(std::string host, uint64_t seed, int number, int& wrong, int& right) {
  Result<Descriptor> fd = co_await connect_to(host, resp_port);
  if (!fd) {
    ++wrong;
    co_return;
  }
  Socket socket(std::move(*fd));
  Model model(seed, number);
  resp::ReplyScanner scanner;
  std::string unread;
  for (int round = 0; round < 40 && wrong == 0; ++round) {
    std::string bytes;
    std::vector<std::string> expected;
    for (uint64_t i = 0, count = 1 + model.below(40); i < count; ++i) {
      auto [command, answer] = model.next();
      bytes += command;
      expected.push_back(std::move(answer));
    }
    while (!bytes.empty()) {
      const size_t piece =
          std::min<size_t>(bytes.size(), 1 + model.below(model.below(3) == 0 ? 20 : 20'000));
      socket.append(std::string_view(bytes).substr(0, piece));
      bytes.erase(0, piece);
      if (model.below(4) == 0) static_cast<void>(co_await sleep_for(microseconds(200)));
    }
    for (const std::string& answer : expected) {
      std::string reply;
      for (;;) {
        const resp::ReplyScanner::Step step = scanner.feed(unread);
        reply += unread.substr(0, step.consumed);
        unread.erase(0, step.consumed);
        if (step.event != resp::ReplyScanner::Event::need_more) break;
        Result<std::string_view> more = co_await socket.receive();
        if (!more || more->empty()) break;
        unread.append(*more);
        socket.release();
      }
      if (reply != answer) {
        MESSAGE("heard " << reply.substr(0, 100) << " instead of " << answer.substr(0, 100));
        ++wrong;
        break;
      }
      ++right;
    }
  }
  co_await socket.close();
}

Task<void> converse_all(std::string host, uint64_t seed, int clients, int& wrong, int& right) {
  co_await await_ready();
  Scope scope(nullptr, "clients");
  for (int i = 0; i < clients; ++i) scope.spawn(converse(host, seed, i, wrong, right));
  co_await scope.join();
}

}  // namespace

TEST_CASE("pipelines of several clients are answered as if each ran one after the other") {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    sim::World world({.seed = seed});
    sim::Node& machine = world.add_node({.cores = 2});
    sim::Node& client_machine = world.add_node();
    int wrong = 0;
    int right = 0;
    const char* durability = seed % 2 == 0 ? "group" : "none";
    live_node(config_with_resp(durability), world, machine, client_machine,
              converse_all(machine.address(), seed, 5, wrong, right),
              [&](gyre::Node&, sim::Life& life) {
                machine.signal(SIGTERM);
                REQUIRE(life.run(seconds(60)) == sim::Stop::satisfied);
              });
    CHECK(wrong == 0);
    CHECK(right > 1000);
  }
}
