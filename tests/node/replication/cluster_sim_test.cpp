// Clusters of whole nodes under faults, from one seed each: splits of every shape, one-way too, slow
// ways, connections that break, killed nodes, power cuts and clocks that are wrong; clients read and
// write with quorums meanwhile, and the oracle looks at every answer.
//
// GYRE_CLUSTER_SEED=N runs one seed; GYRE_TEST_SCALE more or fewer.
#include <algorithm>
#include <cstdlib>

#include "../../store/shard_rig.hpp"
#include "cluster/handoff/test_faults.hpp"
#include "cluster/slot_table.hpp"
#include "cluster/test_faults.hpp"
#include "cluster_rig.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/test_faults.hpp"

namespace gyre::test {
namespace {

constexpr int keys = 6;
// Beyond these are some that nobody reads before the end.
constexpr int unread_keys = 40;

struct Workload {
  ClusterRig& rig;
  Oracle& oracle;
  sim::Prng prng;
  bool stop = false;
  unsigned running = 0;
};

// A key is written for as many at all times: where there are five nodes, some for all of them.
unsigned from_of(const ClusterRig& rig, int key) {
  return rig.size() == 5 && key % 3 == 2 ? 5 : 3;
}

std::string target_of(int key, std::string_view replicas) {
  return fmt::format("/v0/entity?id=key{}&replicas={}", key, replicas);
}

std::string target_of(const ClusterRig& rig, int key, bool all) {
  const unsigned from = from_of(rig, key);
  return target_of(key, fmt::format("{}/{}", all ? from : from / 2 + 1, from));
}

Outcome outcome_of(const ClusterAnswer& answer) {
  if (answer.status == 201 || answer.status == 202) return Outcome::acknowledged;
  return answer.status == 503 ? Outcome::not_done : Outcome::unknown;
}

Task<void> one_request(Workload& load, unsigned client, unsigned number) {
  int key = static_cast<int>(load.prng.below(keys));
  const std::string host = load.rig.host(static_cast<unsigned>(load.prng.below(load.rig.size())));
  const uint64_t kind = load.prng.below(10);
  const bool writes_all = load.prng.one_in(5);
  const bool reads_all = load.prng.one_in(8);
  if (kind < 5) {
    ReadEvent event{.key = key, .begun = load.oracle.tick()};
    const ClusterAnswer answer =
        co_await ask_node(host, "GET", target_of(load.rig, key, reads_all), "");
    if (answer.status != 200 && answer.status != 404) co_return;
    event.found = answer.status == 200;
    event.value = answer.body;
    event.version = event.found ? answer.version : "";
    if (!event.found) event.value.clear();
    load.oracle.read(std::move(event));
    co_return;
  }
  if (load.prng.one_in(2)) key = keys + static_cast<int>(load.prng.below(unread_keys));
  const bool removes = kind == 9;
  const std::string value = removes ? "" : fmt::format("{}-{}", client, number);
  const size_t write = load.oracle.begin(key, value, removes);
  const ClusterAnswer answer = co_await ask_node(host, removes ? "DELETE" : "PUT",
                                                 target_of(load.rig, key, writes_all), value);
  load.oracle.end(write, outcome_of(answer), answer.version);
}

Task<void> run_client(Workload& load, unsigned client) {
  for (unsigned number = 0; !load.stop; ++number) {
    co_await one_request(load, client, number);
    static_cast<void>(co_await sleep_for(microseconds(200 + load.prng.below(20'000))));
  }
  --load.running;
}

Task<void> run_clients(Workload& load, unsigned count) {
  Scope scope(nullptr, "clients");
  load.running = count;
  for (unsigned i = 0; i < count; ++i) scope.spawn(run_client(load, i));
  co_await scope.join();
}

// One thing that goes wrong, or is put right.
void disturb(ClusterRig& rig, sim::Prng& prng) {
  sim::Network& network = rig.world().network();
  const auto some = [&] { return static_cast<unsigned>(prng.below(rig.size())); };
  const unsigned a = some();
  const unsigned b = (a + 1 + static_cast<unsigned>(prng.below(rig.size() - 1))) % rig.size();
  switch (prng.below(12)) {
    case 0:
      return network.partition(rig.machine(a).id(), rig.machine(b).id());
    case 1:
      return network.block(rig.machine(a).id(), rig.machine(b).id());
    case 2:
      for (unsigned other = 0; other < rig.size(); ++other) {
        if (other != a) network.partition(rig.machine(a).id(), rig.machine(other).id());
      }
      return;
    case 3:
    case 4:
      return network.heal_all();
    case 5:
      return network.clog(rig.machine(a).id(), rig.machine(b).id(),
                          milliseconds(static_cast<int64_t>(prng.below(3000))));
    case 6:
      return network.stall_reader(rig.machine(a).id(),
                                  milliseconds(static_cast<int64_t>(prng.below(4000))));
    case 7: {
      const std::vector<sim::EndpointId> open = network.connections(rig.machine(a).id());
      if (open.empty()) return;
      const sim::EndpointId victim = open[prng.below(open.size())];
      return prng.one_in(2) ? network.reset(victim) : network.reset_one_side(victim);
    }
    case 8:
      if (rig.running(a)) rig.kill(a);
      return;
    case 9:
      // A majority keeps its disks: more at once may lose nothing either, since acks are durable.
      if (rig.running(a)) rig.crash(a, sim::CrashMode::random);
      return;
    default:
      for (unsigned i = 0; i < rig.size(); ++i) {
        if (!rig.running(i)) rig.start(i);
      }
  }
}

// How long after a cut the replicas may differ.
constexpr Nanos converge_patience = seconds(60);

using Records = std::map<std::string, std::string>;

// What each node holds by itself.
Task<void> read_own(ClusterRig& rig, std::vector<Records>& own) {
  own.assign(rig.size(), {});
  for (unsigned node = 0; node < rig.size(); ++node) {
    const ClusterAnswer answer =
        co_await ask_node(rig.host(node), "GET", "/v0/entities?start=k&scope=node", "");
    CHECK(answer.status == 200);
    std::string_view rest = answer.body;  // key0\nvaluekey1\nvalue…
    while (!rest.empty()) {
      const size_t next = std::min(rest.find("key", 1), rest.size());
      const size_t line = rest.find('\n');
      own[node][std::string(rest.substr(0, line))] = rest.substr(line + 1, next - line - 1);
      rest.remove_prefix(next);
    }
  }
}

// The keys of which the replicas hold different things, or others hold anything.
std::string unlike(ClusterRig& rig, const std::vector<Records>& own) {
  std::string out;
  const cluster::SlotTable& table = rig.node(0).membership().topology().table;
  for (int i = 0; i < keys + unread_keys; ++i) {
    const std::string key = fmt::format("key{}", i);
    const unsigned from = from_of(rig, i);
    std::vector<std::string> held;
    bool alike = true;
    for (const cluster::NodeIndex node : table.replicas(cluster::slot_of(key), rig.size())) {
      const auto at = own[node].find(key);
      held.push_back(at == own[node].end() ? "nothing" : at->second);
      alike = alike && held.back() == (held.size() > from ? "nothing" : held.front());
    }
    if (!alike) out += fmt::format(" {}: {}", key, fmt::join(held, ", "));
  }
  return out;
}

// Until the replicas of every key hold the same. Empty: they do; else what they hold.
std::string await_equal(ClusterRig& rig, Nanos limit) {
  std::vector<Records> own;
  std::string differences;
  for (Nanos waited = 0; waited <= limit; waited += seconds(1)) {
    sim::Life client(rig.world(), rig.client());
    client.start(0, read_own(rig, own));
    CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(60)) ==
          sim::Stop::satisfied);
    differences = unlike(rig, own);
    if (differences.empty()) return {};
    rig.world().run_for(seconds(1));
  }
  return "the replicas still differ:" + differences;
}

// Once in a run one node loses its disk: no write is at that one alone.
void wipe_one(ClusterRig& rig, sim::Prng& prng) {
  const auto node = static_cast<unsigned>(prng.below(rig.size()));
  if (rig.running(node)) rig.kill(node);
  rig.wipe(node);
}

struct RunResult {
  uint64_t trace = 0;
  size_t acknowledged = 0;
  size_t unknown = 0;
  size_t reads = 0;
  std::vector<std::string> violations;
};

RunResult run_seed(uint64_t seed) {
  RunResult result;
  const int64_t frames_before = frames_live();
  {
    Oracle oracle;
    sim::Prng prng(seed, "disturb");
    // With five nodes there are coordinators that are no replica.
    ClusterRig rig({.seed = seed,
                    .nodes = prng.one_in(4) ? 5u : 3u,
                    .cores = 1 + static_cast<unsigned>(prng.below(2)),
                    .skewed_clocks = prng.one_in(2)});
    rig.start_all();
    CHECK(rig.await_ready());
    Workload load{rig, oracle, sim::Prng(seed, "load")};
    {
      sim::Life client(rig.world(), rig.client());
      client.start(0, run_clients(load, 4));
      const int steps = 25 + static_cast<int>(prng.below(25));
      const int wiped_at = prng.one_in(2) ? static_cast<int>(prng.below(50)) : steps;
      for (int step = 0; step < steps; ++step) {
        if (step == wiped_at) wipe_one(rig, prng);
        rig.world().run_for(milliseconds(static_cast<int64_t>(20 + prng.below(600))));
        disturb(rig, prng);
      }
      // Everything is well again: then whatever was acknowledged must be there.
      rig.world().network().heal_all();
      rig.start_all();
      CHECK(rig.await_ready());
      rig.world().run_for(seconds(5));
      load.stop = true;
      CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(60)) ==
            sim::Stop::satisfied);
    }
    // Nobody reads meanwhile: what replicas lack must come to them by itself.
    const std::string differences = await_equal(rig, converge_patience);
    Workload last{rig, oracle, sim::Prng(seed, "last")};
    {
      sim::Life client(rig.world(), rig.client());
      int answered = 0;
      auto read_all = [](Workload& of, int& count) -> Task<void> {
        for (int key = 0; key < keys + unread_keys; ++key) {
          for (unsigned node = 0; node < of.rig.size(); ++node) {
            if (key >= keys && node != static_cast<unsigned>(key) % of.rig.size()) continue;
            ReadEvent event{.key = key, .begun = of.oracle.tick()};
            const ClusterAnswer answer =
                co_await ask_node(of.rig.host(node), "GET", target_of(of.rig, key, true), "");
            if (answer.status != 200 && answer.status != 404) continue;
            ++count;
            event.found = answer.status == 200;
            event.value = event.found ? answer.body : "";
            event.version = event.found ? answer.version : "";
            of.oracle.read(std::move(event));
          }
        }
      };
      client.start(0, read_all(last, answered));
      CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(200)) ==
            sim::Stop::satisfied);
      CHECK(answered == keys * static_cast<int>(rig.size()) + unread_keys);
    }
    rig.stop_all();
    result = {rig.world().trace_hash(), oracle.acknowledged(), oracle.unknown(), oracle.reads(),
              oracle.violations()};
    if (!differences.empty()) result.violations.push_back(differences);
  }
  CHECK(frames_live() == frames_before);
  return result;
}

