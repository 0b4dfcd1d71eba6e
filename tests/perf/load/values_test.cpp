#include "load/values.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "load/ledger.hpp"

namespace gyre::load {
namespace {

std::string value(uint64_t size_bytes, const std::string& key, uint64_t sequence) {
  std::string bytes(size_bytes, ' ');
  write_value(bytes.data(), size_bytes, key, sequence);
  return bytes;
}

TEST_CASE("a value passes its check, and tells its sequence") {
  for (uint64_t size : {16u, 17u, 100u, 70'000u, 1u << 20}) {
    const ValueCheck check = check_value("key1", value(size, "key1", 77));
    CHECK(check.right);
    CHECK(check.sequence == 77);
  }
}

TEST_CASE("any flipped bit, another key, or a missing byte fails the check") {
  const std::string good = value(60, "key1", 5);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    REQUIRE_FALSE(check_value("key1", bad).right);
  }
  CHECK_FALSE(check_value("key2", good).right);
  CHECK_FALSE(check_value("key1", good.substr(0, 59)).right);
  CHECK_FALSE(check_value("key1", good + "x").right);
  CHECK_FALSE(check_value("key1", "").right);
  CHECK_FALSE(check_value("key1", good.substr(0, 15)).right);
}

TEST_CASE("sizes keep to their distribution") {
  sim::Prng random(3);
  const ValueSizes uniform{ValueSizes::Kind::uniform, 10, 13};
  int seen[4] = {};
  for (int i = 0; i < 4000; ++i) ++seen[uniform.draw(random) - 10];
  for (int count : seen) CHECK(count > 800);
  const ValueSizes exponential{ValueSizes::Kind::exponential, 500, 1u << 24};
  double sum = 0;
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t size = exponential.draw(random);
    REQUIRE(size >= value_header_bytes);
    sum += static_cast<double>(size);
  }
  CHECK(sum / 100'000 == doctest::Approx(500).epsilon(0.03));
  CHECK(ValueSizes{}.draw(random) == 100);
}

// --- the ledger: what a reader may still be told ------------------------------------------------

struct LedgerFixture {
  Ledger ledger{4, 1};

  void write(bool deletes = false, bool acknowledged = true, uint64_t key = 0) {
    ledger.write_ended(key, ledger.write_sent(key, deletes), acknowledged);
  }
};

TEST_CASE_FIXTURE(LedgerFixture, "after an acknowledged write older values and absence are wrong") {
  CHECK(ledger.barrier(0) == 0);
  CHECK(ledger.may_be_absent(0, 0));
  write();
  write();
  const uint64_t barrier = ledger.barrier(0);
  CHECK(barrier == 2);
  CHECK_FALSE(ledger.may_be(0, barrier, 1));
  CHECK(ledger.may_be(0, barrier, 2));
  CHECK(ledger.may_be(0, barrier, 3));
  CHECK_FALSE(ledger.may_be_absent(0, barrier));
}

TEST_CASE_FIXTURE(LedgerFixture, "a read that began before a write may be shown what was there") {
  write();
  const uint64_t barrier = ledger.barrier(0);
  write();
  CHECK(ledger.may_be(0, barrier, 1));
}

TEST_CASE_FIXTURE(LedgerFixture, "writes at the same time may take effect in either order") {
  write();
  const Ledger::Sent first = ledger.write_sent(0, false);
  const Ledger::Sent second = ledger.write_sent(0, false);
  CHECK(first.alone);
  CHECK_FALSE(second.alone);
  ledger.write_ended(0, second, true);
  ledger.write_ended(0, first, true);
  const uint64_t barrier = ledger.barrier(0);
  CHECK(ledger.may_be(0, barrier, first.sequence));
  CHECK(ledger.may_be(0, barrier, second.sequence));
  CHECK_FALSE(ledger.may_be(0, barrier, 1));
}

TEST_CASE_FIXTURE(LedgerFixture, "a delete makes absence right, and older values wrong") {
  write();
  write(true);
  const uint64_t barrier = ledger.barrier(0);
  CHECK(ledger.may_be_absent(0, barrier));
  CHECK_FALSE(ledger.may_be(0, barrier, 1));
  write();
  CHECK_FALSE(ledger.may_be_absent(0, ledger.barrier(0)));
  // A delete that is only under way is enough.
  const uint64_t before = ledger.barrier(0);
  static_cast<void>(ledger.write_sent(0, true));
  CHECK(ledger.may_be_absent(0, before));
}

TEST_CASE_FIXTURE(LedgerFixture,
                  "after a write with an unknown end nothing is claimed of its key") {
  write();
  const uint64_t barrier = ledger.barrier(0);
  write(false, false);
  CHECK(ledger.barrier(0) == 0);
  CHECK(ledger.may_be(0, barrier, 0));
  CHECK(ledger.may_be_absent(0, barrier));
}

TEST_CASE_FIXTURE(LedgerFixture, "of a key that had to make room nothing is claimed") {
  write();
  const uint64_t barrier = ledger.barrier(0);
  const Ledger::Sent late = ledger.write_sent(0, false);
  write(false, true, 4);  // lies in the same slot
  CHECK(ledger.barrier(4) != 0);
  CHECK(ledger.barrier(0) == 0);
  CHECK(ledger.may_be(0, barrier, 0));
  CHECK(ledger.may_be_absent(0, barrier));
  ledger.write_ended(0, late, true);  // of nobody any more
  CHECK(ledger.barrier(0) == 0);
  write(false, true, 4);
  CHECK_FALSE(ledger.may_be_absent(4, ledger.barrier(4)));
}

// A register per key that takes effect at some moment of each call; `stale` in a while answers what
// was there before. Returns how many reads the ledger found wrong.
uint64_t play(unsigned threads, bool stale) {
  constexpr uint64_t keys = 3;
  Ledger ledger(keys, 1);
  std::atomic<uint64_t> present[keys] = {};
  std::atomic<uint64_t> past[keys] = {};
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> players;
  for (unsigned part = 0; part < threads; ++part) {
    players.emplace_back([&, part] {
      sim::Prng random(part, "play");
      for (int i = 0; i < 20'000; ++i) {
        const uint64_t key = random.below(keys);
        if (random.below(2) == 0) {
          const Ledger::Sent sent = ledger.write_sent(key, false);
          past[key] = present[key].exchange(sent.sequence);
          ledger.write_ended(key, sent, true);
        } else {
          const uint64_t barrier = ledger.barrier(key);
          const bool lies = stale && random.below(100) == 0;
          const uint64_t shown = lies ? past[key] : present[key];
          if (shown == 0 ? !ledger.may_be_absent(key, barrier)
                         : !ledger.may_be(key, barrier, shown)) {
            ++wrong;
          }
        }
      }
    });
  }
  for (std::thread& player : players) player.join();
  return wrong;
}

TEST_CASE("threads that share a ledger find stale reads, and only these") {
  for (const unsigned threads : {1u, 4u}) {
    CHECK(play(threads, false) == 0);
    CHECK(play(threads, true) > 0);
  }
}

}  // namespace
}  // namespace gyre::load
