// Options that a user of the store chooses.
#pragma once

#include <cstdint>
#include <string>

namespace gyre {

// When a write is acknowledged.
enum class Durability : uint8_t {
  group,  // when its log frame is on the disk; frames gather what is queued (the default)
  // At once. The log goes to the kernel within milliseconds and is synced every interval: a power
  // cut loses at most that much, a killed process the milliseconds.
  interval,
  none,  // as interval, but never synced: the kernel writes when it likes
};

enum class ScanDirection : uint8_t { forward, reverse };

// [start, end) in the order of unsigned bytes; an empty `end` is the end of the keyspace. Going
// back, the scan begins with the last key before `end`.
struct ScanRange {
  std::string start;
  std::string end;
  ScanDirection direction = ScanDirection::forward;

  // The keys that begin with `prefix`.
  static ScanRange of_prefix(std::string prefix, ScanDirection direction = ScanDirection::forward);
};

// From which size on values are kept apart from the tables. Such a value costs a read more where
// neither it nor its table's block is cached, and a scan a read for each; merges don't copy it.
// ARCHITECTURE.md has the measurements.
inline constexpr uint64_t separate_value_bytes_min_default = 16u << 10;
inline constexpr uint64_t no_value_separation = ~uint64_t{0};

}  // namespace gyre
