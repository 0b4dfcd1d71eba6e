// Reads of two replicas of three while one of the three is slow or silent: the other two are enough.
#include <algorithm>

#include "cluster_rig.hpp"

namespace gyre::test {
namespace {

constexpr int keys = 30;

struct Reads {
  Nanos longest = 0;
  unsigned slow = 0;    // took over 30 ms; simulated machines stand still for so long now and then
  unsigned others = 0;  // answers other than 200
};

std::string target_of(int key) {
  return fmt::format("/v0/entity?id=key{}&replicas=2/3", key);
}

// One after the other, so that each slow one counts.
Task<void> read(std::string host, unsigned count, Reads& reads) {
  for (unsigned i = 0; i < count; ++i) {
    const Nanos begun = Reactor::current().now();
    const ClusterAnswer answer = co_await ask_node(host, "GET", target_of(i % keys), "");
    reads.longest = std::max(reads.longest, Reactor::current().now() - begun);
    if (Reactor::current().now() - begun > milliseconds(30)) ++reads.slow;
    if (answer.status != 200) ++reads.others;
  }
}

Task<void> write(std::string host, unsigned& written) {
  for (int key = 0; key < keys; ++key) {
    const ClusterAnswer answer = co_await ask_node(host, "PUT", target_of(key), "value");
    if (answer.status == 201) ++written;
  }
}

struct SlowReplica {
  SlowReplica() {
    // No other way shall be slow.
    std::vector<unsigned> machines = {rig.client().id()};
    for (unsigned node = 0; node < rig.size(); ++node) machines.push_back(rig.machine(node).id());
    for (const unsigned from : machines) {
      for (const unsigned to : machines) set_way(from, to, microseconds(500));
    }
    rig.start_all();
    REQUIRE(rig.await_ready());
    unsigned written = 0;
    client(write(rig.host(0), written));
    REQUIRE(written == keys);
    static_cast<void>(reads(200));  // what is usual is known
  }
  void set_way(unsigned from, unsigned to, Nanos time) {
    rig.world().network().set_latency(from, to, {.min = time, .max = time});
  }
  void client(Task<void> task) {
    sim::Life life(rig.world(), rig.client());
    life.start(0, std::move(task));
    REQUIRE(rig.world().run_until([&] { return life.ended(); }, seconds(600)) ==
            sim::Stop::satisfied);
  }
  Reads reads(unsigned count) {
    Reads result;
    client(read(rig.host(0), count, result));
    return result;
  }

  ClusterRig rig{{.seed = 1}};
};

TEST_CASE("a replica that goes silent holds up no read for long") {
  SlowReplica cluster;
  cluster.rig.world().network().partition(cluster.rig.machine(0).id(), cluster.rig.machine(1).id());
  const Reads reads = cluster.reads(400);
  CHECK(reads.others == 0);
  CHECK(reads.longest < milliseconds(400));
}

TEST_CASE("a replica behind a long way is not read from while there are nearer ones") {
  SlowReplica cluster;
  const unsigned near = cluster.rig.machine(0).id();
  const unsigned far = cluster.rig.machine(1).id();
  cluster.set_way(near, far, milliseconds(100));
  cluster.set_way(far, near, milliseconds(100));
  static_cast<void>(cluster.reads(100));  // it is noticed
  const Reads reads = cluster.reads(400);
  CHECK(reads.others == 0);
  CHECK(reads.slow < 40);
}

// Some at a time, so that they find an attempt to connect in every state.
Task<void> fail_some(std::string host, unsigned& count, Nanos& sum, Nanos& longest) {
  for (int i = 0; i < 30; ++i) {
    const Nanos begun = Reactor::current().now();
    const bool reads = i % 2 == 0;
    const ClusterAnswer answer =
        co_await ask_node(host, reads ? "GET" : "PUT", target_of(i % keys), "x");
    CHECK(answer.status == 504);
    const Nanos took = Reactor::current().now() - begun;
    ++count;
    sum += took;
    longest = std::max(longest, took);
    static_cast<void>(co_await sleep_for(milliseconds(i)));
  }
}

Task<void> fail_beside_each_other(std::string host, unsigned& count, Nanos& sum, Nanos& longest) {
  Scope scope(nullptr, "clients");
  for (int i = 0; i < 4; ++i) scope.spawn(fail_some(host, count, sum, longest));
  co_await scope.join();
}

TEST_CASE("a node whose words are swallowed answers 504 soon, and goes on when it is heard again") {
  SlowReplica cluster;
  sim::Network& network = cluster.rig.world().network();
  for (const unsigned other : {1, 2}) {
    network.block(cluster.rig.machine(0).id(), cluster.rig.machine(other).id());
  }
  cluster.rig.world().run_for(seconds(4));  // then it is known
  unsigned count = 0;
  Nanos sum = 0;
  Nanos longest = 0;
  cluster.client(fail_beside_each_other(cluster.rig.host(0), count, sum, longest));
  MESSAGE("mean " << sum / count / microseconds(1) << " us, longest " << longest / microseconds(1));
  CHECK(longest < milliseconds(150));
  network.heal_all();
  cluster.rig.world().run_for(seconds(2));
  CHECK(cluster.reads(60).others == 0);
}

}  // namespace
}  // namespace gyre::test