TEST_CASE("no acknowledged write is lost and no quorum read goes back, whatever fails") {
  const char* only = std::getenv("GYRE_CLUSTER_SEED");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const uint64_t count = only != nullptr ? 1 : scaled(200, 20);
  size_t acknowledged = 0;
  size_t unknown = 0;
  size_t reads = 0;
  unsigned failed = 0;
  for (uint64_t seed = first; seed < first + count && failed < 3; ++seed) {
    INFO("GYRE_CLUSTER_SEED=", seed);
    const RunResult result = run_seed(seed);
    acknowledged += result.acknowledged;
    unknown += result.unknown;
    reads += result.reads;
    for (const std::string& violation : result.violations) CHECK_MESSAGE(false, violation);
    failed += !result.violations.empty();
  }
  MESSAGE(fmt::format("{} seeds: {} acknowledged writes, {} unknown ones, {} reads", count,
                      acknowledged, unknown, reads));
  CHECK(acknowledged > count * 20);
  CHECK(reads > count * 20);
}

TEST_CASE("planted bugs are found") {
  using cluster::cluster_test_faults;
  using cluster::handoff_test_faults;
  const std::pair<const char*, std::vector<bool*>> bugs[] = {
      {"a write answered one replica early", {&cluster_test_faults.write_quorum_off_by_one}},
      {"a read answered one replica early", {&cluster_test_faults.read_quorum_off_by_one}},
      // The one without the other makes only a short moment of it.
      {"a majority read that doesn't write back",
       {&cluster_test_faults.skip_write_back, &cluster_test_faults.skip_repair}},
      {"the first version instead of the newest", {&cluster_test_faults.keep_first_version}},
      {"no restamp", {&node_test_faults.no_restamp}},
      {"a stamp not merged", {&node_test_faults.stamp_not_merged}},
      {"a restamp after the answer", {&cluster_test_faults.restamp_after_answer}},
      {"a repair with a new stamp", {&node_test_faults.repair_with_new_stamp}},
      {"versions that don't say for how many", {&node_test_faults.copies_forgotten}},
      {"walks that give copies to all", {&node_test_faults.walk_gives_to_all}},
      {"a dropped missed-write record", {&handoff_test_faults.drop_missed_record}},
      {"a crashed replica trusted", {&handoff_test_faults.trust_crashed}},
      {"replicas without a write are not reported", {&cluster_test_faults.forget_missed}},
  };
  for (const auto& [name, switches] : bugs) {
    for (bool* fault : switches) *fault = true;
    uint64_t seed = 0;
    std::string found;
    while (found.empty() && seed < 150) {
      const RunResult result = run_seed(++seed);
      if (!result.violations.empty()) found = result.violations.front();
    }
    for (bool* fault : switches) *fault = false;
    CHECK_MESSAGE(!found.empty(), name);
    MESSAGE(fmt::format("{}: found with seed {}: {}", name, seed, found));
  }
}

