// Every bug that can be planted in the proxy (proxy/test_faults.hpp), and that the runs of
// front_sim.hpp find it.
#include <doctest/doctest.h>

#include <iterator>
#include <string>

#include "front_sim.hpp"
#include "proxy/test_faults.hpp"

using namespace gyre::test;
using gyre::proxy::proxy_test_faults;
using gyre::proxy::ProxyTestFaults;

namespace {

std::string found() {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    if (const FrontRun run = run_front(seed, true); !run.wrong.empty()) {
      return "directed, " + run.wrong;
    }
  }
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    if (const FrontRun run = run_front(seed); !run.wrong.empty()) {
      return "seed " + std::to_string(seed) + ", " + run.wrong;
    }
  }
  return "";
}

}  // namespace

TEST_CASE("every bug planted in the proxy is found") {
  struct Bug {
    const char* name;
    bool ProxyTestFaults::* fault;
  };
  const Bug bugs[] = {
      {"drop_invalidation", &ProxyTestFaults::drop_invalidation},
      {"late_fill_lands", &ProxyTestFaults::late_fill_lands},
      {"overtaken_fill_lands", &ProxyTestFaults::overtaken_fill_lands},
      {"old_fill_beside_fetch", &ProxyTestFaults::old_fill_beside_fetch},
      {"keep_after_loss", &ProxyTestFaults::keep_after_loss},
      {"forget_write", &ProxyTestFaults::forget_write},
      {"forget_exec", &ProxyTestFaults::forget_exec},
      {"answer_out_of_turn", &ProxyTestFaults::answer_out_of_turn},
      {"read_past_write", &ProxyTestFaults::read_past_write},
      {"transaction_survives_loss", &ProxyTestFaults::transaction_survives_loss},
      {"transaction_begins_unasked", &ProxyTestFaults::transaction_begins_unasked},
      {"subscribe_ends_early", &ProxyTestFaults::subscribe_ends_early},
      {"keep_lost_subscriber", &ProxyTestFaults::keep_lost_subscriber},
  };
  size_t caught = 0;
  for (const Bug& bug : bugs) {
    proxy_test_faults = {};
    proxy_test_faults.*bug.fault = true;
    const std::string what = found();
    proxy_test_faults = {};
    caught += !what.empty();
    CHECK_MESSAGE(what != "", std::string(bug.name), " was not found");
    MESSAGE(std::string(bug.name), ": ", what);
  }
  MESSAGE("planted bugs caught: " << caught << " of " << std::size(bugs));
}
