// Clusters of whole nodes to which one particular thing happens: lost and damaged disks, dead
// coordinators, clocks, other topologies, what is late or long.
#include <algorithm>

#include "../../store/shard_rig.hpp"
#include "cluster/handoff/test_faults.hpp"
#include "cluster/slot_table.hpp"
#include "cluster/test_faults.hpp"
#include "cluster_keys.hpp"
#include "cluster_rig.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/test_faults.hpp"

namespace gyre::test {
namespace {

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

// 0 and 1 have a write that 2 has missed; 0 loses its disk while 1 is down.
void lose_the_only_copy(ClusterRig& rig) {
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
}

// What a majority of the two that are left says of it.
uint16_t read_without_the_only_copy(ClusterRig& rig, unsigned asked) {
  lose_the_only_copy(rig);
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

// Its identity was written, and nothing else.
TEST_CASE("a new directory is new, too, if the start that made it ended half-way") {
  ClusterRig rig({.seed = 5});
  lose_the_only_copy(rig);
  rig.machine(0).disk().plan({.code = OpCode::rename, .path_part = "PEERS"});
  rig.start(0);
  CHECK(rig.await_ready());
  CHECK(rig.refused_start(0) != "");
  // Nobody can tell it of its loss before it serves, and for a moment after.
  rig.world().network().partition(rig.machine(0).id(), rig.machine(2).id());
  rig.start(0);
  CHECK(rig.await_ready());
  rig.world().network().heal_all();
  for (unsigned i = 0; i < 200; ++i) CHECK(ask_now(rig, 0, "GET", 0).status == 504);
  rig.start(1);
  CHECK(rig.await_ready());
  CHECK(rig.world().run_until([&] { return !rig.rebuilding(); }, seconds(30)) ==
        sim::Stop::satisfied);
  CHECK(ask_now(rig, 0, "GET", 0).body == "0-1");
  rig.stop_all();
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

TEST_CASE("a node counts as rebuilt only once its peers will remember that after a restart") {
  ClusterRig rig({.seed = 6});
  rig.start_all();
  CHECK(rig.await_ready());
  CHECK(ask_now(rig, 0, "PUT", 0, "0-1").status == 201);
  rig.kill(0);
  rig.wipe(0);
  // Not even after it has been asked several times.
  rig.machine(2).disk().plan({.code = OpCode::rename, .path_part = "PEERS", .times = 20});
  rig.start(0);
  CHECK(rig.await_ready());
  rig.world().run_for(seconds(1));
  CHECK(rig.rebuilding());
  CHECK(rig.world().run_until([&] { return !rig.rebuilding(); }, seconds(30)) ==
        sim::Stop::satisfied);
  rig.kill(2);
  rig.start(2);
  CHECK(rig.await_ready());
  rig.world().run_for(seconds(5));
  CHECK(!rig.rebuilding());
  rig.kill(1);
  CHECK(ask_now(rig, 0, "GET", 0).body == "0-1");
  rig.stop_all();
}

// Node 2 is put back as it was before 0 lost its data: it is the only one that has still to hear of it,
// and 0, which thinks that all is done, has to be given everything back once more.
TEST_CASE(
    "a node that was rebuilt long ago is rebuilt again if a peer knows its former directory") {
  ClusterRig rig({.seed = 6});
  rig.start_all();
  CHECK(rig.await_ready());
  CHECK(ask_now(rig, 0, "PUT", 0, "0-1").status == 201);
  const std::string before = rig.machine(2).disk().content("data0/PEERS");
  rig.kill(0);
  rig.wipe(0);
  rig.start(0);
  CHECK(rig.await_ready());
  CHECK(rig.world().run_until([&] { return !rig.rebuilding(); }, seconds(30)) ==
        sim::Stop::satisfied);
  rig.world().run_for(seconds(5));
  rig.kill(2);
  rig.machine(2).disk().replace("data0/PEERS", before);
  rig.start(2);
  CHECK(rig.await_ready());
  rig.world().run_for(milliseconds(100));
  CHECK(rig.rebuilding());
  CHECK(rig.world().run_until([&] { return !rig.rebuilding(); }, seconds(30)) ==
        sim::Stop::satisfied);
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

// 0 and 1 have a write that 2 has missed; 0's copy is damaged while 1 is down. Answers what a majority
// of the two that are left says of it.
uint16_t read_with_a_damaged_block(unsigned asked) {
  ClusterRig rig({.seed = 5, .admin = "0.0.0.0:18080"});
  rig.start_all();
  CHECK(rig.await_ready());
  rig.kill(2);
  CHECK(ask_now(rig, 0, "PUT", 0, "0-1").status == 201);
  compact(rig, 0);
  rig.kill(0);  // and with it what is cached
  rig.kill(1);
  std::vector<DirEntry> entries;
  sim::Disk& disk = rig.machine(0).disk();
  disk.list_dir("data0/shard-000", entries);
  for (const DirEntry& entry : entries) {
    if (entry.name.ends_with(".table")) CHECK(disk.corrupt("data0/shard-000/" + entry.name, 5, 1));
  }
  rig.start(0);
  rig.start(2);
  CHECK(rig.await_ready());
  const uint16_t status = ask_now(rig, asked, "GET", 0).status;
  CHECK(disk.faults().contains("corrupted bytes read"));
  if (node_test_faults.failed_read_finds_nothing) return status;
  // With the third node, and a new directory for the first, all is well.
  rig.start(1);
  CHECK(rig.await_ready());
  CHECK(ask_now(rig, asked, "GET", 0).body == "0-1");
  rig.kill(0);
  rig.wipe(0);
  rig.start(0);
  CHECK(rig.await_ready());
  CHECK(rig.world().run_until([&] { return !rig.rebuilding(); }, seconds(30)) ==
        sim::Stop::satisfied);
  rig.kill(1);
  CHECK(ask_now(rig, asked, "GET", 0).body == "0-1");
  rig.stop_all();
  return status;
}

TEST_CASE("a damaged block is no answer to a read, and least of all that there is nothing") {
  for (const unsigned asked : {0u, 2u}) {
    CHECK(read_with_a_damaged_block(asked) == 504);
    node_test_faults.failed_read_finds_nothing = true;
    CHECK(read_with_a_damaged_block(asked) == 404);
    node_test_faults.failed_read_finds_nothing = false;
  }
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

}  // namespace
}  // namespace gyre::test
