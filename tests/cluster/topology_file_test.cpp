// Topologies in files of a simulated machine: what is refused, and what a power cut leaves.
#include "cluster/topology_file.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>

#include "../store/sim_rig.hpp"
#include "cluster/topology_text.hpp"

namespace gyre::cluster {
namespace {

using gyre::test::SimRig;

const std::string path = "cluster.topology";

Topology three() {
  return *make_topology(*parse_node_list("http://a:1,http://b:1,http://c:1"));
}
TopologyChanges adds(const std::string& nodes) {
  return {.add = *parse_node_list(nodes), .remove = {}, .reweight = {}};
}

bool has(const std::string& text, std::string_view part) {
  if (text.find(part) != text.npos) return true;
  MESSAGE("not found: ", part, "\nin: ", text);
  return false;
}

Task<void> made_once() {
  Result<Topology> missing = co_await load_topology(path);
  REQUIRE_OR_RETURN(!missing.has_value());
  CHECK(missing.error().code == Errc::not_found);
  CHECK(has(missing.error().detail, "cluster.topology does not exist; gyre admin topology new"));
  CHECK((co_await create_topology(path, three())).has_value());
  Result<Topology> made = co_await load_topology(path);
  REQUIRE_OR_RETURN(made.has_value());
  CHECK(*made == three());
  Result<void> again = co_await create_topology(path, three());
  REQUIRE_OR_RETURN(!again.has_value());
  CHECK(again.error().code == Errc::already_exists);
}

Task<void> applied() {
  CHECK((co_await create_topology(path, three())).has_value());
  Result<Replaced> wrong = co_await apply_changes(path, adds("http://d:1"), 2);
  REQUIRE_OR_RETURN(!wrong.has_value());
  CHECK(has(wrong.error().detail, "is of epoch 1, not 2: it was changed since. Plan again"));
  CHECK(!(co_await apply_changes(path, adds("http://a:1"), {})).has_value());
  Result<Topology> same = co_await load_topology(path);
  CHECK((same && *same == three()));

  Result<Replaced> replaced = co_await apply_changes(path, adds("http://d:1"), 1);
  REQUIRE_OR_RETURN(replaced.has_value());
  CHECK(replaced->before == three());
  CHECK(replaced->after.epoch == 2);
  Result<Topology> now = co_await load_topology(path);
  CHECK((now && *now == replaced->after));
}

Task<void> planned() {
  CHECK((co_await create_topology(path, three())).has_value());
  const Topology plan = *change_topology(three(), adds("http://d:1"));
  const Topology late = *change_topology(three(), adds("http://e:1"));
  CHECK((co_await apply_planned(path, plan, {})).has_value());
  Result<Topology> now = co_await load_topology(path);
  CHECK((now && *now == plan));
  Result<Replaced> refused = co_await apply_planned(path, late, {});
  REQUIRE_OR_RETURN(!refused.has_value());
  CHECK(has(refused.error().detail, "the file is of epoch 2"));
  // The right epoch, but of another table.
  Topology other = late;
  other.epoch = 3;
  CHECK(!(co_await apply_planned(path, other, {})).has_value());
}

Task<void> two_at_a_time() {
  CHECK((co_await create_topology(path, three())).has_value());
  Result<File> held = co_await lock_file(path + ".lock");
  REQUIRE_OR_RETURN(held.has_value());
  Result<Replaced> refused = co_await apply_changes(path, adds("http://d:1"), {});
  REQUIRE_OR_RETURN(!refused.has_value());
  CHECK(refused.error().code == Errc::busy);
  CHECK(has(refused.error().detail, "is being changed by another process"));
  static_cast<void>(co_await held->close());
  CHECK((co_await apply_changes(path, adds("http://d:1"), {})).has_value());
}

Task<void> damaged() {
  std::string text = print_topology(three());
  text[text.find("weight=1") + 7] = '2';
  CHECK((co_await replace_file(".", path, text)).has_value());
  Result<Replaced> refused = co_await apply_changes(path, adds("http://d:1"), {});
  REQUIRE_OR_RETURN(!refused.has_value());
  CHECK(has(refused.error().detail, "cluster.topology:72: the table's hash is another one"));
}

Task<void> make() {
  CHECK((co_await create_topology(path, three())).has_value());
}
Task<void> apply() {
  static_cast<void>(co_await apply_changes(path, adds("http://d:1"), {}));
}
Task<void> look(uint64_t* epoch) {
  Result<Topology> found = co_await load_topology(path);
  CHECK_MESSAGE(found.has_value(), (found ? "" : found.error().detail));
  *epoch = found ? found->epoch : 0;
}

}  // namespace

TEST_CASE("a topology is made once") {
  SimRig().run(made_once());
}

TEST_CASE("a change is applied to the epoch it was meant for, and to no other") {
  SimRig().run(applied());
}

TEST_CASE("a plan is applied to the topology it was made from, and to no other") {
  SimRig().run(planned());
}

TEST_CASE("two changes at a time are refused") {
  SimRig().run(two_at_a_time());
}

TEST_CASE("a damaged topology is not changed") {
  SimRig().run(damaged());
}

TEST_CASE("a power cut while a change is applied leaves the topology before or after it") {
  bool kept_old = false;
  bool took_new = false;
  for (const auto phase :
       {sim::CrashPhase::before, sim::CrashPhase::during, sim::CrashPhase::after}) {
    for (uint64_t point = 1;; ++point) {
      SimRig rig(point);
      rig.run(make());
      rig.disk().stop_at(rig.disk().write_points() + point, phase);
      const bool ended = rig.run(apply());
      uint64_t epoch = 0;
      rig.run(look(&epoch));
      CHECK((epoch == 1 || epoch == 2));
      kept_old |= epoch == 1;
      took_new |= !ended && epoch == 2;
      if (ended) {
        CHECK(epoch == 2);
        break;
      }
      REQUIRE(point < 100);
    }
  }
  CHECK(kept_old);
  CHECK(took_new);
}

}  // namespace gyre::cluster
