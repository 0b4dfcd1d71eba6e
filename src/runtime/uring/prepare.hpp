// Operations as submission queue entries.
#pragma once

#include <liburing.h>

#include "runtime/uring/completion_table.hpp"

namespace gyre::uring {

// What varies with the kernel.
struct Abilities {
  bool ftruncate = false;       // as a ring operation
  unsigned recv_bytes_max = 0;  // per multishot receive; 0: the kernel has no such limit
};

// Fills everything but user_data. For operations that go to the ring only.
void prepare(io_uring_sqe& sqe, Op& op, CompletionTable::Entry& entry, const Abilities& abilities);

}  // namespace gyre::uring
