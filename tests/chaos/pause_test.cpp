// A node that stands still for a while (stopped, swapped out, its virtual machine moved), and one
// whose log nobody reads.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "../contract/http_client.hpp"
#include "chaos.hpp"

namespace gyre::chaos {

using test::NodeProcess;

namespace {

void sleep_ms(uint64_t ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

bool is_stopped(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(in, line);
  const size_t name_end = line.rfind(')');
  return name_end != std::string::npos && line[name_end + 2] == 'T';
}

void pause_for(NodeProcess& node, uint64_t ms) {
  node.signal(SIGSTOP);
  REQUIRE(eventually([&] { return is_stopped(node.pid()); }));
  sleep_ms(ms);
  node.signal(SIGCONT);
}

// A pipe that is full before anybody logs, and that nobody reads.
class FullPipe {
 public:
  FullPipe() {
    REQUIRE(pipe2(ends_, O_CLOEXEC) == 0);
    // Not through the end that the node gets: it would inherit O_NONBLOCK.
    const std::string name = "/proc/self/fd/" + std::to_string(ends_[1]);
    const int writer = open(name.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(writer >= 0);
    const std::string filler(4096, '.');
    while (write(writer, filler.data(), filler.size()) > 0) {
    }
    close(writer);
  }
  ~FullPipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  FullPipe(const FullPipe&) = delete;
  FullPipe& operator=(const FullPipe&) = delete;
  int write_end() const { return ends_[1]; }

 private:
  int ends_[2] = {-1, -1};
};

}  // namespace

TEST_CASE("a node that was stopped for a while goes on; clients see time-outs and nothing else") {
  const uint64_t seed = chaos_seed(4);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  NodeProcess node(small_node_flags());
  Load load({.seed = seed, .answer_timeout_ms = 300});
  load.start(node.port());
  for (uint64_t pause = 0; pause < test::scaled(6, 2); ++pause) {
    REQUIRE(writes_acknowledged(load, 50));
    pause_for(node, 20 + random() % 200);  // clients wait
    REQUIRE(writes_acknowledged(load, 50));
    pause_for(node, 600 + random() % 900);  // clients give up
    REQUIRE(writes_acknowledged(load, 50));
  }
  load.stop();
  CHECK(load.counts().timeouts > 0);
  CHECK(load.counts().connections_lost == 0);
  check_no(load.take_problems());
  check_no(load.look(node.port(), false));
  check_healthy(node);
  // Killed while it stands still.
  node.signal(SIGSTOP);
  node.kill();
  node.start();
  check_no(load.look(node.port(), true));
  CHECK(node.stop().code == 0);
}

TEST_CASE("a request that a pause made late is answered, or refused as too late") {
  NodeProcess node(
      {"--cores", "1", "--memory", "64M", "--head-timeout", "250ms", "--body-timeout", "250ms"});
  test::HttpClient whole(node.port());
  test::HttpClient head(node.port());
  test::HttpClient body(node.port());
  head.send("PUT /v0/entity?id=head HTTP/1.1\r\nHost: a\r\n");
  body.send("PUT /v0/entity?id=body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab");
  node.signal(SIGSTOP);
  REQUIRE(eventually([&] { return is_stopped(node.pid()); }));
  whole.send(test::put_request(test::entity("whole"), "abc"));
  head.send("Content-Length: 3\r\n\r\nabc");
  body.send("c");
  sleep_ms(600);
  node.signal(SIGCONT);
  // Nothing was late about the one that came at once.
  CHECK(whole.read_answer().status == 201);
  for (test::HttpClient* late : {&head, &body}) {
    const int status = late->read_answer().status;
    CHECK((status == 201 || status == 408));
    if (status == 408) CHECK(late->closed_by_peer());
  }
  CHECK(whole.get(test::entity("whole")).body == "abc");
  CHECK(node.stop().code == 0);
}

TEST_CASE("a node whose log nobody reads keeps serving, and stops when told to") {
  const FullPipe pipe;
  NodeProcess node(small_node_flags(), false);
  node.error_descriptor = pipe.write_end();
  node.start();
  Load load({.seed = 5});
  load.start(node.port());
  // Each pause in the middle of work is a stall, which is logged: more than the pipe would take.
  double stalls = 0;
  while (stalls < 20) {
    REQUIRE(writes_acknowledged(load, 5));
    pause_for(node, 20);
    stalls = node.metric("reactor_stalls_total");
  }
  REQUIRE(writes_acknowledged(load, 500));
  load.stop();
  check_no(load.take_problems());
  check_no(load.look(node.port(), false));
  const test::Exit exit = node.stop();
  CHECK(exit.code == 0);
  node.error_descriptor = -1;
  node.start();
  check_no(load.look(node.port(), true));
  CHECK(node.stop().code == 0);
}

}  // namespace gyre::chaos
