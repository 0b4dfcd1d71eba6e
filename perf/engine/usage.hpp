// What a stretch of work cost the machine, and how that is counted against what it achieved. The
// parsers and the arithmetic are pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/session.hpp"

namespace gyre::engine {

struct Usage {
  uint64_t user_us = 0;    // of this process, io_uring's workers included
  uint64_t kernel_us = 0;  // of this process
  uint64_t system_us = 0;  // everything on its CPUs, and kernel threads elsewhere
  uint64_t device_reads = 0;
  uint64_t device_read_bytes = 0;
  uint64_t device_written_bytes = 0;
};
Usage operator+(const Usage& a, const Usage& b);

// A moment: everything since some time in the past.
struct UsageSample {
  Usage totals;  // system_us: of our CPUs only
  struct KernelThread {
    uint64_t ticks;
    bool elsewhere;  // it last ran on another CPU than ours
  };
  std::unordered_map<int, KernelThread> kernel_threads;
};
// What was used between two moments. A kernel thread that ran elsewhere counts, because what it did
// there may have been for us.
Usage usage_between(const UsageSample& before, const UsageSample& after);

// Of the block device that holds `directory`, and the CPUs that this process may use.
class UsageMeter {
 public:
  explicit UsageMeter(const std::string& directory);
  UsageSample sample() const;

 private:
  std::string device_stat_path_;
  std::vector<bool> cpus_;
};

// Ticks in which the CPUs were busy, from the text of /proc/stat.
uint64_t busy_ticks(std::string_view proc_stat, const std::vector<bool>& cpus);
// From the text of /sys/dev/block/…/stat.
struct DeviceCounts {
  uint64_t reads = 0;
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
};
std::optional<DeviceCounts> device_counts(std::string_view stat);

// Bytes that went into tables per byte that the user wrote; nothing if either is missing.
std::optional<double> write_amplification(const EngineCounters& counters);
// Tables as they are over tables as they are when rewritten without anything that is outdated.
std::optional<double> space_amplification(uint64_t bytes, uint64_t bytes_compacted);
std::optional<double> per_operation(uint64_t total, uint64_t operations);

double median(std::vector<double> values);  // 0 of none

}  // namespace gyre::engine
