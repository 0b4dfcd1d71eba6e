// gyre-engine-bench: our storage engine as a library against RocksDB, in one harness, in turns, on
// the same CPUs. What makes it fair:
//
//   - keys, values, their order and the checking of what is read are the same code (records.hpp)
//   - cache, filters, block size, compression, memtables and the meaning of "synced" are the same;
//     what only RocksDB has is set in its favour (rocksdb_session.hpp)
//   - each lives as it is meant to: ours as coroutines on a reactor per CPU, where lanes ask for
//     keys of all cores and pay for the mailbox; RocksDB with the number of threads that measured
//     best in this run, its background threads on the same CPUs
//   - pairs of runs in turns; a ratio is one pair's, and its median and range are what to quote
//   - in the open loop both get the same schedule, which neither moves, and latency counts from it
//
// What differs all the same: without sync, RocksDB hands each write to the kernel, ours gathers them
// for up to a millisecond, so a killed process (not only a power cut) loses that much; both report
// CPU of the whole machine, so that io_uring's workers and RocksDB's flushers count.
#include <fmt/format.h>
#include <rocksdb/version.h>
#include <sched.h>
#include <signal.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>

#include "engine/bench.hpp"
#include "load/machine.hpp"
#include "runtime/uring/node.hpp"
#include "runtime/uring/probe.hpp"
#include "runtime/uring/terminal.hpp"

