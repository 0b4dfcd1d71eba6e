// Starts of a cluster's nodes that must be refused, and nodes that must not talk to each other.
#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "node_group.hpp"

using namespace gyre::test;

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a node that is none of the peers is refused") {
  NodeProcess node({"--peers", "http://127.0.0.1:1,http://127.0.0.1:2", "--admin", "off"}, false);
  const Exit exit = node.start_refused();
  CHECK(exit.code == 1);
  CHECK(contains(node.error_output(), "--advertise"));
}

TEST_CASE("data of one set of nodes isn't served with another, nor without") {
  NodeGroup group(2, {"--memory", "128M"});
  CHECK(group.put(0, "k", "v", "1/1") == 201);
  group.stop_all();
  NodeProcess& node = group.node(0);
  const std::vector<std::string> flags = node.flags;
  for (std::string& flag : node.flags) {
    if (contains(flag, ",")) flag += ",http://127.0.0.1:9";
  }
  CHECK(node.start_refused().code == 1);
  CHECK(contains(node.error_output(), "gyre admin topology plan"));
  node.flags = {"--listen", flags[1]};
  CHECK(node.start_refused().code == 1);
  CHECK(contains(node.error_output(), "--peers"));
  node.flags = flags;
  node.start();
  CHECK(node.running());
}

TEST_CASE("nodes with another secret refuse each other, and say so") {
  const std::string directory = make_temporary_directory();
  std::ofstream(directory + "/a") << "a secret of enough bytes\n";
  std::ofstream(directory + "/b") << "another secret of as many\n";
  std::ofstream(directory + "/c") << "short\n";
  {
    NodeGroup group(2, {"--memory", "128M", "--secret-file", directory + "/a"});
    CHECK(group.put(0, "k", "v", "2/2") == 201);
    group.stop(1);
    group.node(1).flags.back() = directory + "/c";
    CHECK(group.node(1).start_refused().code == 1);
    CHECK(contains(group.node(1).error_output(), "at least 16 bytes"));
    group.node(1).flags.back() = directory + "/b";
    group.start(1);
    CHECK(group.put(0, "k", "w", "2/2") == 504);
    CHECK(group.get(1, "k", "2/2").status == 504);
    CHECK(contains(group.node(0).error_output(), "doesn't know this cluster's secret"));
    CHECK(contains(group.node(1).error_output(), "doesn't know this cluster's secret"));
    group.stop(1);
    group.node(1).flags.back() = directory + "/a";
    group.start(1);
    CHECK(group.get(1, "k", "2/2").status == 200);
  }
  remove_directory(directory);
}
