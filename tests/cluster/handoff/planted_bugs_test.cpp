// Every bug that can be planted in the handoff (cluster/handoff/test_faults.hpp), and that the sweep
// over power cuts finds it: one that would pass over it would pass over the real one too.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "cluster/handoff/test_faults.hpp"
#include "handoff_rig.hpp"

namespace gyre::cluster::test {
namespace {

std::string found() {
  uint64_t cases = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const std::string failure = sweep_handoff(seed, 3, cases);
    if (!failure.empty()) return failure;
  }
  return "";
}

TEST_CASE("every planted bug is found") {
  struct Bug {
    const char* name;
    bool HandoffTestFaults::* fault;
  };
  const Bug bugs[] = {
      {"drop_missed_record", &HandoffTestFaults::drop_missed_record},
      {"forget_unconfirmed", &HandoffTestFaults::forget_unconfirmed},
      {"watermark_passes_held", &HandoffTestFaults::watermark_passes_held},
      {"skip_sync", &HandoffTestFaults::skip_sync},
      {"walk_hides_new_writes", &HandoffTestFaults::walk_hides_new_writes},
      {"late_write_unmarked", &HandoffTestFaults::late_write_unmarked},
      {"trust_crashed", &HandoffTestFaults::trust_crashed},
      {"drop_on_failed_send", &HandoffTestFaults::drop_on_failed_send},
      {"forget_degraded", &HandoffTestFaults::forget_degraded},
  };
  for (const Bug& bug : bugs) {
    handoff_test_faults = {};
    handoff_test_faults.*bug.fault = true;
    const std::string what = found();
    handoff_test_faults = {};
    CHECK_MESSAGE(what != "", std::string(bug.name), " was not found");
    MESSAGE(std::string(bug.name), ": ", what);
  }
  CHECK(found() == "");
}

}  // namespace
}  // namespace gyre::cluster::test
