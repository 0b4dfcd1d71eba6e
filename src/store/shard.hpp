// One storage shard: a log-structured merge tree owned by one core.
//
//   write ─> log frame + memtable (invisible) ─ frame durable ─> visible, answered
//   memtable full ─> immutable ─ flush ─> level 0 ─ compaction ─> level 1 … 6
//   read: memtable, immutable memtables, level 0 newest first, one table per deeper level;
//         a source is skipped when what was found is newer than everything in it
//
// Invariants
//   - what a reader sees is on the disk (group) and never goes back
//   - tables change in one step that does not suspend: readers hold the set they started with,
//     and a table's file goes when the last of them has ended
//   - memory of memtables is reserved by the writer before (ShardContext::write_memory) and given
//     back while the memtable is flushed, the rest at its end
//   - any error of log, flush or manifest makes the shard read-only; reads go on. A compaction that
//     fails before the manifest is tried again, and so is a flush that finds the disk full: neither
//     has lost anything
//
// Work in the background, most urgent first: flush, merges out of level 0, merges below. One of
// each may be under way; whoever is less urgent stands still between two blocks, unless the more
// urgent one waits for its tables. Writes that it can't keep up with wait or are refused
// (write_controller.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <gyre/reactor.hpp>
#include <gyre/result.hpp>
#include <gyre/scope.hpp>
#include <gyre/store_options.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "store/block_cache.hpp"
#include "store/compaction_picker.hpp"
#include "store/file_remover.hpp"
#include "store/large_reader.hpp"
#include "store/log_feed.hpp"
#include "store/log_reader.hpp"
#include "store/log_writer.hpp"
#include "store/manifest_log.hpp"
#include "store/memtable.hpp"
#include "store/table_file.hpp"
#include "store/table_levels.hpp"
#include "store/value_writer.hpp"
#include "store/verification.hpp"
#include "store/write_controller.hpp"

namespace gyre {

struct ShardOptions {
  std::string directory;
  ShardIdentity identity;
  uint64_t log_salt = 0;
  Durability durability = Durability::group;
  Nanos sync_interval = milliseconds(100);
  size_t memtable_bytes_max = 8u << 20;  // then it is flushed
  uint64_t log_bytes_max = 0;            // 0: limits::log_bytes_before_flush_max
  uint64_t log_segment_bytes_max = 0;    // 0: the limit
  Nanos log_frame_patience = 0;          // LogWriterOptions::frame_patience
  size_t cache_bytes = 8u << 20;
  TableOptions table;
  CompactionOptions compaction;
  // Values from here on are kept apart from the tables; no_value_separation: none is.
  uint64_t separate_value_bytes_min = separate_value_bytes_min_default;
  uint64_t value_file_bytes_max = 256u << 20;  // of one that a merge writes; then the next
  Nanos scrub_period = 0;                      // every table is checked once in this time; 0: never
  uint64_t removal_piece_bytes = FileRemover::piece_bytes_default;
};

// What shards of a core share; outlives them.
struct ShardContext {
  Semaphore& write_memory;  // bytes of values on their way and in memtables
  HybridClock& clock;
  // Memory beyond that, for memtables whose bytes were given back while they were flushed: they
  // live until nobody reads them. Without it they are given back when the memtable dies.
  Semaphore* flush_credit = nullptr;
  // Tombstones and expired values with a later stamp stay, though nothing older is left here: not
  // every replica is known to have them (D11). Without it there is no other replica.
  const uint64_t* purge_hlc_max = nullptr;
};

// One write. Intrusive; lives until `done` was called. Fill `record.kind`, `.key`, `.value` (or
// `buffer` for large ones, then `record.value_buffer = &buffer`), `.expire_at_ms`; leave
// `record.version` zero to have it stamped.
struct StoreWrite : LogWrite {
  using Done = void (*)(StoreWrite& self, Errc status) noexcept;

  Done done = nullptr;
  ValueBuffer buffer;
  uint64_t hash = 0;         // hash64 of the key, if the caller has it
  size_t charged_bytes = 0;  // acquired from write_memory; the shard gives it back
  std::string key_storage;   // filled when the write has to wait
  Nanos asked_at = 0;        // of a write that waits its turn
  Nanos patience = WriteController::delay_max;  // a longer wait is refused