// Two replicas have a write, the third was cut off, and who coordinated it, no replica itself, is gone
// before it could say so.
std::string coordinator_dies_early() {
  ClusterRig rig({.seed = 7, .nodes = 5});
  rig.start_all();
  CHECK(rig.await_ready());
  const cluster::SlotTable& table = rig.node(0).membership().topology().table;
  const auto replicas = table.replicas(cluster::slot_of("key0"), 3);
  unsigned coordinator = 0;
  while (std::ranges::find(replicas, coordinator) != replicas.end()) ++coordinator;
  rig.world().network().partition(rig.machine(coordinator).id(), rig.machine(replicas[2]).id());
  {
    sim::Life client(rig.world(), rig.client());
    auto write = [](std::string host) -> Task<void> {
      CO_CHECK((co_await ask_node(host, "PUT", target_of(0, "2/3"), "0-1")).status == 201);
    };
    client.start(0, write(rig.host(coordinator)));
    CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(10)) ==
          sim::Stop::satisfied);
  }
  rig.crash(coordinator, sim::CrashMode::random);
  rig.kill(replicas[2]);  // or what is still on its way would reach it after all
  rig.world().network().heal_all();
  rig.start_all();
  CHECK(rig.await_ready());
  std::string differences = await_equal(rig, converge_patience);
  rig.stop_all();
  return differences;
}

