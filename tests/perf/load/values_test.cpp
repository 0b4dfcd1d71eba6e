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

using End = Ledger::End;

struct LedgerFixture {
  Ledger ledger{4, 1};

  void write(bool deletes = false, uint64_t key = 0) {
    ledger.write_ended(key, ledger.write_sent(key, deletes), End::acknowledged);
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
  ledger.write_ended(0, second, End::acknowledged);
  ledger.write_ended(0, first, End::acknowledged);
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

TEST_CASE("a key of an earlier run may be absent only after a delete of this one") {
  Ledger ledger(10, 100, 5);
  const uint64_t known = ledger.barrier(4);
  CHECK_FALSE(ledger.may_be_absent(4, known));
  CHECK(ledger.may_be(4, known, 50));  // a value of then
  CHECK(ledger.may_be_absent(5, ledger.barrier(5)));
  const Ledger::Sent refused = ledger.write_sent(4, true);
  CHECK(ledger.may_be_absent(4, known));
  ledger.write_ended(4, refused, End::refused);
  CHECK_FALSE(ledger.may_be_absent(4, known));
  ledger.write_ended(4, ledger.write_sent(4, true), End::unknown);
  CHECK(ledger.may_be_absent(4, known));
}

TEST_CASE("a write that was not acknowledged exempts its key from nothing that is older") {
  Ledger ledger(10, 100);
  const auto write = [&](End end) {
    const Ledger::Sent sent = ledger.write_sent(4, false);
    ledger.write_ended(4, sent, end);
    return sent.sequence;
  };
  const uint64_t older = write(End::acknowledged);
  const uint64_t first = write(End::acknowledged);
  for (End end : {End::refused, End::unknown}) {
    const uint64_t doubtful = write(end);
    CHECK(ledger.barrier(4) == first);
    CHECK(ledger.may_be(4, ledger.barrier(4), first));
    CHECK(ledger.may_be(4, ledger.barrier(4), doubtful));
    CHECK_FALSE(ledger.may_be(4, ledger.barrier(4), older));
    CHECK_FALSE(ledger.may_be_absent(4, ledger.barrier(4)));
  }
  const uint64_t doubtful = write(End::unknown);
  const uint64_t next = write(End::acknowledged);  // settles it
  CHECK(ledger.barrier(4) == next);
  CHECK_FALSE(ledger.may_be(4, ledger.barrier(4), doubtful));
  // One that was under way meanwhile is no older than the other.
  const Ledger::Sent slow = ledger.write_sent(4, false);
  const Ledger::Sent quick = ledger.write_sent(4, false);
  ledger.write_ended(4, quick, End::acknowledged);
  ledger.write_ended(4, slow, End::unknown);
  CHECK(ledger.barrier(4) == next);
}

TEST_CASE_FIXTURE(LedgerFixture, "of a key that had to make room nothing is claimed") {
  write();
  const uint64_t barrier = ledger.barrier(0);
  const Ledger::Sent late = ledger.write_sent(0, false);
  write(false, 4);  // lies in the same slot
  CHECK(ledger.barrier(4) != 0);
  CHECK(ledger.barrier(0) == 0);
  CHECK(ledger.may_be(0, barrier, 0));
  CHECK(ledger.may_be_absent(0, barrier));
  ledger.write_ended(0, late, End::acknowledged);  // of nobody any more
  CHECK(ledger.barrier(0) == 0);
  write(false, 4);
  CHECK_FALSE(ledger.may_be_absent(4, ledger.barrier(4)));
}

// A register per key that takes effect at some moment of each call; some writes are refused, of some
// the end is unknown and half of these are done. `stale` in a while answers what was there before. Returns how many reads the ledger found wrong.
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
          const uint64_t fate = random.below(8);
          const bool done = fate != 0 && (fate != 1 || random.below(2) == 0);
          if (done) past[key] = present[key].exchange(sent.sequence);
          ledger.write_ended(key, sent,
                             fate == 0   ? End::refused
                             : fate == 1 ? End::unknown
                                         : End::acknowledged);
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