  static size_t charge_for(size_t key_bytes, size_t value_bytes) {
    return Memtable::entry_bytes_max(key_bytes, value_bytes);
  }
  size_t size_bytes() const {
    return record.key.size() +
           (record.value_buffer != nullptr ? record.value_buffer->size() : record.value.size());
  }
};

// A value found. `value` is valid until the next suspension after a plain try_get, and as long
// as this object after an awaited get.
struct StoreRead {
  // Of the newest entry; also where that is a tombstone or expired, so that the key is absent. Zero:
  // the key was never written, or nothing is known of it any more.
  Version version;
  uint64_t seq = 0;  // of that entry, while it is in memory
  uint64_t expire_at_ms = 0;
  uint64_t size_bytes = 0;
  std::string_view value;  // unless large
  bool large = false;
  ValueBuffer large_buffer;   // a large value still in memory
  Ref<BlockFile> large_file;  // or in a table or value file, if set
  std::string large_encoded;  // for LargeReader::open
  BlockPin pin;
  std::shared_ptr<const Memtable> memtable;
};

// A write whose value is made from the newest state of its key, shown already or not, at the moment
// when it gets its place in the log: of any number of them at once none misses another, and many
// of one key share a frame. Writes of its key that come later take effect later. Key, arguments and what `compute` makes live until `done`.
//
// What is acquired beforehand is for the key and what the caller knows of the value; more is acquired
// when the value is known, and what it doesn't need is given back.
struct StoreModify : StoreWrite {
  // leave: nothing is written, and `seq` stays 0. `done` comes when what was seen is on the disk.
  enum class Act : uint8_t { write, leave };
  // Plain code, and calls no shard. Sets record.kind, .expire_at_ms, and .value, or `buffer` and
  // .value_buffer (its own, or shared from current.large_buffer). May be called again, if there
  // was no memory for what it made. `current.version` and `.seq` mean something where the key is
  // absent, too. A large value is in `current.large_buffer`, if it was wanted.
  using Compute = Act (*)(StoreModify& self, const StoreRead& current, bool present) noexcept;

  StoreModify() { record.deferred = true; }

  Compute compute = nullptr;
  bool wants_value = true;               // else a large one isn't read for it
  uint64_t value_bytes_max = 64u << 20;  // a longer one that is wanted: Errc::too_large
  std::string failure;                   // with Errc::corrupt: what can't be read

 private:
  friend class Shard;
  // What the disk has told. Nobody writes the key meanwhile.
  struct Known {
    StoreRead read;
    bool present = false;
  };
  std::unique_ptr<Known> known_;
  LogWriteQueue held_;  // writes of its key that came after it
  uint64_t seen_seq_ = 0;
};

enum class ReadOutcome : uint8_t {
  found,
  absent,  // never written, deleted, or expired
  wait,    // the answer needs the disk: co_await get()
};

struct ShardStats {
  uint64_t writes = 0;
  uint64_t writes_refused = 0;
  uint64_t modifies_read = 0;   // that had to wait for the disk
  uint64_t writes_delayed = 0;  // because flushing or merging was behind
  Nanos write_delay_total = 0;
  Nanos write_delay_longest = 0;
  uint64_t reads_memory = 0;
  uint64_t reads_waited = 0;
  uint64_t flushes = 0;
  uint64_t flushed_bytes = 0;
  uint64_t flushes_without_space = 0;  // tried again later
  uint64_t compactions = 0;
  uint64_t compactions_failed = 0;  // tried again later
  uint64_t trivial_moves = 0;       // of the compactions
  uint64_t reclaims = 0;            // … that only made room of what was dead
  uint64_t merges_paused = 0;       // for something more urgent
  uint64_t compacted_bytes_read = 0;
  uint64_t compacted_bytes_written = 0;
  uint64_t value_bytes_written = 0;  // to value files; part of the flushed and compacted ones
  uint64_t value_bytes_moved = 0;    // out of sparse value files
  uint64_t records_recovered = 0;
  uint64_t scrubbed_tables = 0;  // value files too
  uint64_t scrubbed_bytes = 0;
  std::array<LevelWriteStats, limits::table_level_count> levels;
};

// Of a checkpoint or a verify.
struct WorkProgress {
  uint64_t tables = 0;
  uint64_t tables_done = 0;
  uint64_t bytes = 0;
  uint64_t bytes_done = 0;
};

class Scan;
class SourceCursor;

class Shard final : private LogClient {
 public:
  // Recovers the shard in `options.directory`, or makes a new one if it is empty. Errc::corrupt
  // names file, offset and remedy; nothing was changed then.
  static Task<Result<std::unique_ptr<Shard>>> open(ShardOptions options, ShardContext context);
  ~Shard();

