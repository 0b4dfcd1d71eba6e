// Reads under way against everything else, in many orders (order_rig.hpp).
//
//   GYRE_TEST_SEED=17 test_store_order      one seed alone
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "order_rig.hpp"

namespace gyre::test {
namespace {

TEST_CASE("scans and lookups answer as of their beginning, whatever happens meanwhile") {
  const char* only = std::getenv("GYRE_TEST_SEED");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const uint64_t seeds = only != nullptr ? 1 : scaled(1'000, 20);
  OrderCounts counts;
  unsigned failures = 0;
  for (uint64_t seed = first; seed < first + seeds && failures < 3; ++seed) {
    const std::string wrong = run_order(seed, counts);
    if (wrong.empty()) continue;
    ++failures;
    FAIL_CHECK(wrong << "\n  again: GYRE_TEST_SEED=" << seed << " test_store_order");
  }
  MESSAGE(
      fmt::format("orders: {} seeds, {} writes, {} scans ({} across installs), {} lookups that "
                  "waited ({} across installs)",
                  seeds, counts.writes, counts.scans, counts.scans_across_installs, counts.lookups,
                  counts.lookups_across_installs));
  CHECK(counts.scans_across_installs > counts.scans / 2);
  CHECK(counts.lookups_across_installs > counts.lookups / 10);
}

}  // namespace
}  // namespace gyre::test
