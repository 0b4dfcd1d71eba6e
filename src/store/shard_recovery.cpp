// Opening a shard: manifest, tables, orphans, log (storage study b7).
#include <fmt/format.h>

#include <algorithm>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "store/file_names.hpp"
#include "store/shard.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

constexpr size_t replay_window_bytes = 1u << 20;
// Every start begins a segment. With more than this many to read, the records go to a table.
constexpr size_t log_segments_max = 4;

struct FoundSegment {
  uint64_t id;
  uint64_t size_bytes;
  std::string path;
};

// Records on their way into the memtable. Each insert waits for cache misses, its index slot first,
// then the newest entry of the key: both are fetched while the records before it are inserted.
class ReplayQueue {
 public:
  bool full() const { return tail_ - head_ == capacity; }
  bool empty() const { return tail_ == head_; }
  void push(LogRecord&& record, const Memtable& table) {
    Entry& entry = entries_[tail_++ % capacity];
    entry.record = std::move(record);
    entry.key_hash = hash64(entry.record.key);
    table.prefetch_slot(entry.key_hash);
    if (tail_ - head_ > slots_ahead)
      table.prefetch_entry(entries_[(tail_ - 1 - slots_ahead) % capacity].key_hash);
  }
  struct Entry {
    LogRecord record;
    uint64_t key_hash = 0;
  };
  Entry& pop() { return entries_[head_++ % capacity]; }

 private:
  static constexpr size_t slots_ahead = 8;
  static constexpr size_t capacity = 16;
  Entry entries_[capacity];
  size_t head_ = 0;
  size_t tail_ = 0;
};

}  // namespace

Task<Result<void>> Shard::recover() {
  if (Result<void> made = co_await make_directories(options_.directory); !made) co_return made;
  const std::string current = join_path(options_.directory, current_file_name);
  Result<FileStatus> status = co_await file_status(current);
  if (!status) co_return fail(status.error());
  Result<std::unique_ptr<ManifestLog>> manifest =
      status->exists ? co_await ManifestLog::open(options_.directory)
                     : co_await ManifestLog::create(options_.directory, options_.identity);
  if (!manifest) co_return fail(manifest.error());
  manifest_ = std::move(*manifest);
  if (manifest_->state().identity() != options_.identity) {
    co_return fail(Errc::invalid,
                   options_.directory +
                       " belongs to another data directory or shard number: put it back where it "
                       "came from, or start with an empty --data directory");
  }
  if (!store_test_faults.forget_clock) context_.clock.observe(manifest_->state().hlc_max());
  if (Result<void> opened = co_await open_tables(); !opened) co_return opened;
  std::vector<LogSegment> chain;
  std::vector<LogSegment> spare;
  if (Result<void> replayed = co_await replay_log(chain, spare); !replayed) co_return replayed;
  co_return co_await start_log(std::move(chain), std::move(spare));
}

Task<Result<void>> Shard::open_tables() {
  const LevelState& state = manifest_->state();
  VersionEdit all;
  std::vector<TableRef> tables;
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRecord* record : state.level(level)) {
      Result<TableRef> table = co_await TableFile::open(*host_, *record);
      if (!table) co_return fail(table.error());
      all.added.push_back(*record);
      tables.push_back(*table);
    }
  }
  for (const TableRef& table : tables) table->use_values();
  set_levels(TableLevels().with(all, {}, tables));
  installed_through_seq_ = state.flushed_through_seq();
  // Tables that no edit names, and value files that no table names, were being written when the
  // process ended.
  Result<std::vector<DirEntry>> entries = co_await list_directory(options_.directory);
  if (!entries) co_return fail(entries.error());
  for (const DirEntry& entry : *entries) {
    const FileName name = parse_file_name(entry.name);
    const bool is_table = name.kind == FileKind::table;
    if (entry.is_directory || (!is_table && name.kind != FileKind::values)) continue;
    if (is_table ? state.find(name.number) != nullptr
                 : static_cast<bool>(host_->open_value_file(name.number))) {
      continue;
    }
    Result<void> gone = co_await unlink_file(join_path(options_.directory, entry.name));
    if (!gone) co_return gone;
  }
  co_return Result<void>{};
}

