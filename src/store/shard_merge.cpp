// The background half of a shard: flushing memtables and merging tables. Both build tables from
// sorted sources, make them durable, and install them with one manifest edit and one step that
// does not suspend.
#include <fmt/format.h>

#include <algorithm>

#include <gyre/file.hpp>
#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "store/entry_writer.hpp"
#include "store/file_names.hpp"
#include "store/merge.hpp"
#include "store/shard.hpp"
#include "store/source_cursor.hpp"
#include "store/table_writer.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

constexpr unsigned entries_between_yields = 64;
// A table ends when it is as large as it should be, or names so many times as many bytes of values:
// moving those is the job of one merge.
constexpr uint64_t values_per_table_byte = 16;

Task<Result<void>> finish_output(std::unique_ptr<TableWriter> writer, uint64_t now_ms,
                                 uint64_t log_sequence_max, std::vector<TableRecord>& outputs) {
  Result<TableRecord> record = co_await writer->finish(now_ms, log_sequence_max);
  if (!record) co_return fail(record.error());
  outputs.push_back(std::move(*record));
  co_return Result<void>{};
}

}  // namespace

ValueWriter Shard::value_writer() {
  return ValueWriter({.directory = options_.directory,
                      .codec = options_.table.codec,
                      .chunk_bytes = options_.table.chunk_bytes,
                      .file_bytes_max = options_.value_file_bytes_max},
                     [this] { return manifest_->take_file_number(); });
}

// --- flush --------------------------------------------------------------------------------------

void Shard::Mem::give_back(size_t keep_bytes) {
  if (credit == nullptr || charged_bytes <= keep_bytes) return;
  const size_t bytes = std::min<size_t>(charged_bytes - keep_bytes, credit->available());
  if (bytes == 0 || !credit->try_acquire(bytes)) return;
  credit_bytes += bytes;
  charged_bytes -= bytes;
  budget.release(bytes);
}

Task<Result<void>> Shard::flush_oldest() {
  const MemRef mem = immutable_.front();
  // Only what is durable may reach a table.
  while (visible_seq_ < mem->table.seq_last()) {
    if (read_only_) co_return fail(Errc::read_only, read_only_reason_);
    if (log_->waits_for_space()) co_return fail(Errc::no_space, "the log waits for room");
    visible_moved_.reset();
    if (!co_await visible_moved_.wait()) co_return fail(Errc::cancelled);
  }
  flushing_ = true;
  const size_t charged_bytes = mem->charged_bytes;
  flush_left_bytes_ = charged_bytes;
  const uint64_t number = manifest_->take_file_number();
  Result<std::unique_ptr<TableWriter>> writer = co_await TableWriter::create(
      options_.directory, number,
      {.table = options_.table, .level = 0, .size_bytes_estimate = mem->table.used_bytes()});
  if (!writer) co_return fail(writer.error());
  ValueWriter values = value_writer();
  EntryWriter entries(values, options_.separate_value_bytes_min, options_.table);
  SourceCursor cursor(mem->table, Memtable::seq_newest);
  Result<void> done = co_await cursor.seek("");
  unsigned count = 0;
  while (done && cursor.valid()) {
    if (entries.is_plain(cursor)) {
      if ((*writer)->add(cursor.entry())) done = co_await (*writer)->drain();
    } else {
      done = co_await entries.add(**writer, cursor);
    }
    if (!done) break;
    cursor.next();
    if (++count % entries_between_yields == 0) {
      const size_t entries = mem->table.count();
      flush_left_bytes_ =
          std::min<size_t>(mem->charged_bytes,
                           charged_bytes / entries * (entries - std::min<size_t>(count, entries)));
      mem->give_back(flush_left_bytes_);
      co_await maybe_yield();
    }
  }
  Result<TableRecord> record = fail(Errc::cancelled);
  if (done) done = co_await values.finish();
  if (done) {
    record = co_await (*writer)->finish(Reactor::current().wall_ms(), mem->table.seq_last());
    if (!record) done = fail(record.error());
  }
  if (!done) {
    co_await (*writer)->abandon();
    co_await values.abandon();
    co_return done;
  }
  if (Result<void> named = co_await sync_table_names(); !named) co_return named;

  const Mem& next = immutable_.size() > 1 ? *immutable_[1] : *active_;
  VersionEdit edit;
  edit.log_start_position = next.log_start;
  edit.flushed_through_seq = mem->table.seq_last();
  if (store_test_faults.flush_claims_log && log_) edit.flushed_through_seq = log_->seq_next() - 1;
  edit.log_promised_position = log_ ? log_->synced_position() : 0;
  // During recovery the clock may still be behind what the log holds.
  edit.hlc_max = std::max(context_.clock.last(), mem->table.version_max().hlc);
  edit.added.push_back(*record);
  const uint64_t log_start = edit.log_start_position;
  if (Result<void> installed = co_await install(std::move(edit), {}); !installed) {
    co_return installed;
  }
  flushing_ = false;
  immutable_.pop_front();
  if (log_) log_->release_before(log_start);
  ++stats_.flushes;
  stats_.flushed_bytes += record->size_bytes + values.written_bytes();
  stats_.value_bytes_written += values.written_bytes();
  stats_.levels[0].written_bytes += record->size_bytes;
  co_return Result<void>{};
}

