// What a node tells of its cluster: GET /v0/cluster, `gyre admin status`, /metrics.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <sstream>
#include <string>
#include <thread>

#include "node_group.hpp"
#include "shell.hpp"

using namespace gyre::test;

namespace {

const std::vector<std::string> small = {"--memory", "160M"};

std::string cluster_of(NodeProcess& node) {
  HttpClient client(node.port());
  const HttpAnswer answer = client.get("/v0/cluster");
  CHECK(answer.status == 200);
  CHECK(answer.header("content-type") == "application/json");
  return answer.body;
}

// From `from` up to the bracket that closes the first one behind it.
std::string element(const std::string& json, const std::string& from) {
  const size_t at = json.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, from << " is not in " << json);
  int depth = 0;
  bool quoted = false;
  for (size_t i = at; i < json.size(); ++i) {
    if (json[i] == '"' && json[i - 1] != '\\') quoted = !quoted;
    if (quoted) continue;
    if (json[i] == '{' || json[i] == '[') ++depth;
    if ((json[i] == '}' || json[i] == ']') && --depth <= 0) return json.substr(at, i + 1 - at);
  }
  FAIL("brackets don't match in " << json);
  return {};
}

std::string text_of(const std::string& json, const std::string& name) {
  const std::string before = "\"" + name + "\":";
  const size_t at = json.find(before);
  REQUIRE_MESSAGE(at != std::string::npos, name << " is not in " << json);
  const size_t begin = at + before.size();
  if (json[begin] == '"') return json.substr(begin + 1, json.find('"', begin + 1) - begin - 1);
  return json.substr(begin, json.find_first_of(",}]", begin) - begin);
}

uint64_t number_of(const std::string& json, const std::string& name) {
  return std::strtoull(text_of(json, name).c_str(), nullptr, 10);
}

// What it says of the node at `url`.
std::string node_entry(const std::string& json, const std::string& url) {
  const std::string nodes = element(json, "\"nodes\":[{\"index\"");
  const size_t at = nodes.find("\"url\":\"" + url + "\"");
  REQUIRE(at != std::string::npos);
  return element(nodes.substr(nodes.rfind('{', at)), "{");
}

std::string state_of(NodeGroup& group, size_t asked, size_t of) {
  return text_of(node_entry(cluster_of(group.node(asked)), group.url(of)), "state");
}

// Nodes notice each other on their own time; only against hanging for ever.
bool eventually(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!holds()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

bool all_alive(NodeGroup& group) {
  for (size_t asked = 0; asked < group.size(); ++asked) {
    for (size_t of = 0; of < group.size(); ++of) {
      if (state_of(group, asked, of) != "alive") return false;
    }
  }
  return true;
}

// The line of a table that has `part`.
std::string line_with(const std::string& text, const std::string& part) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (has(line, part)) return line;
  }
  FAIL("no line with " << part << " in\n" << text);
  return {};
}

}  // namespace

