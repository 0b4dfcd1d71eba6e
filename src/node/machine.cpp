#include "node/machine.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <vector>

namespace gyre {
namespace {

std::optional<uint64_t> leading_number(std::string_view text) {
  const size_t start = text.find_first_not_of(" \t");
  if (start == std::string_view::npos) return {};
  text.remove_prefix(start);
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return {};
  return number;
}

std::string read_small_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The directories whose limits hold for this process: its own cgroup and all above it.
std::vector<std::string> cgroup_directories(const std::string& root, std::string_view prefix) {
  std::vector<std::string> directories;
  std::istringstream lines(read_small_file("/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool wanted =
        prefix.empty() ? controllers == ",,"
                       : controllers.find("," + std::string(prefix) + ",") != std::string::npos;
    if (!wanted) continue;
    std::string path = line.substr(second + 1);
    while (!path.empty() && path != "/") {
      directories.push_back(root + path);
      path.resize(path.rfind('/'));
    }
  }
  directories.push_back(root);  // in a container the own group is mounted as the root
  return directories;
}

void limit_by_affinity(Machine& machine) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return;
  const auto allowed = static_cast<unsigned>(CPU_COUNT(&set));
  if (allowed == 0 || allowed >= machine.cpus) return;
  machine.cpus = allowed;
  machine.cpus_source = "the CPU affinity";
}

void limit_by_quota(Machine& machine, double quota_cpus) {
  // Rounded down: a core more than the quota pays for would be stopped in the middle of a tick.
  const unsigned whole = std::max(1u, static_cast<unsigned>(quota_cpus));
  if (whole >= machine.cpus) return;
  machine.cpus = whole;
  machine.cpus_source = "the cgroup's CPU quota";
}

void limit_by_memory(Machine& machine, const std::string& limit_text) {
  const auto limit = parse_cgroup_memory_max(limit_text);
  if (!limit || *limit >= machine.memory_bytes) return;
  machine.memory_bytes = *limit;
  machine.memory_source = "the cgroup's memory limit";
}

}  // namespace

std::optional<double> parse_cgroup_cpu_max(std::string_view text) {
  const auto quota = leading_number(text);
  const size_t space = text.find(' ');
  if (!quota || space == std::string_view::npos) return {};
  const auto period = leading_number(text.substr(space));
  if (!period || *period == 0) return {};
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<uint64_t> parse_cgroup_memory_max(std::string_view text) {
  constexpr uint64_t unlimited_bytes = 1ull << 62;
  const auto limit = leading_number(text);
  if (!limit || *limit == 0 || *limit >= unlimited_bytes) return {};
  return limit;
}

std::optional<uint64_t> parse_meminfo_total(std::string_view text) {
  constexpr std::string_view name = "MemTotal:";
  const size_t found = text.find(name);
  if (found == std::string_view::npos) return {};
  const auto kib = leading_number(text.substr(found + name.size()));
  if (!kib) return {};
  return *kib << 10;
}

Machine read_machine() {
  Machine machine;
  machine.cpus_online = static_cast<unsigned>(std::max(1l, sysconf(_SC_NPROCESSORS_ONLN)));
  machine.cpus = machine.cpus_online;
  machine.cpus_source = "the machine's CPUs";
  machine.memory_bytes = parse_meminfo_total(read_small_file("/proc/meminfo")).value_or(1ull << 30);
  machine.memory_source = "the machine's memory";
  limit_by_affinity(machine);

  const std::string v2 = "/sys/fs/cgroup";
  for (const std::string& directory : cgroup_directories(v2, "")) {
    if (const auto quota = parse_cgroup_cpu_max(read_small_file(directory + "/cpu.max"))) {
      limit_by_quota(machine, *quota);
    }
    limit_by_memory(machine, read_small_file(directory + "/memory.max"));
  }
  for (const std::string& directory : cgroup_directories(v2 + "/memory", "memory")) {
    limit_by_memory(machine, read_small_file(directory + "/memory.limit_in_bytes"));
  }
  for (const std::string& directory : cgroup_directories(v2 + "/cpu", "cpu")) {
    const auto quota = leading_number(read_small_file(directory + "/cpu.cfs_quota_us"));
    const auto period = leading_number(read_small_file(directory + "/cpu.cfs_period_us"));
    if (quota && period && *period > 0) {
      limit_by_quota(machine, static_cast<double>(*quota) / static_cast<double>(*period));
    }
  }
  return machine;
}

}  // namespace gyre
