#include "runtime/uring/probe.hpp"

#include <fmt/format.h>
#include <liburing.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "base/limits.hpp"
#include "runtime/uring/ring.hpp"

namespace gyre::uring {

namespace {

// Submission queue, completion queue and provided buffers of one core with default options.
constexpr uint64_t locked_bytes_per_core =
    1024 * 64 + 8192 * 16 + 1024 * 4 + 256 * 16 + 256 * 16384;

int read_number(const char* path, int otherwise) {
  std::ifstream file(path);
  int number = otherwise;
  return file >> number ? number : otherwise;
}

bool seccomp_active() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "Seccomp:") return status >> word && word != "0";
  }
  return false;
}

std::string explain_refusal(const SystemFacts& facts) {
  if (facts.io_uring_disabled == 2) {
    return "io_uring is switched off on this machine (sysctl kernel.io_uring_disabled=2). "
           "Switch it on with: sysctl -w kernel.io_uring_disabled=0";
  }
  if (facts.io_uring_disabled == 1) {
    return "io_uring is reserved for a group on this machine (sysctl kernel.io_uring_disabled=1). "
           "Run as root, join the group named by sysctl kernel.io_uring_group, or: "
           "sysctl -w kernel.io_uring_disabled=0";
  }
  if (facts.in_container || facts.seccomp_active) {
    return "io_uring is forbidden by a seccomp filter; containers do that by default. Start the "
           "container with a profile that allows io_uring_setup, io_uring_enter and "
           "io_uring_register (docker run --security-opt seccomp=unconfined allows everything)";
  }
  return "io_uring is forbidden by a security policy (SELinux, AppArmor or a sandbox): allow "
         "io_uring_setup, io_uring_enter and io_uring_register for this program";
}

struct NeededOpcode {
  unsigned code;
  const char* name;
};
constexpr NeededOpcode needed[] = {
    {IORING_OP_ACCEPT, "accept"},
    {IORING_OP_CONNECT, "connect"},
    {IORING_OP_RECV, "recv"},
    {IORING_OP_SEND, "send"},
    {IORING_OP_SENDMSG, "sendmsg"},
    {IORING_OP_READ, "read"},
    {IORING_OP_WRITE, "write"},
    {IORING_OP_FSYNC, "fsync"},
    {IORING_OP_FALLOCATE, "fallocate"},
    {IORING_OP_OPENAT, "openat"},
    {IORING_OP_CLOSE, "close"},
    {IORING_OP_RENAMEAT, "renameat"},
    {IORING_OP_UNLINKAT, "unlinkat"},
    {IORING_OP_MKDIRAT, "mkdirat"},
    {IORING_OP_LINKAT, "linkat"},
    {IORING_OP_POLL_ADD, "poll"},
    {IORING_OP_ASYNC_CANCEL, "async_cancel"},
};

std::string missing_opcodes(const Ring& ring) {
  std::string names;
  for (const NeededOpcode& op : needed) {
    if (!ring.supports(op.code)) names.append(names.empty() ? "" : ", ").append(op.name);
  }
  return names;
}

// Every connection is a descriptor, and so is every table file.
uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  if (limit.rlim_cur < limit.rlim_max) {
    rlimit raised = limit;
    raised.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;
}

}  // namespace

SystemFacts gather_facts(unsigned cores) {
  SystemFacts facts;
  utsname name{};
  if (::uname(&name) == 0) facts.kernel_release = name.release;
  facts.io_uring_disabled = read_number("/proc/sys/kernel/io_uring_disabled", -1);
  facts.seccomp_active = seccomp_active();
  facts.in_container =
      ::access("/.dockerenv", F_OK) == 0 || ::access("/run/.containerenv", F_OK) == 0;
  rlimit memory{};
  if (::getrlimit(RLIMIT_MEMLOCK, &memory) == 0 && memory.rlim_cur != RLIM_INFINITY) {
    facts.locked_memory_bytes = memory.rlim_cur;
  }
  facts.needed_memory_bytes = cores * locked_bytes_per_core;
  return facts;
}

bool kernel_new_enough(const std::string& release) {
  unsigned major = 0, minor = 0;
  if (std::sscanf(release.c_str(), "%u.%u", &major, &minor) != 2) return true;
  return major > 6 || (major == 6 && minor >= 1);
}

std::string explain(int positive_errno, const SystemFacts& facts) {
  if (!kernel_new_enough(facts.kernel_release)) {
    return fmt::format("this kernel ({}) is too old: Linux 6.1 or later is needed",
                       facts.kernel_release);
  }
  switch (positive_errno) {
    case ENOSYS:
      if (facts.seccomp_active || facts.in_container) return explain_refusal(facts);
      return fmt::format(
          "this kernel ({}) was built without io_uring (CONFIG_IO_URING): "
          "take a distribution kernel, 6.1 or later",
          facts.kernel_release);
    case EPERM:
    case EACCES:
      return explain_refusal(facts);
    case ENOMEM:
      if (facts.locked_memory_bytes < facts.needed_memory_bytes) {
        return fmt::format(
            "the limit of locked memory is too low: {} KiB are allowed, {} KiB are "
            "needed. Raise it: ulimit -l {} (systemd: LimitMEMLOCK={}K, docker: "
            "--ulimit memlock={})",
            facts.locked_memory_bytes >> 10, facts.needed_memory_bytes >> 10,
            facts.needed_memory_bytes >> 10, facts.needed_memory_bytes >> 10,
            facts.needed_memory_bytes);
      }
      return "no memory for the io_uring queues: the machine or its cgroup is full";
    case EMFILE:
      return "the process has no descriptor left for an io_uring: raise ulimit -n";
    case ENFILE:
      return "the system has no descriptor left for an io_uring: raise fs.file-max";
    case EINVAL:
      return fmt::format(
          "this kernel ({}) refuses the io_uring features that are needed: "
          "Linux 6.1 or later is needed",
          facts.kernel_release);
    default:
      return fmt::format("io_uring can't be set up: {}", std::strerror(positive_errno));
  }
}

Result<ProbeReport> probe_system(unsigned cores) {
  const SystemFacts facts = gather_facts(cores);
  if (!kernel_new_enough(facts.kernel_release)) {
    return fail(Errc::unsupported, explain(ENOSYS, facts));
  }
  ProbeReport report;
  report.kernel_release = facts.kernel_release;
  report.descriptors_max = raise_descriptor_limit();
  if (report.descriptors_max < limits::descriptors_wanted) {
    report.warning = fmt::format(
        "only {} open files are allowed, which bounds the connections: "
        "raise the hard limit (ulimit -Hn, systemd: LimitNOFILE=)",
        report.descriptors_max);
  }
  try {
    Ring ring({.sq_entries = 8, .cq_entries = 16});
    report.defers_taskrun = ring.defers_taskrun();
    const std::string missing = missing_opcodes(ring);
    if (!missing.empty()) {
      return fail(Errc::unsupported, fmt::format("this kernel's io_uring ({}) lacks: {}",
                                                 facts.kernel_release, missing));
    }
  } catch (const std::runtime_error& error) {
    return fail(Errc::unsupported, error.what());
  }
  return report;
}

}  // namespace gyre::uring
