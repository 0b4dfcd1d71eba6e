// Constants of the kernel interface that are newer than the packaged liburing 2.3. Each use is
// guarded by a feature bit, by the opcode probe or by trying.
#pragma once

#include <cstdint>

namespace gyre::uring {

inline constexpr unsigned feature_no_iowait = 1u << 17;  // 6.15
inline constexpr unsigned enter_no_iowait = 1u << 7;     // 6.15
inline constexpr uint8_t opcode_ftruncate = 55;          // 6.9

}  // namespace gyre::uring
