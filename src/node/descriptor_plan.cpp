#include "node/descriptor_plan.hpp"

#include <algorithm>

namespace gyre {

DescriptorPlan plan_descriptors(uint64_t descriptors_max, unsigned cores) {
  const uint64_t for_files = std::max(descriptors_for_files_min, descriptors_max / 4);
  DescriptorPlan plan;
  plan.connections_max = descriptors_max > for_files ? descriptors_max - for_files : 1;
  plan.listen_backlog =
      static_cast<unsigned>(std::clamp<uint64_t>(for_files / 2 / cores, 1, listen_backlog_max));
  return plan;
}

}  // namespace gyre
