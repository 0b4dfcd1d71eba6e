// Many requests in one packet: answered in order, each as if the one before had ended, on the key
// it touches; and clients that stop sending, or read slowly, get every answer.
#include <doctest/doctest.h>
#include <unistd.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"

using namespace gyre::test;

namespace {

struct Pipelining {
  NodeProcess node;
  HttpClient client{node.port()};
};

// A script of requests with what must be answered to each.
struct Script {
  struct Step {
    int status;
    std::string body;
    bool body_matters;
  };
  std::string bytes;
  std::vector<Step> steps;

  void put(const std::string& key, const std::string& value) {
    bytes += put_request(entity(key), value);
    steps.push_back({201, "", false});
  }
  void get(const std::string& key, const std::string& value) {
    bytes += get_request(entity(key));
    steps.push_back({200, value, true});
  }
  void get_absent(const std::string& key) {
    bytes += get_request(entity(key));
    steps.push_back({404, "", false});
  }
  void del(const std::string& key) {
    bytes += delete_request(entity(key));
    steps.push_back({202, "", false});
  }
  void range(const std::string& start, const std::string& end, const std::string& records) {
    bytes += get_request(gyre::test::range(start, end));
    steps.push_back({200, records, true});
  }
  void expect_answers(HttpClient& client) const {
    for (size_t i = 0; i < steps.size(); ++i) {
      const HttpAnswer answer = client.read_answer();
      CHECK_MESSAGE(answer.status == steps[i].status, "answer " << i << ": " << answer.body);
      const bool same = !steps[i].body_matters || answer.body == steps[i].body;
      CHECK_MESSAGE(same, "body of answer " << i << ", " << answer.body.size() << " bytes");
    }
  }
};

}  // namespace

TEST_CASE_FIXTURE(Pipelining, "PUT, GET, DELETE, GET of one key in one packet") {
  for (int round = 0; round < 30; ++round) {
    Script script;
    const std::string key = "k" + std::to_string(round);  // on whichever core
    script.put(key, "value");
    script.get(key, "value");
    script.del(key);
    script.get_absent(key);
    client.send(script.bytes);
    script.expect_answers(client);
  }
}

TEST_CASE_FIXTURE(Pipelining, "every write of one key is seen by the read behind it") {
  Script script;
  for (int i = 0; i < 100; ++i) {
    script.put("k", "value " + std::to_string(i));
    script.get("k", "value " + std::to_string(i));
  }
  client.send(script.bytes);
  script.expect_answers(client);
}

TEST_CASE_FIXTURE(Pipelining, "two hundred mixed requests over many keys in one packet") {
  for (uint64_t seed = 1; seed <= scaled(5, 2); ++seed) {
    Script script;
    std::map<std::string, std::string> model;
    const std::string choices = random_bytes(seed, 600);
    for (size_t i = 0; i < 200; ++i) {
      const std::string key =
          std::to_string(seed) + "-" + std::to_string(static_cast<uint8_t>(choices[3 * i]) % 12);
      switch (static_cast<uint8_t>(choices[3 * i + 1]) % 4) {
        case 0: {
          const std::string value =
              random_bytes(i, static_cast<uint8_t>(choices[3 * i + 2]) * size_t{12});
          script.put(key, value);
          model[key] = value;
          break;
        }
        case 1:
          script.del(key);
          model.erase(key);
          break;
        default:
          if (model.contains(key)) {
            script.get(key, model[key]);
          } else {
            script.get_absent(key);
          }
      }
    }
    SUBCASE("in one piece") {
      client.send(script.bytes);
    }
    SUBCASE("in pieces that cut requests anywhere") {
      for (size_t at = 0; at < script.bytes.size(); at += 777) {
        client.send(std::string_view(script.bytes).substr(at, 777));
        if (at % 8 == 0) usleep(500);
      }
    }
    script.expect_answers(client);
  }
}

TEST_CASE_FIXTURE(Pipelining, "a range sees the writes before it in the same packet") {
  for (int round = 0; round < 10; ++round) {
    Script script;
    const std::string prefix = "r" + std::to_string(round) + "-";
    std::string records;
    for (int i = 10; i < 60; ++i) {
      const std::string key = prefix + std::to_string(i);
      script.put(key, "v" + std::to_string(i));
      if (i != 30) records += key + "\nv" + std::to_string(i);
    }
    script.del(prefix + "30");
    script.range(prefix, prefix + "z", records);
    script.get(prefix + "59", "v59");
    script.del(prefix + "10");
    script.get_absent(prefix + "10");
    client.send(script.bytes);
    script.expect_answers(client);
  }
}

TEST_CASE_FIXTURE(Pipelining, "large values between small ones keep their place") {
  const std::string large = random_bytes(1, 5u << 20);
  Script script;
  script.put("small", "before");
  script.put("large", large);
  script.get("small", "before");
  script.get("large", large);
  script.put("small", "after");
  script.get("large", large);
  script.get("small", "after");
  script.range("large", "m", "large\n" + large);
  script.del("large");
  script.get_absent("large");
  script.get("small", "after");
  bool finishes = false;
  SUBCASE("by a client that goes on") {}
  SUBCASE("by a client that has finished sending") {
    finishes = true;
  }
  // More than the sockets' buffers take: sending and reading have to go on together.
  std::thread sender([&] {
    client.send(script.bytes);
    if (finishes) client.finish_sending();
  });
  script.expect_answers(client);
  sender.join();
}

