#include "engine/rocksdb_session.hpp"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/iterator.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

namespace gyre::engine {

namespace {

constexpr Nanos start_delay = milliseconds(2);  // so that all threads begin together
constexpr unsigned log_files_recycled = 4;
constexpr uint64_t table_bytes_target = 16u << 20;  // as ours

// What background work wrote, by its reason. Cheaper than RocksDB's statistics.
class Written : public rocksdb::EventListener {
 public:
  void OnTableFileCreated(const rocksdb::TableFileCreationInfo& info) override {
    if (!info.status.ok()) return;
    (info.reason == rocksdb::TableFileCreationReason::kCompaction ? compacted : flushed) +=
        info.file_size;
  }
  void OnBlobFileCreated(const rocksdb::BlobFileCreationInfo& info) override {
    if (!info.status.ok()) return;
    (info.reason == rocksdb::BlobFileCreationReason::kCompaction ? compacted : flushed) +=
        info.total_blob_bytes;
  }
  std::atomic<uint64_t> flushed = 0;
  std::atomic<uint64_t> compacted = 0;
};

rocksdb::Options options_for(const Settings& settings) {
  rocksdb::Options out;
  out.create_if_missing = true;
  out.compression = settings.compress ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;
  out.write_buffer_size = settings.write_buffer_bytes / 3;
  out.max_write_buffer_number = 3;
  out.max_background_jobs = static_cast<int>(std::max(2u, settings.cpus));
  out.level_compaction_dynamic_level_bytes = true;
  out.max_bytes_for_level_base = 4 * out.write_buffer_size;
  out.target_file_size_base = table_bytes_target;
  out.use_direct_reads = settings.direct_io;
  out.use_direct_io_for_flush_and_compaction = settings.direct_io;
  out.recycle_log_file_num = log_files_recycled;
  // The modes that refuse more than a torn tail exclude recycled logs.
  out.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  out.stats_dump_period_sec = 0;
  out.info_log_level = rocksdb::ERROR_LEVEL;
  out.keep_log_file_num = 1;

  if (settings.blob_bytes_min != 0) {
    out.enable_blob_files = true;
    out.min_blob_size = settings.blob_bytes_min;
    out.blob_compression_type = out.compression;
    out.enable_blob_garbage_collection = true;
  }

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(settings.cache_bytes);
  table.block_size = settings.block_bytes;
  table.filter_policy.reset(
      settings.bloom_bits > 0 ? rocksdb::NewBloomFilterPolicy(settings.bloom_bits) : nullptr);
  if (!settings.cache_holds_all) {  // else they would be memory that ours has to account for
    table.cache_index_and_filter_blocks = true;
    table.pin_l0_filter_and_index_blocks_in_cache = true;
  }
  table.format_version = 5;
  out.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return out;
}

// The kernel may wake a thread 50 us late unless asked not to.
void sleep_until(Nanos due) {
  timespec time{.tv_sec = due / 1'000'000'000, .tv_nsec = due % 1'000'000'000};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr) == EINTR) {
  }
}

struct Run {
  const Load& load;
  const Interruption& interrupted;
  const Settings& settings;
  rocksdb::DB& db;
  Nanos begin = 0;
  Nanos end = 0;
  std::atomic<uint64_t> ticket{0};
  std::mutex mutex;
  LoadResult result;
  Nanos last_end = 0;
};

// One thread's operations and what it needs again and again.
class Client {
 public:
  Client(Run& run, Recorder& recorder)
      : run_(run), recorder_(recorder), value_(run.settings.value_bytes, '\0') {
    write_options_.sync = run.settings.sync;
  }

  // False: RocksDB has failed.
  bool operate(Operation operation, uint64_t number, uint64_t sequence) {
    write_key(key_, number);
    switch (operation) {
      case Operation::put:
        return put(number, sequence);
      case Operation::get:
        return get(number);
      case Operation::scan:
        return scan(number);
    }
    return false;
  }
  const std::string& problem() const { return problem_; }
  uint64_t user_bytes() const { return user_bytes_; }

