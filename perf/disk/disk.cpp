// What the disk below a log and a table can do, asked in the ways that a store could ask: the
// figures behind "DSYNC or write and fsync" and "direct or buffered" (DESIGN D6, D7), and the
// device's own limit, which latency targets of the lab are multiples of.
//
// Writes: one at a time, as a log does, each waiting until it is durable.
//   dsync      O_DIRECT and RWF_DSYNC over blocks that were written before: one command, no journal
//   fdatasync  O_DIRECT over written blocks, and a linked fdatasync
//   buffered   through the page cache over written blocks, and a linked fdatasync
//   allocated  O_DIRECT and RWF_DSYNC into blocks that are allocated but were never written
//   growing    O_DIRECT and RWF_DSYNC behind the end of the file
// Reads: random blocks of a file that was written, at a given depth.
//   direct     O_DIRECT
//   cold       through the page cache, nothing of the file in it
//   warm       through the page cache, everything of the file in it
//
// A round reads no block twice, in an order that only looks random, and ends when there are none
// left: a second read of a block would not be cold any more. A percentile is given only where 100
// samples lie above it.
//
// A watch (--watch) is for stalls: few synced writes per second, as dsync does them, beside whatever
// else uses the disk, each told with its moment, so that it can be laid beside a server's series.
//
// The kinds take turns, round by round, so that what drifts drifts for all. CPU time is the
// process's, its kernel workers included, divided by operations.
//
// This program stands alone, as perf/floor does: it shares nothing with src/.

#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Options {
  std::string directory = ".";
  unsigned rounds = 4;
  double seconds = 1;  // of a kind in a round
  size_t write_bytes = 4096;
  size_t read_bytes = 4096;
  unsigned depth = 32;
  uint64_t file_bytes = 1ull << 30;  // that is read; the log's is smaller
  unsigned watch_per_s = 0;          // 0: no watch
  bool json = false;
};

constexpr uint64_t log_bytes = 64ull << 20;
constexpr uint64_t watch_bytes = 4ull << 20;  // made while the others already use the disk
constexpr size_t alignment = 4096;

[[noreturn]] void die(const std::string& what, int positive_errno) {
  std::fprintf(stderr, "disk: %s: %s\n", what.c_str(), std::strerror(positive_errno));
  std::exit(1);
}

uint64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

double cpu_us() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto us = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
  };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

enum class Way { dsync, fdatasync, buffered, allocated, growing, direct, cold, warm };

struct Kind {
  const char* name;
  Way way;
  bool reads;
  std::vector<uint64_t> latencies_ns;
  double cpu_us = 0;
  double elapsed_s = 0;
};

// A file that is gone again as soon as the program ends, however it ends.
class ScratchFile {
 public:
  ScratchFile(const std::string& directory, bool direct) {
    std::string path = directory + "/disk.XXXXXX";
    fd_ = mkostemp(path.data(), O_CLOEXEC);
    if (fd_ < 0) die("a file in " + directory, errno);
    if (direct) {
      const int other = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
      const int error = errno;
      close(fd_);
      fd_ = other;
      if (fd_ < 0) {
        unlink(path.c_str());
        die("O_DIRECT in " + directory, error);
      }
    }
    unlink(path.c_str());
  }
  ~ScratchFile() { close(fd_); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  int fd() const { return fd_; }

  void allocate(uint64_t bytes) const {
    if (const int rc = posix_fallocate(fd_, 0, static_cast<off_t>(bytes)); rc != 0) {
      die("allocating (is the disk full?)", rc);
    }
  }

  void fill(uint64_t bytes, const char* block, size_t block_bytes) const {
    for (uint64_t at = 0; at < bytes; at += block_bytes) {
      if (pwrite(fd_, block, block_bytes, static_cast<off_t>(at)) !=
          static_cast<ssize_t>(block_bytes)) {
        die("filling (is the disk full?)", errno);
      }
    }
    if (fdatasync(fd_) != 0) die("fdatasync", errno);
  }

 private:
  int fd_ = -1;
};

char* aligned(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes) != 0) die("memory", ENOMEM);
  std::memset(memory, 0x5a, bytes);
  return static_cast<char*>(memory);
}

// The numbers below `count`, each once, in an order that looks random: a full-period linear
// congruential generator (Hull and Dobell, 1962) modulo the next power of two, without what lies
// beyond the count. Its low bits alternate, so the value is spread by an invertible mix.
class Permutation {
 public:
  Permutation(uint64_t count, uint64_t seed)
      : count_(count), mask_(std::bit_ceil(count) - 1), state_(seed & mask_), left_(count) {}

