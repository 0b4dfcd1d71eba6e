// File offsets and sizes to multiples of limits::io_alignment_bytes, as O_DIRECT wants them.
#pragma once

#include <cstdint>

#include "base/limits.hpp"

namespace gyre {

constexpr uint64_t io_align_down(uint64_t bytes) {
  return bytes / limits::io_alignment_bytes * limits::io_alignment_bytes;
}
constexpr uint64_t io_align_up(uint64_t bytes) {
  return io_align_down(bytes + limits::io_alignment_bytes - 1);
}

}  // namespace gyre