Task<Result<void>> Shard::replay_log(std::vector<LogSegment>& chain,
                                     std::vector<LogSegment>& spare) {
  Result<std::vector<DirEntry>> entries = co_await list_directory(options_.directory);
  if (!entries) co_return fail(entries.error());
  std::vector<FoundSegment> found;
  for (const DirEntry& entry : *entries) {
    const FileName name = parse_file_name(entry.name);
    if (entry.is_directory || name.kind != FileKind::log) continue;
    found.push_back({name.number, entry.size_bytes, join_path(options_.directory, entry.name)});
  }
  std::sort(found.begin(), found.end(),
            [](const FoundSegment& a, const FoundSegment& b) { return a.id < b.id; });

  const LevelState& state = manifest_->state();
  LogReader reader({.salt = options_.log_salt,
                    .start_position = state.log_start_position(),
                    .skip_through_seq = state.flushed_through_seq(),
                    .promised_position = state.log_promised_position(),
                    .window_bytes = limits::io_alignment_bytes,
                    .assembly_bytes_max = context_.write_memory.capacity()});
  LogFeed feed(replay_window_bytes);
  Result<void> replayed;
  for (size_t i = 0; replayed && i < found.size(); ++i) {
    replayed = co_await feed.add(reader, found[i].id, found[i].size_bytes, found[i].path);
  }
  active_->log_start = state.log_start_position();
  if (replayed) replayed = co_await replay_records(reader, feed);
  // A killed process leaves frames that only the kernel has. The next ones will promise that they
  // are durable, and readers are about to see them.
  for (size_t i = 0; replayed && i < found.size(); ++i) {
    if (reader.in_chain(i) && !store_test_faults.trust_replayed_frames)
      replayed = co_await feed.sync(i);
  }
  co_await feed.close();
  if (!replayed) co_return replayed;

  for (size_t i = 0; i < found.size(); ++i) {
    LogSegment segment{.id = found[i].id, .base = 0, .size_bytes = found[i].size_bytes};
    if (reader.in_chain(i)) {
      segment.base = reader.base(i);
      chain.push_back(segment);
    } else {
      spare.push_back(segment);
    }
  }
  log_end_ = reader.end();
  if (!store_test_faults.forget_clock) context_.clock.observe(log_end_.version_max.hlc);
  visible_seq_ = std::max(visible_seq_, log_end_.seq_next - 1);
  co_return Result<void>{};
}

Task<Result<void>> Shard::replay_records(LogReader& reader, LogFeed& feed) {
  ReplayQueue queue;
  active_->table.defer_links();
  for (;;) {
    Result<LogReader::Event> event = reader.next();
    if (!event) co_return fail(event.error());
    const bool plain = *event == LogReader::Event::record && !reader.record().assembled;
    // What waits names bytes of the window; and records keep their order.
    while (!queue.empty() && (!plain || queue.full())) {
      ReplayQueue::Entry& entry = queue.pop();
      const bool charged = apply_recovered(entry.record, entry.key_hash);
      if (charged && active_->table.used_bytes() < options_.memtable_bytes_max) continue;
      if (Result<void> settled = co_await settle_recovered(charged); !settled) co_return settled;
    }
    if (plain) {
      queue.push(std::move(reader.record()), active_->table);
    } else if (*event == LogReader::Event::record) {
      LogRecord& record = reader.record();
      const bool charged = apply_recovered(record, hash64(record.key));
      if (Result<void> settled = co_await settle_recovered(charged); !settled) co_return settled;
    } else if (*event == LogReader::Event::want) {
      if (Result<void> fed = co_await feed.supply(reader); !fed) co_return fed;
      co_await maybe_yield();
    } else {
      while (active_->table.link_some()) co_await maybe_yield();
      co_return Result<void>{};
    }
  }
}

// After a record for which nobody granted memory, or with which the memtable may be full.
Task<Result<void>> Shard::settle_recovered(bool charged) {
  if (!charged && flush_error_) {
    co_return fail(
        Error{flush_error_->code, flush_error_->os_error,
              fmt::format("{} (of memory there is too little to keep the rest of the log: make "
                          "room on the disk, or start with as much --memory as before)",
                          flush_error_->detail)});
  }
  if (active_->table.used_bytes() < options_.memtable_bytes_max) co_return Result<void>{};
  // A log may hold more than memtables may: flush on the way.
  while (active_->table.link_some()) co_await maybe_yield();
  visible_seq_ = active_->table.seq_last();
  immutable_.push_back(std::move(active_));
  active_ = std::make_shared<Mem>(context_, immutable_.back()->table.rank_prefix());
  active_->table.defer_links();
  active_->log_start = immutable_.front()->log_start;
  co_return co_await flush_recovered();
}

