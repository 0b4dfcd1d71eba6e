// Ranges over more data than the node has memory for.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

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

// More data than memory. It takes a while to write, so the parts of the test share it.
struct LargeDatabase {
  NodeProcess node{{"--memory", "128M"}};
  HttpClient client{node.port()};
  uint64_t records = scaled(600'000'000, 160'000'000) / value_bytes;

  LargeDatabase() {
    constexpr uint64_t batch = 32;
    for (uint64_t begin = 0; begin < records; begin += batch) {
      const uint64_t end = std::min(begin + batch, records);
      for (uint64_t n = begin; n < end; ++n) {
        client.send(put_request(entity(key_of(n)), value_of(n)));
      }
      std::vector<uint64_t> again;
      for (uint64_t n = begin; n < end; ++n) {
        if (client.read_answer().status != 201) again.push_back(n);
      }
      for (const uint64_t n : again) put_patiently(client, key_of(n), value_of(n));
    }
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

// A database larger than the memory is streamed in constant memory.
void stream_all(LargeDatabase& database) {
  const uint64_t records = database.records;
  HttpClient reader(database.node.port());
  reader.send(get_request(range("0")));
  CHECK(reader.read_head().status == 200);
  CHECK(expect_records(reader, 0, records) == records);
  CHECK(!reader.read_chunk());
  CHECK(reader.get("/v0/status").status == 200);  // the connection goes on
  database.expect_within_budget();
}

// A client that stops reading stops the reading.
void stop_reading(LargeDatabase& database) {
  NodeProcess& node = database.node;
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
  const uint64_t last = database.records - 1;
  CHECK(database.client.get(entity(key_of(last))).body == value_of(last));
  CHECK(expect_records(reader, 0, 2000) == 2000);
  reader.close();
  for (int i = 0; i < 500 && node.metric("transit_memory_used_bytes") > 0; ++i) usleep(10'000);
  CHECK(node.metric("transit_memory_used_bytes") == 0);
  database.expect_within_budget();
}

// An answer that is cut, by a stop or by a crash, can't pass for a whole one.
void cut_the_answer(LargeDatabase& database) {
  NodeProcess& node = database.node;
  for (const bool kill : {false, true}) {
    HttpClient reader(node.port());
    reader.send(get_request(range("0")));
    CHECK(reader.read_head().status == 200);
    CHECK(expect_records(reader, 0, 50) == 50);
    database.client.close();
    if (kill) {
      node.kill();
    } else {
      CHECK(node.stop().code == 0);
    }
    CHECK_THROWS_AS(expect_records(reader, 50, database.records), ConnectionEnded);
    node.start();
    HttpClient again(node.port());
    const uint64_t middle = database.records / 2;
    again.send(get_request(range(key_of(middle), key_of(middle + 1000))));
    CHECK(again.read_head().status == 200);
    CHECK(expect_records(again, middle, middle + 1000) == 1000);
    CHECK(!again.read_chunk());
    database.expect_within_budget();
  }
}

// A range shows one point in time while everything in front of it changes.
void overwrite_meanwhile(LargeDatabase& database) {
  const uint64_t records = database.records;
  HttpClient client(database.node.port());
  HttpClient reader(database.node.port());
  reader.send(get_request(range("0")));
  CHECK(reader.read_head().status == 200);
  uint64_t good = expect_records(reader, 0, 10);
  uint64_t next = 10;
  uint64_t refusals = 0;
  const uint64_t changes = std::min<uint64_t>(records / 2, 4000);
  for (uint64_t n = records - 1; n > records - changes; --n) {
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
  database.expect_within_budget();
}

}  // namespace

TEST_CASE("ranges over a database larger than the memory") {
  // Twice for the merges, and the log.
  if (free_disk_bytes() < 3'000'000'000) {
    MESSAGE("skipped: the disk is too full");
    return;
  }
  LargeDatabase database;
  database.expect_within_budget();
  stream_all(database);
  stop_reading(database);
  cut_the_answer(database);
  overwrite_meanwhile(database);
}