  // Waits for background work, writes what is queued to the log, closes files. With `flush` the
  // memtable is written to a table first, so that the next start is quick; a disk that has no room
  // for it is no failure. Calls that wait for memory, a flush or a compaction answer Errc::closed;
  // reads, scans and values still held are waited for: whoever awaits close must not hold one
  // itself.
  Task<Result<void>> close(bool flush);

  // Takes the write or refuses it: Errc::ok (done follows, perhaps before this returns),
  // Errc::read_only or Errc::overloaded (done does not follow, the charge stays the caller's). What
  // done says beside Errc::ok: LogClient::completed, and Errc::overloaded (it waited its turn for twice
  // its patience; it is not there). A StoreModify, which is written in the same way, may also end
  // with Errc::corrupt (the newest value can't be read), Errc::too_large, Errc::overloaded (there
  // is no memory for the value) or Errc::closed; it is not there then.
  Errc write(StoreWrite& write);
  // A write of a key with this hash64 is about to come: a hint, which saves it a cache miss.
  void write_expected(uint64_t key_hash) const { active_->table.prefetch_slot(key_hash); }
  // A key is about to be read or written: lets the cache misses of its search in memory begin. First
  // for all keys that are, then, when those have come, for what they lead to.
  void key_expected(uint64_t key_hash) const {
    for (const MemRef& mem : immutable_) mem->table.prefetch_slot(key_hash);
    active_->table.prefetch_slot(key_hash);
  }
  void key_at_hand(uint64_t key_hash) const {
    for (const MemRef& mem : immutable_) mem->table.prefetch_node(key_hash);
    active_->table.prefetch_node(key_hash);
  }
  // As a coroutine, for tests, tools and embedding. Waits for memory, and for up to 10 s where write
  // would answer Errc::overloaded.
  Task<Result<Version>> put(std::string key, ValueBuffer value, uint64_t expire_at_ms = 0);
  Task<Result<Version>> remove(std::string key);

  // From memory only; a plain function.
  ReadOutcome try_get(std::string_view key, uint64_t now_ms, StoreRead& out);
  // False: absent.
  Task<Result<bool>> get(std::string key, uint64_t now_ms, StoreRead& out);

  // Whether the shard holds an entry of `key`, dead ones included, with a version above `than`;
  // `newest` is that version then. From memory only; `wait`: co_await find_newer().
  ReadOutcome try_find_newer(std::string_view key, Version than, Version& newest) const;
  Task<Result<bool>> find_newer(std::string key, Version than, Version& newest);

  // A consistent view of the range as of now. With `hlc_min`, entries with smaller stamps may be left
  // out, or show what a newer one of them hides: tables that hold only such are not read.
  Task<Result<std::unique_ptr<Scan>>> scan(ScanRange range, uint64_t now_ms, uint64_t hlc_min = 0);
  // The same in two steps, for a view of several shards as of one moment: Scan::seek() comes next.
  std::unique_ptr<Scan> pin_scan(ScanRange range, uint64_t now_ms, uint64_t hlc_min = 0) const;
  Task<Result<std::unique_ptr<Scan>>> scan(std::string start, std::string end, uint64_t now_ms);

  // Starts a flush even though the memtable is not full (memory is needed elsewhere).
  void memory_wanted();
  Task<Result<void>> flush();
  // Runs compactions until no level is over its target, or one fails (which is then tried again in
  // the background).
  Task<Result<void>> settle();
  // Flushes and merges everything into the deepest level: afterwards no table holds a tombstone, an
  // expired value or an overwritten one that was there at the call, and little of a value file is
  // dead, unless something newer than the
  // call needs it. May be called any number of times at once.
  Task<Result<void>> compact();

