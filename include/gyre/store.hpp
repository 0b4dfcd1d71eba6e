// The store in another program: one data directory, used by one event loop.
//
//   gyre::Task<void> program() {
//     auto store = co_await gyre::Store::open("data");
//     if (!store) { …store.error().message()… }
//     co_await (*store)->put("key", "value");
//     auto found = co_await (*store)->get("key");           // Result<optional<StoredValue>>
//     auto scan = co_await (*store)->scan(gyre::ScanRange::of_prefix("k"));
//     while ((co_await (*scan)->next()).value_or(false)) use((*scan)->key());
//     scan->reset();                                         // before close
//     co_await (*store)->close();
//   }
//   int main() { return gyre::run_event_loop(program()) ? 0 : 1; }     // <gyre/run.hpp>
//
// Rules
//   - A store belongs to the event loop that opened it: every call, and every destructor, on that
//     loop's thread. Any number of tasks of the loop may use it at once. Several loops take several
//     directories.
//   - A call does its work when its Task is awaited. The store and the scan must outlive it.
//   - close() is awaited before the Store is destroyed; nothing is called after it.
//   - A write that is awaited after another was answered comes after it; of those under way at once
//     any may come first. A read sees every write that was answered, and none that is not yet on the
//     disk (with Durability::group).
//
// Keys are any bytes, 0 bytes to 2 MiB; values any bytes up to 1 GiB, held whole in memory.
//
// Errors of every call, beside those said with it: Errc::corrupt (stored bytes fail their checksum;
// the error names file and offset), Errc::io and Errc::no_space (the disk), Errc::closed (close() came
// while it waited), Errc::cancelled (the task was stopped).
//
// The directory has the format of `gyre serve`: a node may be started on what a program wrote, and
// the other way round (never both at once: Errc::busy).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <gyre/result.hpp>
#include <gyre/store_options.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

namespace gyre {

struct StoreOptions {
  Durability durability = Durability::group;
  uint64_t sync_interval_ms = 100;  // for Durability::interval
  uint64_t memory_bytes =
      128u << 20;       // three eighths for writes, the rest for the cache; at least 16 MiB
  uint32_t shards = 1;  // of a new directory; each has its own log
};

struct StoredValue {
  std::string bytes;
  Version version;            // greater with every write
  uint64_t expire_at_ms = 0;  // milliseconds since 1970, 0: never
};

class StoreScan;

class Store {
 public:
  // Opens the directory, or makes it. Errc::busy: another process uses it. Errc::corrupt,
  // Errc::unsupported (a later format), Errc::invalid (not what it should be, or an option that makes
  // no sense): the error says what and what to do; nothing was changed.
  static Task<Result<std::unique_ptr<Store>>> open(std::string directory,
                                                   StoreOptions options = {});
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Writes what is in memory to tables, so that the next open is quick, and ends. Waits for calls
  // under way, and for scans that are still there. Once.
  Task<Result<void>> close();

  // Answers when the write is durable as far as the options promise. `expire_at_ms`: from then on it
  // is absent, 0: never. Errc::too_large: over a limit, or larger than the memory for writes.
  // Errc::overloaded: merging is behind, nothing was written, try again. Errc::read_only: an earlier
  // write failed on the disk, so that the store takes no more until it is opened again; Errc::io: it
  // was this one, and whether it is there shows then.
  Task<Result<Version>> put(std::string key, std::string value, uint64_t expire_at_ms = 0);
  // The same for a removal. Also of what is not there.
  Task<Result<Version>> remove(std::string key);
  // Nothing: never written, removed or expired.
  Task<Result<std::optional<StoredValue>>> get(std::string key);
  // What the range holds now, over all shards as of one moment, whatever is written while it is read.
  // Keeps memory and files for that: a scan is not to be kept for long.
  Task<Result<std::unique_ptr<StoreScan>>> scan(ScanRange range = {});

  // Writes what is in memory to tables. Rarely needed: it happens by itself.
  Task<Result<void>> flush();
  // Merges everything, so that what was overwritten, removed or has expired takes no room.
  Task<Result<void>> compact();

  uint32_t shard_count() const;
  uint64_t table_bytes() const;

 private:
  friend class StoreScan;
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class StoreScan {
 public:
  ~StoreScan();
  StoreScan(const StoreScan&) = delete;
  StoreScan& operator=(const StoreScan&) = delete;

  // To the first record, then to the next one. False: there is none. After an error the scan is at
  // its end.
  Task<Result<bool>> next();

  // Of the present record: after next() said true, until it is called again.
  std::string_view key() const;
  uint64_t value_bytes() const;
  Version version() const;
  Task<Result<std::string>> value() const;

 private:
  friend class Store;
  struct Impl;
  explicit StoreScan(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gyre
