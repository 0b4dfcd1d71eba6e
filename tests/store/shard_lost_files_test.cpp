// Files of a shard that are gone, cut short or slow to come: what was acknowledged is there, or the
// start is refused with the file named, and nothing is changed. What an earlier life has
// acknowledged is never quietly missing.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cerrno>
#include <functional>

#include "../sim/crash_oracle.hpp"
#include "shard_rig.hpp"

namespace gyre::test {
namespace {

ShardOptions file_options() {
  ShardOptions options = small_shard_options();
  options.compaction.l0_trigger = 2;
  options.compaction.base_bytes_min = 4u << 10;
  options.compaction.table_bytes_target = 4u << 10;
  return options;
}

std::string key_of(uint64_t i) {
  return fmt::format("key{:02}", i % 40);
}

// --- a directory to damage -----------------------------------------------------------------------

struct Damage {
  Contents expected;
  std::string error;
  Errc code = Errc::ok;  // of the open
  uint64_t refused = 0;
  uint64_t harmless = 0;
};

Task<void> write_history(Damage& damage) {
  ShardHome home;
  auto shard = co_await Shard::open(file_options(), home.context());
  CO_OK(shard);
  for (uint64_t i = 0; i < 200; ++i) {
    if (i % 7 == 6) {
      CO_OK(co_await (*shard)->remove(key_of(i * 3)));
      damage.expected.erase(key_of(i * 3));
    } else {
      const std::string value = noise(i, i % 50 == 20 ? 100'000 : 300);
      CO_OK(co_await put(**shard, key_of(i * 3), value));
      damage.expected[key_of(i * 3)] = value;
    }
    if (i % 40 == 39 && i < 170) CO_OK(co_await (*shard)->flush());
    if (i == 130) CO_OK(co_await (*shard)->compact());
  }
  CO_OK(co_await (*shard)->close(false));
}

Task<void> open_and_close() {
  ShardHome home;
  auto shard = co_await Shard::open(file_options(), home.context());
  CO_OK(shard);
  CO_OK(co_await (*shard)->settle());
  CO_OK(co_await (*shard)->close(false));
}

Task<void> replace_content(std::string path, std::optional<std::string> content) {
  static_cast<void>(co_await unlink_file(path));
  if (content) {
    Result<File> file = co_await File::open(path, flag_write | flag_create);
    CO_OK(file);
    CO_OK(co_await file->write_full(0, *content));
    CO_OK(co_await file->sync());
    CO_OK(co_await file->close());
  }
  CO_OK(co_await sync_directory("shard"));
}

Task<void> open_damaged(Damage& damage) {
  ShardHome home;
  auto shard = co_await Shard::open(file_options(), home.context());
  if (!shard) {
    damage.code = shard.error().code;
    const std::string message = shard.error().message();
    // A neighbour may be named: the next segment, a table that an edit put there.
    const bool named = message.find("shard") != std::string::npos;
    if (!named) damage.error = "no file is named: " + message;
    co_return;
  }
  damage.code = Errc::ok;
  const auto found = co_await scan_all(**shard);
  if (!found) {
    if (found.error().code != Errc::corrupt) damage.error = found.error().message();
    damage.code = found.error().code;
  } else if (*found != damage.expected) {
    damage.error = fmt::format("{} keys instead of {}, and nobody says so", found->size(),
                               damage.expected.size());
  }
  CO_OK(co_await (*shard)->close(false));
}

std::vector<DirEntry> files_of(ShardRig& rig, std::string_view part) {
  std::vector<DirEntry> entries;
  rig.disk().list_dir("shard", entries);
  std::erase_if(entries, [&](const DirEntry& entry) {
    return entry.is_directory || entry.name.find(part) == std::string::npos;
  });
  return entries;
}

std::map<std::string, std::string> all_files(ShardRig& rig) {
  std::map<std::string, std::string> all;
  for (const DirEntry& entry : files_of(rig, "")) {
    all[entry.name] = rig.disk().content("shard/" + entry.name);
  }
  return all;
}

// A shard with tables on several levels and a log, cleanly closed, or with one more start behind it.
struct Damaged {
  explicit Damaged(uint64_t seed = 1) : rig(seed) {
    rig.live(write_history(damage));
    if (seed % 2 == 1) rig.live(open_and_close());
  }
  // The file with this content, or without any: refused or harmless. Then as it was: all is there.
  void try_content(const std::string& name, std::optional<std::string> content) {
    CAPTURE(name);
    const std::string before = rig.disk().content("shard/" + name);
    damage.error.clear();
    rig.live(replace_content("shard/" + name, std::move(content)));
    const auto files_before = all_files(rig);
    rig.live(open_damaged(damage));
    CHECK(damage.error == "");
    if (damage.code == Errc::ok) {
      ++damage.harmless;
      return;
    }
    CHECK((damage.code == Errc::corrupt || damage.code == Errc::not_found));
    ++damage.refused;
    CHECK((all_files(rig) == files_before));
    rig.live(replace_content("shard/" + name, before));
    rig.live(open_damaged(damage));
    CHECK(damage.error == "");
    CHECK(damage.code == Errc::ok);
  }
  ShardRig rig;
  Damage damage;
};

TEST_CASE("a table that is missing refuses the start") {
  Damaged shard;
  const auto tables = files_of(shard.rig, ".table");
  REQUIRE(tables.size() > 2);
  for (const DirEntry& table : tables) shard.try_content(table.name, std::nullopt);
  CHECK(shard.damage.refused == tables.size());
}

TEST_CASE("a table that was cut short refuses the start") {
  Damaged shard;
  const auto tables = files_of(shard.rig, ".table");
  for (const DirEntry& table : tables) {
    const std::string content = shard.rig.disk().content("shard/" + table.name);
    const size_t used = content.find_last_not_of('\0') + 1;
    for (const size_t size : {size_t{0}, size_t{1}, used / 2, used - 1}) {
      shard.try_content(table.name, content.substr(0, size));
    }
  }
  CHECK(shard.damage.harmless == 0);
}

TEST_CASE("a log segment that is missing refuses the start, or nothing in it was needed") {
  uint64_t refused = 0;
  for (size_t which = 0; which < 16; ++which) {
    Damaged shard(which);
    const auto segments = files_of(shard.rig, ".log");
    if (which / 2 >= segments.size()) continue;
    shard.try_content(segments[which / 2].name, std::nullopt);
    refused += shard.damage.refused;
  }
  CHECK(refused > 0);
}

TEST_CASE("a log segment that was cut short refuses the start, or nothing behind was needed") {
  uint64_t refused = 0;
  uint64_t cases = 0;
  const size_t step = test_scale() >= 1.0 ? 4096 : 5 * 4096;
  for (size_t which = 0; which < 16; ++which) {
    for (size_t size = 0;; size += step) {
      Damaged shard(which);
      const auto segments = files_of(shard.rig, ".log");
      if (which / 2 >= segments.size()) break;
      const std::string content = shard.rig.disk().content("shard/" + segments[which / 2].name);
      const size_t used = content.find_last_not_of('\0') + 1;
      if (content.find_first_not_of('\0') == std::string::npos || size > used) break;
      shard.try_content(segments[which / 2].name, content.substr(0, size));
      refused += shard.damage.refused;
      ++cases;
    }
  }
  MESSAGE(fmt::format("log segments cut at {} places, {} refused", cases, refused));
  CHECK(refused > 0);
}

TEST_CASE("a manifest that is missing refuses the start") {
  Damaged shard;
  const auto manifests = files_of(shard.rig, "MANIFEST");
  REQUIRE(manifests.size() == 1);
  shard.try_content(manifests[0].name, std::nullopt);
  shard.try_content("CURRENT", std::nullopt);
  shard.try_content("CURRENT", "");
  shard.try_content("CURRENT", "MANIFEST-00");
  CHECK(shard.damage.refused == 4);
}

TEST_CASE("a manifest that was cut short refuses the start, or what it lost can be made up") {
  uint64_t refused = 0;
  uint64_t cases = 0;
  for (size_t size = 0;; size += 4096) {
    Damaged shard;
    const std::string name = files_of(shard.rig, "MANIFEST").front().name;
    const std::string content = shard.rig.disk().content("shard/" + name);
    if (size > content.find_last_not_of('\0')) break;
    CAPTURE(size);
    shard.try_content(name, content.substr(0, size));
    refused += shard.damage.refused;
    ++cases;
  }
  MESSAGE(fmt::format("manifest cut at {} places, {} refused", cases, refused));
  CHECK(refused > 0);
}

}  // namespace
}  // namespace gyre::test