  bool over() const { return left_ == 0; }
  uint64_t next() {
    --left_;
    for (;;) {
      state_ = (state_ * 6364136223846793005u + 1442695040888963407u) & mask_;
      if (const uint64_t value = mix(state_); value < count_) return value;
    }
  }

 private:
  // Odd factors and shifts to the right are invertible modulo a power of two.
  uint64_t mix(uint64_t x) const {
    const int shift = std::max(1, static_cast<int>(std::bit_width(mask_)) / 2);
    for (const uint64_t factor : {0xbf58476d1ce4e5b9u, 0x94d049bb133111ebu}) {
      x = ((x ^ (x >> shift)) * factor) & mask_;
    }
    return x ^ (x >> shift);
  }

  uint64_t count_;
  uint64_t mask_;
  uint64_t state_;
  uint64_t left_;
};

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    if (const int rc = io_uring_queue_init_params(1024, &ring_, &params); rc < 0) {
      die("io_uring_setup", -rc);
    }
    buffers_ = aligned(std::max<size_t>(options.write_bytes, 1 << 20));
    for (unsigned i = 0; i < options.depth; ++i) targets_.push_back(aligned(options.read_bytes));
  }
  ~Bench() { io_uring_queue_exit(&ring_); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void write_round(Kind& kind) {
    const bool direct = kind.way != Way::buffered;
    const ScratchFile file(options_.directory, direct);
    if (kind.way == Way::allocated) {
      file.allocate(log_bytes);
    } else if (kind.way != Way::growing) {
      file.fill(log_bytes, buffers_, 1 << 20);
    }
    // Whatever making the file left to do is done before the clock starts.
    if (fsync(file.fd()) != 0) die("fsync", errno);
    const bool wraps = kind.way != Way::growing && kind.way != Way::allocated;
    const Clocks clocks(kind, options_.seconds);
    uint64_t at = 0;
    while (!clocks.over()) {
      if (at + options_.write_bytes > log_bytes) {
        if (!wraps) break;
        at = 0;
      }
      const uint64_t start = now_ns();
      write_one(kind.way, file.fd(), at);
      kind.latencies_ns.push_back(now_ns() - start);
      at += options_.write_bytes;
    }
  }

  void read_round(Kind& kind, const ScratchFile& direct, const ScratchFile& buffered) {
    const ScratchFile& file = kind.way == Way::direct ? direct : buffered;
    if (kind.way == Way::cold) posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
    if (kind.way == Way::warm) touch(file);
    posix_fadvise(file.fd(), 0, 0, POSIX_FADV_RANDOM);
    started_ns_.assign(options_.depth, 0);
    Permutation blocks(options_.file_bytes / options_.read_bytes, random_());
    const Clocks clocks(kind, options_.seconds);
    unsigned under_way = 0;
    for (; under_way < options_.depth && !blocks.over(); ++under_way) {
      read_one(file.fd(), under_way, blocks.next());
    }
    while (under_way > 0) {
      if (const int rc = io_uring_submit_and_wait(&ring_, 1); rc < 0 && rc != -EINTR) {
        die("io_uring_enter", -rc);
      }
      const bool late = clocks.over();
      io_uring_cqe* cqe = nullptr;
      while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        const auto lane = static_cast<unsigned>(cqe->user_data);
        if (cqe->res != static_cast<int>(options_.read_bytes)) die("read", -cqe->res);
        io_uring_cqe_seen(&ring_, cqe);
        kind.latencies_ns.push_back(now_ns() - started_ns_[lane]);
        if (late || blocks.over()) {
          --under_way;
        } else {
          read_one(file.fd(), lane, blocks.next());
        }
      }
    }
  }

 private:
  // Adds what passes while it lives to a kind.
  class Clocks {
   public:
    Clocks(Kind& kind, double seconds)
        : kind_(kind),
          started_ns_(now_ns()),
          end_ns_(started_ns_ + static_cast<uint64_t>(seconds * 1e9)),
          cpu_us_(cpu_us()) {}
    ~Clocks() {
      kind_.cpu_us += cpu_us() - cpu_us_;
      kind_.elapsed_s += static_cast<double>(now_ns() - started_ns_) / 1e9;
    }
    Clocks(const Clocks&) = delete;
    Clocks& operator=(const Clocks&) = delete;
    bool over() const { return now_ns() >= end_ns_; }

   private:
    Kind& kind_;
    uint64_t started_ns_;
    uint64_t end_ns_;
    double cpu_us_;
  };

  void write_one(Way way, int fd, uint64_t at) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_write(sqe, fd, buffers_, static_cast<unsigned>(options_.write_bytes), at);
    unsigned count = 1;
    if (way == Way::fdatasync || way == Way::buffered) {
      sqe->flags |= IOSQE_IO_LINK;
      sqe = io_uring_get_sqe(&ring_);
      io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
      count = 2;
    } else {
      sqe->rw_flags = RWF_DSYNC;
    }
    io_uring_submit_and_wait(&ring_, count);
    for (unsigned i = 0; i < count; ++i) {
      io_uring_cqe* cqe = nullptr;
      if (const int rc = io_uring_wait_cqe(&ring_, &cqe); rc < 0) die("io_uring_enter", -rc);
      if (cqe->res < 0) die("write (is the disk full?)", -cqe->res);
      io_uring_cqe_seen(&ring_, cqe);
    }
  }

  void read_one(int fd, unsigned lane, uint64_t block) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_read(sqe, fd, targets_[lane], static_cast<unsigned>(options_.read_bytes),
                       block * options_.read_bytes);
    sqe->user_data = lane;
    started_ns_[lane] = now_ns();
  }

  void touch(const ScratchFile& file) {
    for (uint64_t at = 0; at < options_.file_bytes; at += 1 << 20) {
      if (pread(file.fd(), buffers_, 1 << 20, static_cast<off_t>(at)) < 0) die("read", errno);
    }
  }

  const Options options_;
  io_uring ring_{};
  char* buffers_ = nullptr;
  std::vector<char*> targets_;
  std::vector<uint64_t> started_ns_;
  std::mt19937_64 random_{1};
};