TEST_CASE("a coordinator that dies between the ack and its notice leaves no replica behind") {
  CHECK(coordinator_dies_early() == "");
  cluster::handoff_test_faults.forget_unconfirmed = true;
  CHECK(coordinator_dies_early() ==
        "the replicas still differ: key0: 0-1, 0-1, nothing, nothing, nothing");
  cluster::handoff_test_faults.forget_unconfirmed = false;
}

Task<void> ask(std::string host, const char* method, std::string target, std::string body,
               ClusterAnswer& answer) {
  answer = co_await ask_node(host, method, target, body);
}

ClusterAnswer ask_now(ClusterRig& rig, unsigned node, const char* method, int key,
                      std::string body = "", const char* replicas = "2/3") {
  ClusterAnswer answer;
  sim::Life client(rig.world(), rig.client());
  client.start(0, ask(rig.host(node), method, target_of(key, replicas), std::move(body), answer));
  CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(20)) == sim::Stop::satisfied);
  return answer;
}

// 0 and 1 have a write that 2 has missed; 0 loses its disk while 1 is down. Answers what a majority of
// the two that are left says of it.
uint16_t read_without_the_only_copy(ClusterRig& rig, unsigned asked) {
  rig.start_all();
  CHECK(rig.await_ready());
  for (const unsigned other : {0, 1}) {
    rig.world().network().partition(rig.machine(2).id(), rig.machine(other).id());
  }
  CHECK(ask_now(rig, 0, "PUT", 0, "0-1").status == 201);
  rig.kill(0);
  rig.kill(1);
  rig.wipe(0);
  // Or what is still on its way would reach it after all.
  sim::Network& network = rig.world().network();
  for (const sim::EndpointId end : network.connections(rig.machine(2).id())) network.reset(end);
  network.heal_all();
  rig.start(0);
  CHECK(rig.await_ready());
  return ask_now(rig, asked, "GET", 0).status;
}

