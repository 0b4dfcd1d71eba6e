// A copy of a shard while it serves (storage study b15): hard links of its tables and value files, and a manifest
// that names just these.
//
// The moment of the copy is one step that does not suspend: it takes the set of tables and the seq
// through which it holds everything. The set is kept, so that no table's file is removed before it
// is linked, whatever compactions install meanwhile. Table files are never written to after they
// were installed, so that sharing them is safe; manifests and logs are, and are not shared.
#include <algorithm>

#include <gyre/file.hpp>
#include <gyre/time.hpp>

#include "store/file_names.hpp"
#include "store/shard.hpp"

namespace gyre {

namespace {

bool is_stopped(const StopSource* stop) {
  return stop != nullptr && stop->stop_requested();
}

}  // namespace

Task<Result<void>> Shard::checkpoint(std::string directory) {
  const Call call(*this);
  checkpoint_progress_ = {};
  if (Result<void> flushed = co_await flush(); !flushed) co_return flushed;

  const std::shared_ptr<const TableLevels> levels = levels_;
  const LevelState& state = manifest_->state();
  VersionEdit copy;
  copy.snapshot_of = options_.identity;
  copy.edit_number = 1;
  copy.next_file_number = state.next_file_number();
  copy.flushed_through_seq = installed_through_seq_;
  copy.hlc_max = state.hlc_max();
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRef& table : levels->level(level)) copy.added.push_back(table->record());
  }
  checkpoint_progress_.tables = levels->table_count();
  checkpoint_progress_.bytes = levels->total_bytes();
  const std::map<uint64_t, ValueFileRef> value_files = levels->value_files();
  for (const auto& [number, file] : value_files) checkpoint_progress_.bytes += file->size_bytes();
  // The moment is over.

  StopSource* const stop = co_await current_stop();
  for (const TableRecord& record : copy.added) {
    if (closing_ || is_stopped(stop)) co_return fail(Errc::cancelled, "stopped");
    const std::string name = table_file_name(record.file_number);
    Result<void> linked =
        co_await link_file(join_path(options_.directory, name), join_path(directory, name));
    if (!linked) co_return linked;
    ++checkpoint_progress_.tables_done;
    checkpoint_progress_.bytes_done += record.size_bytes;
    co_await maybe_yield();
  }
  for (const auto& [number, file] : value_files) {
    if (closing_ || is_stopped(stop)) co_return fail(Errc::cancelled, "stopped");
    Result<void> linked =
        co_await link_file(file->path(), join_path(directory, value_file_name(number)));
    if (!linked) co_return linked;
    checkpoint_progress_.bytes_done += file->size_bytes();
    co_await maybe_yield();
  }
  // It syncs the directory before CURRENT names the manifest.
  co_return co_await ManifestLog::write_copy(std::move(directory), std::move(copy));
}

// Of tables that a merge under way has as inputs only its part.
uint64_t Shard::full_compaction_bytes_left() const {
  double bytes = 0;
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRef& table : levels_->level(level)) {
      const bool done = level + 1 == limits::table_level_count &&
                        table->record().tombstone_count == 0 &&
                        table->record().expire_at_ms_min == 0;
      if (table->file_number() >= full_compaction_end_ || done) continue;
      double part = 1;
      for (const MergeLane* lane : {&level0_lane_, &deeper_lane_}) {
        if (lane->job == nullptr) continue;
        const std::vector<TableRef>& inputs = lane->job->inputs;
        if (std::find(inputs.begin(), inputs.end(), table) != inputs.end())
          part = lane->part_left();
      }
      bytes += part * static_cast<double>(table->size_bytes());
    }
  }
  for (const auto& [number, file] : levels_->value_files()) {
    if (number < full_compaction_end_ && file->is_wasteful()) {
      bytes += static_cast<double>(file->live_bytes());
    }
  }
  return static_cast<uint64_t>(bytes);
}

}  // namespace gyre
