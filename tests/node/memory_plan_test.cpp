#include "node/memory_plan.hpp"

#include <doctest/doctest.h>

#include <string>

namespace gyre {
namespace {

constexpr uint64_t mebibyte = 1ull << 20;

MemoryDemand small_node() {
  return {.budget_bytes = 128 * mebibyte,
          .cores = 2,
          .shards = 2,
          .value_bytes_max = 16 * mebibyte,
          .connections_max = default_connections_max(128 * mebibyte)};
}

uint64_t total_bytes(const MemoryPlan& plan, const MemoryDemand& demand) {
  return plan.reserved_bytes + plan.transit_bytes_per_core * demand.cores +
         (plan.memtable_bytes_per_shard + plan.cache_bytes_per_shard) * demand.shards;
}

}  // namespace

TEST_CASE("two cores, 16 MiB values and more than 5000 connections live in 128 MiB") {
  const MemoryDemand demand = small_node();
  CHECK(demand.connections_max >= 5000);
  const auto plan = plan_memory(demand);
  REQUIRE(plan.has_value());
  CHECK(plan->transit_bytes_per_core >= demand.value_bytes_max);
  CHECK(plan->memtable_bytes_per_shard > demand.value_bytes_max);
}

TEST_CASE("a plan never promises more than the budget") {
  for (const uint64_t budget : {128u, 200u, 1024u, 65536u}) {
    for (const unsigned cores : {1u, 2u}) {
      MemoryDemand demand = small_node();
      demand.budget_bytes = budget * mebibyte;
      demand.cores = cores;
      const auto plan = plan_memory(demand);
      REQUIRE(plan.has_value());
      CHECK(total_bytes(*plan, demand) <= demand.budget_bytes);
      CHECK(total_bytes(*plan, demand) + demand.shards * 4 + demand.cores > demand.budget_bytes);
    }
  }
}

TEST_CASE("exactly what is needed is accepted, and a byte less is not") {
  MemoryDemand demand = small_node();
  demand.budget_bytes = memory_needed_bytes(demand);
  CHECK(plan_memory(demand).has_value());
  --demand.budget_bytes;
  CHECK_FALSE(plan_memory(demand).has_value());
}

TEST_CASE("a refusal names flags, and following any of its advice is enough") {
  MemoryDemand demand = small_node();
  demand.budget_bytes = 64 * mebibyte;
  const auto refused = plan_memory(demand);
  REQUIRE_FALSE(refused.has_value());
  const std::string& text = refused.error().detail;
  CAPTURE(text);
  const auto number_after = [&](const std::string& words) {
    const size_t at = text.find(words);
    REQUIRE(at != std::string::npos);
    return std::stoull(text.substr(at + words.size()));
  };
  MemoryDemand more_memory = demand;
  more_memory.budget_bytes = number_after("raise --memory to ") * mebibyte;
  CHECK(plan_memory(more_memory).has_value());
  MemoryDemand smaller_values = demand;
  smaller_values.value_bytes_max = number_after("lower --max-value to ") * mebibyte;
  CHECK(plan_memory(smaller_values).has_value());
}

TEST_CASE("advice that could not help is not given") {
  MemoryDemand demand = small_node();
  demand.budget_bytes = 20 * mebibyte;  // less than the process and its cores take
  const std::string text = plan_memory(demand).error().detail;
  CHECK(text.find("raise --memory") != std::string::npos);
  CHECK(text.find("--max-value") == std::string::npos);
  CHECK(text.find("lower --max-connections") == std::string::npos);
}

TEST_CASE("the default number of connections grows with memory, within bounds") {
  CHECK(default_connections_max(0) == 64);
  CHECK(default_connections_max(1ull << 30) > default_connections_max(128 * mebibyte));
  CHECK(default_connections_max(1ull << 50) == 50'000);
}

}  // namespace gyre
