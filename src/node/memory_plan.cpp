#include "node/memory_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "node/config_values.hpp"

namespace gyre {
namespace {

namespace reservation = memory_reservation;

constexpr uint64_t mebibyte_bytes = 1ull << 20;

uint64_t fixed_bytes(const MemoryDemand& demand) {
  return reservation::process_bytes + demand.cores * reservation::core_bytes +
         demand.connections_max * reservation::connection_bytes +
         demand.shards * reservation::shard_bytes;
}

uint64_t memtable_bytes_least(const MemoryDemand& demand) {
  return std::max(reservation::memtable_bytes_min,
                  demand.value_bytes_max + demand.value_bytes_max / 8);
}

bool fits(const MemoryDemand& demand) {
  return memory_needed_bytes(demand) <= demand.budget_bytes;
}

// The largest value of a field at which the demand fits; 0 when even 1 doesn't.
template <class Field>
uint64_t largest_that_fits(MemoryDemand demand, Field MemoryDemand::* field) {
  uint64_t good = 0;
  uint64_t bad = demand.*field;
  while (bad - good > 1) {
    const uint64_t middle = good + (bad - good) / 2;
    demand.*field = static_cast<Field>(middle);
    (fits(demand) ? good : bad) = middle;
  }
  return good;
}

std::string in_mebibytes(uint64_t bytes) {
  return format_size((bytes + mebibyte_bytes - 1) / mebibyte_bytes * mebibyte_bytes);
}

// The changes of one flag that would each make the demand fit.
std::string advice(const MemoryDemand& demand) {
  std::string text = fmt::format("raise --memory to {}", in_mebibytes(memory_needed_bytes(demand)));
  if (const uint64_t value = largest_that_fits(demand, &MemoryDemand::value_bytes_max);
      value >= 64u << 10) {
    const uint64_t unit = value >= mebibyte_bytes ? mebibyte_bytes : 1024;
    text += fmt::format(", or lower --max-value to {}", format_size(value / unit * unit));
  }
  if (const uint64_t connections = largest_that_fits(demand, &MemoryDemand::connections_max);
      connections >= 64) {
    text += fmt::format(", or lower --max-connections to {}", connections);
  }
  // Fewer cores in an existing directory still serve all its shards, so only cores are counted.
  if (const uint64_t cores = largest_that_fits(demand, &MemoryDemand::cores); cores >= 1) {
    text += fmt::format(", or lower --cores to {}", cores);
  }
  return text;
}

}  // namespace

uint64_t memory_needed_bytes(const MemoryDemand& demand) {
  return fixed_bytes(demand) + demand.cores * demand.value_bytes_max +
         demand.shards * memtable_bytes_least(demand);
}

Result<MemoryPlan> plan_memory(const MemoryDemand& demand) {
  if (!fits(demand)) {
    return fail(
        Errc::invalid,
        fmt::format("--memory {} can't hold {} core(s), {} shard(s), values of up to {} and "
                    "{} connections, which need {}: {}",
                    format_size(demand.budget_bytes), demand.cores, demand.shards,
                    format_size(demand.value_bytes_max), demand.connections_max,
                    in_mebibytes(memory_needed_bytes(demand)), advice(demand)));
  }
  const uint64_t left = demand.budget_bytes - memory_needed_bytes(demand);
  MemoryPlan plan;
  plan.reserved_bytes = fixed_bytes(demand);
  plan.transit_bytes_per_core = demand.value_bytes_max + left / 4 / demand.cores;
  plan.memtable_bytes_per_shard = memtable_bytes_least(demand) + left / 4 / demand.shards;
  plan.flush_credit_bytes_per_shard =
      std::min(plan.memtable_bytes_per_shard / 4, left / 4 / demand.shards);
  plan.cache_bytes_per_shard = left / 2 / demand.shards;
  return plan;
}

uint64_t default_connections_max(uint64_t budget_bytes) {
  return std::clamp<uint64_t>(budget_bytes / 12 / reservation::connection_bytes, 64, 50'000);
}

}  // namespace gyre
