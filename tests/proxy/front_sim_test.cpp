// Whole runs of the proxy's RESP side in the simulation (front_sim.hpp).
//
//   GYRE_TEST_SEED=17 proxy_front_sim_test      one seed alone
//   GYRE_TEST_SCALE=100 proxy_front_sim_test    a night's run
#include "front_sim.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

using namespace gyre::test;

TEST_CASE("clients of the proxy see one Redis, whatever happens behind it") {
  const char* only = std::getenv("GYRE_TEST_SEED");
  const char* scale = std::getenv("GYRE_TEST_SCALE");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const double share = scale != nullptr ? std::atof(scale) : 1;
  const uint64_t count =
      only != nullptr ? 1 : std::max<uint64_t>(1, static_cast<uint64_t>(60 * share));
  FrontRun sum;
  for (uint64_t seed = 1; seed <= 5; ++seed) CHECK(run_front(seed, true).wrong == "");
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const FrontRun run = run_front(seed);
    CHECK_MESSAGE(run.wrong == "",
                  run.wrong << "\n  again: GYRE_TEST_SEED=" << seed << " proxy_front_sim_test");
    sum.answers += run.answers;
    sum.failures += run.failures;
    sum.hits += run.hits;
    sum.transactions += run.transactions;
    sum.messages += run.messages;
  }
  MESSAGE(count << " seeds: " << sum.answers << " answers, " << sum.failures << " failures, "
                << sum.hits << " hits, " << sum.transactions << " transactions, " << sum.messages
                << " messages");
  // The runs are about something.
  CHECK(sum.answers > 200 * count);
  CHECK(sum.answers > 4 * sum.failures);
  CHECK(sum.hits > 20 * count);
  CHECK(sum.transactions > 5 * count);
  CHECK(sum.messages > 20 * count);
}
