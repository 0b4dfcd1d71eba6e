// Keys spread over nodes, any of which takes any request (contract history 2.4).
#include <doctest/doctest.h>

#include <string>

#include "node_group.hpp"

using namespace gyre::test;

namespace {
const std::vector<std::string> small = {"--memory", "128M"};
}

TEST_CASE("what one node takes every node returns") {
  NodeGroup group(2, small);
  for (size_t n = 0; n < 2; ++n) {
    const std::string key = "key" + std::to_string(n);
    for (const std::string value : {"value", ""}) {
      CHECK(group.put(n, key, value) == 201);
      for (size_t reader = 0; reader < 2; ++reader) {
        const HttpAnswer answer = group.get(reader, key);
        CHECK(answer.status == 200);
        CHECK(answer.body == value);
      }
    }
  }
}

TEST_CASE("writes through either node, one right after the other, show in their order") {
  NodeGroup group(2, small);
  for (int round = 0; round < 20; ++round) {
    const std::string key = "k" + std::to_string(round % 3);
    CHECK(group.put(0, key, "first") == 201);
    CHECK(group.put(1, key, "second") == 201);
    CHECK(group.get(0, key).body == "second");
    CHECK(group.get(1, key).body == "second");
    CHECK(group.del(round % 2, key) == 202);
    CHECK(group.get(0, key).status == 404);
    CHECK(group.get(1, key).status == 404);
  }
}

TEST_CASE("with one copy each key is on one node") {
  NodeGroup group(2, small);
  constexpr int keys = 40;
  for (int i = 0; i < keys; ++i) {
    CHECK(group.put(i % 2, "k" + std::to_string(i), std::to_string(i), "1/1") == 201);
  }
  group.stop_all();
  int found[2] = {};
  int elsewhere = 0;
  for (size_t n = 0; n < 2; ++n) {
    group.start(n);
    for (int i = 0; i < keys; ++i) {
      const HttpAnswer answer = group.get(n, "k" + std::to_string(i), "1/1");
      if (answer.status == 200) {
        CHECK(answer.body == std::to_string(i));
        ++found[n];
      } else {
        CHECK(answer.status == 504);
        ++elsewhere;
      }
    }
    group.stop(n);
  }
  CHECK(found[0] + found[1] == keys);
  CHECK(elsewhere == keys);
  CHECK(found[0] > keys / 5);
  CHECK(found[1] > keys / 5);
}

TEST_CASE("thousands of keys written through one node are read through each of three") {
  NodeGroup group(3, small);
  HttpClient writer(group.node(0).port());
  const int keys = static_cast<int>(scaled(3000, 300));
  for (int i = 0; i < keys; ++i) {
    CHECK(writer.put(entity("key" + std::to_string(i)), "value" + std::to_string(i)).status == 201);
  }
  for (size_t n = 0; n < 3; ++n) {
    HttpClient reader(group.node(n).port());
    int right = 0;
    for (int i = 0; i < keys; ++i) {
      right += reader.get(entity("key" + std::to_string(i))).body == "value" + std::to_string(i);
    }
    CHECK(right == keys);
  }
}

TEST_CASE("a value of megabytes goes through any node to every replica") {
  NodeGroup group(3, {"--memory", "256M"});
  const std::string value = random_bytes(7, 3u << 20);
  CHECK(group.put(0, "large", value, "3/3") == 201);
  for (size_t n = 0; n < 3; ++n) CHECK(group.get(n, "large", "3/3").body == value);
}