  // Makes `directory`, which exists and is empty, a copy of this shard at one moment during the
  // call: it holds the writes up to some seq, all of them that were visible at the call among them.
  // Flushes first, so that no log is needed; tables are hard links. Writes and compactions go on.
  // Durable at the end; what a failure leaves is the caller's.
  Task<Result<void>> checkpoint(std::string directory);
  // Of the checkpoint under way, or the last one.
  const WorkProgress& checkpoint_progress() const { return checkpoint_progress_; }
  // Checks every table and value file, the log as far as it is durable, and the manifest against what
  // they must be. Errc::cancelled if stopped.
  Task<Result<VerifyReport>> verify();
  const WorkProgress& verify_progress() const { return verify_progress_; }
  void abandon_verify() { verify_abandoned_ = true; }  // nobody waits for it any more
  // Known to be damaged, by verify or scrub.
  std::vector<DamagedTable> damaged_tables() const;
  // Bytes of tables that a full compaction under way has still to merge.
  uint64_t full_compaction_bytes_left() const;
  // Why write() answered Errc::overloaded.
  std::string refusal_reason() const;
  // Why no write is, or will soon be, taken until somebody makes room; empty: there is room.
  std::string full_disk_reason() const;
  bool read_only() const { return read_only_; }
  const std::string& read_only_reason() const { return read_only_reason_; }
  const ShardOptions& options() const { return options_; }
  const ShardStats& stats() const { return stats_; }
  LevelReport level_report(unsigned level, uint64_t now_ms) const;
  const LogStats& log_stats() const { return log_->stats(); }
  const BlockCache& cache() const { return *cache_; }
  const TableLevels& levels() const { return *levels_; }
  uint64_t visible_seq() const { return visible_seq_; }
  size_t memtable_bytes() const;
  const WriteController& write_controller() const { return controller_; }
  const CompactionNeed& compaction_need() const { return need_; }
  const TableHost& tables() const { return *host_; }
  // Of tables and value files in use.
  uint64_t stored_bytes() const { return levels_->total_bytes() + host_->value_totals().bytes; }
  uint64_t log_disk_bytes() const { return log_->disk_bytes(); }
  const FileRemover& remover() const { return remover_; }

 private:
  friend class Scan;

  // A memtable with what the flush must know. Readers share it; its memory is given back to the
  // budget when the last of them has let go.
  struct Mem {
    explicit Mem(const ShardContext& context, std::string_view expected_prefix = {})
        : budget(context.write_memory), credit(context.flush_credit), table(expected_prefix) {}
    ~Mem() {
      budget.release(charged_bytes);
      if (credit_bytes != 0) credit->release(credit_bytes);
    }
    // So that what is left to flush is what stays charged, as far as the credit goes.
    void give_back(size_t keep_bytes);
    Semaphore& budget;
    Semaphore* credit;
    Memtable table;
    size_t charged_bytes = 0;
    size_t credit_bytes = 0;  // no longer charged, still in memory
    uint64_t log_start = 0;   // no record of this memtable begins before this log position
  };
  using MemRef = std::shared_ptr<Mem>;

  // A merge that may run beside one of the other lane.
  struct MergeLane {
    bool level0 = false;
    const CompactionJob* job = nullptr;  // under way
    uint64_t entries_total = 0;
    uint64_t entries_done = 0;
    uint64_t entries_paced = 0;  // of these, how far `paid_until` accounts for
    uint64_t moved_bytes = 0;    // values copied from one value file to another
    uint64_t moved_bytes_paced = 0;
    Nanos paid_until = 0;
    TableRef suspect;           // one that a merge could not read for its bytes
    bool found_damage = false;  // and that is damaged indeed
    std::optional<Error> error;
    double part_left() const {
      if (job == nullptr || entries_total == 0) return job == nullptr ? 0 : 1;
      return 1 - static_cast<double>(entries_done) / static_cast<double>(entries_total);
    }
  };

  struct DelayTimer : Timer {
    explicit DelayTimer(Shard& of);
    Shard& shard;
  };

  struct ReleaseHook : TickHook {
    explicit ReleaseHook(Shard& of);
    Shard& shard;
  };