// --- the watch -----------------------------------------------------------------------------------

struct WatchedWrite {
  uint64_t started_ns;  // CLOCK_MONOTONIC
  uint64_t latency_ns;
  uint64_t late_ns;  // after it was due: this process waited for a CPU
};

volatile std::sig_atomic_t watch_ended = 0;

void end_watch_on_signals() {
  struct sigaction action{};
  action.sa_handler = [](int) { watch_ended = 1; };
  for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, nullptr);
}

void sleep_until(uint64_t at_ns) {
  const timespec at{.tv_sec = static_cast<time_t>(at_ns / 1'000'000'000),
                    .tv_nsec = static_cast<long>(at_ns % 1'000'000'000)};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr);  // a signal ends it early
}

// Ahead of all ordinary processes, if that is allowed: a wait for a CPU is no stall of the disk.
bool go_first() {
  const sched_param first{.sched_priority = 1};
  return sched_setscheduler(0, SCHED_FIFO, &first) == 0;
}

// Writes at a steady pace until the time is over or a signal comes. What falls due while a write is
// under way is left out: its latency already says that nothing could be written then.
std::vector<WatchedWrite> watch(const Options& options) {
  const ScratchFile file(options.directory, true);
  const size_t piece_bytes = std::max<size_t>(options.write_bytes, 1 << 20);
  char* block = aligned(piece_bytes);
  file.fill(std::max<uint64_t>(watch_bytes, piece_bytes), block, piece_bytes);
  if (fsync(file.fd()) != 0) die("fsync", errno);
  const iovec part{.iov_base = block, .iov_len = options.write_bytes};
  const uint64_t places = std::max<uint64_t>(watch_bytes / options.write_bytes, 1);
  const uint64_t interval_ns = 1'000'000'000 / options.watch_per_s;
  const uint64_t begin_ns = now_ns();
  const uint64_t end_ns = begin_ns + static_cast<uint64_t>(options.seconds * 1e9);
  std::vector<WatchedWrite> writes;
  for (uint64_t due_ns = begin_ns; due_ns < end_ns;) {
    sleep_until(due_ns);
    if (watch_ended != 0) break;
    const uint64_t start = now_ns();
    const auto at = static_cast<off_t>(writes.size() % places * options.write_bytes);
    if (pwritev2(file.fd(), &part, 1, at, RWF_DSYNC) != static_cast<ssize_t>(part.iov_len)) {
      die("write", errno);
    }
    const uint64_t done = now_ns();
    writes.push_back({start, done - start, start - due_ns});
    due_ns += (1 + (done - due_ns) / interval_ns) * interval_ns;
  }
  std::free(block);
  return writes;
}

// --- what came of it -----------------------------------------------------------------------------

std::string decimal(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

// As text; `none` where fewer than 100 samples lie above it.
std::string quantile_us(const std::vector<uint64_t>& sorted, double p, const char* none) {
  const double above = (1 - p) * static_cast<double>(sorted.size());
  if (above < 100 - 1e-6) return none;  // 1 - p is not exact
  const auto rank = static_cast<size_t>(p * static_cast<double>(sorted.size()));
  return decimal(static_cast<double>(sorted[rank]) / 1e3);
}

void print(std::vector<Kind>& kinds, const Options& options) {
  const char* comma = "";
  if (options.json) {
    std::printf("{\"schema\":\"gyre-disk/1\",\"kinds\":[");
  } else {
    std::printf("writes of %zu bytes one at a time, reads of %zu at depth %u; us\n",
                options.write_bytes, options.read_bytes, options.depth);
    std::printf("%-6s %-10s %9s %9s %9s %9s %9s %9s %9s\n", "", "kind", "n", "per s", "p50", "p99",
                "p99.9", "max", "CPU/op");
  }
  for (Kind& kind : kinds) {
    std::vector<uint64_t>& sorted = kind.latencies_ns;
    std::sort(sorted.begin(), sorted.end());
    const auto n = static_cast<double>(sorted.size());
    const char* form = options.json
                           ? "%s{\"operation\":\"%s\",\"kind\":\"%s\",\"n\":%.0f,\"per_s\":%.1f,"
                             "\"p50_us\":%s,\"p99_us\":%s,\"p999_us\":%s,\"max_us\":%s,"
                             "\"cpu_us\":%s}"
                           : "%s%-6s %-10s %9.0f %9.0f %9s %9s %9s %9s %9s\n";
    const char* none = options.json ? "null" : "-";
    const std::string max =
        sorted.empty() ? none : decimal(static_cast<double>(sorted.back()) / 1e3);
    std::printf(form, options.json ? comma : "", kind.reads ? "read" : "write", kind.name, n,
                n / kind.elapsed_s, quantile_us(sorted, 0.5, none).c_str(),
                quantile_us(sorted, 0.99, none).c_str(), quantile_us(sorted, 0.999, none).c_str(),
                max.c_str(), sorted.empty() ? none : decimal(kind.cpu_us / n).c_str());
    comma = ",";
  }
  if (options.json) std::printf("]}\n");
}

void print(const std::vector<WatchedWrite>& writes, bool first, const Options& options) {
  std::vector<uint64_t> sorted;
  for (const WatchedWrite& write : writes) sorted.push_back(write.latency_ns);
  std::sort(sorted.begin(), sorted.end());
  const char* none = options.json ? "null" : "-";
  const std::string p50 = quantile_us(sorted, 0.5, none);
  const std::string p99 = quantile_us(sorted, 0.99, none);
  const std::string p999 = quantile_us(sorted, 0.999, none);
  const std::string max = sorted.empty() ? none : decimal(static_cast<double>(sorted.back()) / 1e3);
  if (!options.json) {
    std::printf("%zu writes of %zu bytes at %u/s; p50 %s, p99 %s, p99.9 %s, max %s us\n",
                writes.size(), options.write_bytes, options.watch_per_s, p50.c_str(), p99.c_str(),
                p999.c_str(), max.c_str());
    return;
  }
  std::printf(
      "{\"schema\":\"gyre-disk/1\",\"watch\":{\"per_s\":%u,\"realtime\":%s,\"n\":%zu,"
      "\"p50_us\":%s,\"p99_us\":%s,\"p999_us\":%s,\"max_us\":%s,\"writes\":[",
      options.watch_per_s, first ? "true" : "false", writes.size(), p50.c_str(), p99.c_str(),
      p999.c_str(), max.c_str());
  const char* comma = "";
  for (const WatchedWrite& write : writes) {
    std::printf("%s[%.3f,%.3f,%.3f]", comma, static_cast<double>(write.started_ns) / 1e3,
                static_cast<double>(write.latency_ns) / 1e3,
                static_cast<double>(write.late_ns) / 1e3);
    comma = ",";
  }
  std::printf("]}}\n");
}

constexpr const char* usage =
    "usage: disk [--dir DIR] [--rounds N] [--seconds S] [--write-bytes N] [--read-bytes N]\n"
    "            [--depth N] [--file-mib N] [--only KIND]... [--json]\n"
    "       disk --watch N [--dir DIR] [--seconds S] [--write-bytes N] [--json]\n"
    "What the disk of DIR (default: the current folder) can do, in the ways a store could ask.\n"
    "  --rounds N, --seconds S  the kinds take turns for S seconds, N times (default 4 of 1 s)\n"
    "  --write-bytes, --read-bytes  multiples of 4096 (default 4096)\n"
    "  --depth N      reads under way (default 32)\n"
    "  --file-mib N   size of the file that is read (default 1024)\n"
    "  --only KIND    dsync, fdatasync, buffered, allocated, growing, direct, cold, warm\n"
    "  --watch N      instead N synced writes per second, at most 1000, for S seconds or until\n"
    "                 SIGINT or SIGTERM; --json tells each: started, latency, late (microseconds\n"
    "                 of CLOCK_MONOTONIC)\n";

[[noreturn]] void refuse() {
  std::fputs(usage, stderr);
  std::exit(2);
}

std::vector<Kind> all_kinds() {
  return {{"dsync", Way::dsync, false, {}},       {"fdatasync", Way::fdatasync, false, {}},
          {"buffered", Way::buffered, false, {}}, {"allocated", Way::allocated, false, {}},
          {"growing", Way::growing, false, {}},   {"direct", Way::direct, true, {}},
          {"cold", Way::cold, true, {}},          {"warm", Way::warm, true, {}}};
}

// Fills options, and kinds with what is to be measured.
void parse(int argc, char** argv, Options& options, std::vector<Kind>& kinds) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--help") {
      std::fputs(usage, stdout);
      std::exit(0);
    }
    if (flag == "--json") {
      options.json = true;
      continue;
    }
    if (++i >= argc) refuse();
    const std::string value = argv[i];
    const double number = std::atof(value.c_str());
    if (flag == "--dir") {
      options.directory = value;
    } else if (flag == "--only") {
      for (Kind& kind : all_kinds()) {
        if (value == kind.name) kinds.push_back(kind);
      }
      if (kinds.empty() || value != kinds.back().name) refuse();
    } else if (number <= 0) {
      refuse();
    } else if (flag == "--seconds") {
      options.seconds = number;
    } else if (flag == "--rounds") {
      options.rounds = static_cast<unsigned>(number);
    } else if (flag == "--write-bytes") {
      options.write_bytes = static_cast<size_t>(number);
    } else if (flag == "--read-bytes") {
      options.read_bytes = static_cast<size_t>(number);
    } else if (flag == "--depth") {
      options.depth = std::min(static_cast<unsigned>(number), 1024u);
    } else if (flag == "--watch") {
      options.watch_per_s = static_cast<unsigned>(number);
      if (options.watch_per_s < 1 || options.watch_per_s > 1000) refuse();
    } else if (flag == "--file-mib") {
      options.file_bytes = static_cast<uint64_t>(number) << 20;
    } else {
      refuse();
    }
  }
  if (options.write_bytes % alignment != 0 || options.read_bytes % alignment != 0) refuse();
  if (options.write_bytes > log_bytes || options.read_bytes > options.file_bytes) refuse();
  if (kinds.empty()) kinds = all_kinds();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::vector<Kind> kinds;
  parse(argc, argv, options, kinds);
  if (options.watch_per_s > 0) {
    end_watch_on_signals();
    const bool first = go_first();
    print(watch(options), first, options);
    return 0;
  }
  Bench bench(options);
  const ScratchFile direct(options.directory, true);
  const ScratchFile buffered(options.directory, false);
  char* block = aligned(1 << 20);
  const auto has = [&](bool (*wanted)(const Kind&)) {
    return std::any_of(kinds.begin(), kinds.end(), wanted);
  };
  if (has([](const Kind& k) { return k.way == Way::direct; })) {
    direct.fill(options.file_bytes, block, 1 << 20);
  }
  if (has([](const Kind& k) { return k.reads && k.way != Way::direct; })) {
    buffered.fill(options.file_bytes, block, 1 << 20);
  }
  std::free(block);
  for (unsigned round = 0; round < options.rounds; ++round) {
    for (Kind& kind : kinds) {
      kind.reads ? bench.read_round(kind, direct, buffered) : bench.write_round(kind);
    }
  }
  print(kinds, options);
}
