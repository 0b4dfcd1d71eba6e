// An event loop for a program that is not a node.
#pragma once

#include <gyre/result.hpp>
#include <gyre/task.hpp>

namespace gyre {

// Runs `main` on this thread, on an event loop over io_uring, until it has ended and nothing that
// it started is left. Errc::unsupported if the machine has no io_uring for us: the error says what
// to do, and nothing of `main` has run. One loop per thread at a time; what belongs to a loop
// (files, sockets, stores) is used in its own tasks only.
Result<void> run_event_loop(Task<void> main);

}  // namespace gyre