TEST_CASE("a node that has lost its disk takes writes, and counts in reads when it has all back") {
  for (const auto& [asked, again] : {std::pair(0u, false), {2u, false}, {0u, true}, {2u, true}}) {
    CAPTURE(asked);
    CAPTURE(again);
    ClusterRig rig({.seed = 5});
    CHECK(read_without_the_only_copy(rig, asked) == 504);
    CHECK(ask_now(rig, asked, "PUT", 1, "0-2").status == 201);
    CHECK(ask_now(rig, asked, "GET", 1).status == 504);
    if (again) {  // it knows of its loss from the disk that it has now
      rig.stop(0);
      rig.start(0);
      CHECK(rig.await_ready());
      CHECK(ask_now(rig, asked, "GET", 1).status == 504);
    }
    rig.start(1);
    CHECK(rig.await_ready());
    CHECK(await_equal(rig, converge_patience) == "");
    rig.world().run_for(seconds(2));
    rig.kill(1);
    CHECK(ask_now(rig, asked, "GET", 0).body == "0-1");
    CHECK(ask_now(rig, asked, "GET", 1).body == "0-2");
    rig.stop_all();
  }
  node_test_faults.wiped_node_votes = true;
  for (const unsigned asked : {0u, 2u}) {
    ClusterRig rig({.seed = 5});
    CHECK(read_without_the_only_copy(rig, asked) == 404);
  }
  node_test_faults.wiped_node_votes = false;
}

// The fourth or fifth replica of key 2 loses its disk. What each node then holds of it, and of keys
// that only three are to have.
std::string rebuilt(unsigned rank) {
  ClusterRig rig({.seed = 15, .nodes = 5});
  rig.start_all();
  CHECK(rig.await_ready());
  for (int key = 0; key < 10; ++key) {
    const unsigned from = from_of(rig, key);
    const std::string all = fmt::format("{}/{}", from, from);
    CHECK(ask_now(rig, 0, "PUT", key, fmt::format("{}-1", key), all.c_str()).status == 201);
  }
  const cluster::SlotTable& table = rig.node(0).membership().topology().table;
  const unsigned wiped = table.at(cluster::slot_of("key2"), rank);
  rig.kill(wiped);
  rig.wipe(wiped);
  rig.start(wiped);
  CHECK(rig.await_ready());
  std::string differences = await_equal(rig, seconds(20));
  // Its copies count again, and there is one of what it had.
  if (differences.empty()) CHECK(ask_now(rig, wiped, "GET", 2, "", "5/5").body == "2-1");
  rig.stop_all();
  return differences;
}

TEST_CASE("a disk that is lost is given back what was written for more nodes than usual") {
  for (const unsigned rank : {0u, 3u, 4u}) {
    CAPTURE(rank);
    CHECK(rebuilt(rank) == "");
  }
  node_test_faults.copies_forgotten = true;
  CHECK(rebuilt(3).find("key2: 2-1, 2-1, 2-1, nothing, 2-1") != std::string::npos);
  node_test_faults.copies_forgotten = false;
  node_test_faults.walk_gives_to_all = true;
  CHECK(rebuilt(0) != "");
  node_test_faults.walk_gives_to_all = false;
}

Task<void> ask_ready(std::string host, ClusterAnswer& answer) {
  answer = co_await ask_node(host, "GET", "/readyz", "");
}

TEST_CASE("a node is told of its loss until it has heard it") {
  ClusterRig rig({.seed = 5});
  node_test_faults.join_answer_lost = true;
  CHECK(read_without_the_only_copy(rig, 0) == 504);
  CHECK(!node_test_faults.join_answer_lost);
  rig.world().run_for(seconds(3));
  CHECK(ask_now(rig, 0, "GET", 0).status == 504);
  CHECK(ask_now(rig, 2, "GET", 0).status == 504);
  rig.start(1);
  CHECK(rig.await_ready());
  CHECK(await_equal(rig, converge_patience) == "");
  rig.world().run_for(seconds(2));
  rig.kill(1);
  CHECK(ask_now(rig, 0, "GET", 0).body == "0-1");
  rig.stop_all();
}

