// What this process may use of the machine: CPUs and memory, as limited by affinity and cgroups.
// Read once, before the reactors start (the exemption of DESIGN D1).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gyre {

struct Machine {
  unsigned cpus = 1;
  std::string cpus_source;  // "the machine's CPUs", "the CPU affinity", "the cgroup's CPU quota"
  unsigned cpus_online = 1;
  uint64_t memory_bytes = 0;
  std::string memory_source;  // "the machine's memory", "the cgroup's memory limit"
};

Machine read_machine();

// The text formats behind it, as pure functions.
// cgroup v2 cpu.max: "150000 100000" is one and a half CPUs; nothing when it begins with "max".
std::optional<double> parse_cgroup_cpu_max(std::string_view text);
// memory.max, or memory.limit_in_bytes of v1, where an absurdly large number means no limit.
std::optional<uint64_t> parse_cgroup_memory_max(std::string_view text);
// MemTotal of /proc/meminfo, in bytes.
std::optional<uint64_t> parse_meminfo_total(std::string_view text);

}  // namespace gyre
