// Options that a user of the store chooses.
#pragma once

#include <cstdint>

namespace gyre {

// When a write is acknowledged.
enum class Durability : uint8_t {
  group,     // when its log frame is on the disk; frames gather what is queued (the default)
  interval,  // at once; the log is synced every interval: a crash loses at most that much
  none,      // at once; the kernel writes when it likes
};

}  // namespace gyre
