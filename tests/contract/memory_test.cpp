// A budget of 128 MiB and far more data than that, in values of 1 MiB.
//
// GYRE_TEST_MEMORY_GIB chooses how much (default 2, as the disk allows): 15 is the full size.
#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"

using namespace gyre::test;

namespace {

constexpr uint64_t budget_bytes = 128u << 20;
constexpr size_t mebibyte = 1u << 20;

std::string key_of(uint64_t n) {
  return "value-" + std::to_string(n);
}

uint64_t values_wanted() {
  const char* text = std::getenv("GYRE_TEST_MEMORY_GIB");
  if (text != nullptr) return std::strtoull(text, nullptr, 10) * 1024;
  return scaled(2048, 256);
}

void expect_samples(uint16_t port, uint64_t count, uint64_t seed) {
  HttpClient client(port);
  const std::string choices = random_bytes(seed, 8 * 40);
  uint64_t good = 0;
  for (size_t i = 0; i < 40; ++i) {
    uint64_t n = 0;
    for (size_t byte = 0; byte < 8; ++byte) {
      n = n << 8 | static_cast<uint8_t>(choices[8 * i + byte]);
    }
    n %= count;
    const HttpAnswer answer = client.get(entity(key_of(n)));
    if (answer.status == 200 && answer.body == random_bytes(n, mebibyte)) ++good;
  }
  CHECK(good == 40);
}

}  // namespace

TEST_CASE("gigabytes of 1 MiB values go through a node with 128 MiB") {
  const uint64_t count = values_wanted();
  // Twice for the merges, and the log.
  if (free_disk_bytes() < count * mebibyte * 3 + (1ull << 30)) {
    MESSAGE("skipped: " << count << " MiB need three times that on the disk");
    return;
  }
  NodeProcess node({"--memory", "128M"});
  std::atomic<uint64_t> next = 0;
  std::atomic<uint64_t> refusals = 0;
  std::atomic<uint64_t> failures = 0;
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([&] {
      HttpClient client(node.port());
      for (uint64_t n = next++; n < count; n = next++) {
        const std::string value = random_bytes(n, mebibyte);
        for (;;) {
          HttpAnswer answer;
          try {
            answer = client.put(entity(key_of(n)), value);
          } catch (const std::exception&) {
            ++failures;
            return;
          }
          if (answer.status == 201) break;
          if (answer.status != 503 || answer.header("retry-after").empty()) {
            ++failures;
            return;
          }
          ++refusals;
          usleep(100'000);
        }
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  CHECK(failures == 0);
  MESSAGE(count << " MiB written, " << refusals.load() << " writes came back later");
  CHECK(node.resident_bytes_max() <= budget_bytes / 100 * 115);
  expect_samples(node.port(), count, 1);
  MESSAGE("at most " << (node.resident_bytes_max() >> 20) << " MiB resident");
  CHECK(node.resident_bytes_max() <= budget_bytes / 100 * 115);
  SUBCASE("stopped") {
    CHECK(node.stop().code == 0);
  }
  SUBCASE("killed") {
    node.kill();
  }
  node.start();
  expect_samples(node.port(), count, 2);
  // All of them, in order, in one answer.
  HttpClient client(node.port());
  client.send(get_request(range("value-")));
  CHECK(client.read_head().status == 200);
  uint64_t seen = 0;
  std::string last;
  bool ordered = true;
  bool good = true;
  while (const std::optional<std::string> chunk = client.read_chunk()) {
    const std::string key = chunk->substr(0, chunk->find('\n'));
    ordered = ordered && last < key;
    last = key;
    if (seen++ % 64 == 0) {
      const uint64_t n = std::strtoull(key.c_str() + 6, nullptr, 10);
      good = good && chunk->substr(key.size() + 1) == random_bytes(n, mebibyte);
    }
  }
  CHECK(seen == count);
  CHECK(ordered);
  CHECK(good);
  MESSAGE("at most " << (node.resident_bytes_max() >> 20) << " MiB resident after the restart");
  CHECK(node.resident_bytes_max() <= budget_bytes / 100 * 115);
}
