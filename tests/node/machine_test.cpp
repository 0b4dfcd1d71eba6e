#include "node/machine.hpp"

#include <doctest/doctest.h>

namespace gyre {

TEST_CASE("a cgroup's CPU quota is a fraction of its period") {
  CHECK(parse_cgroup_cpu_max("150000 100000\n").value() == doctest::Approx(1.5));
  CHECK_FALSE(parse_cgroup_cpu_max("max 100000\n").has_value());
  CHECK_FALSE(parse_cgroup_cpu_max("100000 0\n").has_value());
  CHECK_FALSE(parse_cgroup_cpu_max("100000").has_value());
  CHECK_FALSE(parse_cgroup_cpu_max("").has_value());
}

TEST_CASE("a cgroup's memory limit is a number that means one") {
  CHECK(parse_cgroup_memory_max("134217728\n").value() == 128u << 20);
  CHECK_FALSE(parse_cgroup_memory_max("max\n").has_value());
  CHECK_FALSE(parse_cgroup_memory_max("9223372036854771712\n").has_value());
  CHECK_FALSE(parse_cgroup_memory_max("").has_value());
}

TEST_CASE("the machine's memory is read in KiB") {
  CHECK(parse_meminfo_total("MemTotal:       24684092 kB\nMemFree: 1 kB\n").value() == 24684092ull
                                                                                           << 10);
  CHECK_FALSE(parse_meminfo_total("MemFree: 1 kB\n").has_value());
}

TEST_CASE("this machine has a CPU and memory") {
  const Machine machine = read_machine();
  CHECK(machine.cpus >= 1);
  CHECK(machine.cpus <= machine.cpus_online);
  CHECK(machine.memory_bytes > 1u << 20);
  CHECK_FALSE(machine.cpus_source.empty());
  CHECK_FALSE(machine.memory_source.empty());
}

}  // namespace gyre
