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
//     back when the memtable was flushed
//   - any error of log, flush or manifest makes the shard read-only; reads go on. A compaction that
//     fails before the manifest is tried again: it has lost nothing
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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
#include "store/large_reader.hpp"
#include "store/log_reader.hpp"
#include "store/log_writer.hpp"
#include "store/manifest_log.hpp"
#include "store/memtable.hpp"
#include "store/table_file.hpp"
#include "store/table_levels.hpp"

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
  size_t cache_bytes = 8u << 20;
  TableOptions table;
  CompactionOptions compaction;
};

// What shards of a core share; outlives them.
struct ShardContext {
  Semaphore& write_memory;  // bytes of values on their way and in memtables
  HybridClock& clock;
};

// One write. Intrusive; lives until `done` was called. Fill `record.kind`, `.key`, `.value` (or
// `buffer` for large ones, then `record.value_buffer = &buffer`), `.expire_at_ms`; leave
// `record.version` zero to have it stamped.
struct StoreWrite : LogWrite {
  using Done = void (*)(StoreWrite& self, Errc status) noexcept;

  Done done = nullptr;
  ValueBuffer buffer;
  size_t charged_bytes = 0;  // acquired from write_memory; the shard gives it back after the flush
  std::string key_storage;   // filled when the write has to wait for room in the log

  static size_t charge_for(size_t key_bytes, size_t value_bytes) {
    return Memtable::entry_bytes_max(key_bytes, value_bytes);
  }
};

// A value found. `value` is valid until the next suspension after a plain try_get, and as long
// as this object after an awaited get.
struct StoreRead {
  Version version;
  uint64_t expire_at_ms = 0;
  uint64_t size_bytes = 0;
  std::string_view value;  // unless large
  bool large = false;
  ValueBuffer large_buffer;   // a large value still in memory
  TableRef large_table;       // or in a table, if set
  std::string large_encoded;  // for LargeReader::open
  BlockPin pin;
  std::shared_ptr<const Memtable> memtable;
};

enum class ReadOutcome : uint8_t {
  found,
  absent,  // never written, deleted, or expired
  wait,    // the answer needs the disk: co_await get()
};

struct ShardStats {
  uint64_t writes = 0;
  uint64_t writes_refused = 0;
  uint64_t reads_memory = 0;
  uint64_t reads_waited = 0;
  uint64_t flushes = 0;
  uint64_t flushed_bytes = 0;
  uint64_t compactions = 0;
  uint64_t compactions_failed = 0;  // tried again later
  uint64_t compacted_bytes_read = 0;
  uint64_t compacted_bytes_written = 0;
  uint64_t records_recovered = 0;
};

class Scan;

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
  // done says beside Errc::ok: LogClient::completed.
  Errc write(StoreWrite& write);
  // A write of a key with this hash64 is about to come: a hint, which saves it a cache miss.
  void write_expected(uint64_t key_hash) const { active_->table.prefetch_slot(key_hash); }
  // As a coroutine, for tests, tools and embedding. Waits for memory.
  Task<Result<Version>> put(std::string key, ValueBuffer value, uint64_t expire_at_ms = 0);
  Task<Result<Version>> remove(std::string key);

  // From memory only; a plain function.
  ReadOutcome try_get(std::string_view key, uint64_t now_ms, StoreRead& out);
  // False: absent.
  Task<Result<bool>> get(std::string key, uint64_t now_ms, StoreRead& out);

  // A consistent view of [start, end) as of now; an empty `end` is the end of the keyspace.
  Task<Result<std::unique_ptr<Scan>>> scan(std::string start, std::string end, uint64_t now_ms);

  // Starts a flush even though the memtable is not full (memory is needed elsewhere).
  void memory_wanted();
  Task<Result<void>> flush();
  // Runs compactions until nothing is left to do, or one fails (which is then tried again in the
  // background).
  Task<Result<void>> settle();
  // Flushes and merges everything into the deepest level: afterwards no table holds a tombstone, an
  // expired value or an overwritten one that was there at the call, unless something newer than the
  // call needs it. May be called any number of times at once.
  Task<Result<void>> compact();

  bool read_only() const { return read_only_; }
  const std::string& read_only_reason() const { return read_only_reason_; }
  const ShardOptions& options() const { return options_; }
  const ShardStats& stats() const { return stats_; }
  const LogStats& log_stats() const { return log_->stats(); }
  const BlockCache& cache() const { return *cache_; }
  const TableLevels& levels() const { return *levels_; }
  uint64_t visible_seq() const { return visible_seq_; }
  size_t memtable_bytes() const;
  const TableHost& tables() const { return *host_; }
  uint64_t log_disk_bytes() const { return log_->disk_bytes(); }

 private:
  friend class Scan;

  // A memtable with what the flush must know. Readers share it; its memory is given back to the
  // budget when the last of them has let go.
  struct Mem {
    explicit Mem(Semaphore& memory, std::string_view expected_prefix = {})
        : budget(memory), table(expected_prefix) {}
    ~Mem() { budget.release(charged_bytes); }
    Semaphore& budget;
    Memtable table;
    size_t charged_bytes = 0;
    uint64_t log_start = 0;  // no record of this memtable begins before this log position
  };
  using MemRef = std::shared_ptr<Mem>;

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

  // recovery
  Task<Result<void>> recover();
  Task<Result<void>> open_tables();
  Task<Result<void>> replay_log(std::vector<LogSegment>& chain, std::vector<LogSegment>& spare);
  Task<Result<void>> replay_records(LogReader& reader, std::vector<File>& files);
  void apply_recovered(LogRecord& record);
  Task<Result<void>> start_log(std::vector<LogSegment> chain, std::vector<LogSegment> spare);

  // LogClient
  void logged(LogWrite& write) noexcept override;
  void committed(uint64_t seq) noexcept override;
  void completed(LogWrite& write, Errc status) noexcept override;
  void log_failed(const Error& error) noexcept override;

  void become_read_only(const Error& error);
  void rotate_if_full();
  void update_urgency();
  void rotate();
  const Memtable::Node* find_in_memory(std::string_view key, uint64_t hash, MemRef* holder) const;

  // background
  Task<void> flush_loop();
  Task<Result<void>> flush_oldest();
  std::optional<CompactionJob> next_compaction() const;
  Task<void> compaction_loop();
  Task<Result<void>> wait_for_compaction();
  Task<Result<void>> run_compaction(CompactionJob job);
  Task<Result<void>> merge_tables(const CompactionJob& job, std::vector<TableRecord>& outputs);
  Task<Result<void>> sync_table_names();
  Task<Result<void>> install(VersionEdit edit, std::vector<TableRef> moved);
  bool older_data_elsewhere(const CompactionJob& job, std::string_view key, Version version) const;
  static void table_dropped(void* self, DroppedTable table) noexcept;
  Task<void> remove_file(std::string path);
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
  bool flush_urgent_ = false;
  bool read_only_ = false;
  bool closing_ = false;
  std::string read_only_reason_;
  ShardStats stats_;
  uint64_t calls_ = 0;
  std::vector<StopSource*> memory_waits_;
  std::optional<Error> compaction_error_;  // of the last one, if it failed
  uint64_t full_compaction_end_ = 0;  // tables with a smaller file number are to be merged fully

  Event no_calls_;
  Event flush_wanted_;
  Event flushed_;
  Event visible_moved_;
  Event compaction_wanted_;
  Event compacted_;  // a job has ended
  Scope scope_;
};

}  // namespace gyre
