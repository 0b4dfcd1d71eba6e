#include "store/compaction_picker.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

namespace gyre {

namespace {

constexpr unsigned level_count = limits::table_level_count;

// Tables of `number` that overlap [smallest, largest].
std::vector<TableRef> overlapping(const TableLevels& levels, unsigned number,
                                  const std::string& smallest, const std::string& largest) {
  std::vector<TableRef> found;
  const TableLevels::Level& tables = levels.level(number);
  for (size_t i = levels.lower_bound(number, smallest); i < tables.size(); ++i) {
    if (tables[i]->record().smallest_key > largest) break;
    found.push_back(tables[i]);
  }
  return found;
}

uint64_t bytes_of(const std::vector<TableRef>& tables) {
  uint64_t bytes = 0;
  for (const TableRef& table : tables) bytes += table->record().size_bytes;
  return bytes;
}

CompactionJob job_for(const TableLevels& levels, unsigned level, unsigned output_level,
                      std::vector<TableRef> inputs) {
  CompactionJob job{.level = level, .output_level = output_level, .inputs = std::move(inputs)};
  std::string smallest = job.inputs.front()->record().smallest_key;
  std::string largest = job.inputs.front()->record().largest_key;
  for (const TableRef& table : job.inputs) {
    smallest = std::min(smallest, table->record().smallest_key);
    largest = std::max(largest, table->record().largest_key);
  }
  job.overlapping = overlapping(levels, output_level, smallest, largest);
  job.trivial_move = job.inputs.size() == 1 && job.overlapping.empty();
  return job;
}

// The table whose move costs least per byte moved.
TableRef least_overlap(const TableLevels& levels, unsigned level) {
  TableRef best;
  double best_cost = std::numeric_limits<double>::infinity();
  for (const TableRef& table : levels.level(level)) {
    const TableRecord& record = table->record();
    const uint64_t touched =
        bytes_of(overlapping(levels, level + 1, record.smallest_key, record.largest_key));
    const double cost = static_cast<double>(touched) / static_cast<double>(record.size_bytes);
    if (cost < best_cost) {
      best_cost = cost;
      best = table;
    }
  }
  return best;
}

}  // namespace

LevelTargets level_targets(const TableLevels& levels, const CompactionOptions& options) {
  LevelTargets targets;
  unsigned deepest = 0;
  uint64_t largest = 0;
  for (unsigned level = 1; level < level_count; ++level) {
    if (levels.level_bytes(level) == 0) continue;
    deepest = level;
    largest = std::max(largest, levels.level_bytes(level));
  }
  // The deepest level takes what it needs; each one above a fanout-th of it, down to the minimum.
  const unsigned bottom = level_count - 1;
  uint64_t target = std::max(largest, options.base_bytes_min);
  targets.base_level = bottom;
  for (unsigned level = bottom;; --level) {
    targets.bytes[level] = target;
    targets.base_level = level;
    if (level == 1 || target / options.fanout < options.base_bytes_min) break;
    target /= options.fanout;
  }
  // Levels that hold data above the base (made when the shard was larger) drain downwards.
  if (deepest != 0) {
    for (unsigned level = 1; level < targets.base_level; ++level) {
      if (levels.level_bytes(level) != 0) {
        targets.base_level = level;
        break;
      }
    }
  }
  return targets;
}

std::optional<CompactionJob> pick_compaction(const TableLevels& levels,
                                             const CompactionOptions& options) {
  const LevelTargets targets = level_targets(levels, options);
  unsigned worst = 0;
  double worst_score =
      static_cast<double>(levels.level(0).size()) / static_cast<double>(options.l0_trigger);
  for (unsigned level = targets.base_level; level + 1 < level_count; ++level) {
    if (levels.level_bytes(level) == 0) continue;
    const double score = targets.bytes[level] == 0
                             ? 1.5  // a level that should be empty
                             : static_cast<double>(levels.level_bytes(level)) /
                                   static_cast<double>(targets.bytes[level]);
    if (score > worst_score) {
      worst_score = score;
      worst = level;
    }
  }
  if (worst_score < 1.0 || (worst != 0 && worst_score <= 1.0)) return std::nullopt;
  if (worst == 0) {
    const TableLevels::Level& tables = levels.level(0);
    return job_for(levels, 0, targets.base_level, {tables.begin(), tables.end()});
  }
  return job_for(levels, worst, worst + 1, {least_overlap(levels, worst)});
}

std::optional<CompactionJob> pick_full_compaction(const TableLevels& levels,
                                                  uint64_t file_number_end) {
  constexpr unsigned bottom = level_count - 1;
  const auto is_old = [&](const TableRef& table) {
    return table->record().file_number < file_number_end;
  };
  std::vector<TableRef> newest;
  std::copy_if(levels.level(0).begin(), levels.level(0).end(), std::back_inserter(newest), is_old);
  if (!newest.empty()) return job_for(levels, 0, bottom, std::move(newest));
  for (unsigned level = 1; level < bottom; ++level) {
    const TableLevels::Level& tables = levels.level(level);
    const auto found = std::find_if(tables.begin(), tables.end(), is_old);
    if (found != tables.end()) return job_for(levels, level, bottom, {*found});
  }
  for (const TableRef& table : levels.level(bottom)) {
    const TableRecord& record = table->record();
    const bool may_shrink = record.tombstone_count != 0 || record.expire_at_ms_min != 0;
    if (!is_old(table) || !may_shrink) continue;
    return CompactionJob{.level = bottom, .output_level = bottom, .inputs = {table}};
  }
  return std::nullopt;
}

}  // namespace gyre
