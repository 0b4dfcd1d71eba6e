#include "sim/disk.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <map>
#include <set>
#include <string>

namespace {

using namespace gyre;
using namespace gyre::sim;

// Synchronous calls on a Disk, by path.
struct Files {
  explicit Files(DiskOptions options = {}, uint64_t seed = 1)
      : owned(std::make_unique<Disk>(options, Prng(seed))), disk(owned.get()) {}
  explicit Files(std::unique_ptr<Disk> existing) : owned(std::move(existing)), disk(owned.get()) {}

  InodeId open(const char* path, uint16_t flags = flag_write | flag_create) {
    InodeId inode = 0;
    DiskRequest request{.code = OpCode::open, .flags = flags, .path = path};
    last = disk->execute(request, &inode);
    return inode;
  }
  int32_t write(InodeId inode, uint64_t offset, std::string_view data, uint16_t flags = 0) {
    return disk->execute(
        {.code = OpCode::write, .inode = inode, .flags = flags, .offset = offset, .data = data});
  }
  int32_t fsync(InodeId inode) { return disk->execute({.code = OpCode::fsync, .inode = inode}); }
  int32_t truncate(InodeId inode, uint64_t length) {
    return disk->execute({.code = OpCode::truncate, .inode = inode, .length = length});
  }
  int32_t allocate(InodeId inode, uint64_t offset, uint64_t length) {
    return disk->execute(
        {.code = OpCode::allocate, .inode = inode, .offset = offset, .length = length});
  }
  int32_t named(OpCode code, const char* path, const char* path2 = nullptr) {
    return disk->execute({.code = code, .path = path, .path2 = path2});
  }
  void sync_dir(const char* path) {
    const InodeId inode = open(path, flag_read | flag_directory);
    REQUIRE(fsync(inode) == 0);
    disk->close(inode, false);
  }
  std::set<std::string> names(const char* path = "/") {
    std::vector<DirEntry> entries;
    REQUIRE(disk->list_dir(path, entries) == 0);
    std::set<std::string> out;
    for (const DirEntry& entry : entries) out.insert(entry.name);
    return out;
  }

  std::unique_ptr<Disk> owned;
  Disk* disk;
  int32_t last = 0;
};

std::string repeated(char c, size_t n) {
  return std::string(n, c);
}

}  // namespace

TEST_CASE("a write without a sync is gone after a lost crash") {
  Files files;
  const InodeId file = files.open("a");
  files.write(file, 0, "synced");
  files.fsync(file);
  files.sync_dir("/");
  files.write(file, 0, "SYNCED and more");
  CHECK(files.disk->content("a") == "SYNCED and more");
  CHECK(files.disk->durable_content("a") == "synced");
  files.disk->crash(CrashMode::lost);
  CHECK(files.disk->content("a") == "synced");
}

TEST_CASE("a dsync write survives, and only it") {
  Files files;
  const InodeId file = files.open("a");
  files.sync_dir("/");
  files.write(file, 0, repeated('x', 4096));
  files.write(file, 4096, repeated('y', 4096), flag_dsync);
  files.write(file, 8192, repeated('z', 4096));
  files.disk->crash(CrashMode::lost);
  CHECK(files.disk->content("a") == repeated('\0', 4096) + repeated('y', 4096));
}

TEST_CASE("what a dsync write has overtaken never comes back") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Files files({}, seed);
    const InodeId file = files.open("a");
    files.sync_dir("/");
    files.write(file, 0, repeated('o', 8192));
    files.truncate(file, 0);
    files.write(file, 1024, repeated('o', 2048));
    files.write(file, 0, repeated('n', 4096), flag_dsync);
    files.disk->crash(CrashMode::random);
    CHECK(files.disk->content("a").substr(0, 4096) == repeated('n', 4096));
  }
}

