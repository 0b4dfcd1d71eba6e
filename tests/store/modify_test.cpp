// Read-modify-write of one shard: nothing is lost between two of them, wherever the newest value is.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "modify_rig.hpp"

namespace gyre::test {
namespace {

Task<void> count_up(Shard& shard, ShardHome& home, std::string key, uint64_t times) {
  for (uint64_t i = 0; i < times; ++i) {
    const ModifyEnd end = co_await modify(shard, home.memory, key, incremented);
    CO_REQUIRE(end.status == Errc::ok);
  }
}

Task<void> put_one(Shard& shard, std::string key, std::string value) {
  CO_OK(co_await put(shard, std::move(key), std::move(value)));
}

Task<void> with_shard(Task<void> (*work)(Shard&, ShardHome&),
                      ShardOptions options = small_shard_options()) {
  ShardHome home;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  co_await work(**opened, home);
  CO_OK(co_await (*opened)->close(false));
}

// --- from memory ---------------------------------------------------------------------------------

Task<void> hot_counter(Shard& shard, ShardHome& home) {
  const uint64_t frames_before = shard.log_stats().frames;
  Scope scope;
  for (unsigned i = 0; i < 500; ++i) scope.spawn(count_up(shard, home, "hot", 4));
  co_await scope.join();
  CO_CHECK(*co_await get(shard, "hot") == "2000");
  CHECK(shard.log_stats().frames - frames_before < 20);
  CHECK(shard.log_stats().records >= 2000);
}

TEST_CASE("increments of one key at once are all there, and share frames") {
  ShardRig rig;
  rig.live(with_shard(hot_counter));
}

Task<void> many_counters(Shard& shard, ShardHome& home) {
  Scope scope;
  for (unsigned i = 0; i < 60; ++i)
    scope.spawn(count_up(shard, home, fmt::format("c{}", i % 7), 50));
  co_await scope.join();
  for (unsigned i = 0; i < 7; ++i) {
    const uint64_t workers = i < 60 % 7 ? 60 / 7 + 1 : 60 / 7;
    CO_CHECK(*co_await get(shard, fmt::format("c{}", i)) == std::to_string(50 * workers));
  }
}

TEST_CASE("increments go on through flushes and merges, though blocks are never cached") {
  for (uint64_t seed = 1; seed <= scaled(10, 3); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed);
    ShardOptions options = small_shard_options();
    options.memtable_bytes_max = 2u << 10;
    options.cache_bytes = 1;
    options.separate_value_bytes_min = seed % 2 == 0 ? 1 : no_value_separation;
    rig.live(with_shard(many_counters, options));
  }
}

Task<void> newest_not_shown(Shard& shard, ShardHome& home) {
  Scope scope;
  scope.spawn(put_one(shard, "k", "put"));
  co_await yield();
  CO_CHECK(*co_await get(shard, "k") == std::nullopt);
  const ModifyEnd end = co_await modify(shard, home.memory, "k", appending("+"));
  CHECK(end.seen == "put");
  co_await scope.join();
  CO_CHECK(*co_await get(shard, "k") == "put+");
}

TEST_CASE("what is not visible yet counts") {
  ShardRig rig;
  rig.live(with_shard(newest_not_shown));
}

Task<void> removal_and_expiry(Shard& shard, ShardHome& home) {
  const uint64_t soon_ms = Reactor::current().wall_ms() + 50;
  CO_OK(co_await put(shard, "dies", "x", soon_ms));
  ModifyEnd end = co_await modify(shard, home.memory, "dies", [&](const auto& current) {
    return std::optional(Made{.value = *current + "y", .expire_at_ms = soon_ms});
  });
  CHECK(end.seen == "x");
  co_await sleep_for(milliseconds(60));
  end = co_await modify(shard, home.memory, "dies", set_if_absent("anew"));
  CHECK(end.seen == std::nullopt);
  CHECK(end.seen_version != Version{});
  CO_CHECK(*co_await get(shard, "dies") == "anew");
  end = co_await modify(shard, home.memory, "dies",
                        [](const auto&) { return std::optional(Made{}); });
  CHECK(end.status == Errc::ok);
  CHECK(end.seen == "anew");
  CO_CHECK(*co_await get(shard, "dies") == std::nullopt);
  end = co_await modify(shard, home.memory, "dies", incremented);
  CHECK(end.seen == std::nullopt);
  CO_CHECK(*co_await get(shard, "dies") == "1");
}

TEST_CASE("expired and removed keys are absent, and a modify may expire and remove") {
  ShardRig rig;
  rig.live(with_shard(removal_and_expiry));
}

// --- leave ---------------------------------------------------------------------------------------

Task<void> leave_waits(Shard& shard, ShardHome& home) {
  Scope scope;
  scope.spawn(put_one(shard, "k", "v"));
  co_await yield();
  CHECK(shard.visible_seq() == 0);
  ModifyEnd end = co_await modify(shard, home.memory, "k", set_if_absent("other"));
  CHECK(end.status == Errc::ok);
  CHECK(end.seq == 0);
  CHECK(end.seen == "v");
  CHECK(end.seen_seq == 1);
  CHECK(shard.visible_seq() >= 1);  // what it saw is durable
  co_await scope.join();
  const Nanos before = Reactor::current().now();
  end = co_await modify(shard, home.memory, "k", set_if_absent("other"));
  CHECK(end.seen == "v");
  CHECK(Reactor::current().now() - before < microseconds(20));  // no write of the disk
  CHECK(shard.log_stats().records == 1);
}

TEST_CASE("a modify that writes nothing is answered when what it saw is durable") {
  ShardRig rig(1, {.write = {milliseconds(3), milliseconds(5)}});
  rig.live(with_shard(leave_waits));
}

// --- from the disk -------------------------------------------------------------------------------

void end_of(const ModifyEnd& end, std::optional<std::string>& seen) {
  CHECK(end.status == Errc::ok);
  seen = end.seen;
}

Task<void> read_first(Shard& shard, ShardHome& home) {
  CO_OK(co_await put(shard, "k", "table"));
  CO_OK(co_await put(shard, "other", "x"));
  CO_OK(co_await shard.flush());
  const uint64_t reads_before = shard.stats().modifies_read;
  ModifyEnd end = co_await modify(shard, home.memory, "k", appending("+"));
  CHECK(end.seen == "table");
  CHECK(end.computed == 1);
  CHECK(shard.stats().modifies_read == reads_before + 1);
  CO_CHECK(*co_await get(shard, "k") == "table+");

  // What comes while it reads takes effect after it, in the order in which it came.
  CO_OK(co_await shard.flush());
  Scope scope;
  std::vector<std::optional<std::string>> seen(2);
  const auto append_one = [](Shard* on, ShardHome* in, const char* more,
                             std::optional<std::string>* out) -> Task<void> {
    end_of(co_await modify(*on, in->memory, "k", appending(more)), *out);
  };
  scope.spawn(append_one(&shard, &home, "1", &seen[0]));
  co_await yield();
  scope.spawn(put_one(shard, "k", "put"));
  scope.spawn(append_one(&shard, &home, "2", &seen[1]));
  scope.spawn(put_one(shard, "other", "y"));
  co_await sleep_for(milliseconds(20));
  CO_CHECK(*co_await get(shard, "other") == "y");  // other keys go on
  CO_OK(co_await shard.flush());
  co_await scope.join();
  CHECK(seen[0] == "table+");
  CHECK(seen[1] == "put");
  CO_CHECK(*co_await get(shard, "k") == "put2");
}

TEST_CASE("a value in a table is read first, and the key's next writes wait for that") {
  ShardOptions options = small_shard_options();
  options.cache_bytes = 1;
  ShardRig rig(1, {.read = {milliseconds(50), milliseconds(60)}});
  rig.live(with_shard(read_first, options));
}

// --- large values --------------------------------------------------------------------------------

Task<void> large_values(Shard& shard, ShardHome& home) {
  const std::string large = noise(1, 700'000);
  CO_OK(co_await put(shard, "k", large));
  ModifyEnd end = co_await modify(shard, home.memory, "k", appending("a"));
  CHECK(end.seen == large);
  CO_OK(co_await shard.flush());
  end = co_await modify(shard, home.memory, "k", appending("b"));
  CO_REQUIRE(end.status == Errc::ok);
  CHECK(end.seen == large + "a");
  CO_CHECK(*co_await get(shard, "k") == large + "ab");

  // Three at once, of which two find it in the log.
  Scope scope;
  for (unsigned i = 0; i < 3; ++i) {
    scope.spawn([](Shard* at, ShardHome* in) -> Task<void> {
      const ModifyEnd done = co_await modify(*at, in->memory, "k", appending("c"));
      CO_CHECK(done.status == Errc::ok);
    }(&shard, &home));
  }
  co_await scope.join();
  CO_CHECK(*co_await get(shard, "k") == large + "abccc");
}

TEST_CASE("large values are seen whole: in memory, in tables, on their way to the log") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed);
    ShardOptions options = small_shard_options();
    options.separate_value_bytes_min = seed % 2 == 0 ? 16u << 10 : no_value_separation;
    rig.live(with_shard(large_values, options));
  }
}