TEST_CASE("every node tells of all nodes, links and slots") {
  NodeGroup group(3, small);
  REQUIRE(eventually([&] { return all_alive(group); }));
  const unsigned cores = cores_under_test();
  std::string hash;
  for (size_t asked = 0; asked < 3; ++asked) {
    const std::string json = cluster_of(group.node(asked));
    const std::string self = element(json, "\"node\":{");
    CHECK(text_of(self, "url") == group.url(asked));
    CHECK(text_of(self, "state") == "serving");
    CHECK(text_of(self, "uuid").size() == 32);
    CHECK(number_of(self, "cores") == cores);
    CHECK(number_of(self, "epoch") == 1);
    if (hash.empty()) hash = text_of(self, "table_hash");
    CHECK(text_of(self, "table_hash") == hash);
    uint64_t primaries = 0;
    uint64_t copies = 0;
    for (size_t of = 0; of < 3; ++of) {
      const std::string entry = node_entry(json, group.url(of));
      CHECK(text_of(entry, "self") == (of == asked ? "true" : "false"));
      primaries += number_of(entry, "primary_slots");
      copies += number_of(entry, "replica_slots");
      if (of == asked) continue;
      const std::string other = element(cluster_of(group.node(of)), "\"node\":{");
      CHECK(text_of(entry, "uuid") == text_of(other, "uuid"));
      CHECK(text_of(entry, "incarnation") == text_of(other, "incarnation"));
      CHECK(text_of(entry, "table_hash") == hash);
      CHECK(number_of(entry, "cores") == cores);
    }
    CHECK(primaries == 16384);
    CHECK(copies == 2 * 16384);
    const std::string slots = element(json, "\"slots\":{");
    CHECK(number_of(slots, "copies") == 3);
    CHECK(number_of(slots, "under_replicated") == 0);
    CHECK(number_of(slots, "without_majority") == 0);
    CHECK(has(slots, R"({"nodes":[0,1,2],"slots":16384,"up":3,"ranges":[[0,16383]]})"));
    const std::string links = element(json, "\"links\":[");
    size_t connected = 0;
    for (size_t at = 0; (at = links.find("\"state\":\"connected\"", at)) != std::string::npos; ++at)
      ++connected;
    CHECK(connected == 2 * cores);
  }
}

TEST_CASE("slots that lie on some of the nodes are told as ranges that make up all of them") {
  NodeGroup group(3, {"--memory", "160M", "--replication", "1"});
  const std::string slots = element(cluster_of(group.node(0)), "\"slots\":{");
  CHECK(number_of(slots, "copies") == 1);
  std::vector<int> told(16384);
  for (size_t node = 0; node < 3; ++node) {
    const std::string placement =
        element(slots, "{\"nodes\":[" + std::to_string(node) + "],\"slots\":");
    uint64_t count = 0;
    std::istringstream ranges(placement.substr(placement.find("\"ranges\":[") + 10));
    char bracket = 0;
    while (ranges >> bracket && bracket != ']') {
      if (bracket == ',') continue;
      REQUIRE(bracket == '[');
      size_t first = 0;
      size_t last = 0;
      char between = 0;
      ranges >> first >> between >> last >> bracket;
      for (size_t slot = first; slot <= last; ++slot, ++count) ++told.at(slot);
    }
    CHECK(count == number_of(placement, "slots"));
  }
  CHECK(told == std::vector<int>(16384, 1));
}

TEST_CASE("a node that stops is told to be dead, its slots to lack a copy, until it is back") {
  NodeGroup group(3, small);
  REQUIRE(eventually([&] { return all_alive(group); }));
  const std::string before = node_entry(cluster_of(group.node(0)), group.url(2));
  group.stop(2);
  for (size_t asked = 0; asked < 2; ++asked) {
    REQUIRE(eventually([&] { return state_of(group, asked, 2) == "dead"; }));
  }
  std::string json = cluster_of(group.node(0));
  CHECK(text_of(node_entry(json, group.url(1)), "state") == "alive");
  std::string slots = element(json, "\"slots\":{");
  CHECK(number_of(slots, "under_replicated") == 16384);
  CHECK(number_of(slots, "without_majority") == 0);
  CHECK(number_of(slots, "up") == 2);
  CHECK(has(json, "Connection refused"));
  group.stop(1);
  REQUIRE(eventually([&] { return state_of(group, 0, 1) == "dead"; }));
  slots = element(cluster_of(group.node(0)), "\"slots\":{");
  CHECK(number_of(slots, "without_majority") == 16384);
  group.start(1);
  group.start(2);
  REQUIRE(eventually([&] { return all_alive(group); }));
  json = cluster_of(group.node(0));
  CHECK(number_of(element(json, "\"slots\":{"), "under_replicated") == 0);
  const std::string after = node_entry(json, group.url(2));
  CHECK(text_of(after, "uuid") == text_of(before, "uuid"));
  CHECK(text_of(after, "incarnation") != text_of(before, "incarnation"));
}

