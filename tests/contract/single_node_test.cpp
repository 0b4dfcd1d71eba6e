// The reference contract for one node, test by test.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "http_client.hpp"
#include "node_process.hpp"

using namespace gyre::test;

namespace {

struct SingleNode {
  NodeProcess node;
  HttpClient client{node.port()};
  uint64_t seed = 0;

  std::string value() { return random_bytes(++seed, 1024); }
  void put(const std::string& key, const std::string& value) {
    CHECK(client.put(entity(key), value).status == 201);
  }
  void expect(const std::string& key, const std::string& value) {
    const HttpAnswer answer = client.get(entity(key));
    CHECK(answer.status == 200);
    CHECK(answer.body == value);
  }
  void expect_absent(const std::string& key) { CHECK(client.get(entity(key)).status == 404); }
};

}  // namespace

TEST_CASE_FIXTURE(SingleNode, "an empty key is a bad request") {
  CHECK(client.get("/v0/entity?id=").status == 400);
  CHECK(client.del("/v0/entity?id=").status == 400);
  CHECK(client.put("/v0/entity?id=", std::string(1, '\0')).status == 400);
}

TEST_CASE_FIXTURE(SingleNode, "a missing id is a bad request") {
  CHECK(client.get("/v0/entity").status == 400);
  CHECK(client.request("PUT", "/v0/entity").status == 400);
  CHECK(client.put("/v0/entity", "").status == 400);
  CHECK(client.del("/v0/entity").status == 400);
}

TEST_CASE_FIXTURE(SingleNode, "an unknown path is a bad request that names the known ones") {
  const HttpAnswer answer = client.get("/abracadabra");
  CHECK(answer.status == 400);
  CHECK(answer.body.find("/v0/entity") != std::string::npos);
}

TEST_CASE_FIXTURE(SingleNode, "an absent key is not found") {
  expect_absent("absent");
}

TEST_CASE_FIXTURE(SingleNode, "deleting an absent key is accepted") {
  CHECK(client.del(entity("absent")).status == 202);
}

TEST_CASE_FIXTURE(SingleNode, "what was put is read back") {
  const std::string stored = value();
  put("key", stored);
  expect("key", stored);
}

TEST_CASE_FIXTURE(SingleNode, "an empty value is a value") {
  put("key", "");
  const HttpAnswer answer = client.get(entity("key"));
  CHECK(answer.status == 200);
  CHECK(answer.body.empty());
  CHECK(answer.header("content-length") == "0");
}

TEST_CASE_FIXTURE(SingleNode, "two keys live their own lives") {
  const std::string first = value();
  const std::string second = value();
  put("k1", first);
  expect("k1", first);
  put("k2", second);
  expect("k1", first);
  expect("k2", second);
  CHECK(client.del(entity("k1")).status == 202);
  expect_absent("k1");
  expect("k2", second);
  CHECK(client.del(entity("k2")).status == 202);
  expect_absent("k2");
}

TEST_CASE_FIXTURE(SingleNode, "the second of two puts wins") {
  const std::string first = value();
  const std::string second = value();
  put("key", first);
  put("key", second);
  expect("key", second);
}

TEST_CASE_FIXTURE(SingleNode, "a value can become empty") {
  const std::string first = value();
  put("key", first);
  expect("key", first);
  put("key", "");
  expect("key", "");
}

TEST_CASE_FIXTURE(SingleNode, "a deleted key is not found, and can be put again") {
  put("key", value());
  CHECK(client.del(entity("key")).status == 202);
  expect_absent("key");
  const std::string again = value();
  put("key", again);
  expect("key", again);
}

TEST_CASE_FIXTURE(SingleNode, "a node whose folder was deleted starts empty") {
  const std::string stored = value();
  put("key", stored);
  expect("key", stored);
  client.close();
  node.stop();
  SUBCASE("the folder is missing") {
    std::filesystem::remove_all(node.data());
  }
  SUBCASE("the folder is empty") {
    std::filesystem::remove_all(node.data());
    std::filesystem::create_directory(node.data());
  }
  node.start();
  CHECK(HttpClient(node.port()).get(entity("key")).status == 404);
}

