#include "engine/usage.hpp"

#include <doctest/doctest.h>

using namespace gyre::engine;

TEST_CASE("only the busy time of our CPUs counts") {
  constexpr std::string_view text =
      "cpu  1000 1000 1000 1000 1000 1000 1000 0 0 0\n"
      "cpu0 1 2 4 10000 20000 8 16 100 0 0\n"
      "cpu1 32 64 128 10000 20000 256 512 100 0 0\n"
      "intr 12345\n";
  CHECK(busy_ticks(text, {true, false}) == 31);
  CHECK(busy_ticks(text, {false, true}) == 992);
  CHECK(busy_ticks(text, {true, true}) == 1023);
  CHECK(busy_ticks("", {true}) == 0);
}

TEST_CASE("the device's sectors are 512 bytes") {
  const auto counts = device_counts("   10  1  2048  5   20  2  4096  7   0  9  9\n");
  REQUIRE(counts);
  CHECK(counts->reads == 10);
  CHECK(counts->read_bytes == 1 << 20);
  CHECK(counts->written_bytes == 2 << 20);
  CHECK(!device_counts(""));
}

TEST_CASE("a kernel thread counts where it ran elsewhere, for what it did in between") {
  UsageSample before;
  before.totals.system_us = 100;
  before.kernel_threads = {{1, {.ticks = 1000, .elsewhere = false}},
                           {2, {.ticks = 50, .elsewhere = true}}};
  UsageSample after;
  after.totals.system_us = 300;
  after.kernel_threads = {{1, {.ticks = 1001, .elsewhere = true}},  // moved: not all of its life
                          {2, {.ticks = 52, .elsewhere = true}},
                          {3, {.ticks = 4, .elsewhere = true}},  // new
                          {4, {.ticks = 9, .elsewhere = false}}};
  const uint64_t tick_us =
      usage_between({}, {.totals = {}, .kernel_threads = {{1, {1, true}}}}).system_us;
  CHECK(tick_us > 0);
  CHECK(usage_between(before, after).system_us == 200 + 7 * tick_us);
}

TEST_CASE("write amplification is what went into tables over what the user wrote") {
  const EngineCounters counters{.user_bytes = 100, .flushed_bytes = 50, .compacted_bytes = 150};
  CHECK(write_amplification(counters).value() == doctest::Approx(2.0));
  CHECK(!write_amplification({.user_bytes = 0, .flushed_bytes = 50}));
  CHECK(!write_amplification({.user_bytes = 100, .flushed_bytes = 0}));  // too short to tell
  const EngineCounters later{.user_bytes = 150, .flushed_bytes = 60, .compacted_bytes = 190};
  CHECK(write_amplification(later - counters).value() == doctest::Approx(1.0));
  CHECK(write_amplification((later - counters) + counters).value() ==
        write_amplification(later).value());
}

TEST_CASE("space amplification and costs per operation") {
  CHECK(space_amplification(300, 200).value() == doctest::Approx(1.5));
  CHECK(!space_amplification(300, 0));
  CHECK(per_operation(10, 4).value() == doctest::Approx(2.5));
  CHECK(!per_operation(10, 0));
  CHECK(median({}) == 0);
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 2, 3}) == doctest::Approx(2.5));
}
