// The same scripts on the simulated backend and on io_uring: a program must see the same on both,
// or what the simulation shows would say nothing about the real thing.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "parity_scripts.hpp"
#include "runtime/uring/backend.hpp"

namespace {

using namespace gyre;
using namespace gyre::testing;

class UringRig final : public Rig {
 public:
  UringRig() {
    std::string name = (std::filesystem::temp_directory_path() / "gyre-parity-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    directory_ = name;
  }
  ~UringRig() override { std::filesystem::remove_all(directory_); }

  Backend& backend() override { return backend_; }
  bool wait(const std::function<bool()>& predicate) override {
    const Nanos deadline = backend_.now() + seconds(20);
    while (!predicate()) {
      if (backend_.now() > deadline) return false;
      backend_.enter(milliseconds(5));
      backend_.reap();
    }
    return true;
  }
  std::string directory() override { return directory_; }
  uint16_t free_port() override {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    ::close(fd);
    return ntohs(address.sin_port);
  }

 private:
  uring::UringNode node_{1};
  uring::UringBackend backend_{{.buffer_count = 8, .buffer_bytes = 4096, .node = &node_}};
  std::string directory_;
};

}  // namespace

TEST_CASE("scripts see the same in the simulation and on the kernel") {
  for (const Script& script : parity_scripts()) {
    CAPTURE(script.name);
    {
      Notes notes;
      UringRig rig;
      script.run(rig, notes);
      CHECK(notes.lines == script.expected);
    }
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(seed);
      Notes notes;
      sim::World world(
          {.seed = seed,
           .network = {.window_bytes_min = 128u << 10, .window_bytes_max = 256u << 10}});
      sim::Node& node = world.add_node({.buffer_count = 8, .buffer_bytes = 4096});
      SimRig rig(world, node);
      script.run(rig, notes);
      CHECK(notes.lines == script.expected);
      CHECK(world.check_quiescent(node) == "");
    }
  }
}