TEST_CASE_FIXTURE(SingleNode, "POST is not allowed") {
  client.send("POST /v0/entity?id=key HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
  const HttpAnswer answer = client.read_answer();
  CHECK(answer.status == 405);
  CHECK(answer.header("allow") == "GET, HEAD, PUT, DELETE");
  expect_absent("key");
}

TEST_CASE_FIXTURE(SingleNode, "a restarted node has the same data") {
  const std::string stored = value();
  put("key", stored);
  put("gone", stored);
  CHECK(client.del(entity("gone")).status == 202);
  put("empty", "");
  client.close();
  SUBCASE("stopped") {
    node.stop();
  }
  SUBCASE("killed") {
    node.kill();
  }
  node.start();
  HttpClient after(node.port());
  CHECK(after.get(entity("key")).body == stored);
  CHECK(after.get(entity("gone")).status == 404);
  CHECK(after.get(entity("empty")).status == 200);
}

TEST_CASE_FIXTURE(SingleNode, "a node that is stopped and started many times keeps everything") {
  for (int round = 0; round < 5; ++round) {
    for (int n = 0; n < 20; ++n) {
      HttpClient now(node.port());
      CHECK(now.put(entity(std::to_string(n)), std::to_string(round * 100 + n)).status == 201);
    }
    node.stop();
    node.start();
    HttpClient now(node.port());
    for (int n = 0; n < 20; ++n) {
      CHECK(now.get(entity(std::to_string(n))).body == std::to_string(round * 100 + n));
    }
  }
}

// --- ranges --------------------------------------------------------------------------------------

namespace {
struct SingleRange : SingleNode {
  std::string read(const std::string& target) {
    const HttpAnswer answer = client.get(target);
    CHECK(answer.status == 200);
    CHECK(answer.chunked);
    return answer.body;
  }
};
}  // namespace

TEST_CASE_FIXTURE(SingleRange, "a range with an empty start is a bad request") {
  CHECK(client.get("/v0/entities?start=&end=").status == 400);
  CHECK(client.get("/v0/entities?start=a&end=").status == 400);
  CHECK(client.get("/v0/entities?start=").status == 400);
  CHECK(client.put("/v0/entity?id=", "x").status == 400);
}

TEST_CASE_FIXTURE(SingleRange, "a range without a start is a bad request") {
  CHECK(client.get("/v0/entities").status == 400);
  CHECK(client.get("/v0/entities?end=end").status == 400);
}

TEST_CASE_FIXTURE(SingleRange, "a range over nothing is empty") {
  CHECK(read("/v0/entities?start=absent0&end=absent1").empty());
}

TEST_CASE_FIXTURE(SingleRange, "a range over one record") {
  put("single1", "value1");
  CHECK(read("/v0/entities?start=single1&end=single2") == "single1\nvalue1");
  CHECK(read("/v0/entities?start=a&end=single1").empty());
  CHECK(read("/v0/entities?start=single2&end=single3").empty());
}

TEST_CASE_FIXTURE(SingleRange, "a range over three records written backwards") {
  put("triple3", "value3");
  put("triple2", "");
  put("triple1", "value1");
  const std::string prefix = "/v0/entities?start=triple";
  CHECK(read(prefix + "1&end=triple4") == "triple1\nvalue1triple2\ntriple3\nvalue3");
  CHECK(read(prefix + "0&end=triple1").empty());
  CHECK(read(prefix + "0&end=triple2") == "triple1\nvalue1");
  CHECK(read(prefix + "1&end=triple2") == "triple1\nvalue1");
  CHECK(read(prefix + "2&end=triple3") == "triple2\n");
  CHECK(read(prefix + "3&end=triple4") == "triple3\nvalue3");
  CHECK(read(prefix + "4").empty());
  CHECK(read(prefix + "3&end=triple1").empty());  // backwards: nothing
}