 private:
  rocksdb::Slice key() const { return {key_, key_bytes}; }
  bool check(const rocksdb::Status& status) {
    if (status.ok()) return true;
    ++recorder_.failed;
    problem_ = status.ToString();
    return false;
  }
  bool put(uint64_t number, uint64_t sequence) {
    write_value(value_.data(), value_.size(), number, sequence);
    batch_.Clear();
    if (!check(batch_.Put(key(), value_)) || !check(run_.db.Write(write_options_, &batch_))) {
      return false;
    }
    user_bytes_ += key_bytes + value_.size();
    return true;
  }
  bool get(uint64_t number) {
    found_.Reset();
    const rocksdb::Status status =
        run_.db.Get(read_options_, run_.db.DefaultColumnFamily(), key(), &found_);
    if (!status.ok() && !status.IsNotFound()) return check(status);
    const bool right = status.ok() && is_value_of({found_.data(), found_.size()},
                                                  run_.settings.value_bytes, number);
    if (!right) ++recorder_.wrong;
    return true;
  }
  bool scan(uint64_t number) {
    const std::unique_ptr<rocksdb::Iterator> at(run_.db.NewIterator(read_options_));
    const uint64_t expected = std::min<uint64_t>(scan_records, run_.settings.keys - number);
    at->Seek(key());
    bool right = true;
    for (uint64_t i = 0; i < expected && right; ++i) {
      right = at->Valid() && read_key({at->key().data(), at->key().size()}) == number + i &&
              is_value_of({at->value().data(), at->value().size()}, run_.settings.value_bytes,
                          number + i);
      if (at->Valid()) at->Next();
    }
    if (!at->status().ok()) return check(at->status());
    if (!right) ++recorder_.wrong;
    return true;
  }

  Run& run_;
  Recorder& recorder_;
  rocksdb::ReadOptions read_options_;
  rocksdb::WriteOptions write_options_;
  rocksdb::WriteBatch batch_;
  rocksdb::PinnableSlice found_;
  char key_[key_bytes];
  std::string value_;
  std::string problem_;
  uint64_t user_bytes_ = 0;
};

// Waits for its turn in an open loop. False: the loop is over.
bool take_turn(Run& run, std::atomic<uint64_t>& tickets, double rate, Recorder& recorder,
               Nanos& due) {
  for (;;) {
    due =
        Pace(run.begin, rate, run.load.burst).due(tickets.fetch_add(1, std::memory_order_relaxed));
    if (due >= run.end || run.interrupted()) return false;
    const Nanos now = monotonic_now();
    if (now <= run.end + open_loop_grace) {
      if (due > now) sleep_until(due);
      return true;
    }
    ++recorder.unfinished;
  }
}

void finish(Run& run, const Client& client, Recorder& recorder, Recorder& into, Nanos last_end) {
  recorder.finish();
  const std::lock_guard lock(run.mutex);
  into.merge(recorder);
  run.result.counters.user_bytes += client.user_bytes();
  run.last_end = std::max(run.last_end, last_end);
  if (run.result.problem.empty()) run.result.problem = client.problem();
}

void run_thread(Run& run, unsigned index, Recorder& recorder) {
  const Load& load = run.load;
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  Client client(run, recorder);
  KeySequence keys(load.order, run.settings.keys, load.seed, index, load.concurrency);
  sleep_until(run.begin);
  Nanos now = monotonic_now();
  Nanos last_end = now;
  for (uint64_t count = 1;; ++count) {
    Nanos due = now;
    if (load.rate > 0) {
      if (!take_turn(run, run.ticket, load.rate, recorder, due)) break;
    } else if ((run.end != 0 && now >= run.end) || run.interrupted()) {
      break;
    }
    if (load.operations != 0 && count > load.operations / load.concurrency) break;
    uint64_t number = 0;
    if (!keys.next(number)) break;
    if (!client.operate(load.operation, number, count * load.concurrency + index)) break;
    now = last_end = monotonic_now();
    if (load.rate > 0 || run.end == 0 || now <= run.end) recorder.record(due, now);
  }
  finish(run, client, recorder, run.result.operations, last_end);
}

void run_writer(Run& run, Recorder& recorder) {
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  Client client(run, recorder);
  KeySequence keys(KeyOrder::random, run.settings.keys, run.load.seed + 1, 0, 1);
  std::atomic<uint64_t> tickets{0};
  sleep_until(run.begin);
  Nanos due = 0;
  while (take_turn(run, tickets, run.load.write_rate, recorder, due)) {
    uint64_t number = 0;
    keys.next(number);
    if (!client.operate(Operation::put, number, tickets)) break;
    recorder.record(due, monotonic_now());
  }
  finish(run, client, recorder, run.result.writes, run.begin);
}