Task<Result<void>> Shard::sync_table_names() {
  if (store_test_faults.skip_table_directory_sync) co_return Result<void>{};
  co_return co_await sync_directory(options_.directory);
}

// --- install ------------------------------------------------------------------------------------

// `moved`: open tables that the edit adds under another level; the others are opened here.
Task<Result<void>> Shard::install(VersionEdit edit, std::vector<TableRef> moved) {
  std::vector<TableRef> added;
  for (const TableRecord& record : edit.added) {
    const auto known = std::find_if(moved.begin(), moved.end(), [&](const TableRef& table) {
      return table->file_number() == record.file_number;
    });
    if (known != moved.end()) {
      added.push_back(*known);
      continue;
    }
    Result<TableRef> table = co_await TableFile::open(*host_, record);
    if (!table) co_return fail(table.error());
    added.push_back(*table);
  }
  for (size_t i = 0; store_test_faults.remove_inputs_early && i < edit.removed.size(); ++i) {
    if (!moved.empty()) break;
    co_await remove_file(
        join_path(options_.directory, table_file_name(edit.removed[i].file_number)));
  }
  if (Result<void> durable = co_await manifest_->append(edit); !durable) co_return durable;
  // From here to the end nothing suspends.
  std::vector<TableRef> removed;
  for (const RemovedTable& table : edit.removed) {
    removed.push_back(host_->open_table(table.file_number));
  }
  count_value_files(added, removed, moved);
  set_levels(levels_->with(edit, removed, added));
  for (const TableRef& table : removed) {
    if (std::find(moved.begin(), moved.end(), table) == moved.end()) table->mark_obsolete();
  }
  for (size_t i = 0; i < added.size(); ++i) added[i]->set_level(edit.added[i].level);
  installed_through_seq_ = std::max(installed_through_seq_, edit.flushed_through_seq);
  co_return Result<void>{};
}

// How much of each value file is live changes with the tables in use.
void Shard::count_value_files(const std::vector<TableRef>& added,
                              const std::vector<TableRef>& removed,
                              const std::vector<TableRef>& moved) {
  const auto is_moved = [&](const TableRef& table) {
    return std::find(moved.begin(), moved.end(), table) != moved.end();
  };
  for (const TableRef& table : added) {  // first: what is only handed on must not end in between
    if (!is_moved(table)) table->use_values();
  }
  for (const TableRef& table : removed) {
    if (!is_moved(table)) table->disuse_values();
  }
}

void Shard::set_levels(std::shared_ptr<const TableLevels> levels) {
  levels_ = std::move(levels);
  need_ = gyre::compaction_need(*levels_, options_.compaction);
  need_.debt_bytes += host_->value_totals().sparse_live_bytes;
  // What merging as many runs as slow writes down would cost all the way down, if every level was
  // within its target.
  const unsigned levels_below = limits::table_level_count - 1 - need_.base_level;
  debt_soft_bytes_ = controller_.options().level0_soft *
                     static_cast<double>(options_.memtable_bytes_max) *
                     (2 + levels_below * (1 + options_.compaction.fanout));
}