TEST_CASE("requests between nodes are counted where they were asked and where they were served") {
  NodeGroup group(3, small);
  REQUIRE(eventually([&] { return all_alive(group); }));
  for (int i = 0; i < 20; ++i) REQUIRE(group.put(0, std::to_string(i), "v", "3/3") == 201);
  for (int i = 0; i < 20; ++i) REQUIRE(group.get(0, std::to_string(i), "3/3").status == 200);
  const NodeProcess& asking = group.node(0);
  CHECK(asking.metric("replicated_writes_total") == 20);
  CHECK(asking.metric("replicated_writes_failed_total") == 0);
  CHECK(asking.metric("replicated_reads_total") == 20);
  CHECK(asking.metric("link_up") == 2 * cores_under_test());
  CHECK(asking.metric("link_calls_total") >= 80);
  CHECK(asking.metric("link_sent_bytes_total") > 80 * 40);
  CHECK(asking.metric("link_received_bytes_total") > 80 * 40);
  // What the replicas are told of the writes comes a little later.
  const auto sum = [&](const char* name) {
    double of_all = 0;
    for (size_t i = 0; i < 3; ++i) of_all += group.node(i).metric(name);
    return of_all;
  };
  REQUIRE(eventually([&] { return sum("unconfirmed_writes") == 0; }));
  CHECK(group.node(1).metric("peer_notices_total") > 0);
  CHECK(group.node(1).metric("peer_requests_total") >= 40);
  CHECK(eventually([&] { return sum("link_replies_total") == sum("peer_requests_total"); }));
  CHECK(group.node(1).metric("replicated_writes_total") == 0);
  // What a connection brought stays counted when it has ended.
  const double before = group.node(1).metric("peer_requests_total");
  group.stop(0);
  REQUIRE(
      eventually([&] { return group.node(1).metric("peer_connections") <= cores_under_test(); }));
  CHECK(group.node(1).metric("peer_requests_total") >= before);
  REQUIRE(eventually([&] { return group.node(1).metric("link_peer_dead") == cores_under_test(); }));
  CHECK(group.put(1, "k", "v", "3/3") == 504);
  CHECK(group.node(1).metric("replicated_writes_failed_total") == 1);
}

TEST_CASE("what a node has missed is told, until it has caught up") {
  NodeGroup group(3, small);
  REQUIRE(eventually([&] { return all_alive(group); }));
  group.stop(2);
  constexpr int writes = 20;
  for (int i = 0; i < writes; ++i) REQUIRE(group.put(0, std::to_string(i), "v", "2/3") == 201);
  const auto owed = [&] {
    uint64_t sum = 0;
    for (size_t asked = 0; asked < 2; ++asked) {
      const std::string entry = node_entry(cluster_of(group.node(asked)), group.url(2));
      sum += number_of(entry, "owed_writes") + number_of(entry, "owed_slots");
    }
    return sum;
  };
  REQUIRE(eventually([&] { return owed() >= writes; }));
  std::string table;
  for (size_t asked = 0; asked < 2; ++asked) {
    table += Shell(group.node(asked).port()).run({"admin", "status"}).output;
  }
  const std::string line = "  " + group.url(2) + "  DOWN ";
  CHECK(has(table, line));
  CHECK((has(table, " writes\n") || has(table, " slots\n")));
  group.start(2);
  REQUIRE(eventually([&] { return owed() == 0; }));
  CHECK(group.node(2).metric("peer_offers_lacked_total") >= writes);
  CHECK(group.node(0).metric("link_replayed_total") + group.node(1).metric("link_replayed_total") >=
        writes);
}

