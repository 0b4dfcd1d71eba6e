#include "store/compaction_picker.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

namespace gyre {

namespace {

constexpr unsigned level_count = limits::table_level_count;

// Visits the tables of `number` that overlap [smallest, largest].
template <class Visit>
void for_each_overlapping(const TableLevels& levels, unsigned number, const std::string& smallest,
                          const std::string& largest, Visit visit) {
  const TableLevels::Level& tables = levels.level(number);
  for (auto table = tables.lower_bound(smallest); table != tables.end(); ++table) {
    if ((*table)->record().smallest_key > largest) break;
    visit(*table);
  }
}

std::vector<TableRef> overlapping(const TableLevels& levels, unsigned number,
                                  const std::string& smallest, const std::string& largest) {
  std::vector<TableRef> found;
  for_each_overlapping(levels, number, smallest, largest,
                       [&](const TableRef& table) { found.push_back(table); });
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
  job.smallest_key = job.inputs.front()->record().smallest_key;
  job.largest_key = job.inputs.front()->record().largest_key;
  const auto widen = [&](const TableRef& table) {
    job.smallest_key = std::min(job.smallest_key, table->record().smallest_key);
    job.largest_key = std::max(job.largest_key, table->record().largest_key);
  };
  for (const TableRef& table : job.inputs) widen(table);
  if (output_level != level) {
    job.overlapping = overlapping(levels, output_level, job.smallest_key, job.largest_key);
    for (const TableRef& table : job.overlapping) widen(table);
    job.trivial_move = job.inputs.size() == 1 && job.overlapping.empty();
  }
  return job;
}

bool is_damaged(const TableRef& table) {
  return table->is_damaged();
}

bool may_run(const CompactionJob& job, const CompactionJob* running) {
  return std::none_of(job.inputs.begin(), job.inputs.end(), is_damaged) &&
         std::none_of(job.overlapping.begin(), job.overlapping.end(), is_damaged) &&
         (running == nullptr || !conflict(job, *running));
}

std::optional<CompactionJob> if_it_may_run(CompactionJob job, const CompactionJob* running) {
  if (!may_run(job, running)) return std::nullopt;
  return job;
}

std::vector<TableRef> level0_inputs(const TableLevels& levels) {
  std::vector<TableRef> inputs;
  std::remove_copy_if(levels.level(0).begin(), levels.level(0).end(), std::back_inserter(inputs),
                      is_damaged);
  return inputs;
}

// How many tables of a level a pick looks at.
constexpr size_t window_tables_max = 256;

// The job of the table whose move costs least per byte moved, among a window of the level.
std::optional<CompactionJob> least_overlap(const TableLevels& levels, unsigned level,
                                           const CompactionJob* running, uint64_t round) {
  const TableLevels::Level& tables = levels.level(level);
  const size_t window = std::min(tables.size(), window_tables_max);
  const size_t first = tables.size() <= window ? 0 : round * (window / 4) % tables.size();
  std::optional<CompactionJob> best;
  double best_cost = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < window; ++i) {
    const TableRef& table = tables[(first + i) % tables.size()];
    const TableRecord& record = table->record();
    uint64_t overlap_bytes = 0;
    for_each_overlapping(
        levels, level + 1, record.smallest_key, record.largest_key,
        [&](const TableRef& other) { overlap_bytes += other->record().size_bytes; });
    const double cost = static_cast<double>(overlap_bytes) / static_cast<double>(record.size_bytes);
    if (cost >= best_cost) continue;
    // A job copies keys and counts references: only what may win gets one.
    CompactionJob job = job_for(levels, level, level + 1, {table});
    if (!may_run(job, running)) continue;
    best_cost = cost;
    best = std::move(job);
  }
  return best;
}

double score_of(const TableLevels& levels, const LevelTargets& targets, unsigned level) {
  const uint64_t bytes = levels.level_bytes(level);
  if (bytes == 0) return 0;
  if (targets.bytes[level] == 0) return 1.5;  // it should be empty
  return static_cast<double>(bytes) / static_cast<double>(targets.bytes[level]);
}

double level0_score(const TableLevels& levels, const CompactionOptions& options) {
  return static_cast<double>(level0_runs(levels)) / static_cast<double>(options.l0_trigger);
}

// A table of level 0 that overlaps no other one, nor the base level: filling in key order makes
// such.
std::optional<CompactionJob> lone_table(const TableLevels& levels, unsigned base_level,
                                        const CompactionJob* running) {
  const TableLevels::Level& tables = levels.level(0);
  for (const TableRef& table : tables) {
    const TableRecord& record = table->record();
    const auto meets = [&](const TableRef& other) {
      return other->file_number() != record.file_number &&
             other->overlaps(record.smallest_key, record.largest_key);
    };
    if (std::any_of(tables.begin(), tables.end(), meets)) continue;
    CompactionJob job = job_for(levels, 0, base_level, {table});
    if (job.trivial_move && may_run(job, running)) return job;
  }
  return std::nullopt;
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

size_t level0_runs(const TableLevels& levels) {
  const TableLevels::Level& tables = levels.level(0);
  return tables.size() -
         static_cast<size_t>(std::count_if(tables.begin(), tables.end(), is_damaged));
}

uint64_t CompactionJob::input_bytes() const {
  return bytes_of(inputs) + bytes_of(overlapping);
}

bool conflict(const CompactionJob& a, const CompactionJob& b) {
  const auto uses = [](const CompactionJob& job, const TableRef& table) {
    const auto same = [&](const TableRef& other) {
      return other->file_number() == table->file_number();
    };
    return std::any_of(job.inputs.begin(), job.inputs.end(), same) ||
           std::any_of(job.overlapping.begin(), job.overlapping.end(), same);
  };
  const auto used_by_b = [&](const TableRef& table) { return uses(b, table); };
  if (a.output_level == b.output_level && a.smallest_key <= b.largest_key &&
      b.smallest_key <= a.largest_key) {
    return true;
  }
  return std::any_of(a.inputs.begin(), a.inputs.end(), used_by_b) ||
         std::any_of(a.overlapping.begin(), a.overlapping.end(), used_by_b);
}

CompactionNeed compaction_need(const TableLevels& levels, const CompactionOptions& options) {
  const LevelTargets targets = level_targets(levels, options);
  CompactionNeed need{.base_level = targets.base_level,
                      .level0_score = level0_score(levels, options)};
  uint64_t arriving = 0;
  if (need.level0_score >= 1) {
    arriving = levels.level_bytes(0);
    need.debt_bytes = arriving + levels.level_bytes(targets.base_level);
  }
  for (unsigned level = targets.base_level; level + 1 < level_count; ++level) {
    const uint64_t bytes = levels.level_bytes(level);
    need.deeper_score = std::max(need.deeper_score, score_of(levels, targets, level));
    const uint64_t after = bytes + arriving;
    arriving = after > targets.bytes[level] ? after - targets.bytes[level] : 0;
    const double overlap = std::min(static_cast<double>(options.fanout + 1),
                                    static_cast<double>(levels.level_bytes(level + 1)) /
                                        static_cast<double>(std::max<uint64_t>(after, 1)));
    need.debt_bytes += static_cast<uint64_t>(static_cast<double>(arriving) * (1 + overlap));
  }
  return need;
}

std::optional<CompactionJob> pick_level0(const TableLevels& levels,
                                         const CompactionOptions& options,
                                         const CompactionJob* running) {
  if (level0_score(levels, options) < 1) return std::nullopt;
  const unsigned base_level = level_targets(levels, options).base_level;
  if (auto job = lone_table(levels, base_level, running)) return job;
  return if_it_may_run(job_for(levels, 0, base_level, level0_inputs(levels)), running);
}

std::optional<CompactionJob> pick_deeper(const TableLevels& levels,
                                         const CompactionOptions& options,
                                         const CompactionJob* running, uint64_t round) {
  const LevelTargets targets = level_targets(levels, options);
  std::array<unsigned, level_count> order{};
  size_t count = 0;
  for (unsigned level = targets.base_level; level + 1 < level_count; ++level) {
    if (score_of(levels, targets, level) > 1) order[count++] = level;
  }
  std::sort(order.begin(), order.begin() + count, [&](unsigned a, unsigned b) {
    const double score_a = score_of(levels, targets, a);
    const double score_b = score_of(levels, targets, b);
    return score_a != score_b ? score_a > score_b : a < b;
  });
  for (size_t i = 0; i < count; ++i) {
    if (auto job = least_overlap(levels, order[i], running, round)) return job;
  }
  return std::nullopt;
}

std::optional<CompactionJob> pick_damaged(const TableLevels& levels, const CompactionJob* running) {
  for (unsigned level = 1; level < level_count; ++level) {
    const TableLevels::Level& tables = levels.level(level);
    const auto found = std::find_if(tables.begin(), tables.end(), is_damaged);
    if (found == tables.end()) continue;
    CompactionJob job{.level = level, .output_level = 0, .inputs = {*found}, .trivial_move = true};
    job.smallest_key = (*found)->record().smallest_key;
    job.largest_key = (*found)->record().largest_key;
    if (running == nullptr || !conflict(job, *running)) return job;
  }
  return std::nullopt;
}

std::optional<CompactionJob> pick_full_compaction(const TableLevels& levels,
                                                  uint64_t file_number_end,
                                                  const CompactionJob* running) {
  constexpr unsigned bottom = level_count - 1;
  const auto is_old = [&](const TableRef& table) {
    return table->record().file_number < file_number_end && !is_damaged(table);
  };
  std::vector<TableRef> newest;
  std::copy_if(levels.level(0).begin(), levels.level(0).end(), std::back_inserter(newest), is_old);
  if (!newest.empty()) {
    return if_it_may_run(job_for(levels, 0, bottom, std::move(newest)), running);
  }
  for (unsigned level = 1; level < bottom; ++level) {
    const TableLevels::Level& tables = levels.level(level);
    const auto found = std::find_if(tables.begin(), tables.end(), is_old);
    if (found == tables.end()) continue;
    return if_it_may_run(job_for(levels, level, bottom, {*found}), running);
  }
  const auto wastes = [&](const ValueFileRef& file) {
    return file->file_number() < file_number_end && file->is_wasteful();
  };
  for (const TableRef& table : levels.level(bottom)) {
    const auto& files = table->value_files();
    if (is_damaged(table) || std::none_of(files.begin(), files.end(), wastes)) continue;
    CompactionJob job = job_for(levels, bottom, bottom, {table});
    job.empties_values_below = file_number_end;
    if (may_run(job, running)) return job;
  }
  for (const TableRef& table : levels.level(bottom)) {
    const TableRecord& record = table->record();
    const bool may_shrink = record.tombstone_count != 0 || record.expire_at_ms_min != 0;
    if (!is_old(table) || !may_shrink) continue;
    if (auto job = if_it_may_run(job_for(levels, bottom, bottom, {table}), running)) return job;
  }
  return std::nullopt;
}

double dead_share(const TableFile& table, uint64_t now_ms) {
  const TableProperties& properties = table.properties();
  if (properties.entry_count == 0) return 0;
  double dead = static_cast<double>(properties.tombstone_count);
  const uint64_t first = properties.expire_at_ms_min;
  const uint64_t last = properties.expire_at_ms_max;
  if (properties.expiring_count != 0 && first <= now_ms) {
    const double passed =
        now_ms >= last ? 1
                       : static_cast<double>(now_ms - first) / static_cast<double>(last - first);
    dead += static_cast<double>(properties.expiring_count) * passed;
  }
  return dead / static_cast<double>(properties.entry_count);
}

bool is_tombstone_dense(const TableFile& table) {
  constexpr uint64_t dense_blocks_min = 4;
  constexpr uint64_t blocks_per_dense_max = 10;
  const TableProperties& properties = table.properties();
  const uint64_t dense = properties.tombstone_dense_block_count;
  return dense >= dense_blocks_min && dense * blocks_per_dense_max >= properties.data_block_count;
}

namespace {

// Since when something in the table is dead, at most.
uint64_t dead_for_ms(const TableFile& table, uint64_t now_ms) {
  const TableProperties& properties = table.properties();
  uint64_t since_ms = now_ms;
  if (properties.tombstone_count != 0) {
    since_ms = std::min(since_ms, hlc_to_us(properties.tombstone_hlc_min) / 1000);
  }
  if (properties.expiring_count != 0) since_ms = std::min(since_ms, properties.expire_at_ms_min);
  return now_ms - since_ms;
}

}  // namespace

namespace {

// The next `tables_max` tables below level 0, from `round` on, with their level, until `visit`
// answers something.
template <class Visit>
std::optional<CompactionJob> visit_deeper(const TableLevels& levels, uint64_t round,
                                          size_t tables_max, Visit visit) {
  size_t table_count = 0;
  for (unsigned level = 1; level < level_count; ++level) table_count += levels.level(level).size();
  if (table_count == 0) return std::nullopt;
  uint64_t at = table_count <= tables_max ? 0 : round * tables_max % table_count;
  for (size_t looked = 0; looked < std::min(table_count, tables_max); ++looked, ++at) {
    uint64_t index = at % table_count;
    unsigned level = 1;
    while (index >= levels.level(level).size()) index -= levels.level(level++).size();
    if (auto job = visit(level, levels.level(level)[index])) return job;
  }
  return std::nullopt;
}

// All of level 0, to be written anew if something in it is due.
template <class IsDue>
std::optional<CompactionJob> rewrite_level0(const TableLevels& levels,
                                            const CompactionOptions& options,
                                            const CompactionJob* running, IsDue is_due) {
  const TableLevels::Level& level0 = levels.level(0);
  if (std::none_of(level0.begin(), level0.end(), is_due)) return std::nullopt;
  const unsigned base_level = level_targets(levels, options).base_level;
  CompactionJob job = job_for(levels, 0, base_level, level0_inputs(levels));
  job.trivial_move = false;
  return if_it_may_run(std::move(job), running);
}

bool names_sparse_values(const TableRef& table) {
  return std::any_of(table->value_files().begin(), table->value_files().end(),
                     [](const ValueFileRef& file) { return file->is_sparse(); });
}

}  // namespace

std::optional<CompactionJob> pick_sparse_values(const TableLevels& levels,
                                                const CompactionOptions& options,
                                                const CompactionJob* running, uint64_t round,
                                                size_t tables_max) {
  const auto is_due = [](const TableRef& table) {
    return !is_damaged(table) && names_sparse_values(table);
  };
  if (auto job = rewrite_level0(levels, options, running, is_due)) return job;
  return visit_deeper(levels, round, tables_max,
                      [&](unsigned level, const TableRef& table) -> std::optional<CompactionJob> {
                        if (!is_due(table)) return std::nullopt;
                        return if_it_may_run(job_for(levels, level, level, {table}), running);
                      });
}

std::optional<CompactionJob> pick_reclaim(const TableLevels& levels,
                                          const CompactionOptions& options, uint64_t now_ms,
                                          const CompactionJob* running, uint64_t round,
                                          size_t tables_max) {
  constexpr double dead_share_min = 0.5;
  constexpr unsigned bottom = level_count - 1;
  const auto is_due = [&](const TableRef& table) {
    const uint64_t age_ms = now_ms - std::min(now_ms, table->record().created_ms);
    return !is_damaged(table) &&
           age_ms >= std::max(options.reclaim_age_ms, dead_for_ms(*table, now_ms) / 4) &&
           (dead_share(*table, now_ms) >= dead_share_min || is_tombstone_dense(*table));
  };
  if (auto job = rewrite_level0(levels, options, running, is_due)) return job;
  const auto rewrite = [&](unsigned level, const TableRef& table) -> std::optional<CompactionJob> {
    if (!is_due(table)) return std::nullopt;
    // Into the next level that holds anything, else into itself.
    CompactionJob job = job_for(levels, level, level, {table});
    for (unsigned below = level + 1; below <= bottom; ++below) {
      if (levels.level_bytes(below) == 0) continue;
      job = job_for(levels, level, below, {table});
      break;
    }
    // Moving it would make nothing smaller.
    if (job.trivial_move) job = job_for(levels, level, level, {table});
    return if_it_may_run(std::move(job), running);
  };
  return visit_deeper(levels, round, tables_max, rewrite);
}

}  // namespace gyre
