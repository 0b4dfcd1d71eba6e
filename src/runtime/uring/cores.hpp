// Starts the cores of a node: one thread each, with its own backend.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <gyre/backend.hpp>

namespace gyre::uring {

struct CoresOptions {
  unsigned cores = 1;
  bool pin = false;  // thread i to the i-th CPU that this process may use
};

// Runs `body(core, backend)` on one thread per core and waits for all of them; core 0 is the
// calling thread, which may use the same CPUs afterwards as before. Signals must be blocked before.
// Returns an empty string, or why a core could not start.
std::string run_cores(const CoresOptions& options,
                      const std::function<void(unsigned core, Backend& backend)>& body);

// CPUs this process may run on.
unsigned usable_cpus();

// Ends the process at once, without any clean-up: what is acknowledged is on the disk.
[[noreturn]] void exit_now(int code);

// The port a listening descriptor got.
uint16_t listening_port(int fd);

}  // namespace gyre::uring
