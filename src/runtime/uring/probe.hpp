// Can this machine run a node? Asked once at start, answered in sentences that say what to do.
#pragma once

#include <cstdint>
#include <string>

#include <gyre/result.hpp>

namespace gyre::uring {

// What explain needs to know about the machine.
struct SystemFacts {
  std::string kernel_release;   // "6.1.0-18-amd64"
  int io_uring_disabled = -1;   // sysctl kernel.io_uring_disabled; -1: there is none
  bool seccomp_active = false;  // a filter is installed on this process
  bool in_container = false;
  uint64_t locked_memory_bytes = UINT64_MAX;  // RLIMIT_MEMLOCK; UINT64_MAX: unlimited
  uint64_t needed_memory_bytes = 0;           // what the rings of all cores lock
};

struct ProbeReport {
  std::string kernel_release;
  uint64_t descriptors_max = 0;  // after raising the soft limit
  bool defers_taskrun = false;   // the best way of fetching completions is available
  std::string warning;           // a sentence, or empty
};

SystemFacts gather_facts(unsigned cores);

// Why io_uring_setup failed with this (positive) errno, and what to do about it.
std::string explain(int positive_errno, const SystemFacts& facts);

// 6.1 -> true. Text that is no version is trusted: the opcode check decides.
bool kernel_new_enough(const std::string& release);

// Tries a ring, checks what it can do, and raises the limit of open files as far as allowed.
Result<ProbeReport> probe_system(unsigned cores = 1);

}  // namespace gyre::uring