TEST_CASE("a node that has lost its data is told not to count in reads until it has it back") {
  NodeGroup group(3, small);
  REQUIRE(eventually([&] { return all_alive(group); }));
  for (int i = 0; i < 20; ++i) REQUIRE(group.put(0, std::to_string(i), "v", "3/3") == 201);
  group.stop(1);
  group.stop(2);
  remove_directory(group.node(2).data());
  group.start(2);
  const auto counts = [&](size_t asked) {
    return text_of(node_entry(cluster_of(group.node(asked)), group.url(2)), "counts_in_reads");
  };
  // As long as it can't ask one of them.
  REQUIRE(eventually([&] { return counts(2) == "false" && state_of(group, 2, 0) == "alive"; }));
  const std::string table = Shell(group.node(2).port()).run({"admin", "status"}).output;
  CHECK(has(line_with(table, "  this node"), "all that it lost"));
  group.start(1);
  CHECK(eventually([&] { return counts(2) == "true" && counts(0) == "true"; }));
}

TEST_CASE("a single node is a cluster of one") {
  NodeProcess node;
  const std::string json = cluster_of(node);
  const std::string url = "http://127.0.0.1:" + std::to_string(node.port());
  const std::string entry = node_entry(json, url);
  CHECK(text_of(entry, "state") == "alive");
  CHECK(number_of(entry, "primary_slots") == 16384);
  CHECK(number_of(entry, "replica_slots") == 0);
  CHECK(has(json, "\"links\":[]"));
  CHECK(has(json, R"("placements":[{"nodes":[0],"slots":16384,"up":1,"ranges":[[0,16383]]}])"));
  HttpClient client(node.port());
  CHECK(client.get("/v0/cluster?format=table").body.starts_with("cluster of 1 node, epoch 0"));
  CHECK(client.get("/v0/cluster?format=json").body.starts_with("{\"node\":"));
  const HttpAnswer wrong = client.get("/v0/cluster?format=xml");
  CHECK(wrong.status == 400);
  CHECK(has(wrong.body, "format=table"));
  CHECK(client.del("/v0/cluster").status == 405);
  CHECK(!has(client.get("/metrics").body, "gyre_link_"));
  // The administration's address tells it too.
  std::string admin = client.get("/admin").body;
  HttpClient other(static_cast<uint16_t>(std::atoi(admin.c_str() + admin.rfind(':') + 1)));
  CHECK(node_entry(other.get("/v0/cluster").body, url) == entry);
}

TEST_CASE("gyre admin status shows the cluster in columns, and who is down") {
  NodeGroup group(3, small);
  REQUIRE(eventually([&] { return all_alive(group); }));
  Shell shell(group.node(0).port());
  Ran status = shell.run({"admin", "status"});
  CHECK(status.code == 0);
  CHECK(has(status.output, "cluster of 3 nodes, epoch 1, table "));
  CHECK(has(line_with(status.output, "  this node"), group.url(0)));
  CHECK(has(line_with(status.output, "3 of 3"), " 16,384"));
  CHECK(!has(status.output, "DOWN"));
  group.stop(2);
  REQUIRE(eventually([&] { return state_of(group, 0, 2) == "dead"; }));
  status = shell.run({"admin", "status"});
  CHECK(has(status.output, "cluster of 3 nodes, 1 DOWN, epoch 1, table "));
  const std::string headings = line_with(status.output, "primary slots");
  const size_t column = headings.find("state");
  const size_t end = headings.find("primary slots") + std::string("primary slots").size();
  for (size_t of = 0; of < 3; ++of) {
    const std::string line = line_with(status.output, "  " + group.url(of) + " ");
    CHECK(line.substr(column, 5) == (of == 2 ? "DOWN " : "alive"));
    CHECK((line[end - 1] >= '0' && line[end - 1] <= '9' && line[end] == ' '));
  }
  CHECK(has(line_with(status.output, "2 of 3"), "under-replicated"));
  CHECK(has(line_with(status.output, "waiting"), "Connection refused"));
  CHECK(has(status.output, "\nrequests\n"));  // and of the node itself, as ever
  const Ran json = shell.run({"admin", "status", "--json"});
  CHECK(json.code == 0);
  CHECK(text_of(node_entry(json.output, group.url(2)), "state") == "dead");
  CHECK(shell.run({"admin", "flush", "--json"}).code == 2);
}
