// gyre-threadpool: what the lab compares gyre with. Selector threads read and parse, a bounded
// queue hands every request to a pool of workers, workers ask RocksDB and write the answers.
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <thread>

#include "selector.hpp"

namespace gyre::threadpool {

namespace {

constexpr int exit_ok = 0;
constexpr int exit_failed = 1;
constexpr int exit_usage = 2;
constexpr int exit_cut = 130;
constexpr time_t drain_seconds_max = 6;
constexpr int listen_backlog = 4096;
constexpr uint64_t descriptors_reserved = 32;

void complain(std::string_view text) {
  std::fprintf(stderr, "gyre-threadpool: %.*s\n", static_cast<int>(text.size()), text.data());
}

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

struct Listening {
  int fd = -1;
  uint16_t port = 0;
};

Result<Listening> listen_on(const Address& address) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  if (const int code = getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found); code != 0) {
    return fail(Errc::invalid,
                fmt::format("cannot listen on {}: {}", address.to_string(), gai_strerror(code)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> keep(found, freeaddrinfo);
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_storage bound{};
  socklen_t bound_size = sizeof bound;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, listen_backlog) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &bound_size) != 0) {
    const int failure = errno;
    if (fd >= 0) close(fd);
    if (failure == EADDRINUSE) {
      return fail(Errc::busy, fmt::format("{} is in use by another process: stop it, or choose "
                                          "another address with --listen",
                                          address.to_string()));
    }
    return fail(Errc::io, fmt::format("cannot listen on {}: {}", address.to_string(),
                                      std::strerror(failure)));
  }
  const uint16_t number = bound.ss_family == AF_INET6
                              ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                              : reinterpret_cast<const sockaddr_in&>(bound).sin_port;
  return Listening{fd, ntohs(number)};
}

// Tables and connections share the descriptors that there are.
void plan_descriptors(Options& options) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  const uint64_t descriptors = limit.rlim_cur;
  options.open_tables_max = std::clamp<uint64_t>(descriptors / 4, 20, 1000);
  const uint64_t taken = options.open_tables_max + descriptors_reserved + 2 * options.selectors;
  const uint64_t left = descriptors > taken ? descriptors - taken : 16;
  options.connections_max = std::min(options.connections_max, left);
}

void pin_to_first_cpus(unsigned count) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t chosen;
  CPU_ZERO(&chosen);
  for (int cpu = 0; cpu < CPU_SETSIZE && count > 0; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    CPU_SET(cpu, &chosen);
    --count;
  }
  sched_setaffinity(0, sizeof chosen, &chosen);
}

std::string_view to_string(Durability durability) {
  return durability == Durability::group      ? "group"
         : durability == Durability::interval ? "interval"
                                              : "none";
}

// Serves until it is told to stop and everything under way has ended.
void serve(const Options& options, const Listening& listening, RecordStore& store) {
  Pool pool(options, store);
  std::vector<std::unique_ptr<Selector>> selectors;
  std::vector<Selector*> all;
  for (unsigned i = 0; i < options.selectors; ++i) {
    all.push_back(selectors.emplace_back(std::make_unique<Selector>(options, pool)).get());
  }
  all.front()->accept_for(listening.fd, all);
  pool.start(options);
  for (Selector* selector : all) selector->start();

  fmt::print(
      "gyre serves http://{} cores={} selectors={} workers={} queue={} durability={} data={} "
      "records_recovered={}\n",
      Address{options.listen.host, listening.port}.to_string(), options.cores, options.selectors,
      options.workers, options.queue_tasks_max, to_string(options.durability), options.data,
      store.records_recovered());
  std::fflush(stdout);

  const sigset_t signals = stop_signals();
  int which = 0;
  sigwait(&signals, &which);
  pool.executor().drain();
  all.front()->drain();  // which tells the others
  std::atomic<bool> ended = false;
  // The second signal stops at once; so does time.
  std::thread impatient([&] {
    for (time_t second = 0; !ended; ++second) {
      const timespec patience{.tv_sec = 1, .tv_nsec = 0};
      if (sigtimedwait(&signals, nullptr, &patience) > 0 && !ended) _exit(exit_cut);
      if (second + 1 == drain_seconds_max) {
        for (Selector* selector : all) selector->abort();
      }
    }
  });
  for (Selector* selector : all) selector->join();
  ended = true;
  pthread_kill(impatient.native_handle(), SIGTERM);
  impatient.join();
  pool.stop();
}

int run(int argc, char** argv) {
  CommandLine line = parse_command_line({argv + 1, argv + argc});
  if (line.help) {
    fmt::print("{}", help_text());
    return exit_ok;
  }
  if (!line.problem.empty()) {
    complain(line.problem);
    return exit_usage;
  }
  Options& options = line.options;
  const sigset_t signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  if (options.pin) pin_to_first_cpus(options.cores);
  plan_descriptors(options);

  const Result<Listening> listening = listen_on(options.listen);
  if (!listening) {
    complain(listening.error().detail);
    return exit_failed;
  }
  Result<std::unique_ptr<RecordStore>> store = RecordStore::open(options);
  if (!store) {
    complain(store.error().detail);
    return exit_failed;
  }
  serve(options, *listening, **store);
  if (const rocksdb::Status closed = (*store)->close(); !closed.ok()) {
    complain("the store did not close well: " + closed.ToString());
    return exit_failed;
  }
  return exit_ok;
}

}  // namespace

}  // namespace gyre::threadpool

int main(int argc, char** argv) {
  try {
    return gyre::threadpool::run(argc, argv);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "gyre-threadpool: %s\n", failure.what());
    return 1;
  }
}