// --- compaction ---------------------------------------------------------------------------------

// Whether something that the job does not merge, or another replica, may hold an entry of `key` that
// is older than `version`: then a tombstone must stay to hide it.
bool Shard::older_data_elsewhere(const CompactionJob& job, std::string_view key,
                                 Version version) const {
  if (store_test_faults.drop_tombstones_early) return false;
  if (context_.purge_hlc_max != nullptr && version.hlc > *context_.purge_hlc_max) return true;
  const auto in_job = [&](const TableRef& table) {
    const auto is_it = [&](const TableRef& other) {
      return other->file_number() == table->file_number();
    };
    return std::any_of(job.inputs.begin(), job.inputs.end(), is_it) ||
           std::any_of(job.overlapping.begin(), job.overlapping.end(), is_it);
  };
  const auto hides = [&](const TableRef& table) {
    return table->may_hold(key) && table->record().version_min <= version && !in_job(table);
  };
  for (const TableRef& table : levels_->level(0)) {
    if (hides(table)) return true;
  }
  for (unsigned level = 1; level < limits::table_level_count; ++level) {
    const TableRef* table = levels_->find(level, key);
    if (table != nullptr && hides(*table)) return true;
  }
  const auto in_memtable = [&](const MemRef& mem) {
    return !mem->table.empty() && mem->table.version_min() <= version;
  };
  return in_memtable(active_) || std::any_of(immutable_.begin(), immutable_.end(), in_memtable) ||
         delays_older(key, version) || log_->awaits_older(key, version);
}

bool Shard::delays_older(std::string_view key, Version version) const {
  const auto any_in = [&](const LogWriteQueue& queue) {
    for (const LogWrite* write = queue.head; write != nullptr; write = write->next) {
      if (write->record.version && write->record.version < version && write->record.key == key)
        return true;
    }
    return false;
  };
  if (any_in(delayed_) || any_in(released_)) return true;
  if (holders_.empty()) return false;
  const auto holder = holders_.find(hash64(key));
  return holder != holders_.end() && any_in(holder->second->held_);
}

// Flush before level 0 before what lies deeper.
bool Shard::must_stand_still(const MergeLane& lane) const {
  if (closing_ || read_only_) return false;
  if (flushing_) return true;
  return !lane.level0 && level0_lane_.job != nullptr && !deeper_goes_first();
}

Task<void> Shard::stand_still(const MergeLane& lane) {
  ++stats_.merges_paused;
  while (must_stand_still(lane)) {
    merge_may_go_on_.reset();
    if (!co_await merge_may_go_on_.wait()) co_return;
  }
}

// How long the merge has to rest for the sake of its pace.
Nanos Shard::pace(MergeLane& lane) {
  constexpr Nanos rest_min = milliseconds(2);   // less isn't worth a timer
  constexpr Nanos rest_max = milliseconds(50);  // it may have become urgent
  const double rate = controller_.merge_bytes_per_second();
  const Nanos now = Reactor::current().now();
  const uint64_t entries = lane.entries_done - lane.entries_paced;
  lane.entries_paced = lane.entries_done;
  if (!options_.compaction.paced || rate == 0 || merges_awaited_ != 0) return 0;
  const uint64_t moved = lane.moved_bytes - std::exchange(lane.moved_bytes_paced, lane.moved_bytes);
  const double bytes = static_cast<double>(lane.job->input_bytes()) * static_cast<double>(entries) /
                           static_cast<double>(lane.entries_total) +
                       static_cast<double>(moved);
  lane.paid_until =
      std::max(lane.paid_until, now - rest_max) + static_cast<Nanos>(bytes * 1e9 / rate);
  const Nanos rest = lane.paid_until - now;
  return rest < rest_min ? 0 : std::min(rest, rest_max);
}

