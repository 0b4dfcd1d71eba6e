#include "engine/usage.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace gyre::engine {

namespace {

constexpr uint64_t sector_bytes = 512;  // the kernel's unit, whatever the disk's is

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

uint64_t ticks_to_us(uint64_t ticks) {
  return ticks * 1'000'000 / static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
}

uint64_t micros(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000 + static_cast<uint64_t>(time.tv_usec);
}

// The children of process 2. Empty if all CPUs are ours: then /proc/stat has everything.
std::unordered_map<int, UsageSample::KernelThread> kernel_threads(const std::vector<bool>& cpus) {
  std::unordered_map<int, UsageSample::KernelThread> threads;
  if (std::find(cpus.begin(), cpus.end(), false) == cpus.end()) return threads;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", failure)) {
    const std::string name = entry.path().filename();
    if (name.empty() || name[0] < '0' || name[0] > '9') continue;
    const std::string stat = text_of(entry.path() / "stat");
    const size_t behind_name = stat.rfind(')');
    if (behind_name == std::string::npos) continue;
    std::istringstream fields(stat.substr(behind_name + 1));
    std::vector<std::string> words;
    for (std::string word; fields >> word;) words.push_back(word);
    if (words.size() < 37 || words[1] != "2") continue;
    const auto cpu = static_cast<size_t>(std::atoll(words[36].c_str()));
    threads[std::atoi(name.c_str())] = {
        .ticks =
            static_cast<uint64_t>(std::atoll(words[11].c_str()) + std::atoll(words[12].c_str())),
        .elsewhere = cpu >= cpus.size() || !cpus[cpu]};
  }
  return threads;
}

std::string device_stat_path(const std::string& directory) {
  struct stat status{};
  if (::stat(directory.c_str(), &status) != 0) return {};
  const std::string path =
      fmt::format("/sys/dev/block/{}:{}/stat", major(status.st_dev), minor(status.st_dev));
  return std::filesystem::exists(path) ? path : std::string();
}

}  // namespace

Usage usage_between(const UsageSample& before, const UsageSample& after) {
  uint64_t elsewhere_ticks = 0;
  for (const auto& [id, thread] : after.kernel_threads) {
    if (!thread.elsewhere) continue;
    const auto earlier = before.kernel_threads.find(id);
    elsewhere_ticks +=
        thread.ticks - (earlier != before.kernel_threads.end() ? earlier->second.ticks : 0);
  }
  const Usage& a = after.totals;
  const Usage& b = before.totals;
  return {.user_us = a.user_us - b.user_us,
          .kernel_us = a.kernel_us - b.kernel_us,
          .system_us = a.system_us - b.system_us + ticks_to_us(elsewhere_ticks),
          .device_reads = a.device_reads - b.device_reads,
          .device_read_bytes = a.device_read_bytes - b.device_read_bytes,
          .device_written_bytes = a.device_written_bytes - b.device_written_bytes};
}

Usage operator+(const Usage& a, const Usage& b) {
  return {.user_us = a.user_us + b.user_us,
          .kernel_us = a.kernel_us + b.kernel_us,
          .system_us = a.system_us + b.system_us,
          .device_reads = a.device_reads + b.device_reads,
          .device_read_bytes = a.device_read_bytes + b.device_read_bytes,
          .device_written_bytes = a.device_written_bytes + b.device_written_bytes};
}

UsageMeter::UsageMeter(const std::string& directory)
    : device_stat_path_(device_stat_path(directory)) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return;
  const auto count = static_cast<size_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_CONF)));
  for (size_t cpu = 0; cpu < count; ++cpu) cpus_.push_back(CPU_ISSET(cpu, &set));
}

UsageSample UsageMeter::sample() const {
  UsageSample sample;
  rusage own{};
  ::getrusage(RUSAGE_SELF, &own);
  sample.totals.user_us = micros(own.ru_utime);
  sample.totals.kernel_us = micros(own.ru_stime);
  sample.totals.system_us = ticks_to_us(busy_ticks(text_of("/proc/stat"), cpus_));
  sample.kernel_threads = kernel_threads(cpus_);
  if (const auto device = device_counts(text_of(device_stat_path_))) {
    sample.totals.device_reads = device->reads;
    sample.totals.device_read_bytes = device->read_bytes;
    sample.totals.device_written_bytes = device->written_bytes;
  }
  return sample;
}

uint64_t busy_ticks(std::string_view proc_stat, const std::vector<bool>& cpus) {
  uint64_t sum = 0;
  std::istringstream lines{std::string(proc_stat)};
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("cpu") || line.size() < 4 || line[3] == ' ') continue;
    std::istringstream fields(line.substr(3));
    size_t cpu = 0;
    uint64_t user = 0, nice = 0, system = 0, idle = 0, waiting = 0, interrupts = 0, soft = 0;
    fields >> cpu >> user >> nice >> system >> idle >> waiting >> interrupts >> soft;
    if (cpu < cpus.size() && cpus[cpu]) sum += user + nice + system + interrupts + soft;
  }
  return sum;
}

std::optional<DeviceCounts> device_counts(std::string_view stat) {
  std::istringstream fields{std::string(stat)};
  std::vector<uint64_t> numbers;
  for (uint64_t number = 0; fields >> number;) numbers.push_back(number);
  if (numbers.size() < 7) return std::nullopt;
  return DeviceCounts{.reads = numbers[0],
                      .read_bytes = numbers[2] * sector_bytes,
                      .written_bytes = numbers[6] * sector_bytes};
}

std::optional<double> write_amplification(const EngineCounters& counters) {
  if (counters.user_bytes == 0 || counters.flushed_bytes == 0) return std::nullopt;
  return static_cast<double>(counters.flushed_bytes + counters.compacted_bytes) /
         static_cast<double>(counters.user_bytes);
}

std::optional<double> space_amplification(uint64_t bytes, uint64_t bytes_compacted) {
  if (bytes_compacted == 0) return std::nullopt;
  return static_cast<double>(bytes) / static_cast<double>(bytes_compacted);
}

std::optional<double> per_operation(uint64_t total, uint64_t operations) {
  if (operations == 0) return std::nullopt;
  return static_cast<double>(total) / static_cast<double>(operations);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace gyre::engine