class RocksdbSession final : public Session {
 public:
  explicit RocksdbSession(const Settings& settings)
      : settings_(settings), written_(std::make_shared<Written>()) {}
  ~RocksdbSession() override { static_cast<void>(close()); }

  Result<void> open();
  Result<LoadResult> run(const Load& load, const Interruption& interrupted) override;
  Result<void> settle() override;
  Result<void> compact() override;
  uint64_t table_bytes() override { return number(rocksdb::DB::Properties::kLiveSstFilesSize); }
  Result<void> close() override;

 private:
  uint64_t number(const std::string& property) const {
    uint64_t value = 0;
    db_->GetIntProperty(property, &value);
    return value;
  }
  bool has_background_work() const {
    using Properties = rocksdb::DB::Properties;
    return number(Properties::kMemTableFlushPending) + number(Properties::kNumRunningFlushes) +
               number(Properties::kCompactionPending) +
               number(Properties::kNumRunningCompactions) !=
           0;
  }

  Settings settings_;
  std::shared_ptr<Written> written_;
  std::unique_ptr<rocksdb::DB> db_;
};

Result<void> outcome(const rocksdb::Status& status) {
  if (status.ok()) return {};
  return fail(Errc::io, "RocksDB: " + status.ToString());
}

Result<void> RocksdbSession::open() {
  std::error_code failure;
  std::filesystem::create_directories(settings_.directory, failure);
  rocksdb::Options options = options_for(settings_);
  options.listeners.push_back(written_);
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(options, settings_.directory, &db);
  if (opened.ok()) db_.reset(db);
  return outcome(opened);
}

Result<LoadResult> RocksdbSession::run(const Load& load, const Interruption& interrupted) {
  const uint64_t flushed = written_->flushed;
  const uint64_t compacted = written_->compacted;
  Run run{.load = load, .interrupted = interrupted, .settings = settings_, .db = *db_};
  // Time to make the recorders and threads.
  run.begin = monotonic_now() + start_delay + (load.concurrency + 1) * microseconds(300);
  run.end = load.duration > 0 ? run.begin + load.duration : 0;
  std::vector<std::unique_ptr<Recorder>> recorders;
  for (unsigned i = 0; i <= load.concurrency; ++i) {
    recorders.push_back(std::make_unique<Recorder>(run.begin));
  }
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < load.concurrency; ++i) {
    threads.emplace_back([&run, i, &recorder = *recorders[i]] { run_thread(run, i, recorder); });
  }
  if (load.write_rate > 0) {
    threads.emplace_back([&run, &recorder = *recorders.back()] { run_writer(run, recorder); });
  }
  for (std::thread& thread : threads) thread.join();
  LoadResult& result = run.result;
  result.elapsed = run.end != 0 && !interrupted() ? load.duration : run.last_end - run.begin;
  result.counters.flushed_bytes = written_->flushed - flushed;
  result.counters.compacted_bytes = written_->compacted - compacted;
  return std::move(result);
}

Result<void> RocksdbSession::settle() {
  if (auto flushed = outcome(db_->Flush(rocksdb::FlushOptions())); !flushed) return flushed;
  // A finished job may make the next one due a moment later: idle means idle for a while.
  for (unsigned idle = 0; idle < 5;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    idle = has_background_work() ? 0 : idle + 1;
  }
  return {};
}

Result<void> RocksdbSession::compact() {
  rocksdb::CompactRangeOptions options;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  return outcome(db_->CompactRange(options, nullptr, nullptr));
}

Result<void> RocksdbSession::close() {
  if (!db_) return {};
  rocksdb::Status status = db_->Flush(rocksdb::FlushOptions());
  const rocksdb::Status closed = db_->Close();
  db_.reset();
  return outcome(status.ok() ? closed : status);
}

}  // namespace

Result<std::unique_ptr<Session>> open_rocksdb(const Settings& settings) {
  auto session = std::make_unique<RocksdbSession>(settings);
  if (Result<void> opened = session->open(); !opened) return fail(opened.error());
  return std::unique_ptr<Session>(std::move(session));
}

}  // namespace gyre::engine
