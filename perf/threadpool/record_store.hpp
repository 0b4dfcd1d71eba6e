// RocksDB with the options that match gyre's: log, Bloom filters of 10 bits, LRU cache, LZ4, the
// same meaning of durability and the same split of the memory.
//
// A stored value is
//   hlc 8 bytes | origin 8 | expires at, ms since 1970, 8 (0: never) | the bytes
// with numbers in the machine's order. Versions never repeat, also over restarts: the origin of a
// process is random.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/iterator.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include <gyre/result.hpp>
#include <gyre/version.hpp>

#include "options.hpp"

namespace gyre::threadpool {

uint64_t wall_ms();

struct Found {
  bool found = false;
  Version version;
  std::string_view bytes;         // of `memory`
  rocksdb::PinnableSlice memory;  // what the bytes lie in
};

// One point in time of [start, end), in key order, without what has expired.
class RangeCursor {
 public:
  RangeCursor(rocksdb::DB& db, std::string_view start, std::string_view end);

  // False: there are no more records, or the store failed, which status() tells.
  bool next();
  std::string_view key() const { return {iterator_->key().data(), iterator_->key().size()}; }
  std::string_view value() const { return value_; }
  rocksdb::Status status() const { return iterator_->status(); }

 private:
  std::string end_;
  rocksdb::Slice end_slice_;
  std::unique_ptr<rocksdb::Iterator> iterator_;
  std::string_view value_;
  uint64_t now_ms_;
  bool begun_ = false;
};

class RecordStore {
 public:
  static Result<std::unique_ptr<RecordStore>> open(const Options& options);
  ~RecordStore();

  rocksdb::Status get(std::string_view key, Found& found);
  // Returns when the write is as durable as was chosen. `version` is what it was given.
  rocksdb::Status put(std::string_view key, std::string_view value, uint64_t expires_at_ms,
                      Version& version);
  rocksdb::Status remove(std::string_view key, Version& version);
  std::unique_ptr<RangeCursor> range(std::string_view start, std::string_view end);

  uint64_t records_recovered() const { return records_recovered_; }
  // Writes the memtables to tables, so that the next start has nothing to recover.
  rocksdb::Status close();

 private:
  explicit RecordStore(const Options& options);
  Version next_version();
  void sync_periodically();

  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions write_options_;
  std::mutex clock_mutex_;
  HybridClock clock_;
  uint64_t origin_;
  uint64_t records_recovered_ = 0;

  std::mutex sync_mutex_;
  std::condition_variable sync_ended_;
  bool stopping_ = false;
  std::thread syncer_;
};

}  // namespace gyre::threadpool
