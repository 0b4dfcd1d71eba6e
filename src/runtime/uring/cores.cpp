#include "runtime/uring/cores.hpp"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <exception>
#include <mutex>
#include <thread>

#include <gyre/file.hpp>
#include <gyre/socket.hpp>
#include <gyre/task.hpp>

#include "runtime/uring/backend.hpp"
#include "runtime/uring/node.hpp"
#include "runtime/uring/sockets.hpp"

namespace gyre::uring {

namespace {

std::vector<int> usable() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// The calling thread runs on these CPUs only.
void run_on(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

}  // namespace

unsigned usable_cpus() {
  return static_cast<unsigned>(usable().size());
}

void exit_now(int code) {
  _exit(code);
}

uint16_t listening_port(int fd) {
  return local_port(fd);
}

std::string run_cores(const CoresOptions& options,
                      const std::function<void(unsigned, Backend&)>& body) {
  const std::vector<int> cpus = usable();
  UringNode node(options.cores);
  std::mutex mutex;
  std::string problem;
  // Backends are made one after another, each on its thread; a core whose backend failed is
  // reported, and the others must not wait for it: so all are made before any body runs.
  std::vector<std::unique_ptr<UringBackend>> backends(options.cores);
  pthread_barrier_t made;
  pthread_barrier_init(&made, nullptr, options.cores);
  const bool pin = options.pin && !cpus.empty();
  const auto run = [&](unsigned core) {
    if (pin) run_on({cpus[core % cpus.size()]});
    try {
      backends[core] = std::make_unique<UringBackend>(UringOptions{.core = core, .node = &node});
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex);
      if (problem.empty()) problem = error.what();
    }
    pthread_barrier_wait(&made);
    if (problem.empty()) body(core, *backends[core]);
    backends[core].reset();
    release_frame_pool();
    release_aligned_pool();
    release_output_pool();
  };
  std::vector<std::thread> threads;
  for (unsigned core = 1; core < options.cores; ++core) {
    threads.emplace_back([&run, core] {
      pthread_setname_np(pthread_self(), ("core-" + std::to_string(core)).c_str());
      run(core);
    });
  }
  run(0);
  if (pin) run_on(cpus);
  for (std::thread& thread : threads) thread.join();
  pthread_barrier_destroy(&made);
  return problem;
}

}  // namespace gyre::uring