namespace gyre::engine {
namespace {

constexpr int exit_failed = 1;
constexpr int exit_usage = 2;
constexpr int exit_wrong = 3;
constexpr unsigned copies_per_engine = 4;  // tables, merges under way, and a run on an empty store
constexpr uint64_t spare_bytes = uint64_t{1} << 30;

void complain(const std::string& text) {
  std::fprintf(stderr, "gyre-engine-bench: %s\n", text.c_str());
}

// Removed with all that is in it.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const std::string& parent)
      : path_(parent + "/gyre-engine-bench-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~TemporaryDirectory() { remove(); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  void remove() noexcept {
    std::error_code failure;
    if (!path_.empty()) std::filesystem::remove_all(path_, failure);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A thread that takes signals and shows on standard error what is going on.
class Watcher {
 public:
  Watcher(bool quiet, TemporaryDirectory& directory)
      : quiet_(quiet), directory_(directory), thread_([this] { watch(); }) {}
  ~Watcher() {
    ending_ = true;
    thread_.join();
  }

  void say(const std::string& text) {
    if (quiet_) return;
    const std::lock_guard lock(mutex_);
    const size_t columns = uring::terminal_columns(STDERR_FILENO);
    if (columns == 0) {
      std::fprintf(stderr, "%s\n", text.c_str());
    } else {
      std::fprintf(stderr, "\r\x1b[K%.*s", static_cast<int>(columns - 1), text.c_str());
    }
  }
  void clear() {
    if (!quiet_ && uring::terminal_columns(STDERR_FILENO) != 0) std::fputs("\r\x1b[K", stderr);
  }
  const Interruption& interruption() const { return interruption_; }
  int signal() const { return signal_; }

 private:
  void watch() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    while (!ending_) {
      const timespec patience{.tv_sec = 0, .tv_nsec = 200'000'000};
      const int received = ::sigtimedwait(&signals, nullptr, &patience);
      if (received <= 0) continue;
      if (interruption_.happened) {  // the second one ends it at once
        directory_.remove();
        ::_exit(128 + received);
      }
      signal_ = received;
      interruption_.happened = true;
    }
  }

  bool quiet_;
  TemporaryDirectory& directory_;
  std::mutex mutex_;
  Interruption interruption_;
  std::atomic<int> signal_{0};
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

// Restricts the process to the CPUs that were asked for; fills in all of them otherwise. An empty
// text, or what is wrong.
std::string take_cpus(std::vector<int>& cpus) {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (::sched_getaffinity(0, sizeof usable, &usable) != 0) return "cannot tell the CPUs";
  if (cpus.empty()) {
    for (int cpu = 0; cpu < 256; ++cpu) {
      if (CPU_ISSET(cpu, &usable)) cpus.push_back(cpu);
    }
    return {};
  }
  cpu_set_t wanted;
  CPU_ZERO(&wanted);
  for (const int cpu : cpus) {
    if (!CPU_ISSET(cpu, &usable)) return fmt::format("CPU {} is not there to be used", cpu);
    CPU_SET(cpu, &wanted);
  }
  return ::sched_setaffinity(0, sizeof wanted, &wanted) == 0 ? "" : "cannot choose the CPUs";
}

std::string check_disk(const Options& options, const std::string& directory) {
  struct statvfs status{};
  if (::statvfs(directory.c_str(), &status) != 0) {
    return fmt::format("cannot look at the disk of {}", directory);
  }
  const uint64_t free_bytes = uint64_t{status.f_bavail} * status.f_frsize;
  const uint64_t needed =
      options.engines.size() * copies_per_engine * options.data_bytes() + spare_bytes;
  if (free_bytes >= needed) return {};
  return fmt::format(
      "{} has {} MiB free, and {} keys may take {} MiB: give fewer --keys or another --dir",
      directory, free_bytes >> 20, options.keys, needed >> 20);
}

std::string joined(int argc, char** argv) {
  std::string text = "gyre-engine-bench";
  for (int i = 1; i < argc; ++i) text += fmt::format(" {}", argv[i]);
  return text;
}

bool save(const Options& options, Report& report) {
  if (options.json_file.empty()) return true;
  report.finished = load::utc_now();
  const std::string why = load::write_file(options.json_file, json_text(options, report));
  if (!why.empty()) complain(fmt::format("{} could not be written: {}", options.json_file, why));
  return why.empty();
}

int conclude(const Options& options, Report& report, const Result<void>& done, int signal) {
  report.interrupted = signal != 0 || !done;
  report.why = !done         ? done.error().message()
               : signal != 0 ? "interrupted; the figures are about the part that ran"
                             : "";
  for (const std::string& line : findings(report)) std::printf("%s\n", line.c_str());
  const bool saved = save(options, report);
  if (!report.why.empty()) complain(report.why);
  if (signal != 0) return 128 + signal;
  if (has_wrong_answers(report)) return exit_wrong;
  return done && saved ? EXIT_SUCCESS : exit_failed;
}

int run(Options options, const std::string& command) {
  if (options.directory.empty()) options.directory = std::filesystem::temp_directory_path();
  std::string problem = take_cpus(options.cpus);
  if (problem.empty() && options.lanes < options.cpus.size()) {
    problem =
        fmt::format("--lanes {} is fewer than the {} CPUs", options.lanes, options.cpus.size());
  }
  if (problem.empty()) problem = check_disk(options, options.directory);
  if (problem.empty()) {
    const auto probed = uring::probe_system(static_cast<unsigned>(options.cpus.size()));
    if (!probed) problem = probed.error().detail;
  }
  uring::block_signals();
  TemporaryDirectory directory(options.directory);
  if (problem.empty() && directory.path().empty()) {
    problem = "cannot make a directory in " + options.directory;
  }
  if (!problem.empty()) {
    complain(problem);
    return exit_failed;
  }
  Report report{
      .started = load::utc_now(),
      .interrupted = true,  // until the end
      .why = "not finished",
      .command = command,
      .machine = load::describe_machine(),
      .rocksdb_version = fmt::format("{}.{}.{}", ROCKSDB_MAJOR, ROCKSDB_MINOR, ROCKSDB_PATCH)};
  Watcher watcher(options.quiet, directory);
  Bench bench(options, directory.path(), watcher.interruption(), report,
              {.progress = [&](const std::string& text) { watcher.say(text); },
               .run_ended = [&](const Report&) { static_cast<void>(save(options, report)); },
               .step_ended =
                   [&](const Step& step) {
                     watcher.clear();
                     std::printf("%s", table_text(step).c_str());
                     std::fflush(stdout);
                   }});
  const Result<void> done = bench.run();
  watcher.clear();
  return conclude(options, report, done, watcher.signal());
}

}  // namespace
}  // namespace gyre::engine

int main(int argc, char** argv) {
  using namespace gyre::engine;
  auto line = parse_command_line(std::vector<std::string>(argv + 1, argv + argc));
  if (!line) {
    complain(line.error().detail + " See gyre-engine-bench --help");
    return exit_usage;
  }
  if (!line->print.empty()) {
    std::fputs(line->print.c_str(), stdout);
    return EXIT_SUCCESS;
  }
  return run(std::move(line->options), joined(argc, argv));
}
