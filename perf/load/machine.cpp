#include "load/machine.hpp"

#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <thread>

namespace gyre::load {

namespace {

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

Machine describe_machine() {
  Machine machine;
  std::ifstream cpus("/proc/cpuinfo");
  for (std::string line; std::getline(cpus, line);) {
    if (line.starts_with("model name") && line.find(": ") != std::string::npos) {
      machine.cpu = line.substr(line.find(": ") + 2);
      break;
    }
  }
  machine.cpus = std::thread::hardware_concurrency();
  utsname name{};
  if (::uname(&name) == 0) machine.kernel = name.release;
  machine.governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  // "always [madvise] never": the one in brackets.
  const std::string pages = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  const size_t open = pages.find('[');
  const size_t close = pages.find(']');
  if (open < close && close != std::string::npos) {
    machine.huge_pages = pages.substr(open + 1, close - open - 1);
  }
  machine.load_average = std::atof(first_line("/proc/loadavg").c_str());
  return machine;
}

Nanos thread_cpu() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return Nanos{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

Nanos thread_run_delay() {
  const std::string line = first_line("/proc/thread-self/schedstat");
  const size_t space = line.find(' ');
  return space == std::string::npos ? 0 : std::atoll(line.c_str() + space);
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

uint64_t wall_us() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000 +
         static_cast<uint64_t>(time.tv_nsec) / 1000;
}

uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
  static_cast<void>(::getrlimit(RLIMIT_NOFILE, &limit));
  return limit.rlim_cur;
}

std::string why_not_writable(const std::string& path) {
  const bool there = ::access(path.c_str(), F_OK) == 0;
  std::FILE* file = std::fopen(path.c_str(), "a");
  if (file == nullptr) return std::strerror(errno);
  std::fclose(file);
  if (!there) static_cast<void>(::unlink(path.c_str()));
  return {};
}

std::string write_file(const std::string& path, const std::string& content) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return std::strerror(errno);
  const bool written = std::fwrite(content.data(), 1, content.size(), file) == content.size();
  const int error = errno;
  if (std::fclose(file) != 0 || !written) return std::strerror(written ? errno : error);
  return {};
}

}  // namespace gyre::load