TEST_CASE("a torn crash keeps whole sectors, old or new") {
  std::set<std::string> outcomes;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Files files({}, seed);
    const InodeId file = files.open("a");
    files.write(file, 0, repeated('o', 2048));
    files.fsync(file);
    files.sync_dir("/");
    files.write(file, 0, repeated('n', 2048));
    files.disk->crash(CrashMode::torn);
    const std::string after = files.disk->content("a");
    REQUIRE(after.size() == 2048);
    std::string pattern;
    for (size_t sector = 0; sector < 4; ++sector) {
      const std::string part = after.substr(sector * 512, 512);
      REQUIRE((part == repeated('o', 512) || part == repeated('n', 512)));
      pattern += part[0];
    }
    outcomes.insert(pattern);
  }
  CHECK(outcomes.contains("oooo"));
  CHECK(outcomes.contains("nnnn"));
  CHECK(outcomes.size() >= 8);
}

TEST_CASE("a garbled crash puts noise into sectors being written, and nowhere else") {
  bool noise = false;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Files files({}, seed);
    const InodeId file = files.open("a");
    files.write(file, 0, repeated('o', 4096));
    files.fsync(file);
    files.sync_dir("/");
    files.write(file, 1024, repeated('n', 1024));
    files.disk->crash(CrashMode::garbled);
    const std::string after = files.disk->content("a");
    REQUIRE(after.size() == 4096);
    CHECK(after.substr(0, 1024) == repeated('o', 1024));
    CHECK(after.substr(2048) == repeated('o', 2048));
    const std::string middle = after.substr(1024, 512);
    noise |= middle != repeated('o', 512) && middle != repeated('n', 512);
  }
  CHECK(noise);
}

TEST_CASE("names are volatile until their directory is synced") {
  Files files;
  files.named(OpCode::make_dir, "d");
  files.sync_dir("/");
  const InodeId kept = files.open("d/kept");
  files.write(kept, 0, "k", flag_dsync);
  files.sync_dir("d");
  const InodeId lost = files.open("d/lost");
  files.write(lost, 0, "l");
  files.fsync(lost);  // the file is durable, its name is not
  files.named(OpCode::unlink, "d/kept");
  CHECK(files.names("d") == std::set<std::string>{"lost"});
  files.disk->crash(CrashMode::lost);
  CHECK(files.names("d") == std::set<std::string>{"kept"});
  CHECK(files.disk->content("d/kept") == "k");
}

TEST_CASE("a rename survives whole or not at all") {
  bool happened = false;
  bool dropped = false;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Files files({}, seed);
    const InodeId old_one = files.open("CURRENT");
    files.write(old_one, 0, "old", flag_dsync);
    files.sync_dir("/");
    const InodeId next = files.open("CURRENT.tmp");
    files.write(next, 0, "new", flag_dsync);
    files.named(OpCode::rename, "CURRENT.tmp", "CURRENT");
    CHECK(files.disk->content("CURRENT") == "new");
    files.disk->crash(seed % 2 == 0 ? CrashMode::torn : CrashMode::random);
    const std::string after = files.disk->content("CURRENT");
    REQUIRE((after == "old" || after == "new"));
    happened |= after == "new";
    dropped |= after == "old";
    if (after == "new") CHECK_FALSE(files.names().contains("CURRENT.tmp"));
  }
  CHECK(happened);
  CHECK(dropped);
}

TEST_CASE("a later change of a name never survives without the earlier one") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Files files({}, seed);
    files.write(files.open("log"), 0, "first", flag_dsync);
    files.sync_dir("/");
    files.named(OpCode::rename, "log", "log.old");
    files.write(files.open("log"), 0, "second", flag_dsync);
    files.disk->crash(CrashMode::torn);
    // Whatever happened, the first file is still reachable.
    CHECK((files.disk->content("log") == "first" || files.disk->content("log.old") == "first"));
  }
}

TEST_CASE("after a failed fsync the data is visible until the crash and never written") {
  Files files;
  const InodeId file = files.open("a");
  files.sync_dir("/");
  files.write(file, 0, "hello");
  files.disk->plan({.code = OpCode::fsync, .path_part = "a"});
  CHECK(files.fsync(file) == -EIO);
  CHECK(files.disk->content("a") == "hello");
  files.write(file, 5, " world");
  CHECK(files.fsync(file) == 0);
  files.disk->crash(CrashMode::random);
  CHECK(files.disk->content("a") == repeated('\0', 5) + " world");
}

