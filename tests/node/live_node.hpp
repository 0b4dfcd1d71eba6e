// A node of this process on the kernel's io_uring, whose cores' calls of malloc are counted. For one
// file of an executable (count_mallocs.hpp).
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gyre/reactor.hpp>

#include "../count_mallocs.hpp"
#include "node/config.hpp"
#include "node/node.hpp"
#include "node/resp/resp_server.hpp"
#include "runtime/uring/cores.hpp"
#include "runtime/uring/node.hpp"

namespace gyre::test {

inline constexpr unsigned cores_max = 2;

enum class Progress { starting, serving, ended };
inline std::atomic<Progress> progress;  // of the one node that lives

inline void advance(Progress to) {
  progress = to;
  progress.notify_all();
}

inline const gyre::Node::Environment environment{
    .port_of = &uring::listening_port,
    .print = [](std::string_view) { advance(Progress::serving); },
    .exit_now = &uring::exit_now,
};

struct Directory {
  Directory() { REQUIRE(::mkdtemp(name) != nullptr); }
  ~Directory() { std::filesystem::remove_all(name); }
  char name[32] = "/tmp/gyre-allocation-XXXXXX";
};

inline ServeConfig config_of(const std::string& data, unsigned cores, const char* durability) {
  ConfigInput input;
  input.machine = {.cpus = cores, .cpus_online = cores, .memory_bytes = 4ull << 30};
  for (const auto& [name, text] : std::initializer_list<std::pair<const char*, std::string>>{
           {"listen", "127.0.0.1:0"},
           {"data", data},
           {"cores", std::to_string(cores)},
           {"durability", durability},
           {"memory", fmt::format("{}M", 128 * cores)},
           {"max-value", "1M"},
           {"resp", "127.0.0.1:0"}}) {
    input.flags.push_back({Layer::flag, name, text, ""});
  }
  auto config = load_serve_config(input);
  REQUIRE(config.has_value());
  return *config;
}

// A node of this process from its start to its end, its cores on threads of their own.
class LiveNode {
 public:
  LiveNode(const Directory& directory, unsigned cores, const char* durability)
      : node_(config_of(directory.name + std::string("/data"), cores, durability), environment) {
    uring::block_signals();
    progress = Progress::starting;
    thread_ = std::thread([this, cores] {
      problem_ = uring::run_cores({.cores = cores}, [this](unsigned core, Backend& backend) {
        counts_[core] = &mallocs;
        // The report of a stall allocates.
        Reactor reactor(backend, {.core = core, .stall_report = nanos_never}, &node_.fabric());
        reactor.run(node_.run(core));
      });
      advance(Progress::ended);
    });
    progress.wait(Progress::starting);
  }
  ~LiveNode() {
    if (progress == Progress::serving) ::kill(::getpid(), SIGTERM);
    thread_.join();
    CHECK(problem_ == "");
    CHECK(node_.exit_code() == 0);
  }
  LiveNode(const LiveNode&) = delete;
  LiveNode& operator=(const LiveNode&) = delete;

  unsigned cores() const { return node_.cores(); }
  uint16_t port() { return node_.core(0).port(); }
  uint16_t resp_port() { return node_.core(0).resp()->port(); }
  uint64_t mallocs_of_cores() const {
    uint64_t sum = 0;
    for (unsigned core = 0; core < node_.cores(); ++core) sum += *counts_[core];
    return sum;
  }

 private:
  gyre::Node node_;
  std::thread thread_;
  std::string problem_;
  std::array<const std::atomic<uint64_t>*, cores_max> counts_{};
};

}  // namespace gyre::test
