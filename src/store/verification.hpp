// What a check of a shard's files has found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace gyre {

// Of which value files a check of a table reads the values that it names.
struct ReadValues {
  bool all = false;
  std::set<uint64_t> files;
};

struct VerifyReport {
  static constexpr size_t damage_kept_max = 1000;

  uint64_t tables = 0;
  uint64_t bytes = 0;
  uint64_t entries = 0;
  uint64_t large_values = 0;  // outside blocks
  uint64_t damage_count = 0;
  std::vector<std::string> damage;  // "PATH: offset N: what", the first damage_kept_max

  void add_damage(std::string text) {
    ++damage_count;
    if (damage.size() < damage_kept_max) damage.push_back(std::move(text));
  }
  void add(VerifyReport other) {
    tables += other.tables;
    bytes += other.bytes;
    entries += other.entries;
    large_values += other.large_values;
    damage_count += other.damage_count;
    for (std::string& text : other.damage) {
      if (damage.size() < damage_kept_max) damage.push_back(std::move(text));
    }
  }
};

// A table that is known to be damaged. It stays where it is: reads that need a damaged place answer
// an error, others go on, and a merge that needs one fails and leaves it.
struct DamagedTable {
  uint64_t file_number = 0;
  uint64_t places = 0;
  std::string first;  // "PATH: offset N: what"
};

}  // namespace gyre