  // One call under way: close waits for its end.
  class Call {
   public:
    explicit Call(Shard& of) : shard_(of) { ++shard_.calls_; }
    ~Call() {
      if (--shard_.calls_ == 0) shard_.no_calls_.set();
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Shard& shard_;
  };

  Shard(ShardOptions options, ShardContext context);

  Task<Result<void>> reserve_memory(size_t size_bytes);
  void stop_memory_waits();
  Error ended_error() const;
  Task<void> promise_log_end();

  // recovery
  Task<Result<void>> recover();
  Task<Result<void>> open_tables();
  Task<Result<void>> replay_log(std::vector<LogSegment>& chain, std::vector<LogSegment>& spare);
  Task<Result<void>> replay_records(LogReader& reader, LogFeed& feed);
  Task<Result<void>> settle_recovered(bool charged);
  Task<Result<void>> flush_recovered();
  bool charge_recovered(size_t size_bytes);
  bool apply_recovered(LogRecord& record, uint64_t key_hash);
  Task<Result<void>> start_log(std::vector<LogSegment> chain, std::vector<LogSegment> spare);

  // LogClient
  void logged(LogWrite& write) noexcept override;
  void committed(uint64_t seq) noexcept override;
  void completed(LogWrite& write, Errc status) noexcept override;
  void log_failed(const Error& error) noexcept override;
  void log_waits_for_space() noexcept override {
    remover_.hurry();
    visible_moved_.set();
  }

  void become_read_only(const Error& error);
  void rotate_if_full();
  Task<Result<Version>> submit(StoreWrite& write);  // an AwaitWrite
  void append(StoreWrite& write);
  void append_now(StoreWrite& write);
  static void keep_bytes(StoreWrite& write);
  StoreWrite& pop_delayed();
  void take_delayed(Nanos now);
  void release_delayed();
  void end_delays();
  void update_pressure();
  void rotate();
  const Memtable::Node* find_in_memory(std::string_view key, uint64_t hash, uint64_t seq,
                                       MemRef* holder) const;
  static ReadOutcome take_node(const Memtable::Node& node, uint64_t now_ms, StoreRead& out);
  ReadOutcome try_lookup(std::string_view key, uint64_t hash, uint64_t seq, uint64_t now_ms,
                         StoreRead& out);
  enum class Sees : uint8_t { visible, newest };
  Task<Result<bool>> lookup(std::string key, Sees sees, uint64_t now_ms, StoreRead& out);

  // read-modify-write
  void append_modify(StoreModify& modify);
  Prepared prepare(LogWrite& write) noexcept override;
  ReadOutcome find_newest(StoreModify& modify, StoreRead& out);
  bool charge(StoreModify& modify);
  void hold_others(StoreModify& modify);
  bool is_held(StoreWrite& write);
  void let_others_go(StoreWrite& write);
  void append_released();
  void leave(StoreModify& modify, uint64_t seen_seq);
  void release_left(uint64_t through_seq);
  void begin_wait(StoreModify& modify, Task<void> (Shard::*wait)(StoreModify&));
  Task<void> read_for(StoreModify& modify);
  Task<Result<void>> load_large(StoreModify& modify, StoreRead& read);
  Task<void> find_memory_for(StoreModify& modify);
  Task<Result<void>> recharge(StoreModify& modify, size_t size_bytes);

