// RocksDB with the options that match gyre's: log, Bloom filters of 10 bits, LRU cache, LZ4, the
// same meaning of durability and the same split of the memory.
//
// A stored value is
//   hlc 8 bytes | origin 8 | expires at, ms since 1970, 8 (0: never) | the bytes
// with numbers in the machine's order. Versions never repeat, also over restarts: the origin of a
// process is random. A node of a cluster stores tombstones, which expire never and hold nothing, for
// ever: nobody tells it when all replicas have one. For the same reason it keeps what has expired.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/iterator.h>

#include <array>
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

inline constexpr size_t record_header_bytes = 24;
inline constexpr uint64_t tombstone_expiry = UINT64_MAX;  // in place of when it expires

struct RecordHeader {
  Version version;
  uint64_t expires_at_ms = 0;
};
// False: the bytes are none of a record.
bool read_record_header(std::string_view stored, RecordHeader& header);
void append_record_header(std::string& out, const RecordHeader& header);

struct Found {
  // Out of the bytes of a record, which it refers to. False: they are none.
  bool assign(std::string_view stored_record);

  bool stored = false;  // something is, if only a tombstone or what has expired
  bool found = false;   // a value that has not expired
  Version version;
  uint64_t expires_at_ms = 0;
  std::string_view bytes;         // of the value, if it is found
  std::string_view stored_bytes;  // in any case
  rocksdb::PinnableSlice memory;  // what the bytes lie in, if they came from this store
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
  // Of a cluster: stores a record under a version that was made anywhere, unless a newer one is
  // there. `expires_at_ms` may be tombstone_expiry.
  rocksdb::Status store(std::string_view key, std::string_view value, uint64_t expires_at_ms,
                        const Version& version);
  Version next_version();
  // The next version is newer than this one.
  void observe(const Version& version);
  std::unique_ptr<RangeCursor> range(std::string_view start, std::string_view end);

  uint64_t records_recovered() const { return records_recovered_; }
  // Writes the memtables to tables, so that the next start has nothing to recover.
  rocksdb::Status close();

 private:
  explicit RecordStore(const Options& options);
  rocksdb::Status write(std::string_view key, std::string_view value, const RecordHeader& header);
  void sync_periodically();

  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions write_options_;
  std::mutex clock_mutex_;
  HybridClock clock_;
  uint64_t origin_;
  uint64_t records_recovered_ = 0;

  // Of keys by their hash: who looks for a newer record and then writes holds its one.
  std::array<std::mutex, 4096> stripes_;

  std::mutex sync_mutex_;
  std::condition_variable sync_ended_;
  bool stopping_ = false;
  std::thread syncer_;
};

}  // namespace gyre::threadpool