TEST_CASE("planned faults strike the nth match and then stop") {
  Files files;
  const InodeId file = files.open("table-1");
  files.disk->plan({.code = OpCode::write, .path_part = "table", .nth = 2, .error = ENOSPC});
  CHECK(files.write(file, 0, "a") == 1);
  CHECK(files.write(file, 1, "b") == -ENOSPC);
  CHECK(files.write(file, 1, "c") == 1);
  CHECK(files.disk->faults().at("write error") == 1);
}

TEST_CASE("faults by chance strike the files that they are meant for") {
  Files files({.path_part = ".log", .write_error_ppm = 1'000'000, .fsync_error_ppm = 1'000'000});
  const InodeId log = files.open("1.log");
  const InodeId table = files.open("1.table");
  CHECK(files.write(log, 0, "a") == -EIO);
  CHECK(files.fsync(log) == -EIO);
  CHECK(files.write(table, 0, "a") == 1);
  CHECK(files.fsync(table) == 0);
}

TEST_CASE("reads of corrupted bytes count as faults until the bytes are written again") {
  Files files;
  const InodeId file = files.open("a", flag_read | flag_write | flag_create);
  files.write(file, 0, "0123456789");
  REQUIRE(files.disk->corrupt("a", 5, 1));
  const auto read = [&](uint64_t offset, uint64_t length) {
    char out[16];
    CHECK(files.disk->execute({.code = OpCode::read,
                               .inode = file,
                               .offset = offset,
                               .length = length,
                               .out = out}) == static_cast<int32_t>(length));
    const auto& faults = files.disk->faults();
    return faults.contains("corrupted bytes read") ? faults.at("corrupted bytes read") : 0;
  };
  CHECK(read(0, 5) == 0);
  CHECK(read(6, 4) == 0);
  CHECK(read(0, 6) == 1);
  CHECK(read(5, 5) == 2);
  files.write(file, 5, "5");
  CHECK(read(0, 10) == 2);
}

TEST_CASE("a file that is replaced has the new content after a power cut") {
  Files files;
  files.write(files.open("a"), 0, "a long content", flag_dsync);
  files.sync_dir("/");
  CHECK(files.disk->replace("a", "short"));
  CHECK(!files.disk->replace("b", "x"));
  files.disk->crash(CrashMode::lost);
  CHECK(files.disk->content("a") == "short");
}

TEST_CASE("allocated space reads as zeros and is used up") {
  Files files({.capacity_bytes = 64 << 10});
  const InodeId file = files.open("a");
  CHECK(files.allocate(file, 0, 40 << 10) == 0);
  CHECK(files.disk->free_bytes() == 24u << 10);
  CHECK(files.disk->content("a") == repeated('\0', 40 << 10));
  CHECK(files.write(file, 0, repeated('x', 40 << 10)) == 40 << 10);
  CHECK(files.disk->free_bytes() == 24u << 10);
  CHECK(files.allocate(file, 40 << 10, 32 << 10) == -ENOSPC);
  CHECK(files.write(file, 40 << 10, repeated('y', 32 << 10)) == 24 << 10);  // what fits
  CHECK(files.write(file, 64 << 10, "z") == -ENOSPC);
  // Space comes back when the last name and the last descriptor are gone.
  files.named(OpCode::unlink, "a");
  CHECK(files.disk->free_bytes() == 0);
  files.disk->close(file, false);
  CHECK(files.disk->free_bytes() == 64u << 10);
}

TEST_CASE("skipped durability is what it says") {
  Files files({.skip_durability = skip_dsync | skip_dir_fsync});
  const InodeId file = files.open("a");
  files.write(file, 0, "x", flag_dsync);
  files.sync_dir("/");
  files.disk->crash(CrashMode::lost);
  CHECK(files.names().empty());
}