Task<Result<void>> Shard::load_in_merge(SourceCursor& cursor, MergeLane& lane) {
  Result<void> loaded = co_await cursor.load_next();
  if (!loaded && loaded.error().code == Errc::corrupt) lane.suspect = cursor.table();
  co_return loaded;
}

Task<Result<void>> Shard::merge_tables(const CompactionJob& job, MergeLane& lane,
                                       ValueWriter& values, std::vector<TableRecord>& outputs) {
  EntryWriter entries(values, options_.separate_value_bytes_min, options_.table,
                      job.empties_values_below);
  std::vector<std::unique_ptr<SourceCursor>> cursors;
  const TableCursorOptions cursor_options = TableCursorOptions::for_compaction();
  for (const TableRef& table : job.inputs) {
    cursors.push_back(std::make_unique<SourceCursor>(std::vector<TableRef>{table}, cursor_options));
  }
  if (!job.overlapping.empty()) {
    cursors.push_back(std::make_unique<SourceCursor>(job.overlapping, cursor_options));
  }
  uint64_t log_sequence_max = 0;
  uint64_t input_bytes = 0;
  for (const auto* tables : {&job.inputs, &job.overlapping}) {
    for (const TableRef& table : *tables) {
      log_sequence_max = std::max(log_sequence_max, table->record().log_sequence_max);
      input_bytes += table->size_bytes();
      lane.entries_total += table->record().entry_count;
    }
  }
  stats_.compacted_bytes_read += input_bytes;

  MergeHeap<SourceCursor> heap;
  heap.reserve(cursors.size());
  for (auto& cursor : cursors) {
    if (Result<void> sought = co_await cursor->seek(""); !sought) {
      if (sought.error().code == Errc::corrupt) lane.suspect = cursor->table();
      co_return sought;
    }
    heap.push(*cursor);
  }
  const uint64_t now_ms = Reactor::current().wall_ms();
  const uint64_t target = options_.compaction.table_bytes_target;
  std::unique_ptr<TableWriter> writer;
  Result<void> done{};
  unsigned count = 0;
  while (done && !heap.empty()) {
    while (done) {
      SourceCursor* loser = heap.shadowed();
      if (loser == nullptr) break;
      ++lane.entries_done;
      if (!loser->next()) done = co_await load_in_merge(*loser, lane);
      if (done) heap.advanced(*loser);
    }
    if (!done) break;
    SourceCursor& winner = heap.top();
    Entry entry = winner.entry();
    const bool dead = entry.is_tombstone() || entry.is_expired(now_ms);
    const bool forgets = store_test_faults.drop_expired_early && !entry.is_tombstone();
    if (!dead || (!forgets && older_data_elsewhere(job, entry.key, entry.version))) {
      if (!writer) {
        Result<std::unique_ptr<TableWriter>> made =
            co_await TableWriter::create(options_.directory, manifest_->take_file_number(),
                                         {.table = options_.table,
                                          .level = static_cast<uint8_t>(job.output_level),
                                          .size_bytes_estimate = std::min(input_bytes, target)});
        if (!made) {
          done = fail(made.error());
          break;
        }
        writer = std::move(*made);
      }
      if (dead && !entry.is_tombstone()) {
        // An expired value only hides what is older: its bytes are not needed for that.
        entry.kind = Kind::tombstone;
        entry.expire_at_ms = 0;
        entry.value = {};
        if (writer->add(entry)) done = co_await writer->drain();
      } else if (entries.is_plain(winner)) {
        if (writer->add(entry)) done = co_await writer->drain();
      } else {
        done = co_await entries.add(*writer, winner);
        lane.moved_bytes = entries.moved_bytes();
        if (!done && done.error().code == Errc::corrupt) lane.suspect = winner.table();
      }
      const uint64_t weight =
          writer->estimated_file_bytes() + writer->separate_bytes() / values_per_table_byte;
      if (done && weight >= target) {
        done = co_await finish_output(std::move(writer), now_ms, log_sequence_max, outputs);
      }
    }
    if (!done) break;
    if (!winner.next()) done = co_await load_in_merge(winner, lane);
    if (done) heap.advanced(winner);
    ++lane.entries_done;
    if (++count % entries_between_yields == 0) {
      co_await maybe_yield();
      if (must_stand_still(lane)) co_await stand_still(lane);
      if (const Nanos rest = pace(lane); rest != 0) static_cast<void>(co_await sleep_for(rest));
      if (closing_ || read_only_) done = fail(Errc::cancelled);
    }
  }
  if (writer && done) {
    done = co_await finish_output(std::move(writer), now_ms, log_sequence_max, outputs);
  }
  if (done) done = co_await values.finish();
  if (writer) co_await writer->abandon();
  stats_.value_bytes_moved += entries.moved_bytes();
  co_return done;
}

