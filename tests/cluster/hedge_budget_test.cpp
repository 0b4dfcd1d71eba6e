#include "cluster/hedge_budget.hpp"

#include <doctest/doctest.h>

using namespace gyre::cluster;

namespace {
unsigned spend_all(HedgeBudget& budget, unsigned tries) {
  unsigned spent = 0;
  for (unsigned i = 0; i < tries; ++i) spent += budget.spend();
  return spent;
}
}  // namespace

TEST_CASE("one read in twenty may be hedged, and quiet times are saved up to a bound") {
  HedgeBudget budget;
  CHECK(spend_all(budget, 1'000) == HedgeBudget::hedges_at_start);
  unsigned hedged = 0;
  for (unsigned read = 0; read < 10'000; ++read) {
    budget.earn();
    hedged += budget.spend();
  }
  CHECK(hedged == 500);
  for (unsigned read = 0; read < 100'000; ++read) budget.earn();
  CHECK(spend_all(budget, 1'000) == HedgeBudget::hedges_saved_max);
}

TEST_CASE("a budget that is not looked at is caught") {
  cluster_test_faults.hedge_without_budget = true;
  HedgeBudget budget;
  CHECK(spend_all(budget, 1'000) != HedgeBudget::hedges_at_start);
  cluster_test_faults.hedge_without_budget = false;
}
