// The public Store: a data directory with all its shards on one loop.
#include <algorithm>
#include <utility>
#include <vector>

#include <gyre/reactor.hpp>
#include <gyre/store.hpp>
#include <gyre/sync.hpp>
#include <gyre/when.hpp>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "base/limits.hpp"
#include "store/data_directory.hpp"
#include "store/merge.hpp"
#include "store/scan.hpp"
#include "store/shard.hpp"

namespace gyre {

namespace {

constexpr uint64_t memory_bytes_least = 16u << 20;

Task<Result<std::string>> read_whole(LargeValueStream stream, uint64_t size_bytes) {
  std::string bytes;
  bytes.reserve(size_bytes);
  for (;;) {
    const Result<std::string_view> piece = co_await stream.next();
    if (!piece) co_return fail(piece.error());
    if (piece->empty()) co_return bytes;
    bytes.append(*piece);
  }
}

}  // namespace

// --- the store ----------------------------------------------------------------------------------

struct Store::Impl {
  Impl(DataDirectory data_directory, uint64_t write_bytes)
      : directory(std::move(data_directory)),
        write_memory(write_bytes - write_bytes / 4),
        flush_credit(write_bytes / 4),
        clock(directory.node_number(), 0) {}
  ~Impl() { GYRE_ASSERT(closed); }

  Shard& shard_for(std::string_view key) {
    GYRE_ASSERT(!closed);
    return *shards[shard_of(key, static_cast<uint32_t>(shards.size()))];
  }

  DataDirectory directory;
  Semaphore write_memory;
  Semaphore flush_credit;
  HybridClock clock;
  std::vector<std::unique_ptr<Shard>> shards;
  bool closed = false;
};

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

Task<Result<std::unique_ptr<Store>>> Store::open(std::string directory, StoreOptions options) {
  if (options.memory_bytes < memory_bytes_least) {
    co_return fail(Errc::invalid, "a store needs memory_bytes of at least 16 MiB");
  }
  Result<DataDirectory> data = co_await DataDirectory::open(std::move(directory), options.shards);
  if (!data) co_return fail(data.error());
  const uint32_t count = data->shard_count();
  const uint64_t write_bytes = options.memory_bytes / 8 * 3;
  std::unique_ptr<Store> store(new Store(std::make_unique<Impl>(std::move(*data), write_bytes)));
  Impl& impl = *store->impl_;
  for (uint32_t shard = 0; shard < count; ++shard) {
    ShardOptions shard_options;
    shard_options.directory = impl.directory.shard_path(shard);
    shard_options.identity = impl.directory.shard_identity(shard);
    shard_options.log_salt = impl.directory.log_salt(shard);
    shard_options.durability = options.durability;
    shard_options.sync_interval = milliseconds(static_cast<int64_t>(options.sync_interval_ms));
    // One active and up to two immutable memtables share the memory for writes; a fourth part is for
    // what a flush has given back.
    shard_options.memtable_bytes_max =
        std::clamp<uint64_t>(write_bytes / count / 4, 1u << 20, 64u << 20);
    shard_options.cache_bytes = (options.memory_bytes - write_bytes) / count;
    shard_options.compaction.base_bytes_min =
        std::max<uint64_t>(shard_options.memtable_bytes_max * 2, 16u << 20);
    Result<std::unique_ptr<Shard>> opened =
        co_await Shard::open(std::move(shard_options), {.write_memory = impl.write_memory,
                                                        .clock = impl.clock,
                                                        .flush_credit = &impl.flush_credit});
    if (!opened) {
      static_cast<void>(co_await store->close());
      co_return fail(opened.error());
    }
    impl.shards.push_back(std::move(*opened));
  }
  co_return store;
}

Task<Result<void>> Store::close() {
  GYRE_ASSERT(!impl_->closed);
  Result<void> result{};
  for (auto& shard : impl_->shards) {
    if (Result<void> closed = co_await shard->close(true); !closed && result) result = closed;
  }
  co_await impl_->directory.close();
  impl_->closed = true;
  co_return result;
}

Task<Result<Version>> Store::put(std::string key, std::string value, uint64_t expire_at_ms) {
  if (value.size() > limits::value_bytes_max_hard) {
    co_return fail(Errc::too_large, "values have at most 1 GiB");
  }
  Shard& shard = impl_->shard_for(key);
  ValueBuffer buffer(value);
  std::string().swap(value);
  co_return co_await shard.put(std::move(key), std::move(buffer), expire_at_ms);
}

Task<Result<Version>> Store::remove(std::string key) {
  Shard& shard = impl_->shard_for(key);
  co_return co_await shard.remove(std::move(key));
}

Task<Result<std::optional<StoredValue>>> Store::get(std::string key) {
  Shard& shard = impl_->shard_for(key);
  const uint64_t now_ms = Reactor::current().wall_ms();
  StoreRead read;
  ReadOutcome outcome = shard.try_get(key, now_ms, read);
  if (outcome == ReadOutcome::wait) {
    read = StoreRead();
    Result<bool> found = co_await shard.get(std::move(key), now_ms, read);
    if (!found) co_return fail(found.error());
    outcome = *found ? ReadOutcome::found : ReadOutcome::absent;
  }
  if (outcome == ReadOutcome::absent) co_return std::nullopt;
  StoredValue out{.bytes = {}, .version = read.version, .expire_at_ms = read.expire_at_ms};
  if (!read.large) {
    out.bytes.assign(read.value);
    co_return out;
  }
  const uint64_t size_bytes = read.size_bytes;
  Result<LargeValueStream> stream = LargeValueStream::open(std::move(read));
  if (!stream) co_return fail(stream.error());
  Result<std::string> bytes = co_await read_whole(std::move(*stream), size_bytes);
  if (!bytes) co_return fail(bytes.error());
  out.bytes = std::move(*bytes);
  co_return out;
}

Task<Result<void>> Store::flush() {
  for (auto& shard : impl_->shards) {
    if (Result<void> done = co_await shard->flush(); !done) co_return done;
  }
  co_return Result<void>{};
}

Task<Result<void>> Store::compact() {
  for (auto& shard : impl_->shards) {
    if (Result<void> done = co_await shard->compact(); !done) co_return done;
  }
  co_return Result<void>{};
}

uint32_t Store::shard_count() const {
  return impl_->directory.shard_count();
}

uint64_t Store::table_bytes() const {
  uint64_t bytes = 0;
  for (const auto& shard : impl_->shards) bytes += shard->stored_bytes();
  return bytes;
}

// --- scans --------------------------------------------------------------------------------------

// The shards' scans, merged: a key is in one of them only.
struct StoreScan::Impl {
  explicit Impl(ScanDirection direction) : heap(direction) {}

