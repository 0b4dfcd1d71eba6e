// How the descriptors that a process may have are divided between connections and files. A shard
// that can't open its next log segment or table stops taking writes, so files go first:
//
//   - a quarter, at least descriptors_for_files_min, is not for connections that are served
//   - a connection over the limit is accepted and closed: until it is closed it holds a
//     descriptor. At most one backlog per core is accepted at once, and all backlogs together take
//     half of the files' part
//   - a file that finds none all the same waits until they are closed (OpenFile)
//
// Pure arithmetic.
#pragma once

#include <cstdint>

namespace gyre {

inline constexpr uint64_t descriptors_for_files_min = 64;
inline constexpr unsigned listen_backlog_max = 4096;  // what kernels allow

struct DescriptorPlan {
  uint64_t connections_max = 0;
  unsigned listen_backlog = 0;  // per core
};

DescriptorPlan plan_descriptors(uint64_t descriptors_max, unsigned cores);

}  // namespace gyre
