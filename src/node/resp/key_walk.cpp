#include "node/resp/key_walk.hpp"

#include <utility>

#include <gyre/scope.hpp>
#include <gyre/time.hpp>

#include "node/core.hpp"
#include "node/database_key.hpp"
#include "store/scan.hpp"

namespace gyre {

namespace {

constexpr unsigned keys_between_yields = 64;
// Tombstones on their way at a time: a frame of the log takes them together.
constexpr size_t removals_at_once = 256;

Task<Result<std::unique_ptr<Scan>>> begin_walk(Core& owner, uint32_t shard, ScanRange range,
                                               unsigned database) {
  Result<std::unique_ptr<Scan>> scan =
      co_await owner.shard(shard).scan(std::move(range), Reactor::current().wall_ms());
  if (!scan) co_return fail(scan.error());
  (*scan)->keys_only();
  if (database == 0) leave_out_databases(**scan);
  co_return scan;
}

// To the next key. False: there is none.
Task<Result<bool>> next_key(Scan& scan, unsigned& count) {
  if (++count % keys_between_yields == 0) co_await maybe_yield();
  for (;;) {
    switch (scan.try_next()) {
      case Scan::Step::record:
        co_return true;
      case Scan::Step::end:
        co_return false;
      case Scan::Step::wait:
        if (Result<void> loaded = co_await scan.load(); !loaded) co_return fail(loaded.error());
        break;
    }
  }
}

Task<void> remove_one(Shard* shard, std::string key, Result<void>* result) {
  Result<Version> removed = co_await shard->remove(std::move(key));
  if (!removed && *result) *result = fail(removed.error());
}

Task<Result<void>> remove_at_once(Shard& shard, std::vector<std::string> keys) {
  Result<void> result{};
  Scope scope;
  for (std::string& key : keys) scope.spawn(remove_one(&shard, std::move(key), &result));
  co_await scope.join();
  co_return result;
}

}  // namespace

ScanRange range_of(unsigned database, std::string_view prefix) {
  if (database == all_databases) return {};
  std::string room;
  return ScanRange::of_prefix(std::string(stored_key_in(database, prefix, room)));
}

Task<Result<KeyPage>> find_keys(Core& owner, uint32_t shard, KeyPageQuery query) {
  ScanRange range = range_of(query.database, glob_literal_prefix(query.pattern));
  if (!query.after.empty() && query.after >= range.start) {
    range.start = std::string(query.after) + '\0';
  }
  KeyPage page;
  page.last = query.after;
  auto scan = co_await begin_walk(owner, shard, std::move(range), query.database);
  if (!scan) co_return fail(scan.error());
  uint64_t key_bytes = 0;
  unsigned count = 0;
  for (;;) {
    const Result<bool> more = co_await next_key(**scan, count);
    if (!more) co_return fail(more.error());
    page.at_end = !*more;
    if (page.at_end) break;
    const std::string_view stored = (*scan)->entry().key;
    const std::string_view key = key_of_stored(stored);
    const GlobMatch match = query.pattern == "*" ? GlobMatch::yes : glob_match(query.pattern, key);
    if (match == GlobMatch::too_long) {
      page.match = match;
      break;
    }
    if (match == GlobMatch::yes) {
      page.keys.emplace_back(key);
      key_bytes += key.size();
    }
    if (++page.looked_at == query.looked_at_max || key_bytes >= query.key_bytes_max) {
      page.last = stored;
      break;
    }
  }
  co_return page;
}

Task<Result<KeyCount>> count_keys(Core& owner, uint32_t shard, unsigned database) {
  auto scan = co_await begin_walk(owner, shard, range_of(database), database);
  if (!scan) co_return fail(scan.error());
  KeyCount keys;
  unsigned count = 0;
  for (;;) {
    const Result<bool> more = co_await next_key(**scan, count);
    if (!more) co_return fail(more.error());
    if (!*more) co_return keys;
    ++keys.count;
    if (Reactor::current().random() % keys.count == 0) keys.sample = (*scan)->entry().key;
  }
}

Task<Result<void>> remove_keys(Core& owner, uint32_t shard, unsigned database) {
  auto scan = co_await begin_walk(owner, shard, range_of(database), database);
  if (!scan) co_return fail(scan.error());
  std::vector<std::string> keys;
  unsigned count = 0;
  for (;;) {
    const Result<bool> more = co_await next_key(**scan, count);
    if (!more) co_return fail(more.error());
    if (*more) keys.emplace_back((*scan)->entry().key);
    if (keys.size() == removals_at_once || !*more) {
      Result<void> removed = co_await remove_at_once(owner.shard(shard), std::exchange(keys, {}));
      if (!removed) co_return removed;
    }
    if (!*more) co_return Result<void>{};
  }
}

}  // namespace gyre
