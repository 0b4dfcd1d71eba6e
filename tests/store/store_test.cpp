// The public Store, as a program that embeds it uses it.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include <gyre/store.hpp>

#include "shard_rig.hpp"

namespace gyre::test {
namespace {

using Records = std::vector<std::pair<std::string, std::string>>;

Task<Result<Records>> read_scan(Store& store, ScanRange range) {
  auto scan = co_await store.scan(std::move(range));
  if (!scan) co_return fail(scan.error());
  Records out;
  for (;;) {
    const Result<bool> more = co_await (*scan)->next();
    if (!more) co_return fail(more.error());
    if (!*more) break;
    Result<std::string> value = co_await (*scan)->value();
    if (!value) co_return fail(value.error());
    if (value->size() != (*scan)->value_bytes()) co_return fail(Errc::corrupt, "another size");
    out.emplace_back((*scan)->key(), std::move(*value));
  }
  const Result<bool> again = co_await (*scan)->next();  // stays at the end
  if (!again || *again) co_return fail(Errc::corrupt, "goes on behind the end");
  co_return out;
}

Records expected_of(const std::map<std::string, std::string>& model, const ScanRange& range) {
  Records out;
  for (const auto& [key, value] : model) {
    if (key >= range.start && (range.end.empty() || key < range.end)) out.emplace_back(key, value);
  }
  if (range.direction == ScanDirection::reverse) std::reverse(out.begin(), out.end());
  return out;
}

Task<void> compare(Store& store, const std::map<std::string, std::string>& model) {
  for (const auto direction : {ScanDirection::forward, ScanDirection::reverse}) {
    for (const ScanRange& range :
         {ScanRange{"", "", direction}, ScanRange{"key1", "key3", direction},
          ScanRange{"key2", "", direction}, ScanRange{"x", "y", direction},
          ScanRange::of_prefix("key04", direction), ScanRange::of_prefix("\xff", direction)}) {
      const auto found = co_await read_scan(store, range);
      CO_OK(found);
      CHECK((*found == expected_of(model, range)));
    }
  }
  for (const auto& [key, value] : model) {
    const auto found = co_await store.get(key);
    CO_OK(found);
    CO_REQUIRE(found->has_value());
    CHECK((*found)->bytes == value);
    CHECK((*found)->version);
  }
  const auto absent = co_await store.get("nobody");
  CO_OK(absent);
  CHECK_FALSE(absent->has_value());
}

Task<void> first_life(std::map<std::string, std::string>& model) {
  auto store = co_await Store::open("data", {.shards = 3});
  CO_OK(store);
  CHECK((*store)->shard_count() == 3);
  for (unsigned i = 0; i < 600; ++i) {
    const std::string key = fmt::format("key{:03}", i);
    model[key] = noise(i, i % 50 == 0 ? 100'000 : 40);
    CO_OK(co_await (*store)->put(key, model[key]));
    if (i == 300) CO_OK(co_await (*store)->flush());
  }
  for (unsigned i = 0; i < 600; i += 7) {
    const std::string key = fmt::format("key{:03}", i);
    model.erase(key);
    CO_OK(co_await (*store)->remove(key));
  }
  model["\xff\xff"] = "last";
  CO_OK(co_await (*store)->put("\xff\xff", "last"));
  const uint64_t now_ms = Reactor::current().wall_ms();
  CO_OK(co_await (*store)->put("passing", "x", now_ms + 1));
  static_cast<void>(co_await sleep_for(milliseconds(5)));
  co_await compare(**store, model);
  CO_OK(co_await (*store)->compact());
  CHECK((*store)->table_bytes() > 0);
  co_await compare(**store, model);
  CO_OK(co_await (*store)->close());
}

Task<void> second_life(const std::map<std::string, std::string>& model) {
  auto store = co_await Store::open("data", {.shards = 8});  // it keeps its own number
  CO_OK(store);
  CHECK((*store)->shard_count() == 3);
  co_await compare(**store, model);
  auto other = co_await Store::open("data");
  CHECK_FALSE(other.has_value());
  if (!other) CHECK(other.error().code == Errc::busy);
  CO_OK(co_await (*store)->close());
}

TEST_CASE("an embedded store keeps what is put into it, over its shards and over lives") {
  ShardRig rig;
  std::map<std::string, std::string> model;
  rig.live(first_life(model));
  rig.live(second_life(model));
}

Task<void> scan_one_moment(ScanDirection direction) {
  auto store = co_await Store::open("data", {.shards = 4});
  CO_OK(store);
  for (unsigned i = 100; i < 400; ++i) {
    CO_OK(co_await (*store)->put(fmt::format("key{}", i), "old"));
  }
  auto scan = co_await (*store)->scan({.start = "", .end = "", .direction = direction});
  CO_OK(scan);
  unsigned seen = 0;
  unsigned wrong = 0;
  while ((co_await (*scan)->next()).value_or(false)) {
    const Result<std::string> value = co_await (*scan)->value();
    if (!value || *value != "old" || (*scan)->key().size() != 6) ++wrong;
    ++seen;
    CO_OK(co_await (*store)->put(fmt::format("key{}x", 99 + seen), "new"));
    CO_OK(co_await (*store)->put(fmt::format("key{}", 99 + seen), "new"));
    CO_OK(co_await (*store)->remove(fmt::format("key{}", 400 - seen)));
    if (seen == 150) CO_OK(co_await (*store)->compact());
  }
  CHECK(seen == 300);
  CHECK(wrong == 0);
  scan->reset();
  CO_OK(co_await (*store)->close());
}

TEST_CASE("a scan of an embedded store shows one moment over all shards") {
  for (const auto direction : {ScanDirection::forward, ScanDirection::reverse}) {
    ShardRig rig;
    rig.live(scan_one_moment(direction));
  }
}

// Of the longest kind, which log frames, blocks, indexes and manifest all have to carry.
std::map<std::string, std::string> long_keys() {
  std::map<std::string, std::string> model;
  model[""] = "the empty key";
  for (unsigned i = 0; i < 6; ++i) {
    std::string key = noise(i, 2u << 20);
    model[key] = fmt::format("value {}", i);
    key.back() = static_cast<char>(key.back() ^ 1);
    model[key] = noise(i, 70'000);
    key.pop_back();
    model[key] = "";
  }
  return model;
}

Task<void> put_long_keys(const std::map<std::string, std::string>& model, bool close) {
  auto store = co_await Store::open("data", {.memory_bytes = 64u << 20});
  CO_OK(store);
  for (const auto& [key, value] : model) CO_OK(co_await (*store)->put(key, value));
  const auto too_long = co_await (*store)->put(std::string((2u << 20) + 1, 'k'), "");
  CHECK_FALSE(too_long.has_value());
  if (!too_long) CHECK(too_long.error().code == Errc::too_large);
  if (!close) co_await sleep_for(seconds(36'000));  // until it is killed
  CO_OK(co_await (*store)->close());
}

Task<void> read_long_keys(std::map<std::string, std::string> model) {
  auto store = co_await Store::open("data", {.memory_bytes = 64u << 20});
  CO_OK(store);
  for (unsigned pass = 0; pass < 3; ++pass) {
    for (const auto direction : {ScanDirection::forward, ScanDirection::reverse}) {
      const ScanRange range{.start = "", .end = "", .direction = direction};
      const auto found = co_await read_scan(**store, range);
      CO_OK(found);
      CHECK((*found == expected_of(model, range)));
    }
    for (const auto& [key, value] : model) {
      const auto found = co_await (*store)->get(key);
      CO_OK(found);
      CHECK((found->has_value() && (*found)->bytes == value));
    }
    if (pass == 0) CO_OK(co_await (*store)->flush());
    if (pass == 1) {
      CO_OK(co_await (*store)->remove(""));
      CO_OK(co_await (*store)->remove(model.rbegin()->first));
      model.erase("");
      model.erase(std::prev(model.end()));
      CO_OK(co_await (*store)->compact());
    }
  }
  CO_OK(co_await (*store)->close());
}

TEST_CASE("keys of 0 bytes and of 2 MiB live through log, tables and restarts") {
  for (const bool killed : {false, true}) {
    ShardRig rig;
    const auto model = long_keys();
    if (killed) rig.kill_after(seconds(3'000));
    rig.live(put_long_keys(model, !killed));
    rig.live(read_long_keys(model));
  }
}

Task<void> refuse() {
  const auto small = co_await Store::open("data", {.memory_bytes = 1u << 20});
  CHECK_FALSE(small.has_value());
  if (!small) CHECK(small.error().code == Errc::invalid);
  auto store = co_await Store::open("data", {.memory_bytes = 16u << 20});
  CO_OK(store);
  const auto large = co_await (*store)->put("k", std::string(8u << 20, 'v'));
  CHECK_FALSE(large.has_value());
  if (!large) CHECK(large.error().code == Errc::too_large);
  CO_OK(co_await (*store)->put("k", std::string(4u << 20, 'v')));
  CO_OK(co_await (*store)->close());
}

TEST_CASE("a store says what it can't do") {
  ShardRig rig;
  rig.live(refuse());
}

}  // namespace
}  // namespace gyre::test
