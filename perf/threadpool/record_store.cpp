#include "record_store.hpp"

#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/compaction_filter.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <rocksdb/write_buffer_manager.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/hash.hpp"

namespace gyre::threadpool {

namespace {

constexpr size_t header_bytes = record_header_bytes;
constexpr auto sync_interval = std::chrono::milliseconds(100);

using Header = std::array<uint64_t, 3>;  // hlc, origin, expires at

uint64_t wall_us() {
  using namespace std::chrono;
  return static_cast<uint64_t>(
      duration_cast<microseconds>(system_clock::now().time_since_epoch()).count());
}

bool read_header(std::string_view stored, Header& header) {
  if (stored.size() < header_bytes) return false;
  std::memcpy(header.data(), stored.data(), header_bytes);
  return true;
}

bool has_expired(const Header& header, uint64_t now_ms) {
  return header[2] != 0 && header[2] <= now_ms;
}

bool is_visible(const Header& header, uint64_t now_ms) {
  return header[2] != tombstone_expiry && !has_expired(header, now_ms);
}

rocksdb::Slice slice_of(std::string_view text) {
  return {text.data(), text.size()};
}

// Merges leave out what has expired.
class ExpiryFilter : public rocksdb::CompactionFilter {
 public:
  bool Filter(int, const rocksdb::Slice&, const rocksdb::Slice& stored, std::string*,
              bool*) const override {
    Header header;
    return read_header({stored.data(), stored.size()}, header) && has_expired(header, wall_ms());
  }
  const char* Name() const override { return "gyre.expiry"; }
};

const ExpiryFilter expiry_filter;

// Counts what RocksDB reads from its log when it opens.
class RecoveryListener : public rocksdb::EventListener {
 public:
  void OnTableFileCreated(const rocksdb::TableFileCreationInfo& info) override {
    if (info.reason != rocksdb::TableFileCreationReason::kRecovery) return;
    records += info.table_properties.num_entries;
  }
  std::atomic<uint64_t> records = 0;
};

rocksdb::Options rocksdb_options(const Options& options) {
  rocksdb::Options out;
  out.create_if_missing = true;
  out.compression = rocksdb::kLZ4Compression;
  if (options.peers.empty()) out.compaction_filter = &expiry_filter;
  // One active and up to two immutable memtables share the reservation, as in gyre.
  out.write_buffer_size =
      std::clamp<uint64_t>(options.memtable_bytes / 3, 1u << 20, uint64_t{64} << 20);
  out.max_write_buffer_number = 3;
  out.write_buffer_manager = std::make_shared<rocksdb::WriteBufferManager>(
      options.memtable_bytes, nullptr, true /* writers wait when it is full */);
  out.max_background_jobs = static_cast<int>(std::max(2u, options.cores));
  out.level_compaction_dynamic_level_bytes = true;
  out.enable_pipelined_write = options.pipelined_write;
  out.recycle_log_file_num = options.log_files_recycled;
  out.use_direct_reads = options.direct;
  out.use_direct_io_for_flush_and_compaction = options.direct;
  out.max_open_files = static_cast<int>(options.open_tables_max);
  out.stats_dump_period_sec = 0;
  out.info_log_level = rocksdb::WARN_LEVEL;
  out.keep_log_file_num = 4;

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(options.cache_bytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;  // they count in the budget too
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  table.format_version = 5;
  out.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return out;
}

// A process has one origin, and its clock's counter tells its versions apart.
uint64_t random_origin() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) & ~uint64_t{0xfffff};
}

}  // namespace

uint64_t wall_ms() {
  return wall_us() / 1000;
}

bool read_record_header(std::string_view stored, RecordHeader& record) {
  Header header;
  if (!read_header(stored, header)) return false;
  record = {{header[0], header[1]}, header[2]};
  return true;
}

void append_record_header(std::string& out, const RecordHeader& record) {
  const Header header = {record.version.hlc, record.version.origin, record.expires_at_ms};
  out.append(reinterpret_cast<const char*>(header.data()), header_bytes);
}

bool Found::assign(std::string_view stored_record) {
  Header header;
  if (!read_header(stored_record, header)) return false;
  stored = true;
  found = is_visible(header, wall_ms());
  version = {header[0], header[1]};
  expires_at_ms = header[2];
  stored_bytes = stored_record.substr(header_bytes);
  bytes = found ? stored_bytes : std::string_view();
  return true;
}

// --- ranges -------------------------------------------------------------------------------------

RangeCursor::RangeCursor(rocksdb::DB& db, std::string_view start, std::string_view end)
    : end_(end), end_slice_(end_), now_ms_(wall_ms()) {
  rocksdb::ReadOptions options;
  if (!end_.empty()) options.iterate_upper_bound = &end_slice_;
  iterator_.reset(db.NewIterator(options));
  iterator_->Seek(slice_of(start));
}

bool RangeCursor::next() {
  for (;;) {
    if (begun_) iterator_->Next();
    begun_ = true;
    if (!iterator_->Valid()) return false;
    Header header;
    const std::string_view stored(iterator_->value().data(), iterator_->value().size());
    if (!read_header(stored, header) || !is_visible(header, now_ms_)) continue;
    value_ = stored.substr(header_bytes);
    return true;
  }
}