TEST_CASE("a crash point stops before, during or after the operation") {
  const auto run = [](uint64_t point, CrashPhase phase) {
    Files files;
    files.disk->stop_at(point, phase);
    const InodeId file = files.open("a");                      // 1
    files.write(file, 0, "x", flag_dsync);                     // 2
    files.fsync(files.open("/", flag_read | flag_directory));  // 3
    const bool stopped = files.disk->stopped();
    REQUIRE(stopped);
    files.disk->crash(CrashMode::lost);
    return files.names().contains("a") ? files.disk->content("a") : "-";
  };
  CHECK(run(3, CrashPhase::before) == "-");
  CHECK(run(3, CrashPhase::during) == "-");
  CHECK(run(3, CrashPhase::after) == "x");
}

TEST_CASE("nothing reaches the disk after its crash point") {
  Files files;
  const InodeId file = files.open("a");
  files.sync_dir("/");
  files.disk->stop_at(files.disk->write_points() + 1, CrashPhase::after);
  files.write(file, 0, "x", flag_dsync);
  CHECK(files.disk->stopped());
  CHECK(files.write(file, 1, "y", flag_dsync) == -EIO);
  files.disk->crash(CrashMode::lost);
  CHECK(files.disk->content("a") == "x");
  CHECK_FALSE(files.disk->stopped());
}

TEST_CASE("a clone takes both images and goes its own way") {
  Files files;
  const InodeId file = files.open("a");
  files.write(file, 0, "synced", flag_dsync);
  files.sync_dir("/");
  files.write(file, 0, "VOLATILE");
  Files copy(files.disk->clone(Prng(7)));
  copy.disk->crash(CrashMode::lost);
  CHECK(copy.disk->content("a") == "synced");
  copy.write(copy.open("a"), 0, "other");
  CHECK(files.disk->content("a") == "VOLATILE");
}

TEST_CASE("hard links share their file") {
  Files files;
  files.write(files.open("a"), 0, "x", flag_dsync);
  CHECK(files.named(OpCode::link, "a", "b") == 0);
  CHECK(files.named(OpCode::link, "a", "b") == -EEXIST);
  files.sync_dir("/");
  files.named(OpCode::unlink, "a");
  files.sync_dir("/");
  files.disk->crash(CrashMode::lost);
  CHECK(files.names() == std::set<std::string>{"b"});
  CHECK(files.disk->content("b") == "x");
}

TEST_CASE("a hard link is durable when its directory was synced, and not before") {
  Files files;
  files.named(OpCode::make_dir, "d");
  files.write(files.open("a"), 0, "x", flag_dsync);
  files.sync_dir("/");
  CHECK(files.named(OpCode::link, "a", "d/b") == 0);
  const std::unique_ptr<Disk> unsynced = files.disk->clone(Prng(1));
  files.sync_dir("d");
  files.named(OpCode::unlink, "a");
  files.sync_dir("/");
  Files before(unsynced->clone(Prng(1)));
  before.disk->crash(CrashMode::lost);
  CHECK(before.names("d").empty());
  CHECK(before.disk->content("a") == "x");
  files.disk->crash(CrashMode::lost);
  CHECK(files.names("d") == std::set<std::string>{"b"});
  CHECK(files.disk->content("d/b") == "x");
}

TEST_CASE("a directory removed before it was synced leaves nothing behind") {
  Files files;
  files.named(OpCode::make_dir, "d");
  files.open("d/x");
  CHECK(files.named(OpCode::remove_dir, "d") == -ENOTEMPTY);
  files.named(OpCode::unlink, "d/x");
  CHECK(files.named(OpCode::remove_dir, "d") == 0);
  files.sync_dir("/");
  files.disk->crash(CrashMode::random);
  CHECK(files.names().empty());
}

TEST_CASE("bit rot and corruption flip bits") {
  Files files({.bit_rot_ppm = 1'000'000});
  const InodeId file = files.open("a");
  files.write(file, 0, repeated('a', 100));
  std::string read(100, ' ');
  CHECK(files.disk->execute(
            {.code = OpCode::read, .inode = file, .length = 100, .out = read.data()}) == 100);
  CHECK(read != repeated('a', 100));
  CHECK(files.disk->content("a") == repeated('a', 100));
  CHECK(files.disk->corrupt("a", 3, 1));
  CHECK(files.disk->content("a")[3] == '`');
  CHECK_FALSE(files.disk->corrupt("a", 100, 1));
}
