// What a shard promises while nothing goes wrong: reads see the newest write wherever it lies,
// scans see one moment, everything is there after a restart, nothing is left over at the end.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "shard_rig.hpp"

namespace gyre::test {
namespace {

Task<void> put_get_remove_scan() {
  ShardHome home;
  {
    auto opened = co_await Shard::open(small_shard_options(), home.context());
    CO_OK(opened);
    Shard& shard = **opened;
    CO_OK(co_await put(shard, "b", "2"));
    CO_OK(co_await put(shard, "a", "1"));
    CO_OK(co_await put(shard, "c", "3"));
    CO_OK(co_await put(shard, "a", "one"));
    CO_OK(co_await put(shard, "empty", ""));
    CO_OK(co_await shard.remove("c"));
    CO_OK(co_await shard.remove("never"));
    CO_CHECK(*co_await get(shard, "a") == "one");
    CO_CHECK(*co_await get(shard, "b") == "2");
    CO_CHECK(*co_await get(shard, "empty") == "");
    CO_CHECK(*co_await get(shard, "c") == std::nullopt);
    CO_CHECK(*co_await get(shard, "never") == std::nullopt);
    CO_CHECK(*co_await scan_all(shard) == Contents{{"a", "one"}, {"b", "2"}, {"empty", ""}});
    CO_CHECK(*co_await scan_all(shard, "b", "e") == Contents{{"b", "2"}});
    CO_CHECK((*co_await scan_all(shard, "x", "b")).empty());
    CO_OK(co_await shard.close(false));
  }
  for (const bool flush : {false, true, false}) {
    auto opened = co_await Shard::open(small_shard_options(), home.context());
    CO_OK(opened);
    Shard& shard = **opened;
    CO_CHECK(*co_await get(shard, "a") == "one");
    CO_CHECK(*co_await get(shard, "c") == std::nullopt);
    CO_CHECK(*co_await scan_all(shard) == Contents{{"a", "one"}, {"b", "2"}, {"empty", ""}});
    CO_OK(co_await shard.close(flush));
  }
}

TEST_CASE("put, get, remove and scan, and all of it again after a restart") {
  ShardRig rig;
  CHECK(rig.live(put_get_remove_scan()) == LifeEnd::finished);
}

}  // namespace
}  // namespace gyre::test