// --- the store ----------------------------------------------------------------------------------

RecordStore::RecordStore(const Options& options) : origin_(random_origin()) {
  write_options_.sync = options.durability == Durability::group;
}

Result<std::unique_ptr<RecordStore>> RecordStore::open(const Options& options) {
  std::error_code failure;
  std::filesystem::create_directories(options.data, failure);
  if (failure) {
    return fail(Errc::io, fmt::format("cannot make the data directory {}: {}", options.data,
                                      failure.message()));
  }
  std::unique_ptr<RecordStore> store(new RecordStore(options));
  rocksdb::Options db_options = rocksdb_options(options);
  const auto listener = std::make_shared<RecoveryListener>();
  db_options.listeners.push_back(listener);
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(db_options, options.data, &db);
  if (!opened.ok()) {
    const std::string text = opened.ToString();
    if (text.find("/LOCK") != std::string::npos) {
      return fail(Errc::busy, fmt::format("the data directory {} is in use by another process ({})",
                                          options.data, text));
    }
    return fail(Errc::io, fmt::format("cannot open the data in {}: {}", options.data, text));
  }
  store->db_.reset(db);
  store->records_recovered_ = listener->records;
  if (options.durability == Durability::interval) {
    store->syncer_ = std::thread([at = store.get()] { at->sync_periodically(); });
  }
  return store;
}

RecordStore::~RecordStore() {
  static_cast<void>(close());
}

rocksdb::Status RecordStore::close() {
  {
    const std::lock_guard lock(sync_mutex_);
    stopping_ = true;
  }
  sync_ended_.notify_all();
  if (syncer_.joinable()) syncer_.join();
  if (!db_) return rocksdb::Status::OK();
  rocksdb::Status status = db_->Flush(rocksdb::FlushOptions());
  const rocksdb::Status closed = db_->Close();
  db_.reset();
  return status.ok() ? closed : status;
}

void RecordStore::sync_periodically() {
  std::unique_lock lock(sync_mutex_);
  while (!sync_ended_.wait_for(lock, sync_interval, [this] { return stopping_; })) {
    lock.unlock();
    db_->SyncWAL().PermitUncheckedError();  // a write that can't be logged fails by itself
    lock.lock();
  }
}

Version RecordStore::next_version() {
  const std::lock_guard lock(clock_mutex_);
  Version version = clock_.next(wall_us());
  version.origin |= origin_;
  return version;
}

void RecordStore::observe(const Version& version) {
  const std::lock_guard lock(clock_mutex_);
  clock_.observe(version.hlc);
}

rocksdb::Status RecordStore::get(std::string_view key, Found& found) {
  found.memory.Reset();
  found.stored = found.found = false;
  const rocksdb::Status status =
      db_->Get(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), slice_of(key), &found.memory);
  if (status.IsNotFound()) return rocksdb::Status::OK();
  if (!status.ok()) return status;
  if (found.assign({found.memory.data(), found.memory.size()})) return status;
  return rocksdb::Status::Corruption("a value without a header");
}

rocksdb::Status RecordStore::put(std::string_view key, std::string_view value,
                                 uint64_t expires_at_ms, Version& version) {
  version = next_version();
  return write(key, value, {version, expires_at_ms});
}

rocksdb::Status RecordStore::write(std::string_view key, std::string_view value,
                                   const RecordHeader& record) {
  const Header header = {record.version.hlc, record.version.origin, record.expires_at_ms};
  const rocksdb::Slice key_part = slice_of(key);
  const rocksdb::Slice value_parts[] = {
      {reinterpret_cast<const char*>(header.data()), header_bytes}, slice_of(value)};
  thread_local rocksdb::WriteBatch batch;
  batch.Clear();
  const rocksdb::Status made =
      batch.Put(rocksdb::SliceParts(&key_part, 1), rocksdb::SliceParts(value_parts, 2));
  if (!made.ok()) return made;
  const rocksdb::Status written = db_->Write(write_options_, &batch);
  constexpr size_t batch_bytes_kept = 256u << 10;
  if (batch.GetDataSize() > batch_bytes_kept) batch = rocksdb::WriteBatch();
  return written;
}

rocksdb::Status RecordStore::remove(std::string_view key, Version& version) {
  version = next_version();
  return db_->Delete(write_options_, slice_of(key));
}

rocksdb::Status RecordStore::store(std::string_view key, std::string_view value,
                                   uint64_t expires_at_ms, const Version& version) {
  observe(version);
  const std::lock_guard lock(stripes_[hash64(key) % stripes_.size()]);
  Found known;
  const rocksdb::Status status = get(key, known);
  if (!status.ok() || (known.stored && known.version >= version)) return status;
  return write(key, value, {version, expires_at_ms});
}

std::unique_ptr<RangeCursor> RecordStore::range(std::string_view start, std::string_view end) {
  return std::make_unique<RangeCursor>(*db_, start, end);
}

}  // namespace gyre::threadpool