  // background
  Task<void> flush_loop();
  Task<Result<void>> flush_oldest();
  bool compaction_due() const;
  std::optional<CompactionJob> next_job(const MergeLane& lane);
  bool deeper_goes_first() const;
  Task<void> merge_loop(MergeLane& lane);
  Task<Result<void>> wait_for_compaction();
  Task<Result<void>> run_compaction(CompactionJob job, MergeLane& lane);
  ValueWriter value_writer();
  Task<Result<void>> merge_tables(const CompactionJob& job, MergeLane& lane, ValueWriter& values,
                                  std::vector<TableRecord>& outputs);
  void keep_in_full_compaction(const CompactionJob& job, const std::vector<TableRecord>& outputs);
  void count_value_files(const std::vector<TableRef>& added, const std::vector<TableRef>& removed,
                         const std::vector<TableRef>& moved);
  bool values_go_first() const;
  static Task<Result<void>> load_in_merge(SourceCursor& cursor, MergeLane& lane);
  bool must_stand_still(const MergeLane& lane) const;
  Task<void> stand_still(const MergeLane& lane);
  Nanos pace(MergeLane& lane);
  Task<Result<void>> sync_table_names();
  Task<Result<void>> install(VersionEdit edit, std::vector<TableRef> moved);
  void set_levels(std::shared_ptr<const TableLevels> levels);
  bool delays_older(std::string_view key, Version version) const;
  void count_merge(const CompactionJob& job, const std::vector<TableRecord>& outputs);
  bool older_data_elsewhere(const CompactionJob& job, std::string_view key, Version version) const;
  Task<Result<VerifyReport>> verify_table(TableRef table, uint64_t bytes_per_second,
                                          uint64_t* progress_bytes, ReadValues read);
  Task<Result<VerifyReport>> verify_values(ValueFileRef values, uint64_t bytes_per_second,
                                           uint64_t* progress_bytes);
  Task<Result<void>> verify_log(VerifyReport& report);
  Task<Result<uint64_t>> read_log(uint64_t start_position, uint64_t end_position);
  Task<Result<void>> check_log(LogReader& reader, LogFeed& feed,
                               const std::map<uint64_t, uint64_t>& segments);
  void note_damage(TableFile& table, const VerifyReport& report);
  Ref<BlockFile> next_to_scrub(uint64_t position) const;
  Task<Result<void>> scrub(Ref<BlockFile> file, uint64_t bytes_per_second);
  Task<void> scrub_loop();
  static void file_dropped(void* self, DroppedFile file) noexcept;
  static Task<void> remove_file(std::string path);
  Task<void> drop_tables();

  ShardOptions options_;
  ShardContext context_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<TableHost> host_;
  std::unique_ptr<ManifestLog> manifest_;
  std::unique_ptr<LogWriter> log_;
  std::shared_ptr<const TableLevels> levels_;
  MemRef active_;
  std::deque<MemRef> immutable_;  // oldest first
  uint64_t visible_seq_ = 0;
  LogEnd log_end_;  // where the log ended that was found at open
  WriteController controller_;
  BackgroundShare background_share_;
  CompactionNeed need_;         // of levels_
  double debt_soft_bytes_ = 0;  // where debt begins to slow writes
  Nanos pressure_updated_ = 0;
  // By the hash of its key, a modify that waits; writes of the key queue behind it.
  std::unordered_map<uint64_t, StoreModify*> holders_;
  LogWriteQueue released_;  // which it did
  ReleaseHook release_hook_{*this};
  LogWriteQueue left_;  // modifies that wrote nothing; what they saw isn't durable yet
  LogWriteQueue delayed_;
  uint64_t delayed_bytes_ = 0;
  DelayTimer delay_timer_{*this};
  bool flushing_ = false;        // a memtable is being written
  size_t flush_left_bytes_ = 0;  // of it, as charged
  bool read_only_ = false;
  bool closing_ = false;
  std::string read_only_reason_;
  ShardStats stats_;
  uint64_t calls_ = 0;
  std::vector<StopSource*> memory_waits_;
  std::optional<Error> flush_error_;  // of the last one, if the disk was full
  MergeLane level0_lane_{.level0 = true};
  MergeLane deeper_lane_;
  uint64_t merge_round_ = 0;
  unsigned merges_awaited_ = 0;         // by calls: merges don't rest then
  unsigned full_compactions_ = 0;       // calls of compact under way
  uint64_t full_compaction_end_ = 0;    // tables with a smaller file number are to be merged fully
  uint64_t installed_through_seq_ = 0;  // what levels_ holds; the manifest may be ahead
  WorkProgress checkpoint_progress_;
  WorkProgress verify_progress_;
  bool verify_abandoned_ = false;
  std::vector<DamagedTable> damaged_;

  Event no_calls_;
  Event flush_wanted_;
  Event flushed_;
  Event visible_moved_;
  Event compaction_wanted_;
  Event compacted_;  // a job has ended
  Event merge_may_go_on_;
  FileRemover remover_{scope_, options_.directory, options_.removal_piece_bytes};
  Scope scope_;
};

}  // namespace gyre
