// The start-up probe: what it says, and that it says it when the kernel really refuses.
#include <doctest/doctest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>

#include "runtime/uring/probe.hpp"

using namespace gyre;
using namespace gyre::uring;

namespace {

SystemFacts healthy() {
  SystemFacts facts;
  facts.kernel_release = "6.1.0-18-amd64";
  facts.io_uring_disabled = 0;
  facts.locked_memory_bytes = 8 << 20;
  facts.needed_memory_bytes = 4 << 20;
  return facts;
}

bool says(const std::string& text, const char* what) {
  return text.find(what) != std::string::npos;
}

// From here on io_uring_setup fails with this errno.
bool forbid_io_uring(unsigned error) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{sizeof program / sizeof program[0], program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// The probe's answer in a child that may not use io_uring.
std::string probe_under_filter(unsigned error) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::string answer = "no filter";
    if (forbid_io_uring(error)) {
      const auto report = probe_system();
      answer = report ? "works" : report.error().message();
    }
    (void)!::write(ends[1], answer.data(), answer.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string answer(4096, '\0');
  size_t size = 0;
  for (ssize_t got; (got = ::read(ends[0], answer.data() + size, answer.size() - size)) > 0;)
    size += got;
  answer.resize(size);
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return answer;
}

}  // namespace

TEST_CASE("an old kernel is named, whatever the errno") {
  SystemFacts facts = healthy();
  facts.kernel_release = "5.15.0-91-generic";
  for (int error : {ENOSYS, EPERM, EINVAL, ENOMEM}) {
    CHECK(says(explain(error, facts), "5.15.0-91-generic"));
    CHECK(says(explain(error, facts), "6.1"));
  }
}

TEST_CASE("versions are compared by number") {
  CHECK_FALSE(kernel_new_enough("5.19.17"));
  CHECK_FALSE(kernel_new_enough("6.0.9"));
  CHECK(kernel_new_enough("6.1"));
  CHECK(kernel_new_enough("6.18.44-x"));
  CHECK(kernel_new_enough("10.0"));
  CHECK(kernel_new_enough("strange"));
}

TEST_CASE("EPERM names the switch that is off") {
  SystemFacts facts = healthy();
  facts.io_uring_disabled = 2;
  CHECK(says(explain(EPERM, facts), "kernel.io_uring_disabled=2"));
  CHECK(says(explain(EPERM, facts), "sysctl -w"));
  facts.io_uring_disabled = 1;
  CHECK(says(explain(EPERM, facts), "io_uring_group"));
  facts.io_uring_disabled = 0;
  facts.in_container = true;
  CHECK(says(explain(EPERM, facts), "docker run --security-opt"));
  facts.in_container = false;
  CHECK(says(explain(EPERM, facts), "security policy"));
}

TEST_CASE("ENOSYS on a new kernel is a filter or a kernel without io_uring") {
  SystemFacts facts = healthy();
  CHECK(says(explain(ENOSYS, facts), "CONFIG_IO_URING"));
  facts.seccomp_active = true;
  CHECK(says(explain(ENOSYS, facts), "seccomp"));
}

TEST_CASE("ENOMEM says how much locked memory is needed, if that is the reason") {
  SystemFacts facts = healthy();
  CHECK(says(explain(ENOMEM, facts), "cgroup"));
  facts.locked_memory_bytes = 64 << 10;
  const std::string text = explain(ENOMEM, facts);
  CHECK(says(text, "64 KiB are allowed"));
  CHECK(says(text, "4096 KiB are needed"));
  CHECK(says(text, "ulimit -l 4096"));
  CHECK(says(text, "LimitMEMLOCK"));
}

TEST_CASE("anything else keeps the system's own words") {
  CHECK(says(explain(EFAULT, healthy()), "Bad address"));
  CHECK(says(explain(EMFILE, healthy()), "ulimit -n"));
}

TEST_CASE("this machine passes, and the soft limit of open files is at the hard one") {
  const auto report = probe_system(2);
  REQUIRE_MESSAGE(report.has_value(), report.error().message());
  CHECK_FALSE(report->kernel_release.empty());
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHECK(limit.rlim_cur == limit.rlim_max);
  CHECK(report->descriptors_max == limit.rlim_cur);
}

TEST_CASE("under a real seccomp filter the probe names it") {
  for (unsigned error : {EPERM, ENOSYS}) {
    const std::string answer = probe_under_filter(error);
    CHECK_MESSAGE(says(answer, "seccomp"), answer);
  }
}
