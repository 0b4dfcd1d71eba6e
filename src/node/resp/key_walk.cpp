#include "node/resp/key_walk.hpp"

#include <utility>

#include <gyre/scope.hpp>
#include <gyre/time.hpp>
#include <gyre/when.hpp>

#include "node/core.hpp"
#include "node/database_key.hpp"
#include "node/replication/await_replicated.hpp"
#include "node/replication/coordinator.hpp"
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

namespace {

// Of one shard.
struct ShardWalk {
  std::unique_ptr<Scan> scan;
  unsigned count = 0;
  Task<Result<bool>> next() { return next_key(*scan, count); }
  std::string_view key() const { return scan->entry().key; }
};

template <class Walk>
Task<Result<KeyPage>> match_keys(Walk& walk, KeyPageQuery query) {
  KeyPage page;
  page.last = query.after;
  uint64_t key_bytes = 0;
  for (;;) {
    const Result<bool> more = co_await walk.next();
    if (!more) co_return fail(more.error());
    page.at_end = !*more;
    if (page.at_end) break;
    const std::string_view stored = walk.key();
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

template <class Walk>
Task<Result<KeyCount>> count_all(Walk& walk) {
  KeyCount keys;
  for (;;) {
    const Result<bool> more = co_await walk.next();
    if (!more) co_return fail(more.error());
    if (!*more) co_return keys;
    ++keys.count;
    if (Reactor::current().random() % keys.count == 0) keys.sample = walk.key();
  }
}

}  // namespace

Task<Result<KeyPage>> find_keys(Core& owner, uint32_t shard, KeyPageQuery query) {
  ScanRange range = range_of(query.database, glob_literal_prefix(query.pattern));
  if (!query.after.empty() && query.after >= range.start) {
    range.start = std::string(query.after) + '\0';
  }
  auto scan = co_await begin_walk(owner, shard, std::move(range), query.database);
  if (!scan) co_return fail(scan.error());
  ShardWalk walk{std::move(*scan)};
  co_return co_await match_keys(walk, query);
}

Task<Result<KeyCount>> count_keys(Core& owner, uint32_t shard, unsigned database) {
  auto scan = co_await begin_walk(owner, shard, range_of(database), database);
  if (!scan) co_return fail(scan.error());
  ShardWalk walk{std::move(*scan)};
  co_return co_await count_all(walk);
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

// --- in a cluster -----------------------------------------------------------------------------------

namespace {

ClusterCursor::Range cluster_range(Core& core, unsigned database, std::string_view prefix,
                                   std::string_view after) {
  ScanRange range = range_of(database, prefix);
  if (!after.empty() && after >= range.start) range.start = std::string(after) + '\0';
  if (range.start.empty()) range.start.push_back('\0');  // no cluster stores the empty key
  const uint32_t from = core.coordinator().default_replicas();
  return {.start = std::move(range.start),
          .end = std::move(range.end),
          .ack = from / 2 + 1,
          .from = from,
          .keys_only = true};
}

Task<WriteResult> remove_replicated(Coordinator& coordinator, std::string key) {
  const uint32_t from = coordinator.default_replicas();
  return write_replicas(
      coordinator,
      {.key = std::move(key), .value = {}, .tombstone = true, .ack = from / 2 + 1, .from = from});
}

Task<Result<void>> remove_replicated_at_once(Coordinator& coordinator,
                                             std::vector<std::string> keys) {
  std::vector<Task<WriteResult>> removing;
  for (std::string& key : keys) removing.push_back(remove_replicated(coordinator, std::move(key)));
  for (const WriteResult& removed : co_await when_all<WriteResult>(std::move(removing))) {
    if (removed.status == 201) continue;
    co_return fail(Errc::io, removed.status == 503
                                 ? "TRYAGAIN some keys are left: " + removed.reason
                                 : "NOREPLICAS Not enough good replicas to write: some keys are "
                                   "left. Try again.");
  }
  co_return Result<void>{};
}

}  // namespace

ClusterWalk::ClusterWalk(Core& core, Scope& scope, unsigned database, std::string_view prefix,
                         std::string_view after)
    : cursor_(core, scope, cluster_range(core, database, prefix, after)) {}

Task<Result<bool>> ClusterWalk::next() {
  if (++count_ % keys_between_yields == 0) co_await maybe_yield();
  switch (co_await cursor_.advance()) {
    case ClusterCursor::Do::record:
      co_return true;
    case ClusterCursor::Do::end:
      co_return false;
    default:
      break;
  }
  if (cursor_.memory_short()) {
    co_return fail(Errc::overloaded, "TRYAGAIN no memory for another walk over all keys now");
  }
  if (cursor_.not_understood()) {
    co_return fail(Errc::unsupported,
                   "ERR a node runs a build that does not know walks over keys: upgrade it");
  }
  co_return fail(Errc::io, "NOREPLICAS Not enough good replicas to walk over all keys.");
}

Task<Result<KeyPage>> find_keys(ClusterWalk& walk, KeyPageQuery query) {
  return match_keys(walk, query);
}

Task<Result<KeyCount>> count_keys_of_cluster(Core& core, Scope& scope, unsigned database) {
  ClusterWalk walk(core, scope, database);
  co_return co_await count_all(walk);
}

Task<Result<void>> remove_keys_of_cluster(Core& core, Scope& scope, unsigned database) {
  if (const std::string reason = core.coordinator().clock_refusal(); !reason.empty()) {
    co_return fail(Errc::busy, "TRYAGAIN " + reason);
  }
  ClusterWalk walk(core, scope, database);
  std::vector<std::string> keys;
  for (;;) {
    const Result<bool> more = co_await walk.next();
    if (!more) co_return fail(more.error());
    if (*more) keys.emplace_back(walk.key());
    if (keys.size() == removals_at_once || !*more) {
      Result<void> removed =
          co_await remove_replicated_at_once(core.coordinator(), std::exchange(keys, {}));
      if (!removed) co_return removed;
    }
    if (!*more) co_return Result<void>{};
  }
}

}  // namespace gyre
