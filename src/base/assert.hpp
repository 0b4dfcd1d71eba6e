// Invariants stay checked in release builds: a broken one ends the process before it can end the
// data.
#pragma once

namespace gyre {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}

#define GYRE_ASSERT(expression)                         \
  (static_cast<bool>(expression) ? static_cast<void>(0) \
                                 : ::gyre::assertion_failed(#expression, __FILE__, __LINE__))
