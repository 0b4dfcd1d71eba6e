// The signals that OpCode::signal reports.
#pragma once

#include <csignal>

namespace gyre::uring {

sigset_t stop_signals();

}  // namespace gyre::uring
