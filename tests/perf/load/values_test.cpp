#include "load/values.hpp"

#include <doctest/doctest.h>

#include <string>

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

void write(Ledger& ledger, uint64_t sequence, bool deletes = false, bool acknowledged = true) {
  ledger.write_ended(0, sequence, acknowledged, ledger.write_sent(0, sequence, deletes));
}

TEST_CASE("after an acknowledged write older values and absence are wrong") {
  Ledger ledger(1);
  CHECK(ledger.barrier(0) == 0);
  CHECK(ledger.may_be_absent(0, 0));
  write(ledger, 1);
  write(ledger, 2);
  const uint64_t barrier = ledger.barrier(0);
  CHECK(barrier == 2);
  CHECK_FALSE(ledger.may_be(0, barrier, 1));
  CHECK(ledger.may_be(0, barrier, 2));
  CHECK(ledger.may_be(0, barrier, 3));
  CHECK_FALSE(ledger.may_be_absent(0, barrier));
}

TEST_CASE("a read that began before a write may be shown what was there") {
  Ledger ledger(1);
  write(ledger, 1);
  const uint64_t barrier = ledger.barrier(0);
  write(ledger, 2);
  CHECK(ledger.may_be(0, barrier, 1));
}

TEST_CASE("writes at the same time may take effect in either order") {
  Ledger ledger(1);
  write(ledger, 1);
  const bool first = ledger.write_sent(0, 2, false);
  const bool second = ledger.write_sent(0, 3, false);
  CHECK(first);
  CHECK_FALSE(second);
  ledger.write_ended(0, 3, true, second);
  ledger.write_ended(0, 2, true, first);
  const uint64_t barrier = ledger.barrier(0);
  CHECK(ledger.may_be(0, barrier, 2));
  CHECK(ledger.may_be(0, barrier, 3));
  CHECK_FALSE(ledger.may_be(0, barrier, 1));
}

TEST_CASE("a delete makes absence right, and older values wrong") {
  Ledger ledger(1);
  write(ledger, 1);
  write(ledger, 2, true);
  const uint64_t barrier = ledger.barrier(0);
  CHECK(ledger.may_be_absent(0, barrier));
  CHECK_FALSE(ledger.may_be(0, barrier, 1));
  write(ledger, 3);
  CHECK_FALSE(ledger.may_be_absent(0, ledger.barrier(0)));
  // A delete that is only under way is enough.
  const uint64_t before = ledger.barrier(0);
  static_cast<void>(ledger.write_sent(0, 4, true));
  CHECK(ledger.may_be_absent(0, before));
}

TEST_CASE("after a write with an unknown end nothing is claimed of its key") {
  Ledger ledger(1);
  write(ledger, 1);
  const uint64_t barrier = ledger.barrier(0);
  write(ledger, 2, false, false);
  CHECK(ledger.barrier(0) == 0);
  CHECK(ledger.may_be(0, barrier, 0));
  CHECK(ledger.may_be_absent(0, barrier));
}

}  // namespace
}  // namespace gyre::load