// What another merge has made of tables that are to be merged fully is to be merged fully, too.
void Shard::keep_in_full_compaction(const CompactionJob& job,
                                    const std::vector<TableRecord>& outputs) {
  const auto is_old = [&](const TableRef& table) {
    return table->file_number() < full_compaction_end_;
  };
  if (job.output_level + 1 == limits::table_level_count) return;
  if (std::none_of(job.inputs.begin(), job.inputs.end(), is_old) &&
      std::none_of(job.overlapping.begin(), job.overlapping.end(), is_old)) {
    return;
  }
  for (const TableRecord& output : outputs) {
    full_compaction_end_ = std::max(full_compaction_end_, output.file_number + 1);
  }
}

Task<Result<void>> Shard::run_compaction(CompactionJob job, MergeLane& lane) {
  struct Running {
    Running(MergeLane& of, const CompactionJob& job) : lane(of) { lane.job = &job; }
    ~Running() {
      lane.job = nullptr;
      lane.entries_total = lane.entries_done = lane.entries_paced = 0;
      lane.moved_bytes = lane.moved_bytes_paced = 0;
    }
    MergeLane& lane;
  };
  const Running running(lane, job);
  VersionEdit edit;
  edit.hlc_max = context_.clock.last();
  for (const TableRef& table : job.inputs) {
    edit.removed.push_back({static_cast<uint8_t>(job.level), table->file_number()});
  }
  ++stats_.compactions;
  if (job.trivial_move) {
    ++stats_.trivial_moves;
    TableRecord record = job.inputs.front()->record();
    record.level = static_cast<uint8_t>(job.output_level);
    edit.added.push_back(std::move(record));
    co_return co_await install(std::move(edit), {job.inputs.front()});
  }
  for (const TableRef& table : job.overlapping) {
    edit.removed.push_back({static_cast<uint8_t>(job.output_level), table->file_number()});
  }
  std::vector<TableRecord> outputs;
  ValueWriter values = value_writer();
  Result<void> done = co_await merge_tables(job, lane, values, outputs);
  if (const TableRef suspect = std::exchange(lane.suspect, {})) {
    // If it is damaged indeed, the next merges go around it.
    uint64_t bytes = 0;
    static_cast<void>(co_await verify_table(suspect, 0, &bytes, {.all = true}));
    lane.found_damage = suspect->is_damaged();
  }
  if (done) {
    done = co_await sync_table_names();
    if (!done) become_read_only(done.error());  // a failed sync is not tried again
  }
  if (done) {
    edit.added = outputs;
    done = co_await install(std::move(edit), {});
  }
  if (done) keep_in_full_compaction(job, outputs);
  if (done) {
    count_merge(job, outputs);
    stats_.compacted_bytes_written += values.written_bytes();
    stats_.value_bytes_written += values.written_bytes();
  } else if (!manifest_->poisoned()) {
    co_await values.abandon();
  }
  for (const TableRecord& output : outputs) {
    if (done) stats_.compacted_bytes_written += output.size_bytes;
    // Orphans; the next open would remove them too. (After a manifest error nobody knows.)
    if (!done && !manifest_->poisoned()) {
      co_await remove_file(join_path(options_.directory, table_file_name(output.file_number)));
    }
  }
  co_return done;
}

}  // namespace gyre
