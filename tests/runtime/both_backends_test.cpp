// Every primitive on both backends: each scenario against the kernel, and in the simulation under
// a row of seeds. Afterwards nothing is left: frames, operations, descriptors, buffers.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include <gyre/reactor.hpp>

#include "runtime/uring/backend.hpp"
#include "runtime/uring/node.hpp"
#include "scenarios.hpp"
#include "sim/life.hpp"
#include "sim/world.hpp"
#include "uring_fixture.hpp"

using namespace gyre;
using namespace gyre::testing;

namespace {

// GYRE_SEEDS=1000 for a long search.
uint64_t seeds() {
  const char* asked = std::getenv("GYRE_SEEDS");
  return asked != nullptr ? std::strtoull(asked, nullptr, 10) : 12;
}

uint16_t free_port() {
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

void on_io_uring(Scenario scenario) {
  INFO("io_uring");
  uring::block_signals();
  uring::TempDir directory;
  const int64_t frames = frames_live();
  const size_t descriptors = uring::open_descriptors();
  {
    uring::UringNode node(1);
    uring::UringBackend backend({.buffer_count = 8, .buffer_bytes = 4096, .node = &node});
    Reactor reactor(backend, {});
    reactor.run(scenario({.directory = directory.path(),
                          .port = free_port(),
                          .raise = [](int number) { REQUIRE(::kill(::getpid(), number) == 0); }}));
    CHECK(reactor.operations_in_flight() == 0);
    CHECK(reactor.descriptors_open == 0);
    CHECK(backend.buffers_free() == backend.buffer_count());
  }
  CHECK(uring::open_descriptors() == descriptors);
  CHECK(frames_live() == frames);
}

void on_simulation(Scenario scenario, uint64_t seed) {
  INFO("simulation, seed ", seed);
  const int64_t frames = frames_live();
  sim::World world({.seed = seed});
  sim::NodeOptions options;
  options.buffer_count = 8;
  options.buffer_bytes = 4096;
  sim::Node& node = world.add_node(std::move(options));
  {
    sim::Life life(world, node);
    life.start(0, scenario({.directory = "", .port = 7000, .raise = [&](int number) {
                              node.signal(number);
                            }}));
    REQUIRE(life.run(seconds(3600)) == sim::Stop::satisfied);
    CHECK(life.reactor().operations_in_flight() == 0);
    CHECK(life.reactor().descriptors_open == 0);
    CHECK(world.check_quiescent(node) == "");
  }
  CHECK(frames_live() == frames);
}

void on_both(Scenario scenario) {
  on_io_uring(scenario);
  for (uint64_t seed = 1; seed <= seeds(); ++seed) on_simulation(scenario, seed);
}

}  // namespace

TEST_CASE("sleepers wake in order") {
  on_both(&sleepers_wake_in_order);
}
TEST_CASE("deadlines end waits") {
  on_both(&deadlines_end_waits);
}
TEST_CASE("a semaphore budgets bytes") {
  on_both(&bytes_are_budgeted);
}
TEST_CASE("work goes through a channel once") {
  on_both(&work_goes_through_a_channel);
}
TEST_CASE("quorum and when_any of slow answers") {
  on_both(&quorum_of_slow_answers);
}
TEST_CASE("background work ends beside foreground work") {
  on_both(&background_work_ends);
}

TEST_CASE("clients are echoed byte for byte") {
  on_both(&clients_are_echoed);
}
TEST_CASE("more connections than provided buffers") {
  on_both(&more_connections_than_buffers);
}
TEST_CASE("a slow reader holds its writer back") {
  on_both(&slow_reader_holds_its_writer_back);
}
TEST_CASE("a half-closed connection still answers") {
  on_both(&half_closed_connections_still_answer);
}
TEST_CASE("connecting where nobody listens is refused") {
  on_both(&nobody_listens);
}
TEST_CASE("racing for connections leaves none behind") {
  on_both(&racing_for_connections);
}
TEST_CASE("a receive that times out loses nothing") {
  on_both(&silence_times_out_and_loses_nothing);
}
TEST_CASE("a socket can be closed in every state") {
  on_both(&closing_in_every_state);
}
TEST_CASE("a listener comes and goes") {
  on_both(&listener_comes_and_goes);
}

TEST_CASE("files are written and read") {
  on_both(&files_are_written_and_read);
}
TEST_CASE("direct files are written and read") {
  on_both(&direct_files_are_written_and_read);
}
TEST_CASE("names come and go") {
  on_both(&names_come_and_go);
}
TEST_CASE("small files are replaced") {
  on_both(&small_files_are_replaced);
}
TEST_CASE("locks exclude") {
  on_both(&locks_exclude);
}

TEST_CASE("signals are waited for") {
  on_both(&signals_are_waited_for);
}
TEST_CASE("signals that nobody waits for are kept") {
  on_both(&signals_that_nobody_waits_for_are_kept);
}