TEST_CASE_FIXTURE(Pipelining, "a large value from a table, with reads behind it") {
  const std::string large = random_bytes(2, 8u << 20);
  const std::string middle = random_bytes(3, 60'000);
  CHECK(client.put(entity("large"), large).status == 201);
  for (int i = 0; i < 20; ++i) {
    CHECK(client.put(entity("middle" + std::to_string(i)), middle).status == 201);
  }
  client.close();
  node.stop();
  node.start();
  HttpClient after(node.port());
  Script script;
  for (int i = 0; i < 20; ++i) {
    script.get("middle" + std::to_string(i), middle);
    if (i % 5 == 0) script.get("large", large);
    script.get_absent("absent" + std::to_string(i));
  }
  after.send(script.bytes);
  script.expect_answers(after);
}

TEST_CASE_FIXTURE(Pipelining, "a client that has finished sending still gets every answer") {
  Script script;
  for (int i = 0; i < 50; ++i) {
    const std::string key = "h" + std::to_string(i);
    script.put(key, random_bytes(static_cast<uint64_t>(i), 3000));
    script.get(key, random_bytes(static_cast<uint64_t>(i), 3000));
  }
  client.send(script.bytes);
  client.finish_sending();
  script.expect_answers(client);
  CHECK(client.closed_by_peer());
}

TEST_CASE_FIXTURE(Pipelining, "a half-closed client gets an answer that does not fit the socket") {
  const std::string large = random_bytes(4, 12u << 20);
  CHECK(client.put(entity("large"), large).status == 201);
  client.send(get_request(entity("large")) + get_request(entity("absent")));
  client.finish_sending();
  usleep(200'000);  // the socket's buffers fill
  bool same = client.read_answer().body == large;
  CHECK(same);
  CHECK(client.read_answer().status == 404);
  CHECK(client.closed_by_peer());
}

TEST_CASE_FIXTURE(Pipelining, "a slow reader gets everything, and holds nobody up") {
  const std::string value = random_bytes(5, 50'000);
  CHECK(client.put(entity("k"), value).status == 201);
  HttpClient slow(node.port());
  std::string requests;
  constexpr int count = 1000;  // 50 MB of answers
  for (int i = 0; i < count; ++i) requests += get_request(entity("k"));
  slow.send(requests);
  for (int i = 0; i < 50; ++i) CHECK(client.get(entity("k")).body.size() == value.size());
  // Nothing like 50 MB waits for it.
  CHECK(node.metric("output_bytes") < 8e6);
  for (int i = 0; i < count; ++i) {
    const bool same = slow.read_answer().body == value;
    CHECK(same);
    if (i % 100 == 0) usleep(20'000);
  }
}

TEST_CASE_FIXTURE(Pipelining, "an answer that closes is the last, whatever was sent behind it") {
  client.send(get_request(entity("a")) + get_request(entity("b"), "Connection: close\r\n") +
              put_request(entity("never"), "v"));
  CHECK(client.read_answer().status == 404);
  const HttpAnswer last = client.read_answer();
  CHECK(last.status == 404);
  CHECK(last.header("connection") == "close");
  CHECK(client.closed_by_peer());
  CHECK(HttpClient(node.port()).get(entity("never")).status == 404);
}

TEST_CASE_FIXTURE(Pipelining, "clients that vanish in the middle of anything do no harm") {
  const std::string large = random_bytes(6, 4u << 20);
  CHECK(client.put(entity("large"), large).status == 201);
  for (int i = 0; i < 40; ++i) {
    CHECK(client.put(entity("s" + std::to_string(i)), random_bytes(7, 40'000)).status == 201);
  }
  for (int round = 0; round < 60; ++round) {
    HttpClient victim(node.port());
    switch (round % 6) {
      case 0:
        victim.send(get_request(entity("large")) + get_request(range("a")));
        break;
      case 1:
        victim.send(get_request(range("a")) + get_request(entity("large")));
        break;
      case 2:
        victim.send(put_request(entity("half"), large).substr(0, 1u << 20));
        break;
      case 3:
        for (int i = 0; i < 100; ++i) victim.try_send(put_request(entity("gone"), "v"));
        break;
      case 4:
        victim.send(get_request(range("s")));
        static_cast<void>(victim.read_some());
        break;
      case 5:
        victim.send(
            "PUT /v0/entity?id=half HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5\r\nhello\r\n");
        break;
    }
    if (round % 4 == 0) usleep(2000);
    victim.close();
    CHECK(client.get("/v0/status").status == 200);
  }
  CHECK(client.get(entity("half")).status == 404);
  bool same = client.get(entity("large")).body == large;
  CHECK(same);
  // All of them are gone, and so is what they held.
  // (This client and the one that asks are left; the one that asked before may be for a moment.)
  double left = node.metric("connections");
  for (int i = 0; i < 500 && left > 2; ++i) {
    usleep(10'000);
    left = node.metric("connections");
  }
  CHECK(left <= 2);
  CHECK(node.metric("transit_memory_used_bytes") == 0);
  CHECK(node.stop().code == 0);
}
