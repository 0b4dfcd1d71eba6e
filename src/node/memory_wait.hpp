// Memory that a request waits for, but not for long.
#pragma once

#include <cstdint>

#include <gyre/result.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

namespace gyre {

// For with_timeout. Errc::cancelled: its time was over, or the task was stopped.
inline Task<Result<void>> acquire(Semaphore& memory, uint64_t bytes) {
  if (!co_await memory.acquire(bytes)) co_return fail(Errc::cancelled);
  co_return Result<void>{};
}

}  // namespace gyre