Task<void> behind_a_large_write(Shard& shard, ShardHome& home) {
  Scope scope;
  const std::string large = noise(2, 1'500'000);
  scope.spawn(put_one(shard, "k", large));
  co_await yield();
  ModifyEnd end = co_await modify(shard, home.memory, "k", appending("+"));
  CHECK(end.status == Errc::ok);
  CHECK(end.seen == large);
  co_await scope.join();
  CO_CHECK(*co_await get(shard, "k") == large + "+");
}

TEST_CASE("a modify comes after a large write of its key that the log is taking") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    ShardRig rig(seed);
    rig.live(with_shard(behind_a_large_write));
  }
}

Task<void> limits_of_size(Shard& shard, ShardHome& home) {
  const std::string large = noise(3, 300'000);
  CO_OK(co_await put(shard, "k", large));
  for (const bool in_table : {false, true}) {
    if (in_table) CO_OK(co_await shard.flush());
    TestModify unread(shard, "k", set_if_absent("x"));
    unread.wants_value = false;
    unread.compute = [](StoreModify&, const StoreRead& current, bool present) noexcept {
      CHECK(present);
      CHECK(current.size_bytes == 300'000);
      return StoreModify::Act::leave;
    };
    CO_CHECK(co_await unread == Errc::ok);
    TestModify refused(shard, "k", incremented);
    refused.value_bytes_max = 299'999;
    CO_CHECK(co_await refused == Errc::too_large);
    CHECK(refused.end.computed == 0);
    TestModify taken(shard, "k", appending(""));
    taken.value_bytes_max = 300'000;
    CO_CHECK(co_await taken == Errc::ok);
    CHECK(taken.end.seen == large);
  }
  CHECK(home.memory.available() + shard.memtable_bytes() <= home.memory.capacity() + (1u << 20));
}

TEST_CASE("a value that isn't wanted isn't read, and one over the limit is refused") {
  ShardRig rig;
  rig.live(with_shard(limits_of_size));
}

// --- memory, room, the end -----------------------------------------------------------------------

Task<void> memory_for_values(Shard& shard, ShardHome& home) {
  // Nothing was acquired beforehand, so all of it is looked for when the value is known.
  for (unsigned i = 0; i < 60; ++i) {
    const ModifyEnd end = co_await modify(shard, home.memory, fmt::format("k{}", i % 5),
                                          appending(noise(i, 60'000)), 0);
    CO_REQUIRE(end.status == Errc::ok);
  }
  // More than there is, ever.
  const ModifyEnd end = co_await modify(shard, home.memory, "k0", [](const auto&) {
    return std::optional(Made{.value = std::string(9u << 20, 'x')});
  });
  CHECK(end.status == Errc::too_large);
  CO_CHECK((*co_await get(shard, "k0"))->size() == 12 * 60'000);
}

TEST_CASE("memory for a value is found when its size is known, and waited for") {
  ShardRig rig;
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 64u << 20;  // only who waits for memory starts a flush
  rig.live(with_shard(memory_for_values, options));
}

Task<void> no_memory(Shard& shard, ShardHome& home) {
  const uint64_t taken = home.memory.available() - 1000;
  CO_REQUIRE(home.memory.try_acquire(taken));
  const ModifyEnd end = co_await modify(shard, home.memory, "k", appending(noise(1, 5'000)), 0);
  CHECK(end.status == Errc::overloaded);
  CHECK(end.computed == 1);
  home.memory.release(taken);
  CO_CHECK(*co_await get(shard, "k") == std::nullopt);
}

TEST_CASE("no memory for a value, for a while, is overload") {
  ShardRig rig;
  rig.live(with_shard(no_memory));
}

// Frames are full, so that all of them wait in the log's queue: each is computed when its turn comes.
Task<void> through_a_backlog(Shard& shard, ShardHome& home) {
  Scope scope;
  for (unsigned i = 0; i < 8; ++i)
    scope.spawn(put_one(shard, fmt::format("f{}", i), noise(i, 200'000)));
  co_await yield();
  const uint64_t frames_before = shard.log_stats().frames;
  for (unsigned i = 0; i < 300; ++i) scope.spawn(count_up(shard, home, "hot", 1));
  co_await scope.join();
  CO_CHECK(*co_await get(shard, "hot") == "300");
  CHECK(shard.log_stats().frames - frames_before < 8);
}

TEST_CASE("increments behind full frames share one when their turn comes") {
  ShardRig rig(1, {.write = {milliseconds(3), milliseconds(5)}});
  rig.live(with_shard(through_a_backlog));
}

Task<void> hold(Shard& shard, ShardHome& home, std::string key, std::vector<Errc>& ends) {
  const ModifyEnd end = co_await modify(shard, home.memory, std::move(key), incremented);
  ends.push_back(end.status);
}

// Some are in a frame, some see what is in one and leave, some wait for the disk.
Task<void> log_fails(sim::Disk& disk, unsigned at) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.cache_bytes = 1;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  CO_OK(co_await put(shard, "in a table", "5"));
  CO_OK(co_await shard.flush());
  disk.plan({.code = OpCode::write, .path_part = ".log", .nth = at, .error = EIO});
  std::vector<Errc> ends;
  std::vector<Errc> left;
  Scope scope;
  for (unsigned i = 0; i < 20; ++i) {
    scope.spawn(hold(shard, home, "hot", ends));
    scope.spawn(hold(shard, home, "in a table", ends));
    scope.spawn([](Shard* on, ShardHome* in, std::vector<Errc>* to) -> Task<void> {
      const ModifyEnd end = co_await modify(*on, in->memory, "hot", set_if_absent("1"));
      to->push_back(end.status);
    }(&shard, &home, &left));
    if (i % 5 == 4) co_await sleep_for(microseconds(300));
  }
  co_await scope.join();
  CHECK(ends.size() == 40);
  CHECK(left.size() == 20);
  CHECK(shard.read_only());
  const auto fails = [](const std::vector<Errc>& all) {
    return std::count_if(all.begin(), all.end(), [](Errc e) {
      CHECK((e == Errc::ok || e == Errc::io || e == Errc::read_only));
      return e != Errc::ok;
    });
  };
  CHECK(fails(ends) > 0);
  CHECK(fails(left) > 0);
  const auto counted = *co_await get(shard, "hot");
  CHECK(std::stoul(counted.value_or("0")) <= 20);
  const ModifyEnd refused = co_await modify(shard, home.memory, "hot", incremented);
  CHECK(refused.status == Errc::read_only);
  static_cast<void>(co_await shard.close(false));
}

TEST_CASE("a log that fails answers all of them, also those that wrote nothing") {
  for (unsigned at = 1; at <= 2; ++at) {
    CAPTURE(at);
    ShardRig rig(at);
    rig.live(log_fails(rig.disk(), at));
  }
}

Task<void> unreadable(sim::Disk& disk) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.cache_bytes = 1;
  auto opened = co_await Shard::open(options, home.context());
  CO_OK(opened);
  Shard& shard = **opened;
  CO_OK(co_await put(shard, "k", "5"));
  CO_OK(co_await shard.flush());
  disk.options.path_part = ".table";
  disk.options.read_error_ppm = 1'000'000;
  TestModify write(shard, "k", incremented);
  CO_CHECK(co_await write == Errc::corrupt);
  CHECK(write.failure.find(".table") != std::string::npos);
  CHECK(write.end.computed == 0);
  disk.options.read_error_ppm = 0;
  CO_CHECK((co_await modify(shard, home.memory, "k", incremented)).status == Errc::ok);
  CO_CHECK(*co_await get(shard, "k") == "6");
  CO_OK(co_await shard.close(false));
}

TEST_CASE("a value that can't be read fails its modify alone") {
  ShardRig rig;
  rig.live(unreadable(rig.disk()));
}

Task<void> close_amid(Nanos after) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.cache_bytes = 1;
  uint64_t counted = 0;
  {
    auto opened = co_await Shard::open(options, home.context());
    CO_OK(opened);
    Shard& shard = **opened;
    for (unsigned i = 0; i < 9; ++i) CO_OK(co_await put(shard, fmt::format("k{}", i), "0"));
    CO_OK(co_await shard.flush());
    std::vector<Errc> ends;
    Scope scope;
    for (unsigned i = 0; i < 45; ++i) {
      scope.spawn(hold(shard, home, fmt::format("k{}", i % 9), ends));
      if (i % 9 == 0) {
        scope.spawn([](Shard* on, uint64_t seed) -> Task<void> {
          static_cast<void>(co_await put(*on, "large", noise(seed, 400'000)));
        }(&shard, i));
      }
    }
    co_await sleep_for(after);
    CO_OK(co_await shard.close(false));
    co_await scope.join();
    CHECK(ends.size() == 45);
    for (const Errc end : ends) {
      const bool told = end == Errc::ok || end == Errc::closed;
      CHECK_MESSAGE(told, to_string(end));
      counted += end == Errc::ok;
    }
  }
  auto again = co_await Shard::open(options, home.context());
  CO_OK(again);
  uint64_t sum = 0;
  for (unsigned i = 0; i < 9; ++i)
    sum += std::stoul(**co_await get(**again, fmt::format("k{}", i)));
  CHECK(sum == counted);
  CO_OK(co_await (*again)->close(false));
}

TEST_CASE("a close answers those under way: each is there, or was told to be closed") {
  for (const int64_t after_us : {0, 50, 150, 400, 900, 2000, 6000}) {
    CAPTURE(after_us);
    ShardRig rig(3);
    rig.live(close_amid(microseconds(after_us)));
  }
}

Task<void> other_durability(Shard& shard, ShardHome& home) {
  Scope scope;
  for (unsigned i = 0; i < 50; ++i) scope.spawn(count_up(shard, home, "hot", 10));
  co_await scope.join();
  CO_CHECK(*co_await get(shard, "hot") == "500");
  const ModifyEnd end = co_await modify(shard, home.memory, "hot", set_if_absent("x"));
  CHECK(end.seen == "500");
  CHECK(end.seq == 0);
}

TEST_CASE("without a sync per frame they are answered at once") {
  for (const Durability durability : {Durability::interval, Durability::none}) {
    ShardRig rig;
    ShardOptions options = small_shard_options();
    options.durability = durability;
    rig.live(with_shard(other_durability, options));
  }
}

}  // namespace
}  // namespace gyre::test
