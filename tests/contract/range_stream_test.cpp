// Ranges over more data than the node has memory for.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "http_client.hpp"
#include "node_process.hpp"

using namespace gyre::test;

namespace {

constexpr uint64_t budget_bytes = 128u << 20;
constexpr size_t value_bytes = 16'000;  // small enough to lie in blocks

std::string key_of(uint64_t n) {
  char key[16];
  std::snprintf(key, sizeof key, "%010lu", static_cast<unsigned long>(n));
  return key;
}
std::string value_of(uint64_t n, uint64_t generation = 0) {
  return random_bytes(n + generation * 1'000'000'007, value_bytes);
}

// Writes one key until it is taken; how often the node asked to come back later.
uint64_t put_patiently(HttpClient& client, const std::string& key, const std::string& value) {
  for (uint64_t refusals = 0;; ++refusals) {
    const HttpAnswer answer = client.put(entity(key), value);
    if (answer.status == 201) return refusals;
    REQUIRE_MESSAGE(answer.status == 503, answer.status << ": " << answer.body);
    REQUIRE(!answer.header("retry-after").empty());
    usleep(50'000);
  }
}

// More data than memory.
struct LargeDatabase {
  NodeProcess node{{"--memory", "128M"}};
  HttpClient client{node.port()};
  uint64_t records = scaled(600'000'000, 160'000'000) / value_bytes;

  LargeDatabase() {
    REQUIRE_MESSAGE(free_disk_bytes() > 4 * records * value_bytes, "the disk is too full for this");
    for (uint64_t n = 0; n < records; ++n) put_patiently(client, key_of(n), value_of(n));
  }
  void expect_within_budget() const {
    const uint64_t most = node.resident_bytes_max();
    MESSAGE("at most " << (most >> 20) << " MiB resident");
    CHECK(most <= budget_bytes / 100 * 115);
  }
};

// The number of good records that came before `end`, or the end of the answer.
uint64_t expect_records(HttpClient& from, uint64_t begin, uint64_t end) {
  uint64_t good = 0;
  for (uint64_t n = begin; n < end; ++n) {
    const std::optional<std::string> chunk = from.read_chunk();
    if (!chunk) break;
    if (*chunk == key_of(n) + "\n" + value_of(n)) ++good;
  }
  return good;
}

}  // namespace

TEST_CASE_FIXTURE(LargeDatabase,
                  "a database larger than the memory is streamed in constant memory") {
  HttpClient reader(node.port());
  reader.send(get_request(range("0")));
  CHECK(reader.read_head().status == 200);
  CHECK(expect_records(reader, 0, records) == records);
  CHECK(!reader.read_chunk());
  CHECK(reader.get("/v0/status").status == 200);  // the connection goes on
  // A part from the middle, after a restart.
  client.close();
  expect_within_budget();
  node.stop();
  node.start();
  HttpClient again(node.port());
  again.send(get_request(range(key_of(records / 2), key_of(records / 2 + 1000))));
  CHECK(again.read_head().status == 200);
  CHECK(expect_records(again, records / 2, records / 2 + 1000) == 1000);
  CHECK(!again.read_chunk());
  expect_within_budget();
}

TEST_CASE_FIXTURE(LargeDatabase,
                  "a range shows one point in time while everything is overwritten") {
  HttpClient reader(node.port());
  reader.send(get_request(range("0")));
  CHECK(reader.read_head().status == 200);
  uint64_t good = expect_records(reader, 0, 10);
  // Overwritten, deleted and new keys in front of the reader, who goes on meanwhile.
  uint64_t next = 10;
  uint64_t refusals = 0;
  for (uint64_t n = records - 1; n > records / 2; --n) {
    if (n % 3 == 0) {
      CHECK(client.del(entity(key_of(n))).status == 202);
    } else {
      refusals += put_patiently(client, key_of(n), value_of(n, 1));
    }
    if (n % 3 == 1) refusals += put_patiently(client, key_of(n) + "new", "new");
    if (n % 4 == 0) {
      good += expect_records(reader, next, next + 4);
      next += 4;
    }
  }
  good += expect_records(reader, next, records);
  CHECK(good == records);
  CHECK(!reader.read_chunk());
  MESSAGE(refusals << " writes were refused for a moment");
  expect_within_budget();
}

TEST_CASE_FIXTURE(LargeDatabase, "a client that stops reading stops the reading") {
  HttpClient reader(node.port());
  reader.send(get_request(range("0")));
  CHECK(reader.read_head().status == 200);
  // What the sockets' buffers and the node's queue take, then nothing more.
  double misses = -1;
  for (int i = 0; i < 100; ++i) {
    usleep(100'000);
    const double now = node.metric("cache_misses_total");
    if (now == misses) break;
    misses = now;
  }
  usleep(500'000);
  CHECK(node.metric("cache_misses_total") == misses);
  CHECK(node.metric("output_bytes") < 6e6);
  // Others are served, and it goes on where it was.
  CHECK(client.get(entity(key_of(records - 1))).body == value_of(records - 1));
  CHECK(expect_records(reader, 0, 2000) == 2000);
  reader.close();
  for (int i = 0; i < 500 && node.metric("transit_memory_used_bytes") > 0; ++i) usleep(10'000);
  CHECK(node.metric("transit_memory_used_bytes") == 0);
  expect_within_budget();
}

TEST_CASE_FIXTURE(LargeDatabase, "a cut answer can't pass for a whole one") {
  HttpClient reader(node.port());
  reader.send(get_request(range("0")));
  CHECK(reader.read_head().status == 200);
  CHECK(expect_records(reader, 0, 50) == 50);
  node.kill();
  CHECK_THROWS_AS(expect_records(reader, 50, records), ConnectionEnded);
}

TEST_CASE_FIXTURE(LargeDatabase, "a node that is stopped cuts a range that does not end") {
  HttpClient reader(node.port());
  reader.send(get_request(range("0")));
  CHECK(reader.read_head().status == 200);
  CHECK(expect_records(reader, 0, 50) == 50);
  client.close();
  CHECK(node.stop().code == 0);
  CHECK_THROWS_AS(expect_records(reader, 50, records), ConnectionEnded);
}
