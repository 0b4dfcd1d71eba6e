// What a replica asks of its shard: versions of dead entries, whether something newer is there, and
// ranges with tombstones in them.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "shard_rig.hpp"
#include "store/await_write.hpp"

namespace gyre::test {
namespace {

Task<Result<void>> write(ShardHome& home, Shard& shard, std::string key, Version version, Kind kind,
                         uint64_t expire_at_ms = 0) {
  AwaitWrite write(shard);
  write.charged_bytes = StoreWrite::charge_for(key.size(), 1);
  if (!co_await home.context().write_memory.acquire(write.charged_bytes)) {
    co_return fail(Errc::cancelled);
  }
  write.key_storage = std::move(key);
  write.record.key = write.key_storage;
  write.record.kind = kind;
  write.record.value = kind == Kind::tombstone ? "" : "v";
  write.record.version = version;
  write.record.expire_at_ms = expire_at_ms;
  const Errc result = co_await write;
  if (result != Errc::ok) co_return fail(result);
  co_return Result<void>{};
}

Task<Version> version_of(Shard& shard, std::string key, bool& found) {
  StoreRead read;
  const ReadOutcome outcome = shard.try_get(key, 1000, read);
  if (outcome != ReadOutcome::wait) {
    found = outcome == ReadOutcome::found;
    co_return read.version;
  }
  const Result<bool> got = co_await shard.get(key, 1000, read);
  found = got.value_or(false);
  co_return read.version;
}

Task<bool> holds_newer(Shard& shard, std::string key, Version than, Version& newest) {
  const ReadOutcome outcome = shard.try_find_newer(key, than, newest);
  if (outcome != ReadOutcome::wait) co_return outcome == ReadOutcome::found;
  co_return (co_await shard.find_newer(key, than, newest)).value_or(false);
}

// `expired`: how the expired value shows. A merge makes a tombstone of its version of it.
Task<void> checks(Shard& shard, std::string expired) {
  bool found = true;
  CO_CHECK(co_await version_of(shard, "live", found) == Version{20, 1});
  CHECK(found);
  CO_CHECK(co_await version_of(shard, "gone", found) == Version{30, 1});
  CHECK(!found);
  CO_CHECK(co_await version_of(shard, "expired", found) == Version{40, 1});
  CHECK(!found);
  CO_CHECK(co_await version_of(shard, "never", found) == Version{});
  CHECK(!found);

  Version newest;
  CO_CHECK(co_await holds_newer(shard, "gone", {29, 9}, newest));
  CHECK(newest == Version{30, 1});
  CO_CHECK(!co_await holds_newer(shard, "gone", {30, 1}, newest));  // the same is not newer
  CO_CHECK(co_await holds_newer(shard, "gone", {30, 0}, newest));
  CO_CHECK(!co_await holds_newer(shard, "gone", {31, 0}, newest));
  CO_CHECK(co_await holds_newer(shard, "expired", {1, 1}, newest));
  CO_CHECK(!co_await holds_newer(shard, "never", {1, 1}, newest));

  for (const bool dead : {false, true}) {
    Result<std::unique_ptr<Scan>> scan = co_await shard.scan(ScanRange{}, 1000);
    CO_OK(scan);
    if (dead) (*scan)->include_dead();
    std::string seen;
    for (Scan::Step step; (step = (*scan)->try_next()) != Scan::Step::end;) {
      if (step == Scan::Step::wait) {
        CO_OK(co_await (*scan)->load());
        continue;
      }
      const Entry& entry = (*scan)->entry();
      seen += std::string(entry.key) + (entry.is_tombstone() ? "- " : " ");
    }
    CHECK(seen == (dead ? expired + "gone- live " : "live "));
  }
}

// Memory, level 0, and a merge, which a replica must not let drop what others don't know to be gone.
Task<void> everywhere() {
  ShardHome home;
  const uint64_t purge_through = 0;
  ShardContext context = home.context();
  context.purge_hlc_max = &purge_through;
  auto opened = co_await Shard::open(small_shard_options(), context);
  CO_OK(opened);
  Shard& shard = **opened;
  CO_OK(co_await write(home, shard, "live", {20, 1}, Kind::value));
  CO_OK(co_await write(home, shard, "live", {10, 1}, Kind::value));  // late, and older
  CO_OK(co_await write(home, shard, "gone", {25, 1}, Kind::value));
  CO_OK(co_await write(home, shard, "gone", {30, 1}, Kind::tombstone));
  CO_OK(co_await write(home, shard, "expired", {40, 1}, Kind::value, 500));
  co_await checks(shard, "expired ");
  CO_OK(co_await shard.flush());
  co_await checks(shard, "expired ");
  CO_OK(co_await shard.compact());
  co_await checks(shard, "expired- ");
  CO_OK(co_await shard.close(true));
  auto again = co_await Shard::open(small_shard_options(), context);
  CO_OK(again);
  co_await checks(**again, "expired- ");  // nothing cached: find_newer reads
  CO_OK(co_await (*again)->close(true));
}

// Every key with its stamp, without values.
Task<std::string> keys_since(Shard& shard, uint64_t hlc_min) {
  std::string seen;
  Result<std::unique_ptr<Scan>> scan = co_await shard.scan(ScanRange{}, 1000, hlc_min);
  if (!scan) co_return "failed";
  (*scan)->include_dead();
  (*scan)->keys_only();
  for (Scan::Step step; (step = (*scan)->try_next()) != Scan::Step::end;) {
    if (step == Scan::Step::wait) {
      if (!co_await (*scan)->load()) co_return "failed";
      continue;
    }
    const Entry& entry = (*scan)->entry();
    seen += fmt::format("{}@{} ", entry.key, entry.version.hlc);
  }
  co_return seen;
}

// Three tables in level 0, of old, middle and new stamps, then memory.
Task<void> since() {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.separate_value_bytes_min = 1;
  auto opened = co_await Shard::open(std::move(options), home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  CO_OK(co_await write(home, shard, "a", {10, 1}, Kind::value));
  CO_OK(co_await write(home, shard, "b", {11, 1}, Kind::value));
  CO_OK(co_await shard.flush());
  CO_OK(co_await write(home, shard, "b", {20, 1}, Kind::value));
  CO_OK(co_await write(home, shard, "c", {21, 1}, Kind::tombstone));
  CO_OK(co_await shard.flush());
  CO_OK(co_await write(home, shard, "d", {30, 1}, Kind::value));
  CO_CHECK(co_await keys_since(shard, 0) == "a@10 b@20 c@21 d@30 ");
  // Tables of which one entry is new enough are read whole.
  CO_CHECK(co_await keys_since(shard, 21) == "b@20 c@21 d@30 ");
  CO_CHECK(co_await keys_since(shard, 22) == "d@30 ");
  CO_CHECK(co_await keys_since(shard, 31) == "");
  CO_OK(co_await shard.close(true));
}

TEST_CASE(
    "a scan for what is newer than a stamp leaves out tables that are older, and no values are "
    "read") {
  ShardRig rig(4);
  CHECK(rig.live(since()) == LifeEnd::finished);
}

TEST_CASE("dead entries keep their versions, newer ones are found, and scans may show the dead") {
  ShardRig rig(3);
  CHECK(rig.live(everywhere()) == LifeEnd::finished);
}

}  // namespace
}  // namespace gyre::test