TEST_CASE("a node whose clock is far ahead takes no writes and says why; the others go on") {
  for (const unsigned cores : {1u, 2u}) {
    ClusterRig rig({.seed = 9, .cores = cores, .clock_offsets_us = {2'000'000}});
    rig.start_all();
    CHECK(rig.await_ready());
    // Before it knows, its peers do.
    CHECK(ask_now(rig, 0, "PUT", 0, "0-1").status != 201);
    rig.world().run_for(seconds(5));
    const ClusterAnswer refused = ask_now(rig, 0, "PUT", 1, "0-2");
    CHECK(refused.status == 503);
    CHECK(refused.body.find("ahead of its peers") != std::string::npos);
    ClusterAnswer ready;
    {
      sim::Life client(rig.world(), rig.client());
      client.start(0, ask_ready(rig.host(0), ready));
      CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(20)) ==
            sim::Stop::satisfied);
    }
    CHECK(ready.status == 503);
    CHECK(ready.body.find("[-] clock failed: this node's clock is ") != std::string::npos);
    CHECK(ask_now(rig, 1, "PUT", 1, "0-3").status == 201);
    CHECK(ask_now(rig, 0, "GET", 1).body == "0-3");  // reads are as good as ever
    rig.stop_all();
  }
  node_test_faults.clock_unbounded = true;
  ClusterRig rig({.seed = 9, .clock_offsets_us = {2'000'000}});
  rig.start_all();
  CHECK(rig.await_ready());
  CHECK(ask_now(rig, 0, "PUT", 0, "0-1").status == 201);
  node_test_faults.clock_unbounded = false;
}

TEST_CASE("slow ways are not taken for clocks that are ahead") {
  ClusterRig rig({.seed = 9});
  rig.start_all();
  CHECK(rig.await_ready());
  for (unsigned a = 0; a < 3; ++a) {
    for (unsigned b = 0; b < 3; ++b) {
      if (a == b) continue;
      rig.world().network().set_latency(rig.machine(a).id(), rig.machine(b).id(),
                                        {milliseconds(700), milliseconds(720)});
    }
  }
  rig.world().run_for(seconds(8));
  for (unsigned node = 0; node < 3; ++node) {
    CHECK(ask_now(rig, node, "PUT", 0, fmt::format("0-{}", node)).status != 503);
  }
  rig.stop_all();
}

// Keys that a node with another table writes, and others then can't find.
int written_where_nobody_looks(uint16_t& worst_status) {
  ClusterRig rig({.seed = 13, .last_has_more_peers = true});
  rig.start_all();
  CHECK(rig.await_ready());
  int lost = 0;
  worst_status = 0;
  const cluster::Topology& topology = rig.node(2).membership().topology();
  for (int key = 0; key < keys + unread_keys; ++key) {
    const uint32_t slot = cluster::slot_of(fmt::format("key{}", key));
    const cluster::NodeIndex owner = topology.table.replicas(slot, 1)[0];
    if (owner == rig.node(2).membership().self()) continue;  // it asks nobody
    if (topology.nodes[owner].url == "http://10.9.9.9:8080") continue;
    const ClusterAnswer answer = ask_now(rig, 2, "PUT", key, "2-1", "1/1");
    worst_status = std::max(worst_status, answer.status);
    if (answer.status == 201) lost += ask_now(rig, 0, "GET", key, "", "1/1").status == 404;
  }
  rig.stop_all();
  return lost;
}

TEST_CASE("a node with another topology is told, and not trusted") {
  uint16_t status = 0;
  CHECK(written_where_nobody_looks(status) == 0);
  CHECK(status == 504);
  node_test_faults.other_table_accepted = true;
  CHECK(written_where_nobody_looks(status) > 0);
  node_test_faults.other_table_accepted = false;
}

constexpr uint16_t admin_port = 18080;

Task<void> compact_by_admin(std::string host) {
  http::Client client({host, admin_port}, seconds(60));
  CO_CHECK(co_await client.connect());
  client.set_field("Gyre-Admin: 1");
  client.send_request("POST", "/admin/compact");
  CO_CHECK(co_await client.answer());
  CHECK(client.status() == 200);
  static_cast<void>(co_await client.text(1 << 20));
  co_await client.close();
}

void compact(ClusterRig& rig, unsigned node) {
  sim::Life client(rig.world(), rig.client());
  client.start(0, compact_by_admin(rig.host(node)));
  CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(60)) == sim::Stop::satisfied);
}

uint64_t tombstones(ClusterRig& rig, unsigned node) {
  uint64_t count = 0;
  const Shard& shard = rig.node(node).core(0).shard(0);
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRef& table : shard.levels().level(level))
      count += table->record().tombstone_count;
  }
  return count;
}

