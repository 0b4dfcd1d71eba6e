// The data directory: one owner at a time, an identity that is kept and checked, and nothing of
// somebody else touched.
#include "store/data_directory.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "real_rig.hpp"
#include "shard_rig.hpp"

namespace gyre::test {
namespace {

struct Found {
  Errc code = Errc::ok;
  std::string message;
  std::string uuid;
  uint32_t shards = 0;
  uint64_t salt = 0;
  bool created = false;
};

Task<void> open_once(std::string path, uint32_t shards, Found& found) {
  Result<DataDirectory> directory = co_await DataDirectory::open(path, shards);
  found = {};
  if (!directory) {
    found.code = directory.error().code;
    found.message = directory.error().message();
    co_return;
  }
  found.uuid = directory->uuid_text();
  found.shards = directory->shard_count();
  found.salt = directory->log_salt(0);
  found.created = directory->created();
  CHECK(directory->log_salt(0) != directory->log_salt(1));
  CHECK(directory->shard_identity(1).index == 1);
  CHECK(directory->shard_identity(0).count == found.shards);
  co_await directory->close();
}

TEST_CASE("a new directory gets an identity, and keeps it whatever is asked for later") {
  ShardRig rig(1);
  Found first;
  rig.live(open_once("a/b/data", 4, first));
  CHECK(first.code == Errc::ok);
  CHECK(first.created);
  CHECK(first.shards == 4);
  CHECK(first.uuid.size() == 32);
  for (const uint32_t asked : {4u, 1u, 16u}) {
    Found again;
    rig.live(open_once("a/b/data", asked, again));
    CHECK(again.code == Errc::ok);
    CHECK(!again.created);
    CHECK(again.shards == 4);
    CHECK(again.uuid == first.uuid);
    CHECK(again.salt == first.salt);
  }
  Found other;
  rig.live(open_once("other", 1, other));
  CHECK(other.uuid != first.uuid);
  CHECK(other.salt != first.salt);
}

TEST_CASE("the number of shards is kept within its bounds") {
  ShardRig rig(2);
  Found found;
  rig.live(open_once("none", 0, found));
  CHECK(found.shards == 1);
  rig.live(open_once("many", 100'000, found));
  CHECK(found.shards == DataDirectory::shards_max);
}

Task<void> open_twice(std::string path) {
  Result<DataDirectory> first = co_await DataDirectory::open(path, 2);
  CO_OK(first);
  Result<DataDirectory> second = co_await DataDirectory::open(path, 2);
  CHECK(!second);
  if (!second) {
    CHECK(second.error().code == Errc::busy);
    CHECK(second.error().message().find(path) != std::string::npos);
    CHECK(second.error().message().find("--data") != std::string::npos);
  }
  co_await first->close();
  Result<DataDirectory> third = co_await DataDirectory::open(path, 2);
  CO_OK(third);
  co_await third->close();
}

TEST_CASE("a directory in use is refused, and free again after close") {
  ShardRig simulated(3);
  simulated.live(open_twice("data"));
  RealRig real;
  real.run(open_twice(real.path("data")));
}

TEST_CASE("every damaged byte of the identity file is noticed, and the file left alone") {
  ShardRig rig(4);
  Found found;
  rig.live(open_once("data", 3, found));
  const std::string good = rig.disk().content("data/GYRE");
  REQUIRE(good.size() > 50);
  for (size_t at = 0; at < good.size(); ++at) {
    CAPTURE(at);
    REQUIRE(rig.disk().corrupt("data/GYRE", at, 0x04));
    rig.live(open_once("data", 3, found));
    CHECK((found.code == Errc::corrupt || found.code == Errc::unsupported));
    CHECK(found.message.find("data/GYRE") != std::string::npos);
    REQUIRE(rig.disk().corrupt("data/GYRE", at, 0x04));
  }
  CHECK(rig.disk().content("data/GYRE") == good);
  rig.live(open_once("data", 3, found));
  CHECK(found.code == Errc::ok);
}

Task<void> write_identity(std::string content) {
  CO_OK(co_await replace_file("data", "GYRE", std::move(content)));
}

TEST_CASE("a cut, foreign or newer identity file is refused with what to do") {
  ShardRig rig(5);
  Found found;
  rig.live(open_once("data", 3, found));
  const std::string good = rig.disk().content("data/GYRE");
  const std::vector<std::string> bad{"",
                                     "gyre",
                                     good.substr(0, good.size() / 2),
                                     good + "more\n",
                                     std::string(4000, 'x'),
                                     std::string(100'000, 'x')};
  for (const std::string& content : bad) {
    CAPTURE(content.size());
    rig.live(write_identity(content));
    rig.live(open_once("data", 3, found));
    CHECK(found.code != Errc::ok);
    CHECK(found.message.find("data/GYRE") != std::string::npos);
    CHECK(rig.disk().content("data/GYRE") == content);
  }
  std::string newer = good;
  newer.replace(newer.find("format 1"), 8, "format 2");
  rig.live(write_identity(newer));
  rig.live(open_once("data", 3, found));
  CHECK(found.code == Errc::unsupported);
  CHECK(found.message.find("newer gyre") != std::string::npos);
}

Task<void> lose_identity() {
  CO_OK(co_await make_directory("data/shard-000"));
  CO_OK(co_await unlink_file("data/GYRE"));
}

TEST_CASE("shards without an identity file are not taken for a new directory") {
  ShardRig rig(6);
  Found found;
  rig.live(open_once("data", 2, found));
  rig.live(lose_identity());
  rig.live(open_once("data", 2, found));
  CHECK(found.code == Errc::corrupt);
  CHECK(found.message.find("GYRE is missing") != std::string::npos);
}

Task<void> leave_trash() {
  CO_OK(co_await make_directories("data/lost+found"));
  CO_OK(co_await replace_file("data", "notes.txt", "mine"));
}

TEST_CASE("foreign files in the directory are left alone") {
  ShardRig rig(7);
  Found found;
  rig.live(leave_trash());
  rig.live(open_once("data", 2, found));
  CHECK(found.code == Errc::ok);
  CHECK(found.created);
  CHECK(rig.disk().content("data/notes.txt") == "mine");
  std::vector<DirEntry> entries;
  rig.disk().list_dir("data/lost+found", entries);
  CHECK(entries.empty());
}

TEST_CASE("a crash while the directory is made leaves nothing that stops the next start") {
  uint64_t points = 0;
  {
    ShardRig rig(8);
    Found found;
    rig.live(open_once("data/node", 2, found));
    points = rig.disk().write_points();
  }
  CHECK(points > 4);
  for (uint64_t point = 1; point <= points; ++point) {
    for (const auto phase :
         {sim::CrashPhase::before, sim::CrashPhase::during, sim::CrashPhase::after}) {
      for (const auto mode :
           {sim::CrashMode::lost, sim::CrashMode::torn, sim::CrashMode::garbled}) {
        CAPTURE(point);
        ShardRig rig(8);
        Found crashed;
        rig.disk().stop_at(point, phase);
        CHECK(rig.live(open_once("data/node", 2, crashed), mode) == LifeEnd::power_cut);
        Found found;
        rig.live(open_once("data/node", 2, found));
        CHECK(found.code == Errc::ok);
        CHECK(found.shards == 2);
        if (crashed.code == Errc::ok && !crashed.uuid.empty()) CHECK(found.uuid == crashed.uuid);
      }
    }
  }
}

TEST_CASE("what a killed start left is made durable by the next one") {
  for (unsigned kill = 0; kill < 60; ++kill) {
    CAPTURE(kill);
    ShardRig rig(9 + kill);
    Found found;
    rig.kill_after(microseconds(400) * kill);
    rig.live(open_once("data/node", 2, found));
    rig.live(open_once("data/node", 2, found));
    CHECK(found.code == Errc::ok);
    const std::string uuid = found.uuid;
    rig.cut_power(sim::CrashMode::lost);
    rig.live(open_once("data/node", 2, found));
    CHECK(found.code == Errc::ok);
    CHECK(found.uuid == uuid);
    CHECK_FALSE(found.created);
  }
}

}  // namespace
}  // namespace gyre::test
