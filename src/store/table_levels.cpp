#include "store/table_levels.hpp"

#include <optional>

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

std::map<uint64_t, ValueFileRef> TableLevels::value_files() const {
  std::map<uint64_t, ValueFileRef> files;
  for (const auto& level : levels_) {
    for (const TableRef& table : *level) {
      for (const ValueFileRef& file : table->value_files()) files[file->file_number()] = file;
    }
  }
  return files;
}

uint64_t TableLevels::total_bytes() const {
  uint64_t bytes = 0;
  for (const uint64_t level : bytes_) bytes += level;
  return bytes;
}

size_t TableLevels::lower_bound(unsigned number, std::string_view key) const {
  return levels_[number]->lower_bound(key).index();
}

const TableRef* TableLevels::find(unsigned number, std::string_view key) const {
  const Level& tables = *levels_[number];
  const auto at = tables.lower_bound(key);
  if (at == tables.end() || key < (*at)->record().smallest_key) return nullptr;
  return &*at;
}

namespace {

bool is_newer(const TableRef& a, const TableRef& b) {
  return a->record().file_number > b->record().file_number;
}
bool is_before(const TableRef& a, const TableRef& b) {
  return a->record().smallest_key < b->record().smallest_key;
}

}  // namespace

std::shared_ptr<const TableLevels> TableLevels::with(const VersionEdit& edit,
                                                     const std::vector<TableRef>& removed,
                                                     const std::vector<TableRef>& added) const {
  GYRE_ASSERT(edit.removed.size() == removed.size() && edit.added.size() == added.size());
  auto next = std::make_shared<TableLevels>(*this);
  std::array<std::optional<Level::Editor>, limits::table_level_count> editors;
  const auto editor_of = [&](unsigned number) -> Level::Editor& {
    if (!editors[number]) {
      editors[number].emplace(*levels_[number], number == 0 ? is_newer : is_before);
    }
    return *editors[number];
  };
  for (size_t i = 0; i < removed.size(); ++i) {
    const unsigned level = edit.removed[i].level;
    GYRE_ASSERT(removed[i]->file_number() == edit.removed[i].file_number);
    editor_of(level).remove(removed[i]);
    next->bytes_[level] -= removed[i]->size_bytes();
  }
  for (size_t i = 0; i < added.size(); ++i) {
    const unsigned level = edit.added[i].level;
    editor_of(level).insert(added[i]);
    next->bytes_[level] += added[i]->size_bytes();
  }
  for (unsigned number = 0; number < editors.size(); ++number) {
    if (editors[number]) {
      next->levels_[number] = std::make_shared<const Level>(editors[number]->finish());
    }
  }
  return next;
}

}  // namespace gyre
