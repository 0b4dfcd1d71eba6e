// Constants of the kernel interface that are newer than the packaged liburing 2.3. Each use is
// guarded by a feature bit, by the opcode probe or by trying.
#pragma once

#include <cstdint>

namespace gyre::uring {

inline constexpr unsigned feature_no_iowait = 1u << 17;  // 6.15
inline constexpr unsigned enter_no_iowait = 1u << 7;     // 6.15
inline constexpr uint8_t opcode_ftruncate = 55;          // 6.9

// Of sched_getattr and sched_setattr, as in linux/sched/types.h, which newer C libraries repeat.
// runtime_ns of an ordinary thread is the slice it asks for (6.12).
struct SchedAttributes {
  uint32_t size_bytes = sizeof(SchedAttributes);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime_ns = 0;
  uint64_t deadline_ns = 0;
  uint64_t period_ns = 0;
  uint32_t utilisation_min = 0;
  uint32_t utilisation_max = 0;
};
static_assert(sizeof(SchedAttributes) == 56);

}  // namespace gyre::uring
