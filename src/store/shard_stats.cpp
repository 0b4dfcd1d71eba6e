// What a shard tells about its levels.
#include "store/shard.hpp"

namespace gyre {

void Shard::count_merge(const CompactionJob& job, const std::vector<TableRecord>& outputs) {
  for (const TableRef& table : job.inputs) {
    stats_.levels[job.level].merged_bytes += table->size_bytes();
  }
  for (const TableRef& table : job.overlapping) {
    stats_.levels[job.output_level].merged_bytes += table->size_bytes();
  }
  for (const TableRecord& output : outputs) {
    stats_.levels[job.output_level].written_bytes += output.size_bytes;
  }
}

LevelReport Shard::level_report(unsigned level, uint64_t now_ms) const {
  LevelReport report;
  report.reads = host_->level_stats(level);
  report.writes = stats_.levels[level];
  report.tables = levels_->level(level).size();
  report.bytes = levels_->level_bytes(level);
  for (const TableRef& table : levels_->level(level)) {
    const TableRecord& record = table->record();
    report.entries += record.entry_count;
    report.tombstones += record.tombstone_count;
    const bool expired = record.expire_at_ms_min != 0 && record.expire_at_ms_min <= now_ms;
    if (expired) report.expired_table_bytes += record.size_bytes;
  }
  return report;
}

}  // namespace gyre
