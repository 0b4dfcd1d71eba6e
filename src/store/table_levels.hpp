// The tables of a shard at one moment. Immutable: an install makes a new set that shares the
// levels, and the chunks of levels, that it did not touch, and whoever reads holds the set it
// started with. An install costs what it changes, and a step per 64 tables of the levels it
// touches (scylladb issues 7758, 8104: rebuilding sets of a thousand tables stalled the core).
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "base/limits.hpp"
#include "store/manifest_edit.hpp"
#include "store/table_file.hpp"
#include "store/table_run.hpp"

namespace gyre {

class TableLevels {
 public:
  using Level = TableRun<TableRef>;

  TableLevels();

  // Level 0 newest (greatest file number) first, tables may overlap; deeper levels in key order,
  // disjoint.
  const Level& level(unsigned number) const { return *levels_[number]; }
  uint64_t level_bytes(unsigned number) const { return bytes_[number]; }
  size_t table_count() const;
  uint64_t total_bytes() const;
  // Those that its tables name, by number.
  std::map<uint64_t, ValueFileRef> value_files() const;
  // The table of a level >= 1 that may hold `key`, or nullptr.
  const TableRef* find(unsigned number, std::string_view key) const;
  // The index of the first table of a level >= 1 whose largest key is not below `key`.
  size_t lower_bound(unsigned number, std::string_view key) const;

  // The set after an edit whose tables are `removed` and `added`, in the edit's order.
  std::shared_ptr<const TableLevels> with(const VersionEdit& edit,
                                          const std::vector<TableRef>& removed,
                                          const std::vector<TableRef>& added) const;

 private:
  std::array<std::shared_ptr<const Level>, limits::table_level_count> levels_;
  std::array<uint64_t, limits::table_level_count> bytes_{};
};

}  // namespace gyre
