// Redis clients of three real nodes: what one has written the others read.
#include <doctest/doctest.h>

#include "node_group.hpp"
#include "resp_socket.hpp"

using namespace gyre::test;

TEST_CASE("any node of a cluster reads what was written through any other") {
  NodeGroup group(3, {"--memory", "128M", "--resp", "127.0.0.1:0"});
  std::vector<std::unique_ptr<RespSocket>> clients;
  for (size_t i = 0; i < 3; ++i) clients.push_back(std::make_unique<RespSocket>(group.node(i)));
  for (int i = 0; i < 60; ++i) {
    const std::string key = "key" + std::to_string(i);
    RespSocket& writer = *clients[static_cast<size_t>(i) % 3];
    RespSocket& reader = *clients[static_cast<size_t>(i + 1) % 3];
    CHECK(writer.ask({"SET", key, "value"}) == "+OK\r\n");
    CHECK(reader.ask({"GET", key}) == bulk("value"));
    CHECK(reader.ask({"MGET", key, "nothing"}) == "*2\r\n" + bulk("value") + "$-1\r\n");
    CHECK(reader.ask({"DEL", key}) == ":1\r\n");
    CHECK(writer.ask({"EXISTS", key}) == ":0\r\n");
  }
  CHECK(group.put(0, "over http", "bytes") == 201);
  CHECK(clients[2]->ask({"GET", "over http"}) == bulk("bytes"));
}

TEST_CASE("without a majority neither a write nor a read is answered with anything but an error") {
  NodeGroup group(3, {"--memory", "128M", "--resp", "127.0.0.1:0"});
  RespSocket client(group.node(0));
  CHECK(client.ask({"SET", "key", "value"}) == "+OK\r\n");
  group.kill(1);
  CHECK(client.ask({"SET", "key", "other"}) == "+OK\r\n");
  CHECK(client.ask({"GET", "key"}) == bulk("other"));
  group.kill(2);
  CHECK(client.ask({"SET", "key", "third"}) ==
        "-NOREPLICAS Not enough good replicas to write.\r\n");
  CHECK(client.ask({"GET", "key"}) == "-NOREPLICAS Not enough good replicas to read from.\r\n");
  CHECK(client.ask({"PING"}) == "+PONG\r\n");
}