// A full disk is no reason not to start: what the log holds was in memory in the life before, and
// stays there until there is room.
Task<Result<void>> Shard::flush_recovered() {
  if (flush_error_) co_return Result<void>{};
  Result<void> done = co_await flush_oldest();
  flushing_ = false;
  if (done || done.error().code != Errc::no_space || manifest_->poisoned()) co_return done;
  flush_error_ = done.error();
  ++stats_.flushes_without_space;
  Reactor::current().log("warn", fmt::format("shard={} event=start_without_space reason=\"{}\"",
                                             options_.identity.index, done.error().message()));
  co_return Result<void>{};
}

// False: it is in memory that nobody granted.
bool Shard::charge_recovered(size_t size_bytes) {
  if (context_.write_memory.try_acquire(size_bytes)) return true;
  // In the life before, a flush may have given back what it then could not write.
  for (const MemRef& mem : immutable_) mem->give_back(0);
  return context_.write_memory.try_acquire(size_bytes);
}

bool Shard::apply_recovered(LogRecord& record, uint64_t key_hash) {
  ++stats_.records_recovered;
  const size_t value_bytes = record.assembled ? record.value_buffer.size() : record.value.size();
  const size_t charge = StoreWrite::charge_for(record.key.size(), value_bytes);
  // Nobody else uses the budget yet; a log that was written under a larger one may exceed it.
  const bool charged = charge_recovered(charge);
  if (charged) active_->charged_bytes += charge;
  if (record.assembled) {
    active_->table.add(record.seq, record.kind, record.version, record.expire_at_ms, record.key,
                       std::move(record.value_buffer), key_hash);
  } else {
    active_->table.add(record.seq, record.kind, record.version, record.expire_at_ms, record.key,
                       record.value, key_hash);
  }
  return charged;
}

Task<Result<void>> Shard::start_log(std::vector<LogSegment> chain, std::vector<LogSegment> spare) {
  VersionEdit edit;
  // Everything found is durable, and nothing in the log says so of its last frames: one that loses
  // them later (a segment that goes, or is cut short) must not pass for a torn tail.
  edit.log_promised_position = log_end_.position;
  edit.hlc_max = context_.clock.last();
  const bool all_in_tables = immutable_.empty() && active_->table.empty();
  const bool not_needed = all_in_tables && !chain.empty();
  if (not_needed) {  // the next start need not read the old segments again
    edit.log_start_position = log_end_.position;
    edit.flushed_through_seq = log_end_.seq_next - 1;
    installed_through_seq_ = edit.flushed_through_seq;
    active_->log_start = log_end_.position;
  }
  if (not_needed || log_end_.position > manifest_->state().log_promised_position()) {
    const Result<void> done = co_await manifest_->append(std::move(edit));
    // Without room the old segments stay, and the first frame to come promises them.
    if (!done && (done.error().code != Errc::no_space || manifest_->poisoned())) co_return done;
    if (done && not_needed) {
      spare.insert(spare.end(), chain.begin(), chain.end());
      chain.clear();
    }
  }
  const bool many_segments = chain.size() > log_segments_max;
  log_ = std::make_unique<LogWriter>(
      LogWriterOptions{
          .directory = options_.directory,
          .salt = options_.log_salt,
          .durability = options_.durability,
          .sync_interval = options_.sync_interval,
          .segment_bytes_max = options_.log_segment_bytes_max,
          .frame_patience = options_.log_frame_patience,
          .position = log_end_.position,
          .segment_id_next = log_end_.segment_id_next,
          .frame_seq_next = log_end_.frame_seq_next,
          .seq_next = std::max(log_end_.seq_next, manifest_->state().flushed_through_seq() + 1),
          .reopened = true},
      static_cast<LogClient&>(*this));
  if (Result<void> opened = co_await log_->open(std::move(chain), std::move(spare)); !opened) {
    co_return opened;
  }
  visible_seq_ = log_->seq_next() - 1;
  // A long log is turned into a table soon, so that the next start is quick.
  if (many_segments || active_->table.used_bytes() > options_.memtable_bytes_max / 2) rotate();
  co_return Result<void>{};
}

}  // namespace gyre
