// `gyre proxy` in front of a real Redis Cluster: four of the distribution's redis-servers, of which
// one is a replica. Clients of the proxy see one Redis.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"
#include "redis_process.hpp"
#include "resp/cluster.hpp"

using namespace gyre::test;
using gyre::resp::slot_of_key;
using Clock = std::chrono::steady_clock;

namespace {

constexpr size_t masters = 3;

class RedisCluster {
 public:
  RedisCluster() {
    for (size_t i = 0; i <= masters; ++i) {
      bus_ports_.push_back(listening_port_of_new_socket());
      nodes.push_back(std::make_unique<RedisProcess>(std::vector<std::string>{
          "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port",
          std::to_string(bus_ports_[i]), "--cluster-replica-validity-factor", "0"}));
      clients.push_back(std::make_unique<RedisClient>(nodes[i]->port()));
      ids.push_back(clients[i]->run({"CLUSTER", "MYID"}));
      clients[i]->run({"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)});
    }
    for (size_t i = 0; i < masters; ++i) {
      const size_t first = 16384 * i / masters;
      const size_t last = 16384 * (i + 1) / masters - 1;
      REQUIRE(clients[i]->run({"CLUSTER", "ADDSLOTSRANGE", std::to_string(first),
                               std::to_string(last)}) == "OK");
      for (size_t other = 0; other <= masters; ++other) {
        if (other == i) continue;
        clients[i]->run({"CLUSTER", "MEET", "127.0.0.1", std::to_string(nodes[other]->port()),
                         std::to_string(bus_ports_[other])});
      }
    }
    for (const auto& client : clients) {
      wait([&] {
        const std::string info = client->run({"CLUSTER", "INFO"});
        return info.find("cluster_state:ok") != std::string::npos &&
               info.find("cluster_known_nodes:4") != std::string::npos;
      });
    }
    wait([&] { return clients[masters]->run({"CLUSTER", "REPLICATE", ids[0]}) == "OK"; });
  }

  static void wait(const auto& holds) {
    const auto end = Clock::now() + std::chrono::seconds(60);
    while (!holds() && Clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    CHECK(holds());
  }

  size_t owner_of(const std::string& key) {
    for (size_t i = 0; i < masters; ++i) {
      if (clients[i]->run({"EXISTS", key}).find("MOVED") == std::string::npos) return i;
    }
    return masters;
  }
  // A key of that master.
  std::string key_of(size_t master, int number = 0) {
    for (int i = 0;; ++i) {
      std::string key = "key" + std::to_string(i);
      if (slot_of_key(key) * masters / 16384 == master && number-- == 0) return key;
    }
  }
  // As a client of the cluster would, past the proxy.
  std::string run(const std::string& key, const std::vector<std::string>& words) {
    size_t at = slot_of_key(key) * masters / 16384;
    bool asking = false;
    for (int hop = 0; hop < 20; ++hop) {
      if (asking) clients[at]->run({"ASKING"});
      const std::string said = clients[at]->run_all(words);
      const bool moved = said.starts_with("(error) MOVED ");
      asking = said.starts_with("(error) ASK ");
      if (!moved && !asking) return said;
      const int port = std::atoi(said.c_str() + said.rfind(':') + 1);
      for (size_t i = 0; i <= masters; ++i) {
        if (nodes[i]->port() == port) at = i;
      }
    }
    return "(error) hops";
  }

  std::vector<std::unique_ptr<RedisProcess>> nodes;
  std::vector<std::unique_ptr<RedisClient>> clients;
  std::vector<std::string> ids;

 private:
  std::vector<uint16_t> bus_ports_;
};

RedisCluster& cluster() {
  static RedisCluster one;
  return one;
}

class ProxyProcess : public NodeProcess {
 public:
  ProxyProcess()
      : NodeProcess({"--redis-cluster",
                     "127.0.0.1:" + std::to_string(cluster().nodes[1]->port()) +
                         ",localhost:" + std::to_string(cluster().nodes[2]->port()),
                     "--admin", "off", "--resp", "127.0.0.1:0", "--ttl-ms", "3600000", "--max-keys",
                     "100000"},
                    false) {
    command = "proxy";
    start();
  }
  uint16_t resp_port() const {
    const std::string line = ready_line();
    const size_t at = line.find("resp=127.0.0.1:");
    return static_cast<uint16_t>(std::atoi(line.c_str() + at + 15));
  }
};

uint64_t figure(const ProxyProcess& proxy, const std::string& name) {
  const std::string stats = HttpClient(proxy.port()).get("/stats").body;
  return std::stoull(stats.substr(stats.find("\"" + name + "\":") + name.size() + 3));
}

const std::string crossslot = "(error) CROSSSLOT Keys in request don't hash to the same slot";

}  // namespace

TEST_CASE("a key's slot is the one that Redis says") {
  RedisClient& redis = *cluster().clients[0];
  std::mt19937 random(1);
  std::vector<std::vector<std::string>> commands;
  std::vector<std::string> expected;
  for (int i = 0; i < 2000; ++i) {
    std::string key(random() % 20, ' ');
    for (char& c : key) c = random() % 4 == 0 ? "{}"[random() % 2] : static_cast<char>(random());
    expected.push_back(std::to_string(slot_of_key(key)));
    commands.push_back({"CLUSTER", "KEYSLOT", key});
  }
  CHECK(redis.pipeline(commands) == expected);
}

TEST_CASE("a cluster is one Redis to its clients, whatever the slots of their keys") {
  ProxyProcess proxy;
  CHECK(proxy.ready_line().find(" coherent ") != std::string::npos);
  RedisClient client(proxy.resp_port());
  HttpClient http(proxy.port());
  std::vector<std::vector<std::string>> pipeline;
  for (int i = 0; i < 300; ++i) {
    pipeline.push_back({"SET", "k" + std::to_string(i), std::to_string(i)});
    pipeline.push_back({"GET", "k" + std::to_string(i)});
  }
  const std::vector<std::string> said = client.pipeline(pipeline);
  for (int i = 0; i < 300; ++i) {
    const std::string key = "k" + std::to_string(i);
    REQUIRE(said[2 * i + 1] == std::to_string(i));
    REQUIRE(cluster().run(key, {"GET", key}) == std::to_string(i));
    REQUIRE(http.get("/v1/entity?id=" + key).body == std::to_string(i));
  }
  CHECK(client.run({"DBSIZE"}) == "300");
  const std::string keys = client.run({"KEYS", "k1*"});
  CHECK(std::ranges::count(keys, '\n') == 111);
  CHECK(client.run({"MGET", "k1", "none", "k2", "k3", "k1"}) == "1\n(nil)\n2\n3\n1\n");
  CHECK(client.run({"EXISTS", "k1", "k2", "k3", "none", "k1"}) == "4");
  CHECK(client.run({"TOUCH", "k1", "k2", "none"}) == "2");
  CHECK(client.run({"MSET", "k1", "a", "k2", "b", "k3", "c"}) == "OK");
  CHECK(client.run({"MGET", "k1", "k2", "k3"}) == "a\nb\nc\n");
  CHECK(client.run({"DEL", "k1", "none", "k2"}) == "2");
  CHECK(client.run({"UNLINK", "k3", "k4", "k5", "k6"}) == "4");
  CHECK(client.run({"MGET", "k1", "k2", "k3", "k7"}) == "(nil)\n(nil)\n(nil)\n7\n");
  // As Redis answers it.
  CHECK(client.run({"MSET", "k1", "a", "{k1}b"}) ==
        "(error) ERR wrong number of arguments for 'mset' command");
  CHECK(client.run({"DEL"}) == "(error) ERR wrong number of arguments for 'del' command");
  CHECK(client.run({"MSETNX", "k1", "a", "k2", "b"}) == crossslot);
  CHECK(client.run({"SINTER", "k1", "k2"}) == crossslot);
  CHECK(client.run({"RENAME", "k7", "k8"}) == crossslot);
  CHECK(client.run({"RENAME", "k7", "{k7}b"}) == "OK");
  CHECK(client.run({"GET", "{k7}b"}) == "7");
  CHECK(client.run({"SELECT", "1"}) == "(error) ERR SELECT is not allowed in cluster mode");
  CHECK(client.run({"SELECT", "0"}) == "OK");
  CHECK(client.run({"SCAN", "0"}).starts_with("(error) ERR gyre proxy: 'SCAN' of a whole cluster"));
  CHECK(client.run({"READONLY"}).starts_with("(error) ERR gyre proxy"));
  // Keys that are not the first word.
  for (size_t master = 0; master < masters; ++master) {
    const std::string key = cluster().key_of(master, 3);
    const std::string tag = "{" + key + "}";
    CHECK(client.run({"EVAL", "return redis.call('INCRBY', KEYS[1], ARGV[1])", "1", key, "5"}) ==
          "5");
    CHECK(client.run({"GET", key}) == "5");
    CHECK(client.run({"OBJECT", "ENCODING", key}) == "int");
    CHECK(client.run({"BITOP", "NOT", tag + "not", key}) == "1");
    CHECK(client.run({"ZADD", tag + "z", "1", "a"}) == "1");
    CHECK(client.run({"ZUNION", "1", tag + "z"}) == "a\n");
    CHECK(client.run({"XADD", tag + "x", "1-1", "f", "v"}) == "1-1");
    CHECK(client.run({"XREAD", "COUNT", "1", "STREAMS", tag + "x", "0"}).find("1-1") !=
          std::string::npos);
    CHECK(client.run({"MEMORY", "USAGE", key}) != "(nil)");
    CHECK(client.run({"RPUSH", tag + "l", "a", "b"}) == "2");
    CHECK(client.run({"LMPOP", "1", tag + "l", "LEFT"}).find("a") != std::string::npos);
    CHECK(client.run({"BLPOP", tag + "l", "0"}) == tag + "l\nb\n");
    CHECK(client.run({"BLMPOP", "0.01", "1", tag + "l", "LEFT"}) == "(nil)");
  }
  CHECK(client.run({"EVAL", "return 7", "0"}) == "7");
  const std::string hash = client.run({"SCRIPT", "LOAD", "return redis.call('GET', KEYS[1])"});
  for (size_t master = 0; master < masters; ++master) {
    CHECK(client.run({"EVALSHA", hash, "1", cluster().key_of(master, 3)}) == "5");
  }
  CHECK(client.run({"FLUSHALL"}) == "OK");
  CHECK(client.run({"DBSIZE"}) == "0");
  CHECK(client.run({"GET", "k9"}) == "(nil)");
  CHECK(figure(proxy, "nodes_up") > 0);
}

TEST_CASE("a transaction is of one slot's node") {
  ProxyProcess proxy;
  RedisClient client(proxy.resp_port());
  for (size_t master = 0; master < masters; ++master) {
    const std::string key = cluster().key_of(master, 1);
    client.run({"SET", key, "1"});
    CHECK(client.run({"MULTI"}) == "OK");
    CHECK(client.run({"INCR", key}) == "QUEUED");
    CHECK(client.run({"GET", key}) == "QUEUED");
    CHECK(cluster().run(key, {"GET", key}) == "1");
    CHECK(client.run({"EXEC"}) == "2\n2\n");
    CHECK(client.pipeline({{"MULTI"}, {"SET", key, "5"}, {"EXEC"}, {"GET", key}}) ==
          std::vector<std::string>{"OK", "QUEUED", "OK\n", "5"});
    CHECK(client.pipeline({{"MULTI"}, {"SET", key, "6"}, {"DISCARD"}, {"GET", key}}) ==
          std::vector<std::string>{"OK", "QUEUED", "OK", "5"});
    CHECK(client.run({"WATCH", key}) == "OK");
    CHECK(cluster().run(key, {"SET", key, "7"}) == "OK");
    CHECK(client.run({"MULTI"}) == "OK");
    CHECK(client.run({"SET", key, "8"}) == "QUEUED");
    CHECK(client.run({"EXEC"}) == "(nil)");
    CHECK(client.run({"GET", key}) == "7");
    // Of another node's key.
    const std::string other = cluster().key_of((master + 1) % masters, 1);
    CHECK(client.run({"MULTI"}) == "OK");
    CHECK(client.run({"MULTI"}) == "(error) ERR MULTI calls can not be nested");
    CHECK(client.run({"DISCARD"}) == "OK");
    CHECK(client.run({"MULTI"}) == "OK");
    CHECK(client.run({"SET", key, "9"}) == "QUEUED");
    CHECK(client.run({"SET", other, "9"}) == crossslot);
    CHECK(client.run({"EXEC"}).find("EXECABORT") != std::string::npos);
    CHECK(client.run({"GET", key}) == "7");
    CHECK(client.pipeline({{"MULTI"}, {"EXEC"}}) == std::vector<std::string>{"OK", ""});
    CHECK(client.run({"EXEC"}) == "(error) ERR EXEC without MULTI");
  }
}

TEST_CASE("a script can't send the proxy, with its password, where it likes") {
  ProxyProcess proxy;
  RedisClient client(proxy.resp_port());
  const uint16_t port = listening_port_of_new_socket();
  const std::string script =
      "return redis.error_reply('MOVED 1 127.0.0.1:" + std::to_string(port) + "')";
  CHECK(
      client.run({"EVAL", script, "0"}).starts_with("(error) ERR gyre proxy: the cluster's nodes"));
  CHECK(client.run({"PING"}) == "PONG");
  CHECK(HttpClient(proxy.port()).get("/stats").body.find(":" + std::to_string(port)) ==
        std::string::npos);
}

TEST_CASE("slots move while they are read and written, and nothing goes back") {
  ProxyProcess proxy;
  std::vector<std::string> keys;
  for (int i = 0; i < 8; ++i)
    keys.push_back("{" + cluster().key_of(1, 10 + i / 4) + "}" + std::to_string(i));
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> older_than_written{0};
  std::atomic<uint64_t> went_back{0};
  std::atomic<uint64_t> not_own{0};
  std::atomic<uint64_t> errors{0};
  std::atomic<uint64_t> reads{0};
  std::vector<std::atomic<uint64_t>> written(keys.size());  // through the proxy, and answered
  for (const std::string& key : keys) cluster().run(key, {"SET", key, "0"});
  std::vector<std::thread> threads;
  for (int reader = 0; reader < 3; ++reader) {
    threads.emplace_back([&, reader] {
      RedisClient client(proxy.resp_port());
      std::vector<uint64_t> seen(keys.size());
      for (size_t i = static_cast<size_t>(reader); !stop; ++i) {
        const size_t key = i * 3 % keys.size();
        const uint64_t least = written[key];
        const std::string said = client.run({"GET", keys[key]});
        ++reads;
        if (said.starts_with("(error)")) {
          ++errors;
          continue;
        }
        const uint64_t version = said == "(nil)" ? 0 : std::stoull(said);
        older_than_written += version < least;
        went_back += version < seen[key];
        seen[key] = version;
      }
    });
  }
  threads.emplace_back([&] {
    RedisClient client(proxy.resp_port());
    for (uint64_t version = 1; !stop; ++version) {
      for (size_t key = 0; key < keys.size(); ++key) {
        // The reads behind it must see it, and the second one is the last.
        const std::vector<std::string> said =
            client.pipeline({{"SET", keys[key], std::to_string(2 * version)},
                             {"GET", keys[key]},
                             {"INCR", keys[key]},
                             {"STRLEN", keys[key]},
                             {"GET", keys[key]}});
        const bool failed = std::ranges::any_of(
            said, [](const std::string& one) { return one.starts_with("(error)"); });
        errors += failed;
        if (failed) continue;
        not_own += said[1] != std::to_string(2 * version);
        not_own += said[4] != std::to_string(2 * version + 1);
        written[key] = 2 * version + 1;
      }
    }
  });
  // There and back again, as redis-cli --cluster reshard does it.
  for (const auto& [from, to] : {std::pair<size_t, size_t>{1, 2}, {2, 1}}) {
    for (const std::string& tag : {keys[0], keys[4]}) {
      const std::string slot = std::to_string(slot_of_key(tag));
      RedisClient source(cluster().nodes[from]->port());
      RedisClient target(cluster().nodes[to]->port());
      CHECK(target.run({"CLUSTER", "SETSLOT", slot, "IMPORTING", cluster().ids[from]}) == "OK");
      CHECK(source.run({"CLUSTER", "SETSLOT", slot, "MIGRATING", cluster().ids[to]}) == "OK");
      for (const std::string& key : keys) {
        if (std::to_string(slot_of_key(key)) != slot) continue;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        const std::string said =
            source.run({"MIGRATE", "127.0.0.1", std::to_string(cluster().nodes[to]->port()), key,
                        "0", "5000"});
        CHECK((said == "OK" || said == "NOKEY"));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      CHECK(target.run({"CLUSTER", "SETSLOT", slot, "NODE", cluster().ids[to]}) == "OK");
      CHECK(source.run({"CLUSTER", "SETSLOT", slot, "NODE", cluster().ids[to]}) == "OK");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const std::string stats = HttpClient(proxy.port()).get("/stats").body;
  MESSAGE(reads.load() << " reads, " << figure(proxy, "moved") << " moved, "
                       << figure(proxy, "asked") << " asked");
  CHECK(older_than_written.load() == 0);
  CHECK(went_back.load() == 0);
  CHECK(not_own.load() == 0);
  CHECK(errors.load() == 0);
  CHECK(reads > 100);
  CHECK(figure(proxy, "moved") + figure(proxy, "asked") > 0);
  RedisClient client(proxy.resp_port());
  for (const std::string& key : keys) {
    CHECK(client.run({"GET", key}) == cluster().run(key, {"GET", key}));
  }
}

// The last one: it leaves the cluster with a master less.
TEST_CASE("a killed master takes its own keys along, until its replica has them") {
  ProxyProcess proxy;
  RedisClient client(proxy.resp_port());
  const std::string dead = cluster().key_of(0, 2);
  const std::string other = cluster().key_of(1, 2);
  CHECK(client.run({"SET", dead, "1"}) == "OK");
  CHECK(client.run({"WAIT", "0", "0"}) != "");
  CHECK(client.run({"SET", other, "1"}) == "OK");
  CHECK(client.run({"GET", dead}) == "1");
  CHECK(client.run({"GET", other}) == "1");
  RedisCluster::wait([&] {
    return cluster().clients[masters]->run({"INFO", "replication"}).find("master_link_status:up") !=
           std::string::npos;
  });
  RedisCluster::wait([&] {
    RedisClient replica(cluster().nodes[masters]->port());
    replica.run({"READONLY"});
    return replica.run({"GET", dead}) == "1";
  });
  const uint64_t hits = figure(proxy, "hits");
  cluster().nodes[0]->kill();
  uint64_t errors = 0;
  RedisCluster::wait([&] {
    CHECK(client.run({"GET", other}) == "1");
    const std::string said = client.run({"GET", dead});
    errors += said.starts_with("(error)");
    if (!said.starts_with("(error)")) CHECK(said == "1");
    return said == "1" && errors > 0;
  });
  CHECK(figure(proxy, "hits") > hits + 10);
  RedisCluster::wait([&] { return client.run({"SET", dead, "2"}) == "OK"; });
  CHECK(client.run({"GET", dead}) == "2");
  CHECK(client.run({"GET", other}) == "1");
  CHECK(HttpClient(proxy.port()).get("/readyz").status == 200);
  CHECK(proxy.stop().code == 0);
}

TEST_CASE("a cluster is asked for in one way") {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{{"--redis-cluster", "127.0.0.1"},
                                             {"--redis-cluster", "127.0.0.1:1,"},
                                             {"--redis-cluster", "a:1", "--redis-port", "2"},
                                             {"--redis-cluster", "a:1", "--redis-database", "2"}}) {
    NodeProcess proxy(flags, false);
    proxy.command = "proxy";
    CHECK(proxy.start_refused().code == 2);
    CHECK(proxy.error_output().find("--redis-") != std::string::npos);
  }
}
