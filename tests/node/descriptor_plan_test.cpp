#include "node/descriptor_plan.hpp"

#include <doctest/doctest.h>

#include <initializer_list>

namespace gyre {

TEST_CASE("connections, and a burst of them on every core, leave descriptors for files") {
  for (const uint64_t descriptors : {150u, 256u, 1024u, 20'000u, 65'536u, 1'048'576u}) {
    for (const unsigned cores : {1u, 2u, 16u}) {
      CAPTURE(descriptors);
      CAPTURE(cores);
      const DescriptorPlan plan = plan_descriptors(descriptors, cores);
      CHECK(plan.connections_max >= 1);
      CHECK(plan.listen_backlog >= 1);
      CHECK(plan.listen_backlog <= listen_backlog_max);
      const uint64_t connections = plan.connections_max + uint64_t{plan.listen_backlog} * cores;
      REQUIRE(connections < descriptors);
      CHECK(descriptors - connections >= descriptors_for_files_min / 2);
    }
  }
}

TEST_CASE("with many descriptors the backlog is as long as kernels allow") {
  CHECK(plan_descriptors(1'048'576, 4).listen_backlog == listen_backlog_max);
}

TEST_CASE("next to no descriptors still leave one connection") {
  const DescriptorPlan plan = plan_descriptors(40, 4);
  CHECK(plan.connections_max == 1);
  CHECK(plan.listen_backlog >= 1);
}

}  // namespace gyre
