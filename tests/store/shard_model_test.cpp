// A shard and a model do the same random things in lockstep (model_rig.hpp).
//
//   GYRE_TEST_SEED=17 test_store_model      one seed alone
//   GYRE_TEST_SCALE=100 test_store_model    a night's run
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "model_rig.hpp"

namespace gyre::test {
namespace {

constexpr uint64_t operations_per_seed = 5'000;

TEST_CASE("a shard and a model agree, step by step, over random options") {
  const char* only = std::getenv("GYRE_TEST_SEED");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const uint64_t seeds = only != nullptr ? 1 : scaled(1'000, 20);
  ModelCounts counts;
  unsigned failures = 0;
  for (uint64_t seed = first; seed < first + seeds && failures < 3; ++seed) {
    const std::string wrong = run_model(seed, operations_per_seed, counts);
    if (wrong.empty()) continue;
    ++failures;
    FAIL_CHECK(wrong << "\n  again: GYRE_TEST_SEED=" << seed << " test_store_model");
  }
  MESSAGE(
      fmt::format("model: {} seeds, {} operations, {} lives ({} power cuts, {} kills), "
                  "{} scans, {} modifies ({} wrote nothing, {} waited for the disk), {} flushes, "
                  "{} compactions, {} records recovered",
                  seeds, counts.operations, counts.lives, counts.power_cuts, counts.kills,
                  counts.scans, counts.modifies, counts.modifies_left, counts.modifies_read,
                  counts.flushes, counts.compactions, counts.recovered_records));
  if (only == nullptr) {
    CHECK(counts.operations >= seeds * operations_per_seed);
    CHECK(counts.power_cuts > seeds / 4);
    CHECK(counts.kills > seeds / 4);
    CHECK(counts.compactions > 10 * seeds);
    CHECK(counts.modifies_left > 10 * seeds);
    CHECK(counts.modifies_read > 10 * seeds);
  }
}

}  // namespace
}  // namespace gyre::test
