// A whole node on two cores of a simulated machine, and a client on another one.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gyre/time.hpp>

#include "../store/sim_rig.hpp"
#include "node/config.hpp"
#include "node/node.hpp"
#include "sim/life.hpp"

namespace gyre::test {

inline constexpr uint16_t port = 8080;

inline std::string ready_line;  // of the node that was started last

inline const Node::Environment environment{
    .port_of = [](int) { return port; },
    .print = [](std::string_view line) { ready_line = line; },
    .exit_now = [](int) { FAIL("a second signal"); },
};

using Flags = std::vector<std::pair<const char*, const char*>>;

inline ServeConfig two_core_config(const Flags& more = {}) {
  ConfigInput input;
  input.machine = {.cpus = 2, .cpus_online = 2, .memory_bytes = 4ull << 30};
  Flags flags = {
      {"listen", "0.0.0.0:8080"}, {"data", "data"}, {"memory", "128M"}, {"max-value", "1M"}};
  flags.insert(flags.end(), more.begin(), more.end());
  for (const auto& [name, text] : flags) input.flags.push_back({Layer::flag, name, text, ""});
  auto config = load_serve_config(input);
  REQUIRE(config.has_value());
  return *config;
}

inline Task<void> await_ready() {
  while (ready_line.empty()) static_cast<void>(co_await sleep_for(milliseconds(1)));
}

// A life of the node with a client beside it; `end(node, its life)` ends it once the client is done.
template <class End>
void live_node(ServeConfig config, sim::World& world, sim::Node& machine, sim::Node& client_machine,
               Task<void> client, End end) {
  ready_line.clear();
  const int64_t frames_before = frames_live() - 1;  // `client` is one
  {
    Node node(std::move(config), environment);
    sim::Life node_life(world, machine);
    sim::Life client_life(world, client_machine);
    for (unsigned core = 0; core < 2; ++core) node_life.start(core, node.run(core));
    client_life.start(0, std::move(client));
    REQUIRE(world.run_until([&] { return client_life.ended(); }, seconds(36'000)) ==
            sim::Stop::satisfied);
    end(node, node_life);
    REQUIRE(node_life.ended());
  }
  CHECK(frames_live() == frames_before);
}

}  // namespace gyre::test
