#include "store/table_levels.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace gyre {

TableLevels::TableLevels() {
  levels_.fill(std::make_shared<const Level>());
}

size_t TableLevels::table_count() const {
  size_t count = 0;
  for (const auto& level : levels_) count += level->size();
  return count;
}

uint64_t TableLevels::total_bytes() const {
  uint64_t bytes = 0;
  for (const uint64_t level : bytes_) bytes += level;
  return bytes;
}

size_t TableLevels::lower_bound(unsigned number, std::string_view key) const {
  const Level& tables = *levels_[number];
  const auto at = std::partition_point(tables.begin(), tables.end(), [key](const TableRef& table) {
    return table->record().largest_key < key;
  });
  return static_cast<size_t>(at - tables.begin());
}

const TableRef* TableLevels::find(unsigned number, std::string_view key) const {
  const Level& tables = *levels_[number];
  const size_t at = lower_bound(number, key);
  if (at == tables.size() || key < tables[at]->record().smallest_key) return nullptr;
  return &tables[at];
}

std::shared_ptr<const TableLevels> TableLevels::with(const VersionEdit& edit,
                                                     const std::vector<TableRef>& added) const {
  GYRE_ASSERT(edit.added.size() == added.size());
  auto next = std::make_shared<TableLevels>(*this);
  std::array<std::shared_ptr<Level>, limits::table_level_count> changed;
  const auto level_of = [&](unsigned number) -> Level& {
    if (!changed[number]) changed[number] = std::make_shared<Level>(*levels_[number]);
    return *changed[number];
  };
  for (const RemovedTable& removed : edit.removed) {
    Level& level = level_of(removed.level);
    const auto at = std::find_if(level.begin(), level.end(), [&](const TableRef& table) {
      return table->record().file_number == removed.file_number;
    });
    GYRE_ASSERT(at != level.end());
    next->bytes_[removed.level] -= (*at)->record().size_bytes;
    level.erase(at);
  }
  for (const TableRef& table : added) {
    const TableRecord& record = table->record();
    Level& level = level_of(record.level);
    const auto at = std::find_if(level.begin(), level.end(), [&](const TableRef& other) {
      return record.level == 0 ? other->record().file_number < record.file_number
                               : other->record().smallest_key > record.smallest_key;
    });
    level.insert(at, table);
    next->bytes_[record.level] += record.size_bytes;
  }
  for (unsigned number = 0; number < changed.size(); ++number) {
    if (changed[number]) next->levels_[number] = std::move(changed[number]);
  }
  return next;
}

}  // namespace gyre