// 2 misses a removal; the others merge everything before it is back. What it then says of the key
// together with one of them.
uint16_t removed_while_away(ClusterRig& rig) {
  rig.start_all();
  CHECK(rig.await_ready());
  CHECK(ask_now(rig, 0, "PUT", 0, "0-1").status == 201);
  rig.world().run_for(seconds(5));
  for (unsigned node = 0; node < rig.size(); ++node) compact(rig, node);
  rig.kill(2);
  CHECK(ask_now(rig, 0, "DELETE", 0).status < 300);
  rig.world().run_for(seconds(5));
  for (const unsigned node : {0u, 1u}) compact(rig, node);
  rig.kill(1);
  rig.start(2);
  CHECK(rig.await_ready());
  return ask_now(rig, 2, "GET", 0).status;
}

TEST_CASE("tombstones stay until every replica has them, and then go") {
  {
    ClusterRig rig({.seed = 11, .admin = "0.0.0.0:18080"});
    CHECK(removed_while_away(rig) == 404);
    CHECK(tombstones(rig, 0) == 1);
    rig.start(1);
    CHECK(rig.await_ready());
    rig.world().run_for(seconds(90));
    for (unsigned node = 0; node < rig.size(); ++node) {
      CAPTURE(node);
      compact(rig, node);
      CHECK(tombstones(rig, node) == 0);
    }
    for (unsigned node = 0; node < rig.size(); ++node) {
      CHECK(ask_now(rig, node, "GET", 0).status == 404);
    }
    rig.stop_all();
  }
  node_test_faults.purge_at_once = true;
  ClusterRig rig({.seed = 11, .admin = "0.0.0.0:18080"});
  CHECK(removed_while_away(rig) == 200);
  node_test_faults.purge_at_once = false;
}

// Of key 0's three replicas the second has missed the value, and nobody knows. A coordinator that is
// none of them reads it and repairs that one, but the repair is held up on its way.
struct LateRepair {
  explicit LateRepair(uint64_t seed) : rig({.seed = seed, .nodes = 5, .admin = "0.0.0.0:18080"}) {
    rig.start_all();
    REQUIRE(rig.await_ready());
    const cluster::SlotTable& table = rig.node(0).membership().topology().table;
    const auto list = table.replicas(cluster::slot_of("key0"), 5);
    for (unsigned rank = 0; rank < 3; ++rank) replicas[rank] = list[rank];
    coordinator = list[3];
    isolate(replicas[1]);
    cluster::handoff_test_faults.drop_missed_record = true;
    CHECK(ask_now(rig, replicas[0], "PUT", 0, "0-1").status == 201);
    rig.world().run_for(seconds(3));
    cluster::handoff_test_faults.drop_missed_record = false;
    rig.kill(replicas[1]);  // or what is still on its way would reach it after all
    rig.world().network().heal_all();
    rig.start(replicas[1]);
    REQUIRE(rig.await_ready());
    rig.world().run_for(seconds(2));
  }
  void isolate(unsigned node) {
    for (unsigned other = 0; other < rig.size(); ++other) {
      if (other == node) continue;
      rig.world().network().partition(rig.machine(node).id(), rig.machine(other).id());
    }
  }
  void repair(const char* read_of, Nanos late) {
    CoordinatorStats& stats = rig.node(coordinator).core(0).coordinator().stats();
    ClusterAnswer answer;
    sim::Life client(rig.world(), rig.client());
    client.start(0, ask(rig.host(coordinator), "GET", target_of(0, read_of), "", answer));
    CHECK(rig.world().run_until([&] { return stats.repairs == 1; }, seconds(2)) ==
          sim::Stop::satisfied);
    rig.world().network().clog(rig.machine(coordinator).id(), rig.machine(replicas[1]).id(), late);
    CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(20)) ==
          sim::Stop::satisfied);
    CHECK(answer.status == 504);
  }
  // What the second replica says of the key by itself.
  uint16_t status() { return ask_now(rig, replicas[1], "GET", 0, "", "1/3").status; }

  ClusterRig rig;
  unsigned replicas[3];
  unsigned coordinator = 0;
};

// The key is removed at once, and the tombstone purged before the repair arrives.
uint16_t repaired_after_the_purge() {
  LateRepair late(17);
  late.repair("3/3", seconds(75));
  CHECK(ask_now(late.rig, late.replicas[0], "DELETE", 0, "", "3/3").status == 202);
  late.rig.world().run_for(seconds(66));
  compact(late.rig, late.replicas[1]);
  CHECK(tombstones(late.rig, late.replicas[1]) == 0);
  CHECK(late.status() == 404);
  late.rig.world().run_for(seconds(10));
  return late.status();
}

