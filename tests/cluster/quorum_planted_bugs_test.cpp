// Each bug that cluster_test_faults can plant in the quorums, and the walk that catches it.
#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "cluster/hedge_budget.hpp"
#include "cluster/test_faults.hpp"
#include "read_quorum_explorer.hpp"
#include "write_quorum_explorer.hpp"

using namespace gyre::cluster;

namespace {

struct PlantedBug {
  std::string name;
  bool ClusterTestFaults::* fault;
  std::function<std::string()> walk;  // gives the violation it meets
};

std::string write_two_of_three() {
  return explore_writes(2, 3).violation;
}
std::string read_long_values() {
  return explore_reads(2, 3, {.long_values = true}).violation;
}
std::string read_two_of_three() {
  return explore_reads(2, 3, {}).violation;
}

const PlantedBug planted_bugs[] = {
    {"replies count twice", &ClusterTestFaults::count_replies_twice, write_two_of_three},
    {"write quorum off by one", &ClusterTestFaults::write_quorum_off_by_one, write_two_of_three},
    {"restamp after the answer", &ClusterTestFaults::restamp_after_answer, write_two_of_three},
    {"restamp at once", &ClusterTestFaults::restamp_at_once, write_two_of_three},
    {"restamp for ever", &ClusterTestFaults::restamp_for_ever, write_two_of_three},
    {"superseded fails", &ClusterTestFaults::superseded_fails, write_two_of_three},
    {"504 late", &ClusterTestFaults::fail_late, write_two_of_three},
    {"missed write forgotten", &ClusterTestFaults::forget_missed, write_two_of_three},
    {"read quorum off by one", &ClusterTestFaults::read_quorum_off_by_one, read_two_of_three},
    {"no write-back", &ClusterTestFaults::skip_write_back, read_two_of_three},
    {"failed write-back counts", &ClusterTestFaults::failed_write_back_counts, read_two_of_three},
    {"first version kept", &ClusterTestFaults::keep_first_version, read_two_of_three},
    {"forgotten early", &ClusterTestFaults::forget_early, read_long_values},
    {"no repair", &ClusterTestFaults::skip_repair,
     [] { return explore_reads(1, 3, {}).violation; }},
};

}  // namespace

TEST_CASE("every bug planted in the quorums is caught") {
  for (const PlantedBug& bug : planted_bugs) {
    CAPTURE(bug.name);
    CHECK(bug.walk() == "");
    cluster_test_faults.*bug.fault = true;
    const std::string violation = bug.walk();
    cluster_test_faults.*bug.fault = false;
    CHECK(violation != "");
    MESSAGE(bug.name << ": " << violation);
  }
}
