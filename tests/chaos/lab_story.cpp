#include "lab_story.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "chaos.hpp"

namespace gyre::chaos {

namespace {

constexpr double around_seconds_max = 10;

double fault_seconds() {
  const char* text = std::getenv("GYRE_TEST_FAULT_SECONDS");
  if (text != nullptr) return std::atof(text);
  return test::test_scale() < 1 ? 2 : 3;
}

}  // namespace

LabStory::LabStory(std::string name, const LabClusterOptions& cluster,
                   const QuorumLoadOptions& load)
    : name_(std::move(name)), cluster_(cluster), load_(cluster_, load) {}

void LabStory::print(const std::string& line) const {
  std::printf("%s: %s\n", name_.c_str(), line.c_str());
  std::fflush(stdout);
}

// So long, and longer if it takes longer to get some answers.
void LabStory::stretch(double seconds) {
  const uint64_t answered = load_.answered();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  REQUIRE(eventually([&] { return load_.answered() >= answered + 100; }));
}

void LabStory::run(size_t victim, const std::function<void()>& breaks,
                   const std::function<void()>& repairs) {
  const double seconds = fault_seconds();
  const double around = std::min(seconds / 2, around_seconds_max);
  const int64_t begun = QuorumLoad::now();
  load_.start();
  stretch(around);
  const int64_t broken = QuorumLoad::now();
  breaks();
  stretch(seconds);
  const int64_t repairing = QuorumLoad::now();
  repairs();
  repaired_ = QuorumLoad::now();
  stretch(around);
  CHECK(eventually([&] {
    try {
      return cluster_.connect(victim)->get("/v0/entity?id=key-0&replicas=2/3").status < 500;
    } catch (const test::ConnectionEnded&) {
      return false;
    }
  }));
  const int64_t ended = QuorumLoad::now();
  load_.stop();
  const std::pair<const char*, std::pair<int64_t, int64_t>> stretches[] = {
      {"before", {begun, broken}},
      {"during", {broken, repairing}},
      {"repair", {repairing, repaired_}},
      {"after ", {repaired_, ended}}};
  for (const auto& [what, times] : stretches) {
    if (load_.figures(times.first, times.second).requests() == 0) continue;
    print(fmt::format("{} all clients     {}", what,
                      load_.figures(times.first, times.second).text()));
    const StretchFigures others = load_.figures(times.first, times.second, victim);
    print(fmt::format("{} the other nodes {}", what, others.text()));
    if (others_reach_quorum) CHECK(others.impossible == 0);
  }
}

void LabStory::check() {
  size_t differing = 0;
  const bool equal = eventually([&] { return (differing = cluster_.differing_keys()) == 0; });
  const double seconds = static_cast<double>(QuorumLoad::now() - repaired_) / 1e9;
  CHECK_MESSAGE(equal, name_ << ": the replicas still differ in " << differing << " keys");
  const std::vector<QuorumRead> found = load_.read_all("2/3");
  const QuorumHistory& history = load_.history();
  const size_t lost = history.lost(found);
  print(
      fmt::format("replicas {} {:.1f} s after the repair; {} acknowledged writes, {} lost; {} "
                  "unknown, {} reads",
                  equal ? "equal" : "DIFFERENT", seconds, history.acknowledged(), lost,
                  history.unknown(), history.reads()));
  CHECK(lost == 0);
  check_no(history.violations());
  check_no(load_.problems());
  check_no(cluster_.error_lines());
}

}  // namespace gyre::chaos