  struct Source {
    std::unique_ptr<Scan> scan;
    bool on_record = false;
    bool valid() const { return on_record; }
    std::string_view key() const { return scan->entry().key; }
    const Entry& entry() const { return scan->entry(); }
  };

  // To the source's first or next record, or its end.
  static Task<Result<bool>> advance(Source& source) {
    source.on_record = false;
    for (;;) {
      switch (source.scan->try_next()) {
        case Scan::Step::end:
          co_return false;
        case Scan::Step::record:
          source.on_record = true;
          co_return true;
        case Scan::Step::wait:
          if (Result<void> loaded = co_await source.scan->load(); !loaded) {
            co_return fail(loaded.error());
          }
      }
    }
  }
  static Task<Result<bool>> open(Source& source) {
    if (Result<void> sought = co_await source.scan->seek(); !sought) {
      co_return fail(sought.error());
    }
    co_return co_await advance(source);
  }

  const Source& top() const {
    GYRE_ASSERT(!heap.empty());
    return heap.top();
  }
  Result<bool> end(Error error) {
    heap.clear();
    return fail(std::move(error));
  }

  std::vector<std::unique_ptr<Source>> sources;
  MergeHeap<Source> heap;
  bool started = false;
};

StoreScan::StoreScan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StoreScan::~StoreScan() = default;

Task<Result<std::unique_ptr<StoreScan>>> Store::scan(ScanRange range) {
  auto impl = std::make_unique<StoreScan::Impl>(range.direction);
  const uint64_t now_ms = Reactor::current().wall_ms();
  // All shards are pinned in one step: the view is that of one moment.
  for (auto& shard : impl_->shards) {
    auto source = std::make_unique<StoreScan::Impl::Source>();
    source->scan = shard->pin_scan(range, now_ms);
    impl->sources.push_back(std::move(source));
  }
  std::vector<Task<Result<bool>>> opening;
  for (auto& source : impl->sources) opening.push_back(StoreScan::Impl::open(*source));
  const std::vector<Result<bool>> opened = co_await when_all<Result<bool>>(std::move(opening));
  for (const Result<bool>& result : opened) {
    if (!result) co_return fail(result.error());
  }
  for (auto& source : impl->sources) impl->heap.push(*source);
  co_return std::unique_ptr<StoreScan>(new StoreScan(std::move(impl)));
}

Task<Result<bool>> StoreScan::next() {
  Impl& impl = *impl_;
  if (std::exchange(impl.started, true) && !impl.heap.empty()) {
    Impl::Source& source = impl.heap.top();
    const Result<bool> moved = co_await Impl::advance(source);
    if (!moved) co_return impl.end(moved.error());
    impl.heap.advanced(source);
  }
  co_return !impl.heap.empty();
}

std::string_view StoreScan::key() const {
  return impl_->top().key();
}

uint64_t StoreScan::value_bytes() const {
  return impl_->top().scan->value_bytes();
}

Version StoreScan::version() const {
  return impl_->top().entry().version;
}

Task<Result<std::string>> StoreScan::value() const {
  const Scan& scan = *impl_->top().scan;
  if (!scan.large()) co_return std::string(scan.entry().value);
  Result<LargeValueStream> stream = scan.large_value();
  if (!stream) co_return fail(stream.error());
  co_return co_await read_whole(std::move(*stream), scan.value_bytes());
}

}  // namespace gyre
