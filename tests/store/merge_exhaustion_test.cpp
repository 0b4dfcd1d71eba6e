// Small scope, every case: up to three versions of one key, each a value, a tombstone, an expired
// value or one that will expire, each in a deep table, one of two tables that are merged, or the
// memtable. The real shard merges; the merged table must hold the winner of what was merged, and
// nothing of it if it is dead, unless something older lies elsewhere. Once with values in tables,
// once with them in value files.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>

#include "shard_rig.hpp"
#include "store/await_write.hpp"
#include "store/table_cursor.hpp"

namespace gyre::test {
namespace {

enum Place : uint8_t { deep, merged_1, merged_2, memtable };
enum What : uint8_t { value, tombstone, expired, expires_later };
constexpr unsigned place_count = 4;
constexpr unsigned what_count = 4;

struct Version3 {
  bool exists = false;
  Place place = deep;
  What what = value;
};
using Case = std::array<Version3, 3>;  // oldest first

constexpr unsigned choices = 1 + place_count * what_count;
constexpr unsigned case_count = choices * choices * choices;
constexpr unsigned cases_per_life = 100;

bool is_dead(What what) {
  return what == tombstone || what == expired;
}

Case case_of(unsigned number) {
  Case result;
  for (Version3& version : result) {
    const unsigned choice = number % choices;
    number /= choices;
    if (choice == 0) continue;
    version = {true, static_cast<Place>((choice - 1) / what_count),
               static_cast<What>((choice - 1) % what_count)};
  }
  return result;
}

// What is left of the case once it lies where it should: a table has one version of a key, and the
// compaction that makes the deep one drops what is dead.
Case laid_out(Case versions) {
  for (const Place place : {deep, merged_1, merged_2}) {
    bool newer = false;
    for (size_t i = versions.size(); i-- > 0;) {
      Version3& version = versions[i];
      if (!version.exists || version.place != place) continue;
      if (newer || (place == deep && is_dead(version.what))) version.exists = false;
      newer = true;
    }
  }
  return versions;
}

std::string describe(const Case& versions) {
  std::string text;
  for (const Version3& version : versions) {
    text +=
        version.exists ? fmt::format("{}{} ", "DMmA"[version.place], "v-xl"[version.what]) : ". ";
  }
  return text;
}

const Version3* newest(const Case& versions, std::initializer_list<Place> places) {
  const Version3* best = nullptr;
  for (const Version3& version : versions) {
    for (const Place place : places) {
      if (version.exists && version.place == place) best = &version;
    }
  }
  return best;
}

// Whether something older than `dead` lies where the merge does not look.
bool hides_something(const Case& versions, const Version3* dead) {
  for (const Version3* version = versions.data(); version != dead; ++version) {
    if (version->exists && (version->place == deep || version->place == memtable)) return true;
  }
  return false;
}

// --- carrying it out -----------------------------------------------------------------------------

ShardOptions exhaustion_options() {
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 8u << 20;
  options.compaction.l0_trigger = 2;
  options.compaction.fanout = 2;
  options.compaction.base_bytes_min = 8u << 10;
  options.compaction.table_bytes_target = 1u << 20;
  options.table.codec = Codec::none;
  return options;
}

struct Exhaustion {
  Shard& shard;
  uint64_t hlc = hlc_from_us(1'000'000);  // of the oldest version of the present case
  uint64_t later_ms = 0;
  uint64_t fillers = 0;
};

Task<void> write_one(Shard& shard, std::string key, Version version, What what, std::string bytes,
                     uint64_t later_ms) {
  AwaitWrite write(shard);
  write.record.kind = what == tombstone ? Kind::tombstone : Kind::value;
  write.record.version = version;
  write.record.expire_at_ms = what == expired ? 1 : what == expires_later ? later_ms : 0;
  write.key_storage = std::move(key);
  write.record.key = write.key_storage;
  write.buffer = buffer_of(bytes);
  if (what != tombstone) write.record.value_buffer = &write.buffer;
  const Errc status = co_await write;
  CHECK(status == Errc::ok);
}

std::string value_of(unsigned index) {
  return fmt::format("value {}", index);
}

Task<void> write_place(Exhaustion& run, const Case& versions, Place place) {
  for (unsigned i = 0; i < versions.size(); ++i) {
    if (!versions[i].exists || versions[i].place != place) continue;
    co_await write_one(run.shard, "key", {run.hlc + i, 1}, versions[i].what, value_of(i),
                       run.later_ms);
  }
}

// Keeps a table or a level in being; newer than everything of the case.
Task<void> write_filler(Exhaustion& run, std::string key) {
  co_await write_one(run.shard, std::move(key), {run.hlc + 100, ++run.fillers}, value, "filler", 0);
}
// Its key makes the deepest level as large as it has to be: values may lie elsewhere.
const std::string big_filler = "zz" + std::string(64u << 10, 'z');

Task<void> flush_now(Shard& shard) {
  CO_OK(co_await shard.flush());
}

// The entry of "key" in the tables of a level, if there is one.
Task<Result<std::optional<Kind>>> stored_kind(const Shard& shard, unsigned level,
                                              std::string& value) {
  for (const TableRef& table : shard.levels().level(level)) {
    TableCursor cursor(table, TableCursorOptions::for_scan());
    if (Result<void> sought = co_await cursor.seek("key"); !sought) co_return fail(sought.error());
    if (!cursor.valid() || cursor.key() != "key") continue;
    TableEntry entry{.entry = cursor.entry()};
    if (Result<void> read = co_await table->resolve(entry); !read) co_return fail(read.error());
    value = entry.entry.value;
    co_return entry.entry.kind;
  }
  co_return std::nullopt;
}

// How the deepest level gets the big filler that keeps what is merged on a level above it.
Task<void> lay_out(Exhaustion& run, const Case& versions) {
  co_await write_place(run, versions, deep);
  co_await write_filler(run, big_filler);
  CO_OK(co_await run.shard.compact());
  co_await write_place(run, versions, merged_1);
  co_await write_filler(run, "yy");
  CO_OK(co_await run.shard.flush());
  co_await write_place(run, versions, merged_2);
  co_await write_filler(run, "yy");
  // The memtable gets its part before the merge can look at it.
  Scope scope;
  scope.spawn(flush_now(run.shard));
  co_await yield();
  co_await write_place(run, versions, memtable);
  co_await scope.join();
  CO_OK(co_await run.shard.settle());
}

Task<std::string> check_merge(const Exhaustion& run, const Case& versions) {
  constexpr unsigned bottom = limits::table_level_count - 1;
  const Shard& shard = run.shard;
  unsigned level = 0;
  for (unsigned at = 1; at < bottom; ++at) {
    if (!shard.levels().level(at).empty()) level = at;
  }
  if (level == 0 || !shard.levels().level(0).empty()) co_return "the levels are not as meant";
  const Version3* winner = newest(versions, {merged_1, merged_2});
  std::string bytes;
  const auto kind = co_await stored_kind(shard, level, bytes);
  if (!kind) co_return kind.error().message();
  if (winner == nullptr) co_return *kind ? "an entry from nowhere" : "";
  if (!is_dead(winner->what)) {
    if (!*kind) co_return "the winner is lost";
    if (**kind != Kind::value ||
        bytes != value_of(static_cast<unsigned>(winner - versions.data()))) {
      co_return "not the winner";
    }
    co_return "";
  }
  if (hides_something(versions, winner)) {
    if (!*kind) co_return "a dead winner is dropped too early";
    co_return **kind == Kind::tombstone ? "" : "a dead winner shows";
  }
  co_return *kind ? "a dead winner is kept for nothing" : "";
}

Task<std::string> check_read(const Exhaustion& run, const Case& versions) {
  const Version3* winner = newest(versions, {deep, merged_1, merged_2, memtable});
  const auto read = co_await get(run.shard, "key");
  if (!read) co_return read.error().message();
  const bool live = winner != nullptr && !is_dead(winner->what);
  if (read->has_value() != live)
    co_return live ? "the winner does not show" : "something dead shows";
  if (live && **read != value_of(static_cast<unsigned>(winner - versions.data()))) {
    co_return "an older version shows";
  }
  co_return "";
}

Task<std::string> check_purged(const Exhaustion& run, const Case& versions) {
  const Version3* winner = newest(versions, {deep, merged_1, merged_2, memtable});
  const bool live = winner != nullptr && !is_dead(winner->what);
  std::string bytes;
  const auto kind = co_await stored_kind(run.shard, limits::table_level_count - 1, bytes);
  if (!kind) co_return kind.error().message();
  co_return kind->has_value() == live ? "" : "a full compaction leaves something dead";
}

Task<void> one_case(Exhaustion& run, unsigned number) {
  co_await lay_out(run, case_of(number));
  const Case versions = laid_out(case_of(number));
  std::string wrong = co_await check_merge(run, versions);
  if (wrong.empty()) wrong = co_await check_read(run, versions);
  CO_OK(co_await run.shard.compact());
  if (wrong.empty()) wrong = co_await check_read(run, versions);
  if (wrong.empty()) wrong = co_await check_purged(run, versions);
  CHECK_MESSAGE(wrong.empty(), "case " << number << " (" << describe(versions) << "): " << wrong);
  // Nothing may be left for the next one.
  run.hlc += 1000;
  for (const std::string& key : {std::string("key"), std::string("yy"), big_filler}) {
    co_await write_one(run.shard, key, {run.hlc, 1}, tombstone, "", 0);
  }
  CO_OK(co_await run.shard.compact());
  CHECK(run.shard.levels().table_count() == 0);
  run.hlc += 1000;
}

Task<void> some_cases(unsigned first, unsigned step, bool values_apart, unsigned& done) {
  ShardHome home;
  ShardOptions options = exhaustion_options();
  options.separate_value_bytes_min = values_apart ? 1 : no_value_separation;
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  Exhaustion run{**shard};
  run.later_ms = Reactor::current().wall_ms() + 1'000'000'000;
  for (unsigned i = 0; i < cases_per_life; ++i) {
    const unsigned number = first + i * step;
    if (number >= case_count) break;
    co_await one_case(run, number);
    ++done;
  }
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("every merge of up to three versions, wherever they lie and whatever they are") {
  const unsigned step = test_scale() >= 1.0 ? 1 : static_cast<unsigned>(1.0 / test_scale());
  for (const bool values_apart : {false, true}) {
    unsigned done = 0;
    for (unsigned first = 0; first < case_count; first += cases_per_life * step) {
      ShardRig rig(first + 1);
      CHECK(rig.live(some_cases(first, step, values_apart, done)) == LifeEnd::finished);
    }
    MESSAGE(fmt::format("merges{}: {} of {} cases", values_apart ? " with values apart" : "", done,
                        case_count));
    CHECK(done >= case_count / step);
  }
}

}  // namespace
}  // namespace gyre::test