// The key was removed long ago, but only the third replica knows, and tells the others while the repair
// is on its way.
uint16_t repaired_after_an_old_removal() {
  LateRepair late(18);
  late.isolate(late.replicas[2]);
  CHECK(ask_now(late.rig, late.replicas[2], "DELETE", 0, "", "1/3").status == 202);
  late.rig.world().run_for(seconds(70));
  late.repair("2/3", seconds(25));
  late.rig.world().network().heal_all();
  late.rig.world().run_for(seconds(18));
  CHECK(late.status() == 404);
  compact(late.rig, late.replicas[1]);
  late.rig.world().run_for(seconds(10));
  return late.status();
}

TEST_CASE("a repair that was long on its way doesn't bring back what was removed and purged") {
  CHECK(repaired_after_the_purge() == 404);
  node_test_faults.late_repairs_taken = true;
  CHECK(repaired_after_the_purge() == 200);
  node_test_faults.late_repairs_taken = false;
  CHECK(repaired_after_an_old_removal() == 404);
  node_test_faults.purge_when_settled = true;
  CHECK(repaired_after_an_old_removal() == 200);
  node_test_faults.purge_when_settled = false;
}

TEST_CASE("a value that is replayed takes transit memory until it is sent") {
  ClusterRig rig({.seed = 19});
  rig.start_all();
  CHECK(rig.await_ready());
  rig.kill(2);
  constexpr size_t value_bytes = 600'000;
  CHECK(ask_now(rig, 0, "PUT", 0, std::string(value_bytes, 'v')).status == 201);
  const auto used = [&] {
    uint64_t sum = 0;
    for (const unsigned node : {0, 1}) {
      Semaphore& memory = rig.node(node).core(0).transit_memory();
      sum += memory.capacity() - memory.available();
    }
    return sum;
  };
  CHECK(rig.world().run_until([&] { return used() == 0; }, seconds(5)) == sim::Stop::satisfied);
  rig.start(2);
  CHECK(rig.world().run_until([&] { return used() >= value_bytes; }, seconds(20)) ==
        sim::Stop::satisfied);
  CHECK(rig.world().run_until([&] { return used() == 0; }, seconds(20)) == sim::Stop::satisfied);
  CHECK(await_equal(rig, converge_patience) == "");
  rig.stop_all();
}

TEST_CASE("a long value that only a dead replica has, and nobody acknowledged, is no obstacle") {
  ClusterRig rig({.seed = 21});
  rig.start_all();
  CHECK(rig.await_ready());
  sim::Network& network = rig.world().network();
  CHECK(ask_now(rig, 0, "PUT", 0, "0-1", "3/3").status == 201);
  for (const unsigned other : {0, 1}) {
    network.partition(rig.machine(2).id(), rig.machine(other).id());
  }
  // Nothing else brings it to the others.
  cluster::handoff_test_faults = {.drop_missed_record = true, .forget_unconfirmed = true};
  CHECK(ask_now(rig, 2, "PUT", 0, std::string(100'000, 'v')).status == 504);
  rig.world().run_for(seconds(3));
  cluster::handoff_test_faults = {};
  for (const unsigned other : {0, 1}) {
    for (const sim::EndpointId end : network.connections(rig.machine(other).id()))
      network.reset(end);
  }
  network.heal_all();
  rig.world().run_for(seconds(3));
  // The read hears of the value, and then there is nobody to give it.
  network.partition(rig.machine(0).id(), rig.machine(1).id());
  const peer::LinkStats& link = rig.node(0).core(0).coordinator().link(2).stats();
  const uint64_t replies = link.replies;
  ClusterAnswer answer;
  {
    sim::Life client(rig.world(), rig.client());
    client.start(0, ask(rig.host(0), "GET", target_of(0, "2/3"), "", answer));
    CHECK(rig.world().run_until([&] { return link.replies != replies; }, seconds(2)) ==
          sim::Stop::satisfied);
    rig.kill(2);
    network.heal_all();
    CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(20)) ==
          sim::Stop::satisfied);
  }
  CHECK(answer.status == 200);
  CHECK(answer.body.substr(0, 10) == "0-1");
  rig.stop_all();
}

TEST_CASE("two runs of a seed are the same") {
  for (const uint64_t seed : {3, 17}) CHECK(run_seed(seed).trace == run_seed(seed).trace);
}

}  // namespace
}  // namespace gyre::test
